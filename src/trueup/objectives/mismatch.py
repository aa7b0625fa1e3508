"""Weights that make up for completions that another law drew than the one that learns: a server's.

    ρ_t = π(y_t | x, y_<t) / μ(y_t | x, y_<t),   ρ = Π_t ρ_t,   A ← w A

μ is the sampler's law, π the trainer's for the same weights. Every loss here is linear in its advantages,
and stays the same loss for a weight w ≥ 0, clip and dual clip included; ratios to the old policy are the
loss's own affair, so that both together are π_θ / μ.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from trueup.engine.batch import Batch, Outputs, Unit
from trueup.engine.method import Entries, Objective, Terms, Wants
from trueup.objectives.group_relative import GroupRelative
from trueup.objectives.importance import CISPO, GSPO
from trueup.objectives.mix import Sum
from trueup.objectives.policy_gradient import Clipped
from trueup.objectives.reinforce import ClippedSequence, Reinforce
from trueup.objectives.surrogate import PenalisedSurrogate, Surrogate

Level = Literal["token", "sequence"]
Bound = Literal["truncate", "mask"]
BY_TOKEN = (Clipped, Surrogate, PenalisedSurrogate, GroupRelative, CISPO, Reinforce)
"Losses whose tokens may have weights of their own."
BY_SEQUENCE = (*BY_TOKEN, GSPO, ClippedSequence)
"Losses whose completions may have."


def truncated(log_ratio: Float[Tensor, " n"], cap: float) -> Float[Tensor, " n"]:
    """w = min(ρ, C).

    E_μ[w f] = E_π[min(1, C/ρ) f]: with ρ a whole completion's, the bias is −E_π[(1 − C/ρ)⁺ f], of at most
    max|f| · P_π(ρ > C); with C = ∞ there is none. References: Ionides 2008; by token, Yao et al. 2025
    ("TIS"); TRL's `token_truncate` and `sequence_truncate`; verl's rollout correction.
    """
    return log_ratio.clamp(max=math.log(cap)).exp()


def masked(log_ratio: Float[Tensor, " n"], cap: float, floor: float = 0.0) -> Float[Tensor, " n"]:
    """w = ρ where floor ≤ ρ ≤ C, and 0 elsewhere.

    E_μ[w f] = E_π[1{floor ≤ ρ ≤ C} f]: with ρ a whole completion's, the bias is −E_π[f; ρ outside].
    References: TRL's `token_mask` and `sequence_mask`; with both bounds, by token, IcePop (Zhao et al. 2025).
    """
    inside = (log_ratio <= math.log(cap)) & (log_ratio >= (math.log(floor) if floor else -math.inf))
    # Where it is not kept a ratio may overflow, and 0 · ∞ is no number.
    return torch.where(inside, torch.where(inside, log_ratio, 0.0).exp(), 0.0)


def weights(log_ratio: Float[Tensor, " T"], batch: Batch, correction: Correction) -> Float[Tensor, " T"]:
    """A weight for each token, from log ρ_t; at level `sequence` the same for all tokens of a completion.

    By token, for a loss Σ_t A ∇log π(y_t) and C = ∞: token t's term is then the expectation in which y_t is
    drawn from π, and the tokens before and behind it still from μ. By sequence all are π's, and the variance
    grows with the length.
    """
    if correction.level == "sequence":
        log_ratio = batch.per_completion(log_ratio)[batch.completion]
    if correction.bound == "truncate":
        return truncated(log_ratio, correction.cap)
    return masked(log_ratio, correction.cap, correction.floor)


@dataclass(frozen=True, kw_only=True)
class Correction:
    """Which ratio is a weight, and what happens to large ones."""

    level: Level
    bound: Bound
    cap: float = 3.0
    "C: the largest weight."
    floor: float = 0.0
    "With `mask`: the smallest weight that is not taken as 0."


@dataclass(frozen=True, kw_only=True)
class Corrected:
    """An objective whose advantages are weighted by π / μ; only what advantages multiply is corrected.

    A divergence from the reference, an entropy bonus and a critic's loss stay averages over μ's completions.
    """

    inner: Objective
    correction: Correction

    @property
    def reads(self) -> frozenset[str]:
        """What the objective reads, and both log-probs."""
        return self.inner.reads | {"sampled_logprobs", "recomputed_logprobs"}

    @property
    def wants(self) -> Wants:
        """What the objective wants."""
        return self.inner.wants

    def __call__(self, outputs: Outputs, batch: Batch) -> Terms:
        """The objective's entries on weighted advantages, and what the weights are."""
        log_ratio = batch.columns["recomputed_logprobs"] - batch.columns["sampled_logprobs"]
        weight = weights(log_ratio, batch, self.correction)
        columns, marks = dict(batch.columns), dict(batch.marks)
        if "advantages" in columns:
            columns["advantages"] = columns["advantages"] * weight
        if "advantage" in marks and self.correction.level == "token":
            columns["importance"] = weight
        elif "advantage" in marks:
            marks["advantage"] = marks["advantage"] * batch.mean_per_completion(weight)
        terms = self.inner(outputs, replace(batch, columns=columns, marks=marks))
        unit: Unit = "token"
        if self.correction.level == "sequence":
            unit, weight = "completion", batch.mean_per_completion(weight)
            log_ratio = batch.per_completion(log_ratio)
        bounded = ((weight - log_ratio.exp()).abs() > 1e-6).to(weight.dtype)
        return Terms(
            {**terms.losses},
            {
                **terms.metrics,
                "sampler/weight": Entries(weight, unit),
                "sampler/bounded": Entries(bounded, unit),
            },
        )


def levels(objective: Objective) -> frozenset[Level]:
    """At which levels an objective's advantages may be weighted; none where it has none."""
    known: dict[Level, tuple[type, ...]] = {"token": BY_TOKEN, "sequence": BY_SEQUENCE}
    uses = [part for part in _parts(objective) if part.reads & {"advantage", "advantages"}]
    return frozenset(
        level for level, kinds in known.items() if uses and all(isinstance(u, kinds) for u in uses)
    )


def _parts(objective: Objective) -> Iterator[Objective]:
    if isinstance(objective, Sum):
        for _, part in objective.parts:
            yield from _parts(part)
    else:
        yield objective
