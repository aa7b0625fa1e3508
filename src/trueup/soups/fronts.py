"""What measured mixtures say: the front, its hypervolume against others', and whether the path is connected.

    slack = min over λ, k of  R_k(θ_λ) − Σ_i λ_i R_k(θ_i)

Linear mode connectivity holds where it is at least 0: no mixture is worse than the same mixture of
its experts' rewards (Ramé et al. 2023; Frankle et al. 2020). Rewards are [num_prompts, K], one row for each
prompt, the same prompts for every policy; intervals are over prompts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from trueup.errors import TrueupError
from trueup.soups.pareto import front, hypervolume
from trueup.soups.simplex import Weights, corners
from trueup.statistics.estimates import Estimate, mean_ci

Floats = NDArray[np.float64]
Kind = Literal["start", "soup", "morl"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """One policy and its rewards."""

    name: str
    kind: Kind
    rewards: Floats
    "[num_prompts, K]"
    weights: Weights = ()
    "Of a soup."
    kl: float | None = None
    "From the start, nats a completion."
    length: float = 0.0
    "Tokens a completion."

    @property
    def means(self) -> Floats:
        """[K]"""
        return self.rewards.mean(axis=0)


@dataclass(frozen=True, kw_only=True)
class Slack:
    """Where the path between the experts lies lowest below the line between their rewards."""

    estimate: Estimate
    weights: Weights
    reward: int
    "Index of the reward."

    @property
    def verdict(self) -> Literal["holds", "fails", "unclear"]:
        """`fails` where the interval lies below 0, `holds` where none of it does, else `unclear`."""
        if self.estimate.high < 0:
            return "fails"
        return "holds" if self.estimate.low >= 0 else "unclear"


def connectivity(soups: Mapping[Weights, Floats]) -> Slack | None:
    """The least slack over all mixtures and rewards, from rewards [num_prompts, K] by weights.

    None without a mixture. Its interval is that place's own, so the least of many looks lower than it is.
    Raises E826 when an expert alone, a one-hot point, was not measured.
    """
    ends = corners(len(next(iter(soups))))
    if not set(ends) <= soups.keys():
        raise TrueupError(
            "E826", "an expert alone was not measured", where="connectivity", remedy="measure it"
        )
    found: list[Slack] = []
    for weights, rewards in soups.items():
        if weights in ends:
            continue
        line = sum((w * soups[end] for w, end in zip(weights, ends, strict=True)), start=np.zeros(()))
        over = rewards - line
        found += [
            Slack(estimate=mean_ci(over[:, k]), weights=weights, reward=k) for k in range(over.shape[1])
        ]
    return min(found, key=lambda slack: slack.estimate.mean, default=None)


def volumes(
    sets: Mapping[str, Sequence[Floats]], *, resamples: int = 1000, seed: int = 0
) -> tuple[Floats, dict[str, Estimate], dict[tuple[str, str], Estimate]]:
    """The reference point [K], the hypervolume of each set of policies, and how far the first exceeds each.

    A policy is its rewards [num_prompts, K]. The reference is the lowest mean of all policies in each reward.
    Prompts are drawn again with replacement, all policies on the same ones; the reference stays. With one
    prompt the intervals are NaN.
    """
    stacked = {name: np.stack(policies) for name, policies in sets.items()}
    reference = np.concatenate([s.mean(axis=1) for s in stacked.values()]).min(axis=0)
    num_prompts = next(iter(stacked.values())).shape[1]
    drawn = np.random.default_rng(seed).integers(0, num_prompts, size=(resamples, num_prompts))
    values = {name: hypervolume(s.mean(axis=1), reference) for name, s in stacked.items()}
    again = {
        name: np.array([hypervolume(s[:, rows].mean(axis=1), reference) for rows in drawn])
        for name, s in stacked.items()
    }
    first, *others = stacked

    def estimate(value: float, draws: Floats) -> Estimate:
        if num_prompts == 1:  # Drawn again it is itself: that is no certainty.
            return Estimate(mean=value, low=math.nan, high=math.nan, n=1, standard_error=math.nan)
        low, high = (float(q) for q in np.quantile(draws, [0.025, 0.975]))
        error = float(draws.std(ddof=1))
        return Estimate(mean=value, low=low, high=high, n=num_prompts, standard_error=error)

    each = {name: estimate(values[name], again[name]) for name in stacked}
    over = {
        (first, name): estimate(values[first] - values[name], again[first] - again[name]) for name in others
    }
    return reference, each, over


def account(policies: Sequence[Measured], names: Sequence[str], *, seed: int = 0) -> dict[str, Any]:
    """All of it as JSON values: policies, front, hypervolumes, slack.

    The front and the hypervolumes of MORL have the experts for ends: an expert is MORL's policy for a one-hot
    preference. Raises E826 for policies of other prompts.
    """
    if len({p.rewards.shape for p in policies}) != 1:
        raise TrueupError(
            "E826", "the policies were asked other prompts", where="account", remedy="ask all the same"
        )
    soups = {p.weights: p.rewards for p in policies if p.kind == "soup"}
    ends = corners(len(next(iter(soups))))
    morl = [p.rewards for p in policies if p.kind == "morl"]
    sets = {"soups": list(soups.values()), "experts": [soups[end] for end in ends]}
    if morl:
        sets["morl"] = [*morl, *sets["experts"]]
    reference, each, over = volumes(sets, seed=seed)
    slack = connectivity(soups)
    kept = set(front([p.means for p in policies]).tolist())
    return {
        "rewards": list(names),
        "policies": [
            {
                "name": p.name,
                "kind": p.kind,
                "weights": list(p.weights),
                "rewards": {name: mean_ci(p.rewards[:, k]).to_json() for k, name in enumerate(names)},
                "kl": p.kl,
                "length": p.length,
                "on_front": i in kept,
            }
            for i, p in enumerate(policies)
        ],
        "reference": dict(zip(names, reference.tolist(), strict=True)),
        "hypervolume": {name: found.to_json() for name, found in each.items()},
        "soups_over": {name: found.to_json() for (_, name), found in over.items()},
        "connectivity": slack
        and {
            "slack": slack.estimate.to_json(),
            "reward": names[slack.reward],
            "weights": list(slack.weights),
            "verdict": slack.verdict,
        },
    }
