"""Ratings of models from battles: Bradley-Terry by maximum likelihood, with intervals and ranks.

The fit does not depend on the order of the battles (the online rule in `elo` does). At its maximum every
model is expected to win as often as it did.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from trueup.errors import TrueupError
from trueup.ratings.battles import Battle
from trueup.ratings.design import Control, Rows, rows_of_battles
from trueup.ratings.elo import SCALE, elo_points
from trueup.ratings.graph import check_connected, check_ties_bounded
from trueup.ratings.intervals import agreement, bootstrap, quantile, sandwich, tail
from trueup.ratings.likelihood import Floats, TieRule, maximise, probabilities

IntervalRule = Literal["sandwich", "bootstrap"]

_MOST_FAILED = 0.01
"Share of resamples that may have no finite maximum; the intervals of the rest still mean what they say."
_PRIOR = 0.1
"The prior that is proposed where one helps."


@dataclass(frozen=True, slots=True, kw_only=True)
class Rating:
    """One model's place."""

    model: str
    beta: float
    "Log-odds against the average model (or against the anchor), in nats."
    rating: float
    "The same in points."
    low: float
    high: float
    standard_error: float
    "In points."
    rank: int
    "1 + how many models are surely better: their lower bound exceeds this one's upper bound."
    rank_worst: int
    "How many there are, less those that are surely worse."
    battles: float
    wins: float
    "Won battles and half the tied ones; with weights, their sum."
    expected_wins: float
    "The same as the fit foresees it."


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What a control does to a verdict, in points of rating for one `unit` of it."""

    name: str
    points: float
    low: float
    high: float
    unit: float
    "Of position 1: being shown first; else the root mean square of (l_a - l_b)/(l_a + l_b)."


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratings:
    """All models, best first, and what the fit was made of."""

    models: tuple[Rating, ...]
    effects: tuple[Effect, ...]
    ties: TieRule
    tie_parameter: float | None
    "Davidson's ν or Rao and Kupper's η; None where ties count as half a win."
    tie_share: float
    alpha: float
    anchor: str | None
    level: float
    intervals: IntervalRule
    resamples_failed: int
    "Bootstrap samples without a finite maximum, left out."
    num_battles: int
    num_clusters: int
    cluster: str
    "What was drawn at random: prompts, or battles."
    covariance: Floats
    "Of β by the sandwich, in the order of `models`; only of differences does it mean anything."

    def difference(self, a: str, b: str) -> tuple[float, float, float]:
        """a's lead over b in points and its interval, from the sandwich."""
        names = [m.model for m in self.models]
        i, j = names.index(a), names.index(b)
        v = self.covariance
        half = quantile(self.level, self.num_clusters) * math.sqrt(v[i, i] + v[j, j] - 2 * v[i, j])
        lead = self.models[i].beta - self.models[j].beta
        return SCALE * lead, SCALE * (lead - half), SCALE * (lead + half)


