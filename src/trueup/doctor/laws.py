"""Explanations of the gap between a dump's log-probs and the model's: a law each, fitted and compared.

    d_t = g_t - log π(y_t),   d̂_t by a law,   chosen by BIC: n log Σ((d - d̂)/σ)² + k log n

A law is one that the numbers can be told by: another temperature, a truncated support (top-p, top-k)
renormalised, both, the next or the last token's log-prob, another row's. What none explains is another policy's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from trueup.doctor.finding import counted
from trueup.doctor.scan import NODES, TOP, Scan

TEMPERATURES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.1, 1.2, 1.5, 2.0)
"Where a support that is truncated after a temperature is sought, before both are fitted."
_P = np.concatenate([np.arange(0.05, 0.95, 0.05), [0.95, 0.96, 0.97, 0.98, 0.99, 0.995, 0.999]])
_K = np.array([*range(1, 65), 80, 100, 128, 160, 200, 250])


@dataclass(frozen=True, kw_only=True, eq=False)
class Gaps:
    """A column of log-probs beside the model's, at the tokens of a scan that have both [n]."""

    scan: Scan
    index: np.ndarray
    "Which tokens of the scan."
    given: np.ndarray

    @property
    def gap(self) -> np.ndarray:
        """d: what the dump says less what the model says."""
        return self.given - self.scan.exact[self.index]

    @property
    def sigma(self) -> np.ndarray:
        """The size of rounding at each token."""
        return self.scan.sigma[self.index]

    @property
    def owner(self) -> np.ndarray:
        """Which row of the scan each token is of."""
        return self.scan.owner[self.index]

    def of(self, chosen: np.ndarray) -> Gaps:
        """The gaps of some tokens, bool [n]."""
        return Gaps(scan=self.scan, index=self.index[chosen], given=self.given[chosen])

    def per_row(self, values: np.ndarray) -> np.ndarray:
        """Σ over each row's tokens; 0 for a row that has none here."""
        return np.bincount(self.owner, values, minlength=len(self.scan.rows))


@dataclass(frozen=True, kw_only=True, eq=False)
class Law:
    """A fitted explanation: its kind, its words, what it predicts of the gaps, and how many numbers it has."""

    kind: str
    says: str
    predicted: np.ndarray
    free: int
    measured: dict[str, float]


def rival(gaps: Gaps) -> Law | None:
    """The law that explains the gaps best, None where no law beats "no gap" by a factor of e¹⁰ in odds."""
    best, lowest = None, _bic(gaps, np.zeros(len(gaps.index)), 0) - 20
    for law in _laws(gaps):
        found = _bic(gaps, law.predicted, law.free)
        if found < lowest:
            best, lowest = law, found
    return best


def _bic(gaps: Gaps, predicted: np.ndarray, free: int) -> float:
    # A tenth of rounding's size is nothing to choose by.
    n = len(gaps.index)
    return n * float(np.log(_misfit(gaps, predicted) / n + 1e-2)) + free * float(np.log(max(n, 2)))


def _misfit(gaps: Gaps, predicted: np.ndarray) -> float:
    """Σ((d - d̂)/σ)²."""
    return float((((gaps.gap - predicted) / gaps.sigma) ** 2).sum())


def _laws(gaps: Gaps) -> Iterator[Law]:
    x = _minimum(lambda x: _misfit(gaps, _tempered(gaps, x)), np.linspace(NODES[-1], NODES[0], 41))
    yield _temperature(gaps, x)
    plain = list(_supports(gaps, 0.0))
    yield from plain
    rough = [(law, x) for t in TEMPERATURES for x in [-np.log(t)] for law in _supports(gaps, x, coarse=True)]
    law, near = min(rough, key=lambda pair: _misfit(gaps, pair[0].predicted))
    yield from _supports_near(gaps, law, near)
    yield from (law for law in (_moved(gaps, 1), _moved(gaps, -1), _other_rows(gaps)) if law is not None)


def _minimum(f: Callable[[float], float], grid: np.ndarray) -> float:
    """Where f is least: on the grid, then between the neighbours."""
    from scipy.optimize import minimize_scalar

    k = int(np.argmin([f(float(x)) for x in grid]))
    low, high = grid[max(0, k - 1)], grid[min(len(grid) - 1, k + 1)]
    found = minimize_scalar(f, bounds=(float(low), float(high)), method="bounded", options={"xatol": 1e-6})
    return float(found.x) if found.fun <= f(float(grid[k])) else float(grid[k])


def _tempered(gaps: Gaps, x: float) -> np.ndarray:
    return gaps.scan.at_temperature(x)[gaps.index] - gaps.scan.exact[gaps.index]


def _temperature(gaps: Gaps, x: float) -> Law:
    """The fitted temperature, as a factor of the row's, with its standard error from the curvature."""
    predicted = _tempered(gaps, x)
    slope = (_tempered(gaps, x + 1e-3) - _tempered(gaps, x - 1e-3)) / 2e-3 / gaps.sigma
    left = (gaps.gap - predicted) / gaps.sigma
    error = float(np.sqrt(np.mean(left**2) / max(float((slope**2).sum()), 1e-12)))
    factor = float(np.exp(-x))
    says = f"are those of a temperature {factor:.3f} times the declared one"
    measured = {"temperature_factor": factor, "error": factor * error}
    return Law(kind="temperature", says=says, predicted=predicted, free=1, measured=measured)


