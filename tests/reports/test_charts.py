"""Charts put values where they belong and lose no extreme."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from trueup.reports import charts, numbers, svg
from trueup.reports.charts import Row
from trueup.reports.record import FrontierPoint, Interval


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 1.0), (0.41, 0.67), (-3.0, 1e-9), (1e5, 3e6), (0.1, 0.1001), (-7, -6.2)]
)
def test_ticks_are_round_inside_and_about_as_many_as_asked(low: float, high: float) -> None:
    found = svg.ticks(svg.Scale(low, high), 5)
    assert 3 <= len(found) <= 8
    assert all(low - 1e-9 * abs(low) <= t <= high + 1e-9 * abs(high) for t in found)
    steps = np.diff(found)
    assert steps == pytest.approx(steps[0])
    mantissa = steps[0] / 10.0 ** np.floor(np.log10(steps[0] * (1 + 1e-9)))
    assert min(abs(mantissa - m) for m in (1, 2, 2.5, 5)) < 1e-6


def test_scale_by_hand() -> None:
    scale = svg.Scale(1.0, 3.0)
    assert scale.x(1.5) == "25.00%"
    assert scale.thousandths(1.5) == 250
    assert scale.y(1.5, 200) == 150
    assert svg.scale_for([2.0, 2.0]).low < 2.0 < svg.scale_for([2.0, 2.0]).high
    assert svg.scale_for([0.0]) == svg.Scale(-1.0, 1.0)


def test_interval_chart_places_dot_and_whisker() -> None:
    rows = [Row("sft", 2, Interval(0.0, -1.0, 1.0)), Row("ppo", 5, Interval(0.5)), Row("base", 0, None)]
    page = charts.interval_chart(
        rows, reference=None, write=numbers.plain, axis=numbers.tick, description="three policies"
    )
    assert page is not None
    # The scale runs from -1 - .06·2 to 1 + .06·2: 0 is in the middle, .5 at (.5 + 1.12)/2.24.
    assert 'class="mark c2" x="50.00%"' in page
    assert 'class="mark c5" x="72.32%"' in page
    assert page.count("whisker") == 1
    assert 'x1="5.36%" x2="94.64%"' in page
    assert ">–<" in page
    assert 'aria-label="three policies: SFT 0.000; PPO 0.500"' in page


def test_frontier_is_drawn_over_the_root_of_kl_in_order_of_step() -> None:
    points = [
        FrontierPoint(policy="ppo", step=s, kl=kl, kl_se=0.1, gold=Interval(g, g - 0.1, g + 0.1), proxy=None)
        for s, kl, g in ((2, 4.0, 0.5), (1, 1.0, 0.4), (0, -0.01, 0.3))
    ]
    page = charts.frontier_chart(points, {"ppo": 5}, which="gold", description="d")
    assert page is not None and charts.frontier_chart(points, {}, which="proxy", description="d") is None
    # √KL 0, 1, 2 on a scale from 0 to 2.06.
    line = re.search(r'points="([^"]+)"', page)
    assert line is not None
    assert [float(p.split(",")[0]) for p in line[1].split()] == pytest.approx([0, 485.4, 970.9], abs=0.1)
    assert page.count("<title>") == 3
    assert "KL −0.01" in page


def test_thinning_keeps_ends_and_extremes() -> None:
    rng = np.random.default_rng(0)
    points = [(float(k), float(v)) for k, v in enumerate(rng.normal(size=5000))]
    points[3333] = (3333.0, 99.0)
    points[17] = (17.0, -99.0)
    kept = charts.thin(points)
    assert len(kept) <= 160
    assert {points[0], points[-1], points[3333], points[17]} <= set(kept)
    assert kept == sorted(kept)
    assert charts.thin(points[:100]) == points[:100]


def test_policies_keep_their_colours() -> None:
    assert charts.slots(["ppo", "sft"]) == {"ppo": 5, "sft": 2}
    assert charts.slots(["best_of_4", "mine", "yours"]) == {"best_of_4": 3, "mine": 6, "yours": 7}
    assert max(charts.slots([f"p{i}" for i in range(40)]).values()) < svg.NUM_STYLES


def test_numbers_by_hand() -> None:
    assert [numbers.plain(v) for v in (0.1234, -12.346, 123.45, 1234.5, 0.0, 2e-4, None)] == [
        "0.123", "−12.35", "123.5", "1234", "0.000", "2.0e−04", "–",
    ]  # fmt: skip
    assert numbers.plain(0.5, signed=True) == "+0.500"
    tallied = [numbers.tally(v) for v in (4947.0, 0.0, -2.0, 0.25, math.inf, math.nan, None)]
    assert tallied == ["4,947", "0", "−2", "0.250", "inf", "nan", "–"]
    assert numbers.count(12_345) == "12.3\u202fk"
    assert numbers.count(3_100_000) == "3.10\u202fM"
    assert numbers.count(9_500) == "9,500"
    assert numbers.duration(200) == "3\u202fmin 20\u202fs"
    assert numbers.duration(7500) == "2\u202fh 05\u202fmin"
    assert numbers.memory(20_480) == "20.0\u202fGiB"
    assert numbers.between(None, 1.0) == "(no interval)"


def test_long_paths_are_thinned_evenly_with_their_ends() -> None:
    points = [
        FrontierPoint(policy=name, step=k, kl=1.0, kl_se=None, gold=None, proxy=1.0)
        for k in reversed(range(1000))
        for name in ("a", "b")
    ]
    kept = charts.evenly(points, 40)
    steps = [p.step for p in kept if p.policy == "b"]
    assert len(kept) == 80 and len(set(steps)) == 40
    assert (steps[0], steps[-1]) == (0, 999)
    assert max(np.diff(steps)) <= 26
    assert charts.evenly(points[:1]) == points[:1]
