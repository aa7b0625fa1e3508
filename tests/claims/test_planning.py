"""The verdict rule: margins, and how many seeds an undecided claim is given, on numbers made up for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markupsafe import Markup

from trueup.claims import measure, reproduce
from trueup.claims.experiment import Trial
from trueup.claims.files import prompt_override
from trueup.claims.finding import Effect, Finding, over_seeds, sentence, worded
from trueup.claims.planning import MOST, half_width, kept_plan, plan_for, seeds_for
from trueup.cli import main
from trueup.errors import TrueupError
from trueup.statistics.estimates import mean_ci

NONE = "no effect beyond ±X"
CASES = [
    ((0.001, 0.006), (0.0, None), 0.02, 0.0, "holds"),
    ((-0.02, -0.001), (0.0, None), 0.05, 0.0, "does not hold here"),
    ((-0.01, 0.015), (0.0, None), 0.02, 0.0, NONE),
    ((-0.01, 0.015), (0.0, None), None, 0.0, "undecided"),
    ((-0.01, 0.021), (0.0, None), 0.02, 0.0, "undecided"),
    ((0.45, 0.52), (0.5, None), 0.06, 0.5, NONE),
    ((0.45, 0.57), (0.5, None), 0.06, 0.5, "undecided"),
    ((0.01, 0.03), (0.02, None), 0.04, 0.0, NONE),
    ((-0.03, 0.01), (-0.02, 0.02), 0.05, 0.0, NONE),
    ((0.0, 0.0), (0.0, None), 0.05, 0.0, NONE),
    ((0.0, 0.0), (None, 0.0), None, 0.0, "does not hold here"),
    ((0.0, 0.0), (-0.02, None), 0.05, 0.0, "holds"),
]


@pytest.mark.parametrize(("interval", "wanted", "margin", "null", "verdict"), CASES)
def test_an_interval_across_an_end_is_no_effect_within_the_margin(
    interval: tuple[float, float],
    wanted: tuple[float | None, float | None],
    margin: float | None,
    null: float,
    verdict: str,
) -> None:
    effect = Effect(name="x", value=0, interval=interval, wanted=wanted, margin=margin, null=null)
    assert effect.verdict == verdict


def test_a_margin_reaches_beyond_what_is_wanted() -> None:
    with pytest.raises(TrueupError, match=r"E870 .*±0.02 of `x` does not reach beyond"):
        Effect(name="x", value=0, wanted=(0.02, None), margin=0.02)


def effect(low: float, high: float, margin: float | None = 0.05) -> Effect:
    return Effect(name="x", value=0, interval=(low, high), wanted=(0.0, None), margin=margin)


def test_a_claim_has_the_worst_verdict_of_its_effects_and_says_its_margins() -> None:
    held, none, open_, failed = effect(0.1, 0.2), effect(-0.01, 0.01), effect(-1, 1), effect(-2, -1)
    for effects, verdict in (
        ((held, none), NONE),
        ((held, none, open_), "undecided"),
        ((none, failed, open_), "does not hold here"),
        ((held, held), "holds"),
    ):
        assert Finding(effects=effects, setting="", figure=Markup("")).verdict == verdict
    both = (none, effect(-0.01, 0.01, 0.1), held)
    assert worded(NONE, both, (1, 2)) == "no effect beyond ±0.05 and ±0.1"
    assert sentence(NONE, both, (1, 2)) == "shows no effect beyond ±0.05 and ±0.1"
    bound = Effect(name="x", value=0.1, interval=(0.08, 0.12), wanted=(None, 0.1), margin=0.05, null=0.1)
    assert bound.verdict == NONE and bound.room == pytest.approx(0.05)
    assert sentence(NONE, (bound,), (1, 2)) == "lies within ±0.05 of 0.1"
    assert worded(NONE, (none, bound), (1, 2)) == "no effect beyond ±0.05 and within ±0.05 of 0.1"
    assert sentence("undecided", both, (1, 2, 3)) == "is undecided with 3 seeds"
    assert worded("undecided", both, ()) == "undecided" and sentence("holds", both, (1,)) == "holds"


def test_seeds_are_the_fewest_whose_interval_fits() -> None:
    """By hand: s = .02 and room .04 want t_{n−1} / √n ≤ 1, which n = 7 is (.925) and n = 6 is not (1.049)."""
    assert half_width(0.02, 6) == pytest.approx(0.02 * 2.5706 / 6**0.5, rel=1e-4)
    assert seeds_for(0.02, 0.04, 3) == 7
    assert seeds_for(0.02, 0.04, 9) == 9
    assert seeds_for(0.0, 0.04, 3) == 3
    assert seeds_for(1.0, 1e-3, 3) == 1000


def test_at_the_planned_width_every_interval_is_a_verdict() -> None:
    """Intervals of half-width (X − d) / 2 anywhere: none is undecided, with the end at no effect or not."""
    for end, margin in ((0.0, 0.03), (0.02, 0.05), (-0.02, 0.03)):
        room = over_seeds("x", (0.0, 1.0), (end, None), margin=margin).room
        assert room == pytest.approx(margin - abs(end))
        for middle in np.linspace(-0.1, 0.1, 401):
            ends = (middle - room / 2 + 1e-12, middle + room / 2 - 1e-12)
            made = Effect(name="x", value=middle, interval=ends, wanted=(end, None), margin=margin)
            assert made.verdict != "undecided", (end, margin, middle)


def test_a_plan_is_made_of_the_undecided_effects_alone() -> None:
    values = (0.05, -0.03, 0.04, -0.02)
    spread = float(np.std(values, ddof=1))
    open_ = over_seeds("open", values, (0.0, None), margin=0.06)
    held = over_seeds("held", (1.0, 1.1, 5.0, 1.2), (-9.0, None))
    plan = plan_for((open_, held), (1, 2, 3, 4), {"sft": {"seed": 1}})
    assert plan is not None
    (asked,) = plan.asked
    assert (asked.effect, asked.margin) == ("open", 0.06) and asked.spread == pytest.approx(spread)
    assert asked.seeds == seeds_for(spread, 0.06, 4) == 10
    assert plan.first == (1, 2, 3, 4) and plan.seeds == tuple(range(1, 11))
    far = plan_for((over_seeds("open", values, (0.0, None), margin=1e-3),), (1, 2, 3, 7))
    assert far is not None and far.seeds == (1, 2, 3, 7, *range(8, 20)) and len(far.seeds) == MOST
    assert plan_for((over_seeds("x", values, (0.0, None)),), (1, 2, 3, 4)) is None, "no margin"
    assert plan_for((open_, over_seeds("x", values, (0.0, None))), (1, 2, 3, 4)) is None
    assert plan_for((held,), (1, 2, 3, 4)) is None, "decided"
    assert plan_for((open_,), tuple(range(MOST))) is None


def by_seed(values: dict[int, float]) -> Any:
    """A `measure` whose effect is what is given for the seeds that ran."""

    def found(trials: list[Trial]) -> Finding:
        numbers = [values[trial.seed] for trial in trials]
        return Finding(
            effects=(over_seeds("gold", numbers, (0.0, None), margin=0.04),),
            setting="It was so.",
            figure=Markup("<svg>it</svg>"),
        )

    return found


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The seeds of every round of runs; nothing is run, and no stage of a trial is there."""
    made: list[tuple[int, ...]] = []

    def trials(experiments: Any, *args: Any, **options: Any) -> dict[str, list[Trial]]:
        made.extend(experiment.seeds for experiment in experiments)
        return {e.name: [Trial(seed=seed, stages={}) for seed in e.seeds] for e in experiments}

    monkeypatch.setattr(measure, "run_experiments", trials)
    return made


