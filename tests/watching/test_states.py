"""What a run does is read from its files and its lock: every way from one state to another."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from trueup.comparison.engine import _start
from trueup.comparison.plan import Candidate, Job
from trueup.errors import TrueupError
from trueup.runs.failed import noting_failure
from trueup.runs.hold import holding, is_held, mark, present
from trueup.runs.recipe import Recipe
from trueup.runs.signals import Interrupted
from trueup.watching import told
from trueup.watching.run import Run
from watching import made


def hold(folder: Path):
    return holding(folder, waits=False, stop_requested=lambda: "")


def at(folder: Path, seconds: float) -> Callable[[], float]:
    """A clock by which so many seconds have passed since the last line."""
    return lambda: (folder / "timings.jsonl").stat().st_mtime + seconds


def test_a_run_from_before_it_begins_to_its_end(tmp_path: Path) -> None:
    folder = tmp_path / "dpo"
    watched = Run(folder)
    assert watched.look().state == "waiting"
    folder.mkdir()
    assert watched.look().state == "waiting"
    with hold(folder):
        made.run(folder, 8, of=20)
        (look,) = watched.look(at(folder, 0.5)).shown
        assert (look.state, look.step, look.steps, look.since) == ("running", 8, 20, 0.5)
        assert look.remaining is not None and look.remaining.seconds == 12 * 2.0 - 0.5
        assert told.steps(look) == "step 8 of 20"
        assert told.time_left(look) == "about 24\u202fs left, 24\u202fs to 24\u202fs by the last 8 steps"
        made.step(folder, [9])
        assert watched.look().shown[0].step == 9
    look = watched.look().shown[0]
    assert look.state == "interrupted" and look.remaining is None and told.time_left(look) == ""
    with hold(folder):
        made.step(folder, range(10, 21))
        look = watched.look().shown[0]
        assert told.time_left(look).startswith("all steps are made")
    (folder / "DONE.json").write_text("{}")
    assert watched.look().state == "done"
    assert look.cost == {"tokens_trained": 200, "tokens_sampled": 400, "seconds": 40.0, "peak_mib": 5.0}
    shutil.rmtree(folder)
    assert watched.look().state == "gone"
    made.run(folder, 2)
    again = watched.look()
    assert again.state == "interrupted" and again.shown[0].step == 2, "what was there before is forgotten"


def test_a_run_that_goes_on_from_its_checkpoint_forgets_the_steps_that_are_made_again(tmp_path: Path) -> None:
    folder = made.run(tmp_path / "run", 8)
    watched = Run(folder)
    assert watched.look().shown[0].step == 8
    for name in ("metrics.jsonl", "timings.jsonl"):
        path = folder / name
        path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:5]))
    look = watched.look().shown[0]
    assert look.step == 5 and [s for s, _ in look.series["loss", "train"].points] == [1, 2, 3, 4, 5]


def test_a_torn_last_line_is_no_damage_and_a_damaged_line_is_counted(tmp_path: Path) -> None:
    folder = made.run(tmp_path / "run", 3)
    with (folder / "metrics.jsonl").open("ab") as file:
        file.write(b'not json\n[1]\n{"step": -1}\n{"step": 4, "phase": "train", "loss": 0.')
    watched = Run(folder)
    look = watched.look().shown[0]
    assert (look.step, look.damaged) == (3, 3)
    with (folder / "metrics.jsonl").open("ab") as file:
        file.write(b"5}\n")
    look = watched.look().shown[0]
    assert (look.step, look.damaged, look.last()["loss"]) == (4, 3, 0.5)


def test_a_run_without_a_word_of_how_many_steps_says_so(tmp_path: Path) -> None:
    folder = made.run(tmp_path / "run", 8)
    (folder / "data.json").unlink()
    with hold(folder):
        look = Run(folder).look().shown[0]
    assert look.steps is None and told.time_left(look).startswith("time left unknown")
    assert told.steps(look) == "step 8"


def test_a_step_that_lasts_is_told_against_the_longest(tmp_path: Path) -> None:
    folder = made.run(tmp_path / "run", 8)
    with hold(folder):
        calm, stuck = (Run(folder).look(at(folder, s)).shown[0] for s in (4.0, 90.0))
    assert calm.stalled is None
    assert stuck.stalled == 2.0
    assert (
        told.heartbeat(stuck)
        == "last line 1\u202fmin 30\u202fs ago; the longest of its last steps took 2.0\u202fs"
    )


def test_an_error_is_kept_until_the_stage_runs_again(tmp_path: Path) -> None:
    folder = made.run(tmp_path / "run", 2)

    def fail(error: Exception) -> None:
        with noting_failure(folder):
            raise error

    with pytest.raises(TrueupError):
        fail(TrueupError("E901", "the loss is nan", where="step 3", remedy="lower the rate"))
    found = Run(folder).look()
    assert found.state == "failed" and found.why == "E901 — step 3 — the loss is nan — lower the rate"
    with pytest.raises(ZeroDivisionError):
        fail(ZeroDivisionError("by zero"))
    assert Run(folder).look().why == "ZeroDivisionError: by zero"
    with pytest.raises(Interrupted):
        fail(Interrupted(2, "SIGTERM"))
    assert Run(folder).look().state == "interrupted", "who stops a run has not failed"


def test_an_error_note_shows_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUEUP_JUDGE_KEY", "sk-abcdefghijkl")
    folder = made.run(tmp_path / "run", 2)
    with pytest.raises(ValueError), noting_failure(folder):
        raise ValueError("the server said sk-abcdefghijkl is wrong")
    assert "sk-abcdefghijkl" not in (folder / "failed.json").read_text()


def test_a_look_never_keeps_a_run_out(tmp_path: Path) -> None:
    """While one process looks without pause, another takes and leaves the folder fifty times."""
    code = (
        "import sys; from pathlib import Path; from trueup.runs.hold import is_held\n"
        "print('looks', flush=True)\nwhile True: is_held(Path(sys.argv[1]))"
    )
    with hold(tmp_path):
        pass
    with subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE) as looking:
        assert looking.stdout is not None and looking.stdout.readline()
        try:
            for _ in range(50):
                with hold(tmp_path):
                    assert is_held(tmp_path)
        finally:
            looking.kill()
    assert is_held(tmp_path) is False and is_held(tmp_path / "nowhere") is False


def recipe(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    settings = "".join(f"{name}: {{method: grpo, loop: {{batch: 4}}}}\n" for name in ("sft", "grpo", "dpo"))
    (folder / "recipe.resolved.yaml").write_text(settings)
    return folder


def test_the_stages_of_a_recipe_in_its_order(tmp_path: Path) -> None:
    folder = recipe(tmp_path / "pipe")
    stages = folder / "stages"
    watched = Run(folder)
    assert [part.state for part in watched.look().parts] == ["waiting"] * 3
    with present(folder):
        assert watched.look().state == "running", "between two stages it is at work too"
        sft = made.run(stages / "sft-0123456789", 20)
        (sft / "DONE.json").write_text("{}")
        grpo = made.run(stages / "grpo-0123456789", 4)
        with hold(grpo):
            look = watched.look()
            assert [(p.name, p.state) for p in look.parts] == [
                ("sft", "done"), ("grpo", "running"), ("dpo", "waiting"),
            ]  # fmt: skip
            assert [(s.name, s.step) for s in look.shown] == [("grpo", 4)]
            assert told.counts(look) == "3 stages: 1 done, 1 running, 1 waiting"
    assert watched.look().state == "interrupted"
    (grpo / "failed.json").write_text('{"code": "E901", "reason": "nan"}')
    look = watched.look()
    assert (look.state, look.why) == ("failed", "E901 — nan")


def test_a_stage_that_is_done_again_is_shown_by_the_recipes_settings(tmp_path: Path) -> None:
    folder = recipe(tmp_path / "pipe")
    made.run(folder / "stages" / "sft-0123456789", 5)
    made.run(folder / "stages" / "sft-abcdefabcd", 7, loop="{batch: 8}")
    assert Run(folder).look().shown[0].step == 5


def test_the_jobs_of_a_comparison(tmp_path: Path) -> None:
    folder = tmp_path / "compared"
    for place in ("jobs", "logs", "stages"):
        (folder / place).mkdir(parents=True)
    logs = {
        "a": "sft\ndpo: done before\n(all stages done)\n",
        "b": "sft\nerror E901 — the loss is nan\n",
        "c": "sft\ndpo\n",
        "d": "sft: again, since seed changed (sft-0123456789 stays)\n",
    }
    for name, text in logs.items():
        (folder / "jobs" / f"{name}.yaml").write_text("stages:\n  sft: {}\n  dpo: {}\n")
        (folder / "logs" / f"{name}.log").write_text(text)
    stage = made.run(folder / "stages" / "dpo-0123456789", 6)
    watched = Run(folder)
    with (folder / "logs" / "c.log").open("ab") as log, hold(stage):
        mark(log.fileno())
        look = watched.look()
        assert [(p.name, p.state, p.said) for p in look.parts] == [
            ("a", "done", ""), ("b", "failed", "error E901 — the loss is nan"), ("c", "running", "dpo"),
            ("d", "interrupted", logs["d"].strip()),
        ]  # fmt: skip
        assert look.state == "running" and [s.name for s in look.shown] == ["dpo"]
        assert told.headline([look]) == (
            "compared: running, 4 jobs so far: 1 done, 1 running, 1 failed, 1 interrupted"
        )
    assert watched.look().state == "interrupted"
    assert [s.name for s in watched.look().shown] == ["dpo"], "its curves stay until others are at work"
    (folder / "comparison.json").write_text("{}")
    (folder / "comparison.html").write_text("")
    assert watched.look().state == "done"
    assert told.meaning_of(watched.look()) == f"its report is {folder / 'comparison.html'}"


def test_runs_of_a_comparison_have_their_jobs_names_and_stay_between_two(tmp_path: Path) -> None:
    """A measurement that is at work has no curves: those of the method before it are shown meanwhile."""
    folder = tmp_path / "compared"
    (folder / "logs").mkdir(parents=True)
    (folder / "jobs").mkdir()
    settings = "method: dpo\nmodel: {path: out/stages/sft-abcdefabcd/model}\nbeta: %s\nseed: %s\nextra: 1\n"
    asked = "name: x\nseed: %s\nstages:\n  dpo: {method: dpo, beta: %s, model: {path: 'stage:sft'}}\n"
    tried = {"dpo-beta-0.1-seed0": (0.1, 0), "dpo-beta-0.5-seed0": (0.5, 0), "dpo-seed1": (0.5, 1)}
    for place, (name, (beta, seed)) in enumerate(tried.items()):
        stage = made.run(folder / "stages" / f"dpo-{place:010}", 3 + place)
        (stage / "config.resolved.yaml").write_text(settings % (beta, seed))
        (folder / "jobs" / f"{name}.yaml").write_text(asked % (seed, beta))
    made.run(folder / "stages" / "sft-abcdefabcd", 9)
    os.utime(folder / "stages" / "sft-abcdefabcd" / "metrics.jsonl", (1, 1))
    watched = Run(folder)
    with hold(folder / "stages" / "dpo-0000000002"):
        assert [(s.name, s.step) for s in watched.look().shown] == [("dpo", 5)]
    (folder / "stages" / "measured-0123456789").mkdir()
    log = folder / "logs" / "dpo-seed1.log"
    log.write_text("dpo\nstep 1: eos_rate = 0: no completion ended by itself\n")
    with log.open("ab") as file, hold(folder / "stages" / "measured-0123456789"):
        mark(file.fileno())
        look = watched.look()
    assert [(s.name, s.step) for s in look.shown] == list(zip(tried, (3, 4, 5), strict=True))
    (said,) = [part.said for part in look.parts if part.state == "running"]
    assert said == "step 1: eos_rate = 0: no completion ended by itself"


def test_a_job_of_a_comparison_is_at_work_for_as_long_as_its_process_lives(tmp_path: Path) -> None:
    stages = {"sft": {"method": "nowhere"}}
    candidate = Candidate(method="sft", label="", settings={})
    job = Job(name="a", candidate=candidate, seed=0, recipe=Recipe(name="a", stages=stages))
    process = _start(job, tmp_path, 1)
    watched = Run(tmp_path)
    assert [part.state for part in watched.look().parts] == ["running"]
    process.communicate()
    (part,) = watched.look().parts
    assert part.state == "failed" and part.said.startswith("error E")


def test_a_stages_folder_that_leads_out_is_left_out(tmp_path: Path) -> None:
    folder = recipe(tmp_path / "pipe")
    (folder / "stages").mkdir()
    made.run(tmp_path / "elsewhere", 5)
    (folder / "stages" / "sft-0123456789").symlink_to(tmp_path / "elsewhere")
    assert Run(folder).look().parts[0].state == "waiting"


def test_the_guard_says_how_far_it_has_fallen(tmp_path: Path) -> None:
    guard = "{batch: 4, guard: {judge: gold, tolerance: 0.1, patience: 2, stop: true}}"
    folder = made.run(tmp_path / "run", 1, loop=guard)
    watched = Run(folder)
    assert told.steps(watched.look().shown[0]) == "step 1 of at most 20"
    assert told.guard(watched.look().shown[0]) == "The guard gold waits for its first evaluation."
    seen = [(0, 0.5, 0.1), (5, 0.8, 0.2), (10, 0.76, 0.3)]
    made.lines(
        folder / "metrics.jsonl",
        [{"step": s, "phase": "eval", "guard/score": g, "score": p} for s, g, p in seen],
    )
    said = told.guard(watched.look().shown[0])
    assert said.startswith(
        "The guard gold stands at 0.760, 5.0\u202f% below its peak (step 5). More than 10.0\u202f%"
    )
    made.lines(
        folder / "metrics.jsonl",
        [{"step": s, "phase": "eval", "guard/score": g, "score": 0.4} for s, g in ((15, 0.6), (20, 0.4))],
    )
    assert told.guard(watched.look().shown[0]).replace("\u202f", " ") == (
        "Over-optimised: by step 20 gold had lost 50.0 % of its peak of 0.800 (step 5) while its own judge "
        "rose from 0.200 to 0.400."
    )


def test_hostile_files_leave_a_look(tmp_path: Path) -> None:
    folder = made.run(tmp_path / "run", 2)
    for name in ("data.json", "warnings.json", "held_out.json", "samples.jsonl", "failed.json"):
        (folder / name).write_text("[" * 50_000)
    (folder / "config.resolved.yaml").write_text("a: *b\n")
    huge = {f"name{n}": 1.0 for n in range(500)} | {
        "big": 10**400,
        "x" * 500: 1.0,
        "flag": True,
        "text": "hi",
    }
    made.lines(folder / "metrics.jsonl", [{"step": 3, "phase": "train", **huge}, {"step": 10**30}])
    look = Run(folder).look().shown[0]
    assert look.step == 3 and look.damaged == 1 and look.left_out and len(look.series) <= 200
    assert set(look.faults) >= {"data.json", "held_out.json", "failed.json", "config.resolved.yaml"}
    json.dumps(told.notes(look))
