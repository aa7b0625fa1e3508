"""`trueup compare` in a world of one's own, from the command line: who wins, and what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from measurement import own_world
from trueup.cli import main
from trueup.comparison import job as job_process
from trueup.comparison.plan import Job
from trueup.settings import config as configuration


class Here:
    """Runs jobs in this process, in place of one each."""

    def __init__(self, *options: Any) -> None:
        pass

    def run(self, jobs: Sequence[Job], folder: Path) -> Iterator[tuple[Job, int]]:
        """Each job, done."""
        for job in jobs:
            folder.mkdir(parents=True, exist_ok=True)
            stages = {name: dict(given) for name, given in job.recipe.stages.items()}
            said = {"name": job.name, "seed": job.seed, "world": job.recipe.world, "stages": stages}
            (folder / "job.yaml").write_text(configuration.dump_yaml(said), encoding="utf-8")
            job_process.run(folder / "job.yaml", folder, lambda: "")
            yield job, 0


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder beside `mine/`, in which commands are typed."""
    own_world.make(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("trueup.comparison.run.engine_of", Here)
    return tmp_path


def test_a_winner_is_named_with_intervals_and_nobody_speaks_of_another_world(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", "mine/mine.yaml", "--world", "mine/world.yaml", "--out", "out"]) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[0] == "world: mine/world.yaml"
    record = json.loads((here / "out" / "comparison.json").read_text())
    assert [row["method"] for row in record["methods"]] == ["dpo", "rloo"]
    for row in record["methods"]:
        low, high = row["gain"]["ci95"]
        assert low <= row["gain"]["mean"] <= high and row["gain"]["n"] == 2
        assert row["over_prompts"]["n"] == 6
        assert f"| {row['method']} |" in said
    assert set(record["methods"][0]["candidates"]) == {"beta=0.1", "beta=0.5"}
    asked = {sample["prompt"] for sample in record["samples"]}
    assert asked == {f"test asks {i}?" for i in range(6)}, "chosen on dev, reported on test"
    page = (here / "out" / "comparison.html").read_text(encoding="utf-8")
    logs = "".join(path.read_text() for path in (here / "out").rglob("*.resolved.yaml"))
    for text in (said, re.sub(r"<[^>]*>", " ", page), logs):
        assert not re.search(r"\blab\b", text, re.IGNORECASE)
    assert record["measured_by_its_trainer"] == ["rloo"], "it was trained on the judge that measures"
    assert "short, by which everything is measured, also trained rloo" in said


@pytest.mark.parametrize(
    ("world", "change", "said"),
    [
        (None, [], "E763"),
        ("prompts: {dev: dev.jsonl, test: test.jsonl}\nbase: model-a\ncomparisons: pairs.jsonl\n", [],
         "E762 .*write one into it, `judges: .*truth: grade`"),
        ("prompts: {dev: dev.jsonl, test: test.jsonl}\njudges: {short: 'grade.py:short'}\n", [],
         "E762 .*write `truth: short` into it"),
        ("prompts: {dev: dev.jsonl, test: test.jsonl}\njudges: {short: 'grade.py:short'}\ntruth: shot\n", [],
         "`truth` is 'shot', which `judges` does not name: it names short"),
        ("prompts: {test: test.jsonl}\njudges: {short: 'grade.py:short'}\ntruth: short\nbase: model-a\n"
         "comparisons: pairs.jsonl\n", [], "E761 .*no split 'dev'"),
        ("prompts: test.jsonl\njudges: {short: 'grade.py:short'}\ntruth: short\nbase: model-a\n"
         "comparisons: pairs.jsonl\n", [], "E775 .*settings of dpo would be chosen on the prompts"),
        ("prompts: {dev: dev.jsonl, test: test.jsonl}\njudges: {length: 'grade.py:short'}\ntruth: length\n",
         [], "a judge may not be called 'length'"),
        (own_world.WORLD, ["--shared.sft.data.path", "lab:demonstrations"], "E776 .*--world mine/w.yaml"),
    ],
)  # fmt: skip
def test_what_cannot_be_believed_is_refused_before_anything_trains(
    here: Path, world: str | None, change: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = []
    if world is not None:
        (here / "mine" / "w.yaml").write_text(world.replace("BASE", "model-a"), encoding="utf-8")
        given = ["--world", "mine/w.yaml"]
    else:
        own = "mine/pairs.jsonl"
        change = ["--shared.sft.data.path", own, "--shared.sft.model.path", "mine/model-a",
                  "--methods.dpo.data.path", own]  # fmt: skip
        text = own_world.COMPARISON[: own_world.COMPARISON.index("  rloo:")]
        (here / "mine" / "mine.yaml").write_text(text, encoding="utf-8")
    assert main(["compare", "mine/mine.yaml", *given, *change, "--out", "out"]) != 0
    told = capsys.readouterr()
    assert re.search(said, (told.out + told.err).replace("\n", " ")), told.err
    assert not (here / "out" / "stages").exists()


@pytest.mark.slow
def test_from_a_gguf_file_in_processes_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As it is typed: `compare-own` by its name, on a world whose base is a GGUF file."""
    own_world.make(tmp_path / "mine", gguf=True)
    monkeypatch.chdir(tmp_path)
    few = ["--choose.num_prompts", "3", "--report.num_prompts", "4", "--seeds", "[1]"]
    for split in ("choose", "report"):
        few += [f"--{split}.decoding.max_new_tokens", "4"]
    for name in ("shared.sft", "shared.reward", "methods.dpo", "methods.kto", "methods.rloo"):
        few += [f"--{name}.loop.batch", "2"]
    few += ["--methods.rloo.loop.steps", "1", "--methods.rloo.decoding.max_new_tokens", "4"]
    assert main(["compare", "compare-own", "--world", "mine/world.yaml", *few, "--out", "out"]) == 0
    said = capsys.readouterr().out
    record = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert [row["method"] for row in record["methods"]] == ["dpo", "kto", "rloo"], said
    assert all(row["over_prompts"]["ci95"] and row["proxy"] is not None for row in record["methods"])
    assert record["measured_by_its_trainer"] == [] and record["failed"] == {}
    assert not re.search(r"\blab\b", said, re.IGNORECASE)