SMALL = {1: 0.042, 2: -0.008, 3: 0.032, 4: -0.018, 5: 0.012}
LATER = {6: 0.001, 7: -0.001, 8: 0.002, 9: -0.002, 10: 0.0, 11: 0.001, 12: 0.0, 13: 0.0, 14: 0.0}


def test_an_undecided_claim_is_planned_run_and_decided(
    tmp_path: Path, runs: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """s = .0255 and room .04: n = 9, since t_8 s / √9 = .0196; then the mean is about 0, within .04."""
    monkeypatch.setattr(prompt_override, "measure", by_seed({**SMALL, **LATER}))
    out = ["--out", str(tmp_path)]
    assert main(["reproduce", "prompt-override", *out]) == 0
    assert runs == [(1, 2, 3, 4, 5)]
    folder = tmp_path / "prompt-override"
    assert json.loads((folder / "claim.json").read_text())["verdict"] == "undecided"
    assert not (folder / "plan.json").exists()
    assert main(["reproduce", "prompt-override", "kl-directions", "--decide", *out]) == 0
    planned = tuple(range(1, 10))
    assert runs[1:] == [(1, 2, 3, 4, 5), planned]
    row = json.loads((folder / "claim.json").read_text())
    assert row["seeds"] == list(planned) and row["verdict"] == NONE
    assert row["plan"]["first"] == [1, 2, 3, 4, 5] and row["plan"]["asked"][0]["seeds"] == 9
    assert row["plan"]["asked"][0]["spread"] == pytest.approx(np.std(list(SMALL.values()), ddof=1))
    assert "Undecided with 5 seeds, so set down to be run at 9" in reproduce.plan_told(row)
    assert "shows no effect beyond ±0.04" in (folder / "index.html").read_text()
    assert main(["reproduce", "prompt-override", *out]) == 0
    assert runs[-1] == planned, "what was set down is followed"
    assert kept_plan(folder, (1, 2, 3), {}) is None, "not for other first seeds"
    assert kept_plan(folder, (1, 2, 3, 4, 5), {"x": 1}) is None, "nor for other settings"


def test_what_stays_undecided_says_with_how_many_seeds(
    tmp_path: Path,
    runs: list[tuple[int, ...]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    wild = {seed: 0.2 * (-1) ** seed + 0.05 for seed in range(1, 40)}
    monkeypatch.setattr(prompt_override, "measure", by_seed(wild))
    for _ in range(2):
        assert main(["reproduce", "prompt-override", "--decide", "--out", str(tmp_path)]) == 0
    assert runs == [(1, 2, 3, 4, 5), tuple(range(1, 17)), tuple(range(1, 17))]
    assert "is undecided with 16 seeds" in capsys.readouterr().out
    assert main(["reproduce", "--out", str(tmp_path)]) == 0
    assert "undecided with 16" in capsys.readouterr().out


def test_the_interval_of_over_seeds_is_the_t_interval() -> None:
    values = (0.1, 0.2, 0.4)
    found = over_seeds("x", values, (0.0, None), margin=0.5, null=0.0)
    wanted = mean_ci(np.array(values))
    assert found.interval == (wanted.low, wanted.high) and found.by_seed == values
