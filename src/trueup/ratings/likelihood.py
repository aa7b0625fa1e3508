"""Likelihoods of battles with ties, and the solver that maximises them, many weightings at once.

A battle between a and b has the log-odds d = β_a - β_b + γ·x of the two models, and one of three ends. The
three rules differ in what they say of ties; a number η, one for all battles, says how frequent they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_expit

Floats = NDArray[np.float64]
TieRule = Literal["half", "davidson", "rao-kupper"]

_SMALL_STEP = 1e-10
"A Newton step below this (in log-odds) ends the search: it converges quadratically, the next would be 0."
_MOST_STEPS = 40
_LEAST_CURVATURE = 1e-12
"""Of the weighted average battle. Odds of e^{-37} round to no slope at all, which looks like a maximum; their
curvature gives them away. One win in a million battles has 1e-6."""
_CELLS = 4_000_000
"Numbers a batch of weightings may take for its Hessians at once (32 MB)."


class Slopes(NamedTuple):
    """Of each battle's log-likelihood: first derivatives by d and η, and minus the second ones."""

    d: Floats
    eta: Floats
    dd: Floats
    de: Floats
    ee: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """Battles as numbers: log-odds are `x @ parameters`, `y` the share of the win that went to a.

    With a tie rule other than "half" that has ties to explain, the last parameter is η and the last column of
    `x` is 0; `centred` counts the leading parameters (the models) that only differences are known of.
    """

    x: Floats
    y: Floats
    centred: int
    rule: TieRule
    alpha: float = 0.0

    @property
    def has_eta(self) -> bool:
        """Whether the last parameter says how frequent ties are."""
        return self.rule != "half"


