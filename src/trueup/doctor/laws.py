"""Explanations of the gap between a dump's log-probs and the model's: a law each, fitted and compared.

    d_t = g_t - log π(y_t),   d̂_t by a law,   chosen by BIC: n log Σ((d - d̂)/σ)² + k log n

A law is one that the numbers can be told by: another temperature, a truncated support (top-p, top-k)
renormalised, both, the next or the last token's log-prob, another row's. What none explains is another
policy's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from trueup.doctor.scan import NODES, TOP, Scan

FITTED = 4000
"Tokens that laws are fitted to and compared by."
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

    def thinned(self, most: int) -> Gaps:
        """The gaps of evenly spread rows, of so many tokens at most, and of one row at least."""
        rows = np.unique(self.owner)
        share = min(1.0, most / len(self.index))
        kept = rows[np.unique(np.linspace(0, len(rows) - 1, max(1, int(share * len(rows)))).astype(int))]
        return self if share == 1 else self.of(np.isin(self.owner, kept))

    def per_row(self, values: np.ndarray) -> np.ndarray:
        """Σ over each row's tokens; 0 for a row that has none here."""
        return np.bincount(self.owner, values, minlength=len(self.scan.rows))


@dataclass(frozen=True, kw_only=True, eq=False)
class Law:
    """A fitted explanation: its kind, its words, what it predicts of gaps, and how many numbers it has."""

    kind: str
    says: str
    "Words in which `{temperature}` stands for the one that is `temperature_factor` times the declared one."
    predict: Callable[[Gaps], np.ndarray]
    free: int
    measured: dict[str, float]


def rival(every: Gaps) -> Law | None:
    """The law that explains the gaps best, None where no law beats "no gap" by a factor of e¹⁰ in odds."""
    gaps = every.thinned(FITTED)
    nothing = np.zeros(len(gaps.index))
    best, lowest = None, _bic(gaps, nothing, 0) - 20
    for law in _laws(gaps):
        predicted = law.predict(gaps)
        found = _bic(gaps, predicted, law.free)
        if found < lowest:
            best, lowest = law, found
        if _misfit(gaps, predicted) < 0.02 * _misfit(gaps, nothing):
            break  # The simpler laws come first, and nothing is left for the others.
    return best


def _bic(gaps: Gaps, predicted: np.ndarray, free: int) -> float:
    # A tenth of rounding's size is nothing to choose by.
    n = len(gaps.index)
    return n * float(np.log(_misfit(gaps, predicted) / n + 1e-2)) + free * float(np.log(max(n, 2)))


def _misfit(gaps: Gaps, predicted: np.ndarray) -> float:
    """Σ((d - d̂)/σ)²."""
    return float((((gaps.gap - predicted) / gaps.sigma) ** 2).sum())


def _laws(gaps: Gaps) -> Iterator[Law]:
    yield _temperature(gaps)
    yield _moved(1)
    yield _moved(-1)
    yield from _supports(gaps, 0.0)
    yield from _other_rows(gaps)
    near = min((-float(np.log(t)) for t in TEMPERATURES), key=lambda x: _best(gaps, x))
    best = minimum(lambda x: _best(gaps, x), np.array([near - 0.1, near, near + 0.1]), steps=10)
    for x in dict.fromkeys((near, best)):
        yield from _supports(gaps, x)


def _best(gaps: Gaps, x: float) -> float:
    return min(misfit for misfit, _, _ in _sought(gaps, x, coarse=True))


def minimum(f: Callable[[float], float], grid: np.ndarray, *, steps: int = 200) -> float:
    """Where f is least: on the grid, then between the neighbours."""
    from scipy.optimize import minimize_scalar

    k = int(np.argmin([f(float(x)) for x in grid]))
    bounds = float(grid[max(0, k - 1)]), float(grid[min(len(grid) - 1, k + 1)])
    options = {"xatol": 1e-6, "maxiter": steps}
    found = minimize_scalar(f, bounds=bounds, method="bounded", options=options)
    return float(found.x) if found.fun <= f(float(grid[k])) else float(grid[k])


def _tempered(gaps: Gaps, x: float) -> np.ndarray:
    return gaps.scan.at_temperature(x, gaps.index) - gaps.scan.exact[gaps.index]


def _temperature(gaps: Gaps) -> Law:
    """The fitted temperature, as a factor of the row's, with its standard error from the curvature."""
    x = minimum(lambda x: _misfit(gaps, _tempered(gaps, x)), np.linspace(NODES[-1], NODES[0], 41))
    slope = (_tempered(gaps, x + 1e-3) - _tempered(gaps, x - 1e-3)) / 2e-3 / gaps.sigma
    left = (gaps.gap - _tempered(gaps, x)) / gaps.sigma
    error = float(np.sqrt(np.mean(left**2) / max(float((slope**2).sum()), 1e-12)))
    factor = float(np.exp(-x))
    return Law(
        kind="temperature",
        says="are those of {temperature}",
        predict=lambda of: _tempered(of, x),
        free=1,
        measured={"temperature_factor": factor, "error": factor * error},
    )


