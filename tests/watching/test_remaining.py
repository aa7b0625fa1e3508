"""Time left, on timings made up so that the numbers can be worked out by hand."""

from __future__ import annotations

import pytest

from trueup.watching.remaining import FEWEST, remaining


def test_steps_that_all_take_the_same_leave_no_spread() -> None:
    found = remaining([2.0] * 10, steps=30, since=0.0)
    assert found is not None
    assert (found.seconds, found.low, found.high, found.over) == (60.0, 60.0, 60.0, 10)


def test_the_median_and_the_tenth_and_ninetieth_percentile() -> None:
    # 1 .. 11: the median is 6, and tenths of eleven values in order are the values themselves: 2 and 10.
    found = remaining([float(n) for n in (11, 1, 10, 2, 9, 3, 8, 4, 7, 5, 6)], steps=100, since=0.0)
    assert found is not None
    assert (found.seconds, found.low, found.high) == (600.0, 200.0, 1000.0)


def test_a_rare_long_step_is_in_the_upper_end() -> None:
    # Nineteen steps of 1 s and one of 81 s: the ninetieth percentile is 1, the mean (19 + 81) / 20 = 5.
    found = remaining([1.0] * 19 + [81.0], steps=10, since=0.0)
    assert found is not None
    assert (found.seconds, found.low, found.high) == (10.0, 10.0, 50.0)


def test_what_the_present_step_has_taken_is_taken_off_at_most_once() -> None:
    quick, stuck = remaining([4.0] * 5, steps=3, since=1.0), remaining([4.0] * 5, steps=3, since=99.0)
    assert quick is not None and stuck is not None
    assert quick.seconds == 11.0 and stuck.seconds == 8.0


@pytest.mark.parametrize(("recent", "steps"), [([1.0] * (FEWEST - 1), 10), ([], 10), ([1.0] * 9, 0)])
def test_too_little_is_no_estimate(recent: list[float], steps: int) -> None:
    assert remaining(recent, steps=steps, since=0.0) is None
