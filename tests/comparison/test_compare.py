"""A comparison: what it expands to, how it chooses, what it counts, and that it goes on where it stopped."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from trueup.comparison import job as job_process
from trueup.comparison.outcome import Measured, Row, against_best, markdown, row, side_by_side
from trueup.comparison.plan import Comparison, Job, candidates, final_jobs, read_comparison, sweep_jobs
from trueup.comparison.run import Running, run_comparison
from trueup.errors import TrueupError
from trueup.procedures import measure
from trueup.reports.comparison import PAGE, RESULT
from trueup.runs.recipe import plan
from trueup.settings import config as configuration
from trueup.sources.sample import Decoding

TINY = """
name: tiny
seeds: [1, 2]
sweep_seed: 0
choose: {split: dev, num_prompts: 4, decoding: {max_new_tokens: 6}}
report: {split: test, num_prompts: 4, decoding: {max_new_tokens: 6}}
shared:
  sft:
    data: {path: "lab:demonstrations", limit: 12}
    loop: {steps: 1, batch: 4}
  preferences:
    method: label
    model: {path: "stage:sft"}
    data: {path: "lab:prompts", limit: 6, held_out: 0}
    decoding: {max_new_tokens: 6}
methods:
  dpo:
    model: {path: "stage:sft"}
    data: {path: "stage:preferences", held_out: 0}
    loop: {steps: 1, batch: 4}
    sweep: {update.lr: [1.0e-4, 3.0e-3]}
  again:
    method: sft
    model: {path: "stage:sft"}
    data: {path: "lab:demonstrations", limit: 12}
    loop: {steps: 1, batch: 4}
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Comparison:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY, encoding="utf-8")
    return read_comparison(path)


@dataclass
class Here:
    """An engine that runs jobs in this process, and can be told to die after some."""

    die_after: int | None = None
    ran: list[str] = field(default_factory=list)

    def run(self, jobs: Sequence[Job], folder: Path) -> Iterator[tuple[Job, int]]:
        """Each job, done."""
        for job in jobs:
            if self.die_after is not None and len(self.ran) >= self.die_after:
                raise KeyboardInterrupt
            recipe = folder / f"{job.name}.yaml"
            folder.mkdir(parents=True, exist_ok=True)
            stages = {name: dict(given) for name, given in job.recipe.stages.items()}
            text = configuration.dump_yaml({"name": job.name, "seed": job.seed, "stages": stages})
            recipe.write_text(text, encoding="utf-8")
            job_process.run(recipe, folder, lambda: "")
            self.ran.append(job.name)
            yield job, 0


def test_a_sweep_is_every_combination() -> None:
    found = candidates("dpo", {"beta": 0.1, "sweep": {"update.lr": [1e-4, 3e-4], "beta": [0.1, 0.5]}})
    assert [c.label for c in found] == [
        "update.lr=0.0001 beta=0.1",
        "update.lr=0.0001 beta=0.5",
        "update.lr=0.0003 beta=0.1",
        "update.lr=0.0003 beta=0.5",
    ]
    assert found[3].settings == {"beta": 0.5, "update": {"lr": 3e-4}}


def test_jobs_hold_only_the_stages_they_need(tiny: Comparison) -> None:
    (start,) = candidates("sft", tiny.shared["sft"])
    by_name = {job.name: job for job in sweep_jobs(tiny, start)}
    assert list(by_name["dpo-update.lr-0.0001-seed0"].recipe.stages) == [
        "sft",
        "preferences",
        "dpo",
        "measured",
    ]
    assert list(by_name["again-seed0"].recipe.stages) == ["sft", "again", "measured"]
    measured = by_name["again-seed0"].recipe.stages["measured"]
    assert measured["split"] == "dev" and measured["reference"] == "stage:sft"


def test_the_reported_seeds_take_no_part_in_the_choice(tiny: Comparison) -> None:
    (start,) = candidates("sft", tiny.shared["sft"])
    chosen = {name: candidates(name, given)[0] for name, given in tiny.methods.items()}
    assert {job.seed for job in sweep_jobs(tiny, start)} == {0}
    finals = final_jobs(tiny, start, chosen)
    assert [(j.candidate.method, j.seed) for j in finals] == [
        ("dpo", 1),
        ("dpo", 2),
        ("again", 1),
        ("again", 2),
    ]
    assert {job.recipe.stages["measured"]["split"] for job in finals} == {"test"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"start": "stf"}, "the start 'stf' is not a shared stage"),
        ({"sweep_seed": 2}, "seed 2 is both chosen at and reported"),
    ],
)
def test_what_does_not_hang_together_is_refused(
    change: dict[str, object], reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY, encoding="utf-8")
    with pytest.raises(TrueupError, match="E715") as raised:
        read_comparison(path, change)
    assert reason in str(raised.value)


