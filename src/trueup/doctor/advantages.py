"""Checks of advantages: zero in the mean where a group or batch is the baseline, in the order of rewards."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations

import numpy as np

from trueup.doctor.dump import Row
from trueup.doctor.finding import Case, Check, Found, counted, finding

_HALF = 2.0**-8
"bfloat16's rounding: an advantage may have been stored so."


def zero_mean(case: Case) -> Found:
    """A group's advantages sum to zero, whether the mean or the others' mean (RLOO) is the baseline.

    Where none do, but those of the whole batch (or of the loss's tokens) sum to zero, the batch was the
    baseline and nothing is wrong. A group with fewer rows than others was cut off, and is left out.
    """
    groups = _groups(case.rows)
    if not groups:
        return "no group of two or more rows with one advantage each"
    off = [rows for rows in groups if not _is_zero([_own(row) for row in rows])]
    if not off or _whitened(groups):
        return []
    means = [float(np.mean([_own(row) for row in rows])) for rows in off]
    worst = max(means, key=abs)
    size = float(np.std([_own(row) for rows in groups for row in rows]))
    says = (
        f"The advantages of {len(off):,} of {counted(len(groups), 'group')} are not zero in the mean: "
        f"{worst:+.3f} in the worst (their spread is {size:.3f}; rounding allows {_HALF * size:.4f})."
    )
    remedy = "Take the group's own mean as the baseline, over all of the group's rows, on one rank."
    rows = [row for group in off for row in group]
    return [finding("advantages not zero-mean", says, rows, remedy, groups=len(off), worst_mean=worst)]


def _own(row: Row) -> float:
    assert row.advantage is not None
    return row.advantage


def _groups(rows: Sequence[Row]) -> list[list[Row]]:
    by: dict[tuple[object, object], list[Row]] = defaultdict(list)
    for row in rows:
        if row.group is not None and row.advantage is not None and np.isfinite(row.advantage):
            by[row.group, row.step].append(row)
    size = max((len(group) for group in by.values()), default=0)
    return [group for group in by.values() if len(group) == size > 1]


def _is_zero(values: Sequence[float]) -> bool:
    return abs(float(np.sum(values))) <= len(values) * _HALF * float(np.max(np.abs(values))) + 1e-9


def _whitened(groups: Sequence[Sequence[Row]]) -> bool:
    """Whether the batch is the baseline: its mean, by rows or by tokens, is zero, and no group's is."""
    rows = [row for group in groups for row in group]
    values = np.array([_own(row) for row in rows])
    weight = np.array([1 if row.trained is None else int(row.trained.sum()) for row in rows])
    zero = sum(_is_zero([_own(row) for row in group]) for group in groups)
    means = (abs(float(values.mean())), abs(float((values * weight).sum() / max(1, weight.sum()))))
    # Rounding errors of n numbers add up to √n of one; four of their standard deviations.
    rounding = 2 * _HALF * float(np.sqrt(np.mean(values**2) / len(values)))
    return zero <= len(groups) / 4 and min(means) <= rounding


def with_rewards(case: Case) -> Found:
    """Within a group the higher reward has the higher advantage.

    Over pairs whose rewards differ, the share in the same order is well above a half unless advantages belong
    to other rows; a penalty inside the advantage turns few pairs. Signs in groups are exchangeable where
    advantages know nothing of rewards, so each group's balance is one draw of mean zero.
    """
    balance, turned, pairs = [], [], 0
    for group in _groups([row for row in case.rows if row.reward is not None and np.isfinite(row.reward)]):
        signs = [np.sign((_own(a) - _own(b)) * (_reward(a) - _reward(b))) for a, b in combinations(group, 2)]
        told = [float(s) for s in signs if s]
        if told:
            balance.append(sum(told) / len(told))
            pairs += len(told)
            turned += group if min(told) < 0 else []
    if pairs < 20 or len(balance) < 5:
        return "fewer than 5 groups whose rewards differ"
    mean = float(np.mean(balance))
    error = float(np.std(balance, ddof=1)) / np.sqrt(len(balance))
    if mean > 3 * error:
        return []
    share = (1 + mean) / 2
    says = (
        f"Advantages do not follow rewards: in {share:.0%} of {pairs:,} pairs of a group's completions the "
        f"higher reward has the higher advantage; nearly all should."
    )
    remedy = (
        "The sign is turned: reward less baseline, not the other way."
        if mean < -0.5
        else "Rows and advantages were shuffled apart: reorder both by one permutation."
    )
    return [finding("advantages of other rows", says, turned, remedy, share=share, pairs=pairs)]


def _reward(row: Row) -> float:
    assert row.reward is not None
    return row.reward


CHECKS: tuple[Check, ...] = (
    Check(kinds=("advantages not zero-mean",), needs=("group", "advantage"), look=zero_mean),
    Check(kinds=("advantages of other rows",), needs=("group", "advantage", "reward"), look=with_rewards),
)