# --------------------------------------------------------------------------------------- truncated supports


def _supports(gaps: Gaps, x: float, *, coarse: bool = False) -> Iterator[Law]:
    """Top-p and top-k, renormalised, after a temperature."""
    mass = np.cumsum(np.exp(gaps.scan.top_at(x)[gaps.index]), 1)
    before = _tempered(gaps, x)
    rank = gaps.scan.rank[gaps.index].astype(int)

    def within_p(p: float) -> np.ndarray:
        last = (mass < p).sum(1)
        return before + _gain(mass, last, rank)

    def within_k(k: int) -> np.ndarray:
        return before + _gain(mass, np.full(len(rank), k - 1), rank)

    warm = "" if x == 0 else f" after a temperature {np.exp(-x):.3f} times the declared one"
    ps = _P[::3] if coarse else _P
    p = float(min(ps, key=lambda p: _misfit(gaps, within_p(float(p)))))
    if not coarse:
        near = np.clip(p + np.arange(-0.05, 0.051, 0.005), 0.005, 0.9995)
        p = float(min([p, *near], key=lambda p: _misfit(gaps, within_p(float(p)))))
    found = [("top-p", p, within_p(p))]
    ks = _K[mass.shape[1] > _K]
    if len(ks):
        k = int(min(ks[::4] if coarse else ks, key=lambda k: _misfit(gaps, within_k(int(k)))))
        found.append(("top-k", k, within_k(k)))
    for name, value, predicted in found:
        # A log-prob that is renormalised is larger than the whole law's by -log of the support's mass.
        measured = {name: float(value), "mean_shift": float(np.mean(predicted - before))}
        says = f"are of a support cut to {name} {value:.3g} and renormalised{warm}"
        if x:
            measured["temperature_factor"] = float(np.exp(-x))
        yield Law(
            kind="truncated support", says=says, predicted=predicted, free=2 if x else 1, measured=measured
        )


def _gain(mass: np.ndarray, last: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """-log S of the support that ends at `last`; 0 where y lies outside it, or the support was not kept."""
    known = (last < mass.shape[1]) & (rank <= last)
    inside = np.take_along_axis(mass, np.minimum(last, mass.shape[1] - 1)[:, None], 1)[:, 0]
    return np.where(known, -np.log(np.clip(inside, 1e-12, 1.0)), 0.0)


def _supports_near(gaps: Gaps, law: Law, x: float) -> Iterator[Law]:
    """The supports at the temperature that fits best near x, the kind of support kept."""

    def misfit(x: float) -> float:
        return min(_misfit(gaps, found.predicted) for found in _supports(gaps, x, coarse=True))

    from scipy.optimize import minimize_scalar

    best = minimize_scalar(misfit, bounds=(x - 0.1, x + 0.1), method="bounded", options={"maxiter": 12})
    for y in (x, float(best.x)):
        yield from _supports(gaps, y)


# ------------------------------------------------------------------------------------- log-probs moved about


def _moved(gaps: Gaps, by: int) -> Law | None:
    """The log-prob of the token `by` places on, where the row has one that was scored."""
    scan = gaps.scan
    at = {(int(o), int(p)): k for k, (o, p) in enumerate(zip(scan.owner, scan.place, strict=True))}
    there = [at.get((int(scan.owner[k]), int(scan.place[k]) + by), -1) for k in gaps.index]
    index = np.array(there)
    if (index < 0).mean() > 0.5:
        return None
    moved = np.where(index >= 0, scan.exact[index] - scan.exact[gaps.index], gaps.gap)
    says = f"are those of the {'next' if by > 0 else 'previous'} token"
    return Law(kind="log-probs off by one", says=says, predicted=moved, free=2, measured={"by": by})


def _other_rows(gaps: Gaps) -> Law | None:
    """The log-probs of another row: the one that each row's numbers fit best among those as long or longer."""
    scan = gaps.scan
    rows = [scan.exact[scan.owner == k] for k in range(len(scan.rows))]
    predicted, moved = np.zeros(len(gaps.index)), 0
    for k in np.unique(gaps.owner):
        mine = np.flatnonzero(gaps.owner == k)
        given, count = gaps.given[mine], len(mine)
        # Of few numbers some other row's would fit by chance.
        others = [
            (float(np.abs(given - r[:count]).sum()), j) for j, r in enumerate(rows) if len(r) >= count > 4
        ]
        if not others or count != len(rows[k]):
            continue
        near = min(others)[1]
        predicted[mine] = rows[near][:count] - rows[k]
        moved += near != k
    if not moved:
        return None
    return Law(
        kind="log-probs of other rows",
        says=f"are those of other rows in {counted(moved, 'row')}",
        predicted=predicted,
        free=1 + moved,
        measured={"moved": moved},
    )


assert int(_K[-1]) < TOP