def test_a_row_by_hand() -> None:
    """Two seeds, two prompts, one sample. Gains by seed (.2, .4) / 2 = .3 and (.0, .2) / 2 = .1.

    Mean .2; over seeds s = .1414, t_1 = 12.706, half = 12.706 · .1414 / √2 = 1.2706. Over prompts the
    averages are (.1, .3), with the same spread and so the same half width.
    """

    def run(*gold: float) -> Measured:
        numbers = {"gold": np.array(gold)[:, None], "kl": np.array([[1.0], [3.0]])}
        return Measured(numbers=numbers, cost={"tokens_trained": 10}, samples=[])

    found = row("m", "", {}, [run(0.7, 0.9), run(0.5, 0.7)], [run(0.5, 0.5), run(0.5, 0.5)])
    assert found.gain.mean == pytest.approx(0.2)
    assert found.gain_by_seed == pytest.approx((0.3, 0.1))
    assert found.gain.high == pytest.approx(0.2 + 1.2706, abs=1e-3)
    assert found.over_prompts.low == pytest.approx(0.2 - 1.2706, abs=1e-3)
    # KL (1, 3) over two prompts: s = √2, error 1. No proxy was measured.
    assert (found.kl_error, found.proxy) == (pytest.approx(1.0), None)
    assert (found.kl, found.tokens_trained, found.gold) == (2.0, 10, pytest.approx(0.7))
    alone = markdown([row("m", "", {}, [run(0.7, 0.9)], [run(0.5, 0.5)])])
    assert "+0.300 (no interval)" in alone and "nan" not in alone


def test_exams_are_sat_where_the_recipe_says_so(tmp_path: Path) -> None:
    settings = measure.Config(
        num_prompts=1, exam_items=1, split="dev", decoding=Decoding(max_new_tokens=2), reference="lab:base"
    )
    measure.run(settings, tmp_path, stop_requested=lambda: "")
    written = json.loads((tmp_path / measure.OUTPUT).read_text())
    assert {"ethics", "last_word", "perplexity", "toxicity", "hhh"} <= set(written["exams"])
    assert {len(values) for values in written["exams"].values()} == {1}


def test_the_tax_by_hand() -> None:
    """Three items, two seeds. Method (1, 0, 1) and (0, 0, 1), start (1, 1, 1) twice: seeds averaged, the
    differences are (−.5, −1, 0): mean −.5, s = .5, t_2 = 4.303, half 4.303 · .5 / √3 = 1.242."""

    def sat(*items: float, exam: str = "sums") -> Measured:
        return Measured(
            numbers={"gold": np.zeros((2, 1))}, cost={}, samples=[], exams={exam: np.array(items, float)}
        )

    found = row("m", "", {}, [sat(1, 0, 1), sat(0, 0, 1)], [sat(1, 1, 1)] * 2).tax["sums"]
    assert found.mean == pytest.approx(-0.5) and found.n == 3
    assert found.low == pytest.approx(-0.5 - 1.242, abs=1e-3)
    assert row("m", "", {}, [sat(1), sat(1)], [sat(1), sat(1, exam="other")]).tax == {}


def test_the_distance_to_the_best_by_hand() -> None:
    """Gains by seed (.3, .1) and (.2, .1): gaps (.1, 0), mean .05, s = .0707, half 12.706 · .05 = .635."""

    def of(name: str, *gold: float) -> Row:
        runs = [Measured(numbers={"gold": np.array([[g], [g]])}, cost={}, samples=[]) for g in gold]
        starts = [Measured(numbers={"gold": np.zeros((2, 1))}, cost={}, samples=[])] * len(gold)
        return row(name, "", {}, runs, starts)

    found = against_best([of("second", 0.2, 0.1), of("best", 0.3, 0.1)])
    assert set(found) == {"second"}
    gap = found["second"]
    assert gap is not None and gap.mean == pytest.approx(0.05)
    assert gap.high == pytest.approx(0.05 + 0.6353, abs=1e-3)
    assert against_best([of("second", 0.2), of("best", 0.3)]) == {"second": None}


def test_completions_stand_side_by_side_where_the_prompts_are_the_same() -> None:
    def said(prompt: str, text: str, gold: float) -> Measured:
        return Measured(numbers={"gold": np.array([[gold]])}, cost={}, samples=[(prompt, text)])

    runs = {"sft": said("1 + 1?", "3", 0.0), "ppo": said("1 + 1?", "2", 1.0), "other": said("?", "!", 0.5)}
    assert side_by_side(runs) == [
        {
            "prompt": "1 + 1?",
            "replies": {"sft": {"text": "3", "gold": 0.0}, "ppo": {"text": "2", "gold": 1.0}},
        }
    ]


