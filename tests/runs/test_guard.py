"""The guard against over-optimisation: when it speaks, when it ends a run, and that a resumed run agrees."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import trueup
from runs.resume.made_runs import BATCH, Run, make
from small_world import make as small_world
from trueup.engine.groups import Group
from trueup.engine.loop import fit
from trueup.errors import TrueupError
from trueup.runs.guard import Guard
from trueup.runs.keeper import RunKeeper
from trueup.runs.meter import METRICS, Meter, read
from trueup.runs.signals import Interrupted
from trueup.settings.blocks import GuardSettings
from trueup.statistics.frontier import Fall

WATCHED = [0.50, 0.60, 0.64, 0.62, 0.60, 0.58, 0.50]
"Peak .64 at the third; 5 % of it are .032, so the last three lie more than that below it."


def watch(watched: Sequence[float], proxy: Sequence[float], **settings: Any) -> Guard:
    """A guard that has seen these two series, at steps 10, 20 ..."""
    guard = Guard(settings=GuardSettings(judge="lab:gold", **settings), judge=lambda groups: [[0.0]])
    for place, (w, p) in enumerate(zip(watched, proxy, strict=True)):
        guard.observe(10 * (place + 1), {"guard/score": w, "score": float(p)})
    return guard


def test_it_says_what_was_lost_when_and_meanwhile_what_rose(caplog: pytest.LogCaptureFixture) -> None:
    """Lost at step 60: (.64 − .58) / .64 = 9.4 %."""
    with caplog.at_level(logging.WARNING, "trueup"):
        guard = watch(WATCHED, [0, 1, 2, 3, 4, 5, 6])
    assert guard.fall == Fall(peak=2, at=5, lost=(0.64 - 0.58) / 0.64)
    (said,) = [record.getMessage() for record in caplog.records]
    assert said == (
        "over-optimised: by step 60 lab:gold had lost 9.4 % of its peak of 0.640 (step 30) "
        "while the proxy rose from 2.000 to 5.000; the run ends here"
    )


def test_it_may_only_warn() -> None:
    guard = watch(WATCHED, [0, 1, 2, 3, 4, 5, 6], stop=False)
    assert guard.fall is not None and not guard.ends
    assert not guard.sentence.endswith("ends here")
    assert watch(WATCHED, [0, 1, 2, 3, 4, 5, 6]).ends


def test_it_is_silent_where_both_fall_or_both_rise(caplog: pytest.LogCaptureFixture) -> None:
    for watched, proxy in ((WATCHED, WATCHED), ([0.1, 0.2, 0.3], [1, 2, 3])):
        guard = watch(watched, proxy)
        assert guard.fall is None and not guard.ends and guard.sentence == ""
    assert not caplog.records


def test_what_is_logged_by_hand() -> None:
    """Seven evaluations; the last has lost (.64 − .50) / .64 = .219 of the peak, the third nothing."""
    last, third = {"guard/score": 0.5, "score": 6.0}, {"guard/score": 0.64, "score": 2.0}
    watch(WATCHED[:-1], range(6)).observe(70, last)
    watch(WATCHED[:2], range(2)).observe(30, third)
    assert last["guard/lost"] == pytest.approx(0.14 / 0.64) and third["guard/lost"] == 0.0


def test_the_score_and_its_error_by_hand() -> None:
    """Prompts of means (0 + 1)/2, 1 and 0: mean ½, s = ½, error ½/√3. The unit is the prompt."""
    noted: dict[str, float] = {}
    said = [[0.0, 1.0], [1.0, 1.0], [0.0, 0.0]]
    Guard(settings=GuardSettings(judge="a"), judge=lambda groups: said).score([], noted)
    assert noted == pytest.approx({"guard/score": 0.5, "guard/score_se": 0.5 / 3**0.5})


def test_it_stops_before_a_tenth_is_lost() -> None:
    """Gold rises to .7 and falls by .01 an evaluation: 5 % of .7 are passed after 4, and 2 in a row are 5.

    It ends having lost .05 / .7 = 7.1 %; left alone, the series would lose it all.
    """
    watched = [0.5, 0.6, 0.7, *(0.7 - 0.01 * k for k in range(1, 60))]
    proxy = list(range(len(watched)))
    ends = next(n for n in range(1, 60) if watch(watched[:n], proxy[:n]).ends)
    assert ends == 3 + 5
    assert (0.7 - watched[ends - 1]) / 0.7 == pytest.approx(0.0714, abs=1e-4) and watched[-1] < 0.7 * 0.9


# ------------------------------------------------------------------------------------------ a run


STEPS = 8
"Three more than after which `WATCHED` has fallen."


class Scripted:
    """Two judges that say what is written for the n-th evaluation, n told by what the guard has seen."""

    def __init__(self, watched: Sequence[float], proxy: Sequence[float], **settings: Any) -> None:
        self._watched, self._proxy = watched, proxy
        self.guard = Guard(settings=GuardSettings(judge="watched", **settings), judge=self.watched)

    def watched(self, groups: Sequence[Group]) -> list[list[float]]:
        """The n-th of the watched series for every completion."""
        return [[self._watched[len(self.guard.steps)]] * len(g.completions) for g in groups]

    def proxy(self, groups: Sequence[Group]) -> list[list[float]]:
        """The n-th of the proxy's series for held-out groups; something to learn from for the others."""
        place = min(len(self.guard.steps), len(self._proxy) - 1)
        held_out = [str(g.id).startswith("2-") for g in groups]
        return [
            [self._proxy[place] if held else float(len(c.text) % 3) for c in g.completions]
            for g, held in zip(groups, held_out, strict=True)
        ]


