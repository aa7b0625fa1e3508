"""The verdict on a column of log-probs: the law that explains its gaps, and the rows that nothing explains.

A row is out of line where its mean squared gap, in units of rounding's own variance, is above 4 (twice the
size) by more than six standard errors. All rows together are asked too: a law that explains the gaps counts
where what it adds to a row's log-ratio is more than rounding adds, so that a bias far below one token's noise
is seen in many.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from trueup.doctor.laws import Gaps, Law, rival
from trueup.doctor.scan import Scan

Column = Literal["sampler", "trainer"]
COLUMNS: tuple[Column, ...] = ("sampler", "trainer")
FACTOR = 4.0
"A row's mean squared gap may be so many times rounding's variance: other kernels round in another order."
EXPLAINED = 0.8
"A law is named where it leaves at most a fifth of the squared gaps beyond rounding."


def gaps_of(scan: Scan, column: Column) -> Gaps | None:
    """The tokens at which a column has a log-prob and the model has scored; None where there are none."""
    given = np.full(len(scan.owner), np.nan)
    for k, row in enumerate(scan.rows):
        values = getattr(row, column)
        if values is not None:
            mine = scan.owner == k
            given[mine] = values[scan.at[mine]]
    index = np.flatnonzero(np.isfinite(given))
    return Gaps(scan=scan, index=index, given=given[index]) if len(index) else None


@dataclass(frozen=True, kw_only=True, eq=False)
class Verdict:
    """What is to be said of a column."""

    gaps: Gaps
    law: Law | None
    of_law: tuple[int, ...]
    "Rows of the scan that it is about."
    unexplained: tuple[int, ...]
    "Rows of the scan whose gaps are beyond rounding after the law."
    left: np.ndarray
    "The gaps less what the law explains, at all tokens."

    @property
    def clean(self) -> bool:
        """Whether rounding explains everything."""
        return self.law is None and not self.unexplained


def judge(gaps: Gaps) -> Verdict:
    """The verdict on a column: a law of all rows, or else one of those that are out of line."""
    out = _out_of_line(gaps, gaps.gap)
    every = np.unique(gaps.owner)
    everywhere = np.ones(len(gaps.index), bool)
    for rows, chosen in ((every, everywhere), (out, np.isin(gaps.owner, out))):
        asked = gaps.of(chosen)
        if not len(rows) or not (
            len(out) or float(np.mean(gaps.gap**2)) > 1e-3 * float(np.mean(gaps.sigma**2))
        ):
            break
        law = rival(asked)
        if law is not None and _names(asked, law) and (len(out) or _material(asked, law)):
            left = gaps.gap.copy()
            left[chosen] -= law.predict(asked)
            rest = tuple(_out_of_line(gaps, left).tolist())
            return Verdict(gaps=gaps, law=law, of_law=tuple(rows.tolist()), unexplained=rest, left=left)
        if len(out) == len(every):
            break
    return Verdict(gaps=gaps, law=None, of_law=(), unexplained=tuple(out.tolist()), left=gaps.gap)


def _out_of_line(gaps: Gaps, gap: np.ndarray) -> np.ndarray:
    """The rows of the scan whose squared gaps are beyond rounding's."""
    noise = (gaps.scan.noise / gaps.scan.sigma) ** 2
    count = gaps.per_row(np.ones(len(gap)))
    mean = gaps.per_row((gap / gaps.sigma) ** 2) / np.maximum(count, 1)
    error = float(np.std(noise)) / np.sqrt(np.maximum(count, 1))
    return np.flatnonzero((count > 0) & (mean > FACTOR * (1 + 6 * error)))


def _names(gaps: Gaps, law: Law) -> bool:
    """Whether a law leaves little of the squared gaps beyond rounding."""
    before = float((gaps.gap**2).sum())
    after = float(((gaps.gap - law.predict(gaps)) ** 2).sum()) - float((gaps.sigma**2).sum())
    return after <= (1 - EXPLAINED) * before


def _material(gaps: Gaps, law: Law) -> bool:
    """Whether what a law adds to the rows' log-ratios is more than rounding adds."""
    predicted = law.predict(gaps)
    added, rounding = gaps.per_row(predicted) ** 2, gaps.per_row(gaps.sigma**2)
    squares = predicted**2
    return max(float(added.sum()), float(squares.sum())) > float(rounding.sum())


def within_rows(gap: np.ndarray, owner: np.ndarray) -> float:
    """The intraclass correlation of gaps by row: the share of their variance that rows have in common."""
    _, group, count = np.unique(owner, return_inverse=True, return_counts=True)
    if len(count) < 2 or len(gap) == len(count):
        return 0.0
    means = np.bincount(group, gap) / count
    inner = float(((gap - means[group]) ** 2).sum()) / (len(gap) - len(count))
    outer = float((count * (means - gap.mean()) ** 2).sum()) / (len(count) - 1)
    size = (len(gap) - float((count**2).sum()) / len(gap)) / (len(count) - 1)
    between = max(0.0, (outer - inner) / size)
    return between / (between + inner) if between + inner > 0 else 0.0