@dataclass
class Careful(Here):
    """An engine whose jobs may fail, as processes do: with a log, and an exit code."""

    def run(self, jobs: Sequence[Job], folder: Path) -> Iterator[tuple[Job, int]]:
        """Each job, with how it ended."""
        for job in jobs:
            try:
                yield from super().run([job], folder)
            except TrueupError as error:
                log = folder / "logs" / f"{job.name}.log"
                log.parent.mkdir(exist_ok=True)
                log.write_text(f"error {error}\n", encoding="utf-8")
                yield job, error.exit_code


def test_a_comparison_goes_on_where_it_stopped(tiny: Comparison, tmp_path: Path) -> None:
    """Stopped after four runs and started again, it ends with the figures of one that was never stopped."""
    whole = Running(comparison=tiny, folder=tmp_path / "whole", engine=Here())
    rows = run_comparison(whole)
    assert {r.method for r in rows} == {"dpo", "again"}
    assert all(math.isfinite(r.gain.mean) and len(r.gain_by_seed) == 2 for r in rows)
    with pytest.raises(KeyboardInterrupt):
        run_comparison(Running(comparison=tiny, folder=tmp_path / "cut", engine=Here(die_after=4)))
    rest = Here()
    run_comparison(Running(comparison=tiny, folder=tmp_path / "cut", engine=rest))
    written = json.loads((tmp_path / "whole" / RESULT).read_text())
    assert [m["family"] for m in written["methods"]] == ["contrastive", "supervised"]
    assert sum(m["behind_best"] is None for m in written["methods"]) == 1
    assert written["num_prompts"] == len(written["samples"]) == 4
    assert all(set(s["replies"]) == {"sft", "dpo", "again"} for s in written["samples"])
    assert all(m["tax"] == {} for m in written["methods"])
    assert "gold reward" in (tmp_path / "whole" / PAGE).read_text("utf-8")
    record = [json.loads((tmp_path / f / RESULT).read_text())["methods"] for f in ("whole", "cut")]
    for one in (*record[0], *record[1]):
        del one["seconds"]
    assert record[0] == record[1]
    again = Here()
    run_comparison(Running(comparison=tiny, folder=tmp_path / "cut", engine=again))
    assert again.ran == []
    chosen = next(r for r in rows if r.method == "dpo")
    scores = {label: score for label, score in chosen.candidates.items() if score is not None}
    assert chosen.chosen == max(scores, key=lambda label: scores[label])


def test_a_failed_method_is_named_and_the_rest_is_compared(tiny: Comparison, tmp_path: Path) -> None:
    bad = {**tiny.methods["again"], "data": {"path": "lab:nothing"}}
    broken = replace(tiny, methods={"again": tiny.methods["again"], "bad": bad})

    running = Running(comparison=broken, folder=tmp_path / "run", engine=Careful())
    rows = run_comparison(running)
    assert [r.method for r in rows] == ["again"]
    assert set(running.failed) == {"bad-seed1", "bad-seed2"}
    assert "the lab has no data 'nothing'" in running.failed["bad-seed1"]


@pytest.mark.parametrize(
    ("sweep", "said"),
    [
        ({"update.lr": [1e-4, 1e-3]}, "every setting of the start failed, so nothing can be compared"),
        ({}, "a shared stage failed, so nothing can be compared"),
    ],
)
def test_nothing_is_compared_without_a_start(
    sweep: dict[str, list[float]], said: str, tiny: Comparison, tmp_path: Path
) -> None:
    start = {**tiny.shared["sft"], "data": {"path": "lab:nothing"}, "sweep": sweep}
    broken = replace(tiny, shared={**tiny.shared, "sft": start})
    with pytest.raises(TrueupError, match=f"E716 .*sft.*{said}"):
        run_comparison(Running(comparison=broken, folder=tmp_path / "run", engine=Careful()))


def test_a_run_ends_at_its_budget_and_stays_ended(tiny: Comparison, tmp_path: Path) -> None:
    """A budget that the first step exceeds ends the run there, and a second start trains no more."""
    (start,) = candidates("sft", tiny.shared["sft"])
    settings = {**tiny.methods["again"], "loop": {"steps": 5, "batch": 4}}
    long = replace(tiny, budget=1.0, methods={"again": settings})
    chosen = {"again": candidates("again", long.methods["again"])[0]}
    job = final_jobs(long, start, chosen)[0]
    for _ in Here().run([job], tmp_path):
        pass
    stage = next(s for s in plan(job.recipe, tmp_path) if s.name == "again")
    steps = [json.loads(line)["step"] for line in (stage.folder / "metrics.jsonl").read_text().splitlines()]
    assert max(steps) == 1
    (stage.folder / "DONE.json").unlink()
    for _ in Here().run([job], tmp_path):
        pass
    again = [json.loads(line)["step"] for line in (stage.folder / "metrics.jsonl").read_text().splitlines()]
    assert again == steps