# --------------------------------------------------------------------------------------- truncated supports


def _supports(gaps: Gaps, x: float) -> Iterator[Law]:
    """Top-p and top-k, renormalised, after a temperature."""
    for _, name, value in _sought(gaps, x, coarse=False):
        yield _support(gaps, x, name, value)


def _sought(gaps: Gaps, x: float, *, coarse: bool) -> Iterator[tuple[float, str, float]]:
    """The least misfit of each kind of support, its name and the number that has it."""
    mass, rank = _mass(gaps, x, 64 if coarse else TOP), gaps.scan.rank[gaps.index].astype(int)
    left = gaps.gap - _tempered(gaps, x)

    def misfit(name: str, value: float) -> tuple[float, str, float]:
        found = (((left - _gain(mass, rank, name, float(value))) / gaps.sigma) ** 2).sum()
        return float(found), name, float(value)

    best = min(misfit("top-p", p) for p in (_P[::3] if coarse else _P))
    near = [] if coarse else np.clip(best[2] + np.arange(-0.05, 0.051, 0.005), 0.005, 0.9995)
    yield min([best, *(misfit("top-p", p) for p in near)])
    ks = _K[: np.searchsorted(_K, mass.shape[1])]
    if len(ks):
        yield min(misfit("top-k", k) for k in (ks[::4] if coarse else ks))


def _support(gaps: Gaps, x: float, name: str, value: float) -> Law:
    def gain(of: Gaps) -> np.ndarray:
        return _gain(_mass(of, x), of.scan.rank[of.index].astype(int), name, value)

    warm = "" if x == 0 else " at {temperature}"
    # A log-prob that is renormalised is larger than the whole law's by -log of the support's mass.
    measured = {name.replace("-", "_"): value, "mean_shift": float(gain(gaps).mean())}
    if x:
        measured["temperature_factor"] = float(np.exp(-x))
    return Law(
        kind="truncated support",
        says=f"are of a support cut to {name} {value:.3g} and renormalised{warm}",
        predict=lambda of: _tempered(of, x) + gain(of),
        free=2 if x else 1,
        measured=measured,
    )


def _mass(gaps: Gaps, x: float, most: int = TOP) -> np.ndarray:
    """The mass of the likeliest 1, 2, ... ids at each token [n, C]."""
    return np.cumsum(np.exp(gaps.scan.top_at(x, gaps.index, most)), 1)


def _gain(mass: np.ndarray, rank: np.ndarray, name: str, value: float) -> np.ndarray:
    """-log S of a support; 0 where y lies outside it, or so much of the law was not kept."""
    last = (mass < value).sum(1) if name == "top-p" else np.full(len(rank), int(value) - 1)
    known = (last < mass.shape[1]) & (rank <= last)
    inside = np.take_along_axis(mass, np.minimum(last, mass.shape[1] - 1)[:, None], 1)[:, 0]
    return np.where(known, -np.log(np.clip(inside, 1e-12, 1.0)), 0.0)


# ------------------------------------------------------------------------------------- log-probs moved about


def _moved(by: int) -> Law:
    """The log-prob of the token `by` places on; a token without one is left out, as if explained."""

    def predict(gaps: Gaps) -> np.ndarray:
        scan, there = gaps.scan, gaps.index + by
        inside = np.clip(there, 0, len(scan.exact) - 1)
        beside = (scan.owner[inside] == scan.owner[gaps.index]) & (
            scan.place[inside] == scan.place[gaps.index] + by
        )
        if beside.mean() < 0.5:
            return np.zeros(len(gaps.index))
        return np.where(beside, scan.exact[inside] - scan.exact[gaps.index], gaps.gap)

    says = f"are those of the {'next' if by > 0 else 'previous'} token"
    return Law(kind="log-probs off by one", says=says, predict=predict, free=2, measured={"by": by})


def _other_rows(gaps: Gaps) -> Iterator[Law]:
    """The log-probs of another row: the one that each row's numbers fit best, of those that are as long."""
    scan = gaps.scan
    rows = [scan.exact[scan.owner == k] for k in range(len(scan.rows))]

    def source(given: np.ndarray, k: int) -> int:
        # Of few numbers some other row's would fit by chance.
        long = [j for j, row in enumerate(rows) if len(row) >= len(given) > 4]
        if len(given) != len(rows[k]) or not long:
            return k
        return min(long, key=lambda j: float(np.abs(given - rows[j][: len(given)]).sum()))

    def predict(of: Gaps) -> np.ndarray:
        found = np.zeros(len(of.index))
        for k in np.unique(of.owner):
            mine = np.flatnonzero(of.owner == k)
            j = source(of.given[mine], int(k))
            found[mine] = rows[j][: len(mine)] - rows[k] if j != k else 0.0
        return found

    moved = sum(source(gaps.given[gaps.owner == k], int(k)) != k for k in np.unique(gaps.owner))
    if moved:
        yield Law(
            kind="log-probs of other rows",
            says="are those of other rows",
            predict=predict,
            free=1 + moved,
            measured={"moved": moved},
        )


assert int(_K[-1]) < TOP