def fit_ratings(
    battles: Sequence[Battle],
    *,
    ties: TieRule = "half",
    alpha: float = 0.0,
    controls: Sequence[Control] = (),
    anchor: str | None = None,
    intervals: IntervalRule = "sandwich",
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Ratings:
    """The ratings that maximise Σ_m w_m log P(end of battle m) - α ‖β‖², with their intervals.

    P(a beats b) = σ(β_a - β_b + γ·x) (Bradley 1952), ties as in `likelihood.log_likelihood`; x are
    the `controls`. α‖β‖² is a normal prior of variance 1/(2α) on each β, in nats. Σ β = 0, so 1000 points are
    the average model; with an `anchor`, that model. "sandwich" is β ± t s with s² from the covariance
    H⁻¹ (Σ_c g_c g_cᵀ) H⁻¹ over clusters c (White 1982; Liang 1986), "bootstrap" the percentiles over drawn
    clusters (Efron 1979; how far out, `intervals.tail` says); a cluster is a prompt, or a battle where
    no prompt is named. Ranks are those of the intervals around the average, so that no anchor changes them.

    Raises TrueupError E421, E422, E423 or E425 where the battles do not determine the ratings, E426 for a
    single cluster, E429 where more than 1 % of the resamples do not determine them.
    """
    rows = rows_of_battles(battles, ties=ties, alpha=alpha, controls=controls)
    _check(rows, anchor)
    fit = maximise(rows.design, rows.weights[None])
    if not fit.converged[0]:
        reason = "the likelihood has no finite maximum: some mix of models and controls decides every battle"
        raise TrueupError("E423", reason, remedy=_bounding(rows))
    theta = fit.parameters[0]
    spread = sandwich(rows, theta)
    draws, failed = None, 0
    if intervals == "bootstrap":
        draws, failed = _draws(rows, theta, resamples=resamples, seed=seed)
    count = rows.num_clusters
    bounds = _Bounds(theta, spread, draws, agreement(rows, theta), quantile(level, count), tail(level, count))
    models, order = _models(rows, bounds, anchor)
    return Ratings(
        models=models,
        effects=_effects(rows, bounds),
        ties=ties,
        tie_parameter=_tie_parameter(ties, rows, theta),
        tie_share=rows.tie_share,
        alpha=alpha,
        anchor=anchor,
        level=level,
        intervals=intervals,
        resamples_failed=failed,
        num_battles=len(battles),
        num_clusters=rows.num_clusters,
        cluster=rows.cluster,
        covariance=spread[np.ix_(order, order)],
    )


def _bounding(rows: Rows) -> str:
    """What gives the likelihood a maximum: a prior holds the models, so only where they have a part in it."""
    remedy = "leave `--control` out, or add battles that end otherwise"
    if rows.design.alpha == 0:
        held = replace(rows.design, alpha=_PRIOR)
        if maximise(held, rows.weights[None]).converged[0]:
            remedy += f", or give a prior: `--prior {_PRIOR}`"
    return remedy


# ------------------------------------------------------------------------------------------ the parts


@dataclass(frozen=True, slots=True)
class _Bounds:
    """Turns linear combinations of the parameters into values with intervals."""

    theta: Floats
    spread: Floats
    draws: Floats | None
    agreement: Floats
    half_width: float
    tail: float

    def of(self, contrasts: Floats) -> tuple[Floats, Floats, Floats]:
        """The lower bounds, the upper bounds and the standard errors of `contrasts @ theta`."""
        value = contrasts @ self.theta
        error = _errors(contrasts, self.spread)
        if self.draws is None:
            return value - self.half_width * error, value + self.half_width * error, error
        seen = self.draws @ contrasts.T
        low, high = np.quantile(seen, [self.tail, 1 - self.tail], axis=0, method="weibull")
        # Resamples of battles that all agree agree, too.
        more = _errors(contrasts, self.agreement)
        low, high = low - self.half_width * more, high + self.half_width * more
        return low, high, np.hypot(seen.std(axis=0, ddof=1), more)


def _errors(contrasts: Floats, covariance: Floats) -> Floats:
    """The standard errors of `contrasts @ parameters`."""
    return np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", contrasts, covariance, contrasts), 0.0))


def _check(rows: Rows, anchor: str | None) -> None:
    """Raises TrueupError where the question has no answer; `maximise` finds what is left (controls)."""
    if anchor is not None and anchor not in rows.names:
        remedy = f"the models are {', '.join(rows.names[:8])}" + (" ..." if len(rows.names) > 8 else "")
        raise TrueupError("E428", f"no battle of {anchor}", where="anchor", remedy=remedy)
    if rows.num_clusters < 2:
        alone = "all battles are of one prompt" if rows.cluster == "prompt" else "there is one battle"
        reason = f"{alone}: nothing says how far another might differ"
        raise TrueupError("E426", reason, remedy="rate on several prompts")
    y = rows.design.y
    if rows.design.alpha == 0:
        check_connected(rows.a, rows.b, y, rows.names)
    decided = bool(((y == 0) | (y == 1)).any())
    # A prior keeps the models' differences finite; ties then stay bounded as soon as one battle is decided.
    if rows.design.has_eta and (rows.design.alpha == 0 or not decided):
        check_ties_bounded(rows.a, rows.b, y, len(rows.names))


def _draws(rows: Rows, theta: Floats, *, resamples: int, seed: int) -> tuple[Floats, int]:
    found = bootstrap(rows, theta, resamples=resamples, seed=seed)
    failed = int((~found.converged).sum())
    if failed > _MOST_FAILED * resamples:
        reason = f"{failed} of {resamples} resamples leave the ratings without a finite maximum"
        remedy = "use --intervals sandwich, or give a prior: `--prior 0.1`"
        raise TrueupError("E429", reason, where="intervals", remedy=remedy)
    return found.parameters[found.converged], failed


def _models(rows: Rows, bounds: _Bounds, anchor: str | None) -> tuple[tuple[Rating, ...], list[int]]:
    size = len(rows.names)
    among = np.zeros((size, len(bounds.theta)))
    among[:, :size] = np.eye(size) - 1.0 / size
    low, high, error = mean_low, mean_high, _ = bounds.of(among)
    shown = among
    if anchor is not None:
        shown = among - among[rows.names.index(anchor)]
        low, high, error = bounds.of(shown)
    beta = shown @ bounds.theta
    observed, expected, count = _wins(rows, bounds.theta)
    order = sorted(range(size), key=lambda m: (-beta[m], rows.names[m]))
    models = tuple(
        Rating(
            model=rows.names[m],
            beta=float(beta[m]),
            rating=float(elo_points(beta[m])),
            low=float(elo_points(low[m])),
            high=float(elo_points(high[m])),
            standard_error=SCALE * float(error[m]),
            rank=1 + int((mean_low > mean_high[m]).sum()),
            rank_worst=size - int((mean_high < mean_low[m]).sum()),
            battles=float(count[m]),
            wins=float(observed[m]),
            expected_wins=float(expected[m]),
        )
        for m in order
    )
    return models, order


def _wins(rows: Rows, theta: Floats) -> tuple[Floats, Floats, Floats]:
    """For each model its wins (a tie is half of one), those the fit expects, and its battles."""
    design, w = rows.design, rows.weights
    eta = float(theta[-1]) if design.has_eta else 0.0
    win, tie = probabilities(design.rule, design.x @ theta, eta)
    foreseen = win + tie / 2
    size = len(rows.names)
    observed = np.bincount(rows.a, w * design.y, size) + np.bincount(rows.b, w * (1 - design.y), size)
    expected = np.bincount(rows.a, w * foreseen, size) + np.bincount(rows.b, w * (1 - foreseen), size)
    count = np.bincount(rows.a, w, size) + np.bincount(rows.b, w, size)
    return observed.astype(np.float64), expected.astype(np.float64), count.astype(np.float64)


def _effects(rows: Rows, bounds: _Bounds) -> tuple[Effect, ...]:
    size = len(rows.names)
    picked = np.eye(len(bounds.theta))[size : size + len(rows.controls)]
    low, high, _ = bounds.of(picked)
    return tuple(
        Effect(
            name=name,
            points=SCALE * float(bounds.theta[size + at]),
            low=SCALE * float(low[at]),
            high=SCALE * float(high[at]),
            unit=rows.units[at],
        )
        for at, name in enumerate(rows.controls)
    )


def _tie_parameter(ties: TieRule, rows: Rows, theta: Floats) -> float | None:
    """ν or η: how frequent ties are; 0 where there are none."""
    if ties == "half":
        return None
    if not rows.design.has_eta:
        return 0.0
    return math.exp(theta[-1]) if ties == "davidson" else float(theta[-1])
