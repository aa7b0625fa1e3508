"""Reward against distance: the curves of over-optimisation with intervals, their peaks, and where gold turns.

d = √KL(π ‖ π_init) in √nats, and a reward is counted from the start, R(0) = 0 (Gao et al. 2022, section 2):

    best-of-n               R(d) = d (α − β d)
    reinforcement learning  R(d) = d (α − β log d)

Both are linear in α and β. The two optimisers spend their KL differently, so they are never fitted together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri, stdtrit

from trueup.errors import TrueupError
from trueup.statistics.estimates import Estimate

Floats = NDArray[np.float64]
Optimiser = Literal["best_of_n", "rl"]
"Which of the two forms a curve has."
_FEWEST = 3
"Two points give α and β, a third says how far they may be off."


@dataclass(frozen=True, kw_only=True, eq=False)
class Fit:
    """A fitted curve: α and β with their intervals, and the covariance that everything else follows from."""

    optimiser: Optimiser
    alpha: Estimate
    beta: Estimate
    covariance: Floats
    "[2, 2], of α and β."
    residual: float
    "Standard deviation of the points around the curve."
    furthest: float
    "The largest d that was fitted; beyond it the curve is a guess."
    left_out: int
    "Points at d = 0 (a KL estimate of 0 or below), where the curve says 0 whatever α and β are."
    num_prompts: int | None = None
    "Prompts that were drawn again; None where the intervals come from the spread around the curve."

    @property
    def critical(self) -> float:
        """What a standard error is multiplied by for the interval."""
        level = 0.5 + self.alpha.level / 2
        if self.num_prompts is not None:
            return float(ndtri(level))
        return float(stdtrit(self.alpha.n - 2, level))

    def at(self, distance: float) -> Estimate:
        """R(d) with its interval; linear in α and β, so no approximation is made."""
        return self._linear(_row(self.optimiser, distance))

    def slope(self, distance: float) -> Estimate:
        """R′(d) with its interval: α − 2 β d for best-of-n, α − β (log d + 1) for reinforcement learning."""
        turned = -2 * distance if self.optimiser == "best_of_n" else -(math.log(distance) + 1)
        return self._linear(np.array([1.0, turned]))

    def peak_distance(self) -> Estimate | None:
        """Where the curve is highest: α / (2 β) for best-of-n, e^(α/β − 1) for reinforcement learning.

        None where β's interval does not lie above 0 (nothing says that the curve turns), or where best-of-n's
        α does not (it falls from the start). The interval is the delta method's on log d.
        """
        return self._positive(_log_peak_distance)

    def peak_reward(self) -> Estimate | None:
        """The highest reward: α² / (4 β) for best-of-n, β e^(α/β − 1) for reinforcement learning.

        None where `peak_distance` is; the interval is the delta method's on the logarithm.
        """
        return self._positive(_log_peak_reward)

    @property
    def turns(self) -> bool:
        """Whether the data say that there is a peak at all."""
        return self.beta.low > 0 and (self.optimiser == "rl" or self.alpha.low > 0)

    def _linear(self, row: Floats) -> Estimate:
        mean = float(row @ [self.alpha.mean, self.beta.mean])
        error = math.sqrt(float(row @ self.covariance @ row))
        half = self.critical * error
        return replace(self.alpha, mean=mean, low=mean - half, high=mean + half, standard_error=error)

    def _positive(self, log_of: Callable[[Optimiser, float, float], tuple[float, Floats]]) -> Estimate | None:
        if not self.turns:
            return None
        log_value, gradient = log_of(self.optimiser, self.alpha.mean, self.beta.mean)
        error = math.sqrt(float(gradient @ self.covariance @ gradient))
        value, factor = math.exp(log_value), math.exp(self.critical * error)
        low, high = value / factor, value * factor
        return replace(self.alpha, mean=value, low=low, high=high, standard_error=value * error)


@dataclass(frozen=True, kw_only=True)
class Turn:
    """Where gold is highest while the proxy still rises there: the onset of over-optimisation."""

    distance: Estimate
    "√KL at gold's peak."
    gold: Estimate
    "Gold's gain at its peak."
    proxy_slope: Estimate
    "The proxy's gain per √nat at that distance; its interval lies above 0."
    inside: bool
    "Whether the peak lies within the distances that were measured."


@dataclass(frozen=True, kw_only=True)
class Fall:
    """Where a series has over-optimised: gold below its peak while the proxy is above what it was there."""

    peak: int
    "Index of gold's peak."
    at: int
    "Index at which the fall counts as one."
    lost: float
    "Share of the peak that gold has lost there."


def fit_curve(
    kl: ArrayLike,
    reward: ArrayLike,
    optimiser: Optimiser,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Fit:
    """The least-squares curve through points (√KL, reward), with intervals of α and β.

    `kl` is [num_points] in nats, `reward` the gain over the start, [num_points] or [num_points, num_prompts].
    With one number a point, intervals come from the spread around the curve: t with num_points − 2 degrees.
    With prompts, these are drawn again with replacement and the curve fitted anew `resamples` times, which
    counts what all points of a run have in common; KL is held as it is. Reference: Gao et al. 2022.

    Raises E605 for fewer than three points with KL above 0.
    """
    distance, rewards, left_out = _points(kl, reward)
    design = np.stack([_row(optimiser, d) for d in distance])
    solve = np.linalg.pinv(design)
    means = rewards if rewards.ndim == 1 else rewards.mean(axis=1)
    best = solve @ means
    rest = means - design @ best
    n = len(distance)
    variance = float(rest @ rest) / (n - 2)
    if rewards.ndim == 1:
        covariance, num_prompts = variance * (solve @ solve.T), None
        critical = float(stdtrit(n - 2, 0.5 + level / 2))
        half = critical * np.sqrt(np.diag(covariance))
        low, high = best - half, best + half
    else:
        num_prompts = rewards.shape[1]
        drawn = np.random.default_rng(seed).integers(0, num_prompts, size=(resamples, num_prompts))
        again = np.stack([solve @ rewards[:, index].mean(axis=1) for index in drawn])
        covariance = np.cov(again.T)
        low, high = np.quantile(again, [0.5 - level / 2, 0.5 + level / 2], axis=0)
    errors = np.sqrt(np.diag(covariance))
    alpha, beta = (
        Estimate(mean=mean, low=low, high=high, n=n, standard_error=error, level=level)
        for mean, low, high, error in np.stack([best, low, high, errors], axis=1).tolist()
    )
    return Fit(
        optimiser=optimiser,
        alpha=alpha,
        beta=beta,
        covariance=covariance,
        residual=math.sqrt(variance),
        furthest=float(distance.max()),
        left_out=left_out,
        num_prompts=num_prompts,
    )


def turn(gold: Fit, proxy: Fit) -> Turn | None:
    """Where gold peaks while the proxy still rises, from the two fits of one run; None where it does not.

    The data must say both: that gold's curve turns, and that the proxy's slope at that distance is above 0.
    Raises E605 for fits of two optimisers, which are not comparable at equal KL.
    """
    if gold.optimiser != proxy.optimiser:
        reason = f"gold was fitted as {gold.optimiser}, the proxy as {proxy.optimiser}"
        raise TrueupError("E605", reason, where="turn", remedy="fit both from the points of one optimiser")
    distance, reward = gold.peak_distance(), gold.peak_reward()
    if distance is None or reward is None:
        return None
    slope = proxy.slope(distance.mean)
    if slope.low <= 0:
        return None
    inside = distance.mean <= min(gold.furthest, proxy.furthest)
    return Turn(distance=distance, gold=reward, proxy_slope=slope, inside=inside)


def first_fall(
    gold: Sequence[float], proxy: Sequence[float], *, tolerance: float = 0.05, patience: int = 2
) -> Fall | None:
    """The first time that gold falls while the proxy rises in a series of evaluations; None if never.

    Evaluation t counts when gold_t < g* − tolerance · |g*| and proxy_t > proxy*, where g* is the highest gold
    up to t and proxy* the proxy's value there. It takes `patience` such evaluations in a row.
    """
    if len(gold) != len(proxy):
        reason = f"{len(gold)} values of gold and {len(proxy)} of the proxy"
        raise TrueupError("E829", reason, where="first_fall", remedy="give as many of both")
    peak = in_a_row = 0
    for t, (g, p) in enumerate(zip(gold, proxy, strict=True)):
        if g > gold[peak]:
            peak = t
        fell = gold[peak] - g
        in_a_row = in_a_row + 1 if fell > tolerance * abs(gold[peak]) and p > proxy[peak] else 0
        if in_a_row >= patience:
            return Fall(peak=peak, at=t, lost=lost_share(g, gold[peak]))
    return None


def lost_share(gold: float, peak: float) -> float:
    """(peak − gold) / |peak|: the share of its peak that gold has lost."""
    if peak == gold:
        return 0.0
    return (peak - gold) / abs(peak) if peak else math.inf


# ------------------------------------------------------------------------------------------ the parts


def _points(kl: ArrayLike, reward: ArrayLike) -> tuple[Floats, Floats, int]:
    """d and the rewards of the points with KL above 0, and how many had none."""
    nats, rewards = np.asarray(kl, np.float64), np.asarray(reward, np.float64)
    if nats.ndim != 1 or rewards.ndim not in (1, 2) or len(rewards) != len(nats):
        reason = f"KL {nats.shape} and rewards {rewards.shape} do not belong together"
        raise TrueupError("E829", reason, remedy="give a reward, or a row of them, for each KL")
    if not (np.isfinite(nats).all() and np.isfinite(rewards).all()):
        raise TrueupError(
            "E901", "a KL or a reward is not finite", where="fit_curve", remedy="leave that point out"
        )
    kept = nats > 0
    if kept.sum() < _FEWEST:
        reason, remedy = (
            f"{kept.sum()} points with KL above 0",
            f"a curve and its intervals need at least {_FEWEST}",
        )
        raise TrueupError("E605", reason, where="fit_curve", remedy=remedy)
    return np.sqrt(nats[kept]), rewards[kept], int((~kept).sum())


def _row(optimiser: Optimiser, d: float) -> Floats:
    """R(d) = row · (α, β)."""
    if optimiser == "best_of_n":
        return np.array([d, -d * d])
    return np.array([d, -d * math.log(d) if d > 0 else 0.0])


def _log_peak_distance(optimiser: Optimiser, alpha: float, beta: float) -> tuple[float, Floats]:
    """log d at the peak, and its gradient by (α, β)."""
    if optimiser == "best_of_n":
        return math.log(alpha / (2 * beta)), np.array([1 / alpha, -1 / beta])
    return alpha / beta - 1, np.array([1 / beta, -alpha / beta**2])


def _log_peak_reward(optimiser: Optimiser, alpha: float, beta: float) -> tuple[float, Floats]:
    """The logarithm of the highest reward, and its gradient by (α, β)."""
    if optimiser == "best_of_n":
        return math.log(alpha**2 / (4 * beta)), np.array([2 / alpha, -1 / beta])
    value = math.log(beta) + alpha / beta - 1
    return value, np.array([1 / beta, 1 / beta - alpha / beta**2])