def log_likelihood(rule: TieRule, d: Floats, eta: Floats, y: Floats) -> Floats:
    """The log-probability of each battle's end, -∞ where η is not allowed.

    half: P(a) = σ(d), and a tie is half a win of each (Bradley 1952; soft y in [0, 1] may stand for P(a)).
    Davidson 1970: P(a), P(b), P(tie) ∝ e^{d/2}, e^{-d/2}, ν with ν = e^η.
    Rao and Kupper 1967: P(a) = σ(d - η), P(b) = σ(-d - η), the rest is ties; η > 0.
    """
    if rule == "half":
        return y * log_expit(d) + (1 - y) * log_expit(-d)
    if rule == "davidson":
        ends = np.stack(np.broadcast_arrays(d / 2, -d / 2, eta))
        chosen = np.where(y == 1, ends[0], np.where(y == 0, ends[1], ends[2]))
        return chosen - np.logaddexp.reduce(ends, axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        # log(e^{2η} - 1), written so that a large η does not overflow; NaN for η < 0 becomes -∞ below.
        spread = 2 * eta + np.log(-np.expm1(-2 * eta))
    win, loss = log_expit(d - eta), log_expit(-d - eta)
    found = np.where(y == 1, win, np.where(y == 0, loss, win + loss + spread))
    return np.where(np.broadcast_to(eta, found.shape) > 0, found, -np.inf)


def slopes(rule: TieRule, d: Floats, eta: Floats, y: Floats) -> Slopes:
    """The derivatives of `log_likelihood`; all three rules are concave in (d, η) together."""
    zero = np.zeros(np.broadcast_shapes(d.shape, eta.shape))
    if rule == "half":
        p = expit(d)
        return Slopes(y - p, zero, p * (1 - p), zero, zero)
    win, loss = (y == 1).astype(np.float64), (y == 0).astype(np.float64)
    tie = 1 - win - loss
    if rule == "davidson":
        ends = np.stack(np.broadcast_arrays(d / 2, -d / 2, eta))
        p = np.exp(ends - np.logaddexp.reduce(ends, axis=0))
        lead = (p[0] - p[1]) / 2
        first = (win - loss) / 2 - lead, tie - p[2]
        return Slopes(*first, (p[0] + p[1]) / 4 - lead**2, -lead * p[2], p[2] * (1 - p[2]))
    u, v = expit(d - eta), expit(-d - eta)
    # A tie has the slopes of a win and of a loss, and those of log(e^{2η} - 1).
    up, down = win + tie, loss + tie
    curve_u, curve_v = up * u * (1 - u), down * v * (1 - v)
    odds = -np.expm1(-2 * eta)
    first = up * (1 - u) - down * (1 - v), tie * 2 / odds - up * (1 - u) - down * (1 - v)
    bend = tie * 4 * np.exp(-2 * eta) / odds**2
    return Slopes(*first, curve_u + curve_v, curve_v - curve_u, curve_u + curve_v + bend)


def probabilities(rule: TieRule, d: Floats, eta: float) -> tuple[Floats, Floats]:
    """P(a wins) and P(tie) of battles with log-odds `d`; under "half" a tie is not foreseen."""
    if rule == "half":
        return expit(d), np.zeros_like(d)
    at = np.full_like(d, eta)
    wins = np.exp(log_likelihood(rule, d, at, np.ones_like(d)))
    losses = np.exp(log_likelihood(rule, d, at, np.zeros_like(d)))
    return wins, 1 - wins - losses


@dataclass(frozen=True, slots=True)
class Fits:
    """One row for each weighting: the parameters, and whether the search ended at a maximum."""

    parameters: Floats
    converged: NDArray[np.bool_]


def maximise(design: Design, weights: Floats, start: Floats | None = None) -> Fits:
    """The parameters that maximise Σ_m w_m log P_m - α‖β‖² for every row w of `weights` [B, battles].

    Newton's method with step halving, on the models' Σ β = 0. Where no finite maximum exists the steps stay
    about 1 long while the likelihood creeps up (e^{-t} has g/h = 1), so the search does not converge, and
    says so. `start` [parameters] is where it begins.
    """
    size = design.x.shape[1]
    first = np.zeros(size) if start is None else start
    if start is None and design.rule == "rao-kupper":
        first[-1] = 1.0
    parts = max(1, _CELLS // max(1, design.x.size))
    found = [_newton(design, weights[at : at + parts], first) for at in range(0, len(weights), parts)]
    return Fits(np.concatenate([f.parameters for f in found]), np.concatenate([f.converged for f in found]))


def gradients(design: Design, parameters: Floats) -> Floats:
    """The gradient of each battle's log-likelihood, unweighted: [battles, parameters]."""
    s = slopes(design.rule, *_ends(design, parameters[None]), design.y)
    rows = design.x * s.d[0][:, None]
    if design.has_eta:
        rows[:, -1] = s.eta[0]
    return rows


def hessians(design: Design, parameters: Floats, weights: Floats) -> Floats:
    """Minus the second derivatives of the penalised log-likelihood: [B, parameters, parameters]."""
    s = slopes(design.rule, *_ends(design, parameters), design.y)
    x = design.x
    h = (x.T[None] * (weights * s.dd)[:, None, :]) @ x
    if design.has_eta:
        cross = (weights * s.de) @ x
        h[:, -1, :] = cross
        h[:, :, -1] = cross
        h[:, -1, -1] = (weights * s.ee).sum(axis=1)
    models = np.arange(design.centred)
    h[:, models, models] += 2 * design.alpha
    return h


def gauge(design: Design) -> Floats:
    """A matrix to add to a Hessian: it makes Σ β, of which no battle says anything, a known 0."""
    ones = np.zeros(design.x.shape[1])
    ones[: design.centred] = 1.0
    return np.outer(ones, ones) / design.centred


def _ends(design: Design, parameters: Floats) -> tuple[Floats, Floats]:
    d = parameters @ design.x.T
    return d, parameters[:, -1:] if design.has_eta else np.zeros((len(parameters), 1))


def _objective(design: Design, parameters: Floats, weights: Floats) -> Floats:
    ll = log_likelihood(design.rule, *_ends(design, parameters), design.y)
    # 0 · -∞ would be NaN: a battle that weighs nothing adds nothing.
    total = np.where(weights > 0, weights * np.where(weights > 0, ll, 0.0), 0.0).sum(axis=1)
    return total - design.alpha * (parameters[:, : design.centred] ** 2).sum(axis=1)


def _gradient(design: Design, parameters: Floats, weights: Floats) -> Floats:
    s = slopes(design.rule, *_ends(design, parameters), design.y)
    g = (weights * s.d) @ design.x
    if design.has_eta:
        g[:, -1] = (weights * s.eta).sum(axis=1)
    g[:, : design.centred] -= 2 * design.alpha * parameters[:, : design.centred]
    return g


def _newton(design: Design, weights: Floats, start: Floats) -> Fits:
    theta = np.tile(start, (len(weights), 1))
    converged = np.zeros(len(weights), bool)
    left = np.arange(len(weights))
    # The weights' scale cancels in a step; a gauge of their size keeps the solve well conditioned.
    for _ in range(_MOST_STEPS):
        w, at = weights[left], theta[left]
        hessian = hessians(design, at, w) + gauge(design) * w.sum(axis=1)[:, None, None]
        step, solved = _solve(hessian, _gradient(design, at, w))
        theta[left] = at + step * _how_far(design, at, w, step)[:, None]
        small = solved & (np.abs(step).max(axis=1) < _SMALL_STEP)
        curvature = np.linalg.eigvalsh(hessian[small]).min(axis=1)
        converged[left[small]] = curvature > _LEAST_CURVATURE * w[small].sum(axis=1)
        left = left[solved & ~small]
        if not len(left):
            break
    return Fits(theta, converged)


def _solve(hessian: Floats, gradient: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Newton steps, and which of them could be computed: a singular Hessian gives none."""
    try:
        step = np.linalg.solve(hessian, gradient[..., None])[..., 0]
    except np.linalg.LinAlgError:
        # One singular matrix fails the whole stack: solve the others beside a stand-in for it.
        singular = np.asarray(np.linalg.cond(hessian) > 1e14)
        stand_in = np.where(singular[:, None, None], np.eye(hessian.shape[-1]), hessian)
        step = np.linalg.solve(stand_in, gradient[..., None])[..., 0]
        step[singular] = np.nan
    solved = np.asarray(np.isfinite(step).all(axis=1), bool)
    return np.where(solved[:, None], step, 0.0), solved


def _how_far(design: Design, at: Floats, weights: Floats, step: Floats) -> Floats:
    """The longest of 1, 1/2, 1/4 ... of each step that does not lower the objective beyond rounding."""
    share = np.ones(len(at))
    before = _objective(design, at, weights)
    for _ in range(30):
        after = _objective(design, at + step * share[:, None], weights)
        worse = ~(after >= before - 1e-12 * np.abs(before))
        if not worse.any():
            break
        share[worse] /= 2
    return share