def go(run: Run, script: Scripted, *, stop_after: int | None = None) -> int:
    """The step at which the run ended; with `stop_after`, it is asked to end after that step."""
    keeper = RunKeeper(
        run.folder,
        method=run.method,
        settings=replace(run.settings, guard=script.guard.settings),
        meter=Meter(run.folder),
        num_steps=STEPS,
        stop_requested=lambda: "SIGTERM" if stop_after == len(script.guard.steps) else "",
        guard=script.guard,
    )
    handles = replace(run.handles, judge=script.proxy)
    return fit(run.method, handles, num_steps=STEPS, groups_per_step=BATCH, keeper=keeper).step


def test_a_run_ends_where_its_guard_says_and_stays_ended(tmp_path: Path) -> None:
    """The fall of `WATCHED` counts at the sixth evaluation: one before the first step, one after each."""
    proxy = [0.1 * k for k in range(7)]
    run = make("ppo", tmp_path, eval_every=1)
    assert go(run, Scripted(WATCHED, proxy)) == 5
    rows = [row for row in read(tmp_path / METRICS) if row["phase"] == "eval"]
    assert [row["guard/score"] for row in rows] == pytest.approx(WATCHED[:6])
    assert [row["score"] for row in rows] == pytest.approx(proxy[:6])
    assert rows[-1]["guard/lost"] == pytest.approx(0.06 / 0.64)
    before = (tmp_path / METRICS).read_bytes()
    assert go(make("ppo", tmp_path, eval_every=1), Scripted(WATCHED, proxy)) == 5
    assert (tmp_path / METRICS).read_bytes() == before


def test_a_resumed_run_ends_at_the_same_step(tmp_path: Path) -> None:
    """Stopped after the third step, inside the fall, and started again: what was seen is not forgotten."""
    proxy = [0.1 * k for k in range(7)]
    assert go(make("ppo", tmp_path / "whole", eval_every=1), Scripted(WATCHED, proxy)) == 5
    with pytest.raises(Interrupted):
        go(make("ppo", tmp_path / "cut", eval_every=1), Scripted(WATCHED, proxy), stop_after=4)
    again = Scripted(WATCHED, proxy)
    assert go(make("ppo", tmp_path / "cut", eval_every=1), again) == 5
    assert again.guard.steps == [0, 1, 2, 3, 4, 5]
    whole, cut = ((tmp_path / name / METRICS).read_bytes() for name in ("whole", "cut"))
    assert whole == cut


def test_a_guard_that_only_warns_lets_the_run_go_on(tmp_path: Path) -> None:
    watched, proxy = [*WATCHED, 0.4, 0.4], [0.1 * k for k in range(STEPS + 1)]
    assert go(make("ppo", tmp_path, eval_every=1), Scripted(watched, proxy, stop=False)) == STEPS


def test_a_guard_changes_nothing_but_the_end(tmp_path: Path) -> None:
    """The same run with a guard that finds nothing trains to the same numbers."""
    make("ppo", tmp_path / "bare", eval_every=1).go()
    guarded = make("ppo", tmp_path / "guarded", eval_every=1)
    guard = Guard(
        settings=GuardSettings(judge="watched"),
        judge=lambda groups: [[0.0] * len(g.completions) for g in groups],
    )
    keeper = RunKeeper(
        guarded.folder,
        method=guarded.method,
        settings=guarded.settings,
        meter=Meter(guarded.folder),
        num_steps=4,
        guard=guard,
    )
    fit(guarded.method, guarded.handles, num_steps=4, groups_per_step=BATCH, keeper=keeper)
    bare, other = (read(tmp_path / name / METRICS) for name in ("bare", "guarded"))
    assert other[0]["step"] == 0
    assert [{k: v for k, v in row.items() if not k.startswith("guard/")} for row in other[1:]] == bare


# ------------------------------------------------------------------------------------------ from settings

JUDGES = """
def proxy(prompt, text):
    return sum(c.isascii() for c in text) / 6

def watched(prompt, text):
    return -sum(c.isascii() for c in text) / 6
"""


def settings(world: Path, **changed: Any) -> dict[str, Any]:
    """REINFORCE on plain characters, guarded by their absence: that falls whenever the proxy rises."""
    (world / "judges.py").write_text(JUDGES, encoding="utf-8")
    return {
        "model": {"path": str(world / "my-model")},
        "judge": f"{world / 'judges.py'}:proxy",
        "data": {"path": str(world / "prompts.jsonl"), "held_out": 0.5},
        "decoding": {"max_new_tokens": 6},
        "missing_eos": None,
        "update": {"lr": 0.03},
        "loop": {
            "steps": 30,
            "batch": 4,
            "eval_every": 1,
            "guard": {"judge": f"{world / 'judges.py'}:watched", "tolerance": 0.0, "patience": 1},
        },
        **changed,
    }


def test_the_setting_ends_a_run_and_says_at_which_step(tmp_path: Path) -> None:
    world = small_world(tmp_path / "world")
    trained = trueup.fit("reinforce", out=tmp_path / "run", **settings(world))
    rows = [row for row in read(tmp_path / "run" / METRICS) if row["phase"] == "eval"]
    assert trained.metrics["guard/fell"] == rows[-1]["step"] < 30
    assert [row["guard/score"] for row in rows] == pytest.approx([-row["score"] for row in rows])
    assert rows[-1]["guard/lost"] > 0


@pytest.mark.parametrize(
    ("method", "changed", "reason"),
    [
        ("reinforce", {"data": {"held_out": 0}}, "nothing is held out"),
        ("dpo", {"data": {"file": "preferences.jsonl", "held_out": 0.5}}, "asks no judge"),
    ],
)
def test_a_run_with_nothing_to_guard_is_refused(
    method: str, changed: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    world = small_world(tmp_path / "world")
    given = settings(world)
    data = dict(changed["data"])
    data["path"] = str(world / data.pop("file", "prompts.jsonl"))
    kept = {name: given[name] for name in ("model", "loop")} | (
        {name: given[name] for name in ("judge", "decoding", "missing_eos")} if method == "reinforce" else {}
    )
    with pytest.raises(TrueupError, match="E743") as raised:
        trueup.fit(method, out=tmp_path / "run", **{**kept, "data": data})
    assert reason in str(raised.value)
