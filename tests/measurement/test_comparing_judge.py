"""A language model that only compares, as a judge of `trueup measure`: shares of both orders, for a score."""

from __future__ import annotations

import json
import math
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from measurement import own_world
from trueup.cli import main
from trueup.engine.groups import read_jsonl

WORDING = """
labels: [" A", " B"]
text: "{conversation}\\nA: {first}\\nB: {second}\\nThe better one is"
"""
SCORING = """
labels: [" good", " bad"]
values: [1, 0]
text: "{conversation}\\n{completion}\\nThis is"
"""
BY = "referee=lm:mine/model-b#prompt=mine/which.yaml"
GIVEN = ["--prompts", "mine/test.jsonl", "--judge", BY, "--num-prompts", "6", "--max-new-tokens", "4"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = own_world.add_changed(own_world.make(tmp_path_factory.mktemp("compares") / "mine"))
    (folder / "which.yaml").write_text(WORDING, encoding="utf-8")
    (folder / "good.yaml").write_text(SCORING, encoding="utf-8")
    return folder.parent


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mine").symlink_to(made / "mine")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def document(out: str) -> dict[str, Any]:
    return json.loads(Path(out, "measure.json").read_text("utf-8"))


def test_its_score_is_how_often_it_prefers_a_model_in_both_orders(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Against log-probabilities of both labels by transformers, for every prompt and order."""
    command = ["measure", "mine/model-b", "--against", "mine/model-a", *GIVEN]
    assert main([*command, "--best-of", "2", "--out", "out"]) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    network = AutoModelForCausalLM.from_pretrained("mine/model-b").eval()
    tokenizer = AutoTokenizer.from_pretrained("mine/model-b")

    def first_is_better(prompt: str, first: str, second: str) -> float:
        asked = tokenizer(f"{prompt}\nA: {first}\nB: {second}\nThe better one is").input_ids
        logs = []
        for label in (" A", " B"):
            ids = tokenizer(label).input_ids
            with torch.no_grad():
                out = torch.log_softmax(network(torch.tensor([asked + ids])).logits[0].double(), -1)
            logs.append(sum(float(out[len(asked) - 1 + i, token]) for i, token in enumerate(ids)))
        return 1 / (1 + math.exp(logs[1] - logs[0]))

    verdicts = []
    for group in read_jsonl("out/samples.jsonl"):
        start = next(c.said for c in group.completions if c.source == "model-a")
        mine = next(c.said for c in group.completions if c.source == "model-b")
        prompt = group.prompt[0].content
        both = first_is_better(prompt, mine, start), 1 - first_is_better(prompt, start, mine)
        verdicts.append(both)
        looks = {c.shown: c.choice for c in group.comparisons}
        assert list(looks.values()) == ["a" if p > 0.5 else "b" for p in both]
        assert {(c.a, c.b, c.labeler) for c in group.comparisons} == {(2, 0, "referee")}
    found = document("out")
    assert found["judges"] == found["comparing"] == ["referee"] and found["by"] == "referee"
    start, row = found["models"]
    rate = np.mean(verdicts)
    assert row["scores"]["referee"]["mean"] == pytest.approx(rate, abs=1e-4)
    assert row["gain"]["referee"]["mean"] == pytest.approx(rate - 0.5, abs=1e-4)
    padded = [*np.mean(verdicts, axis=1), 0, 0, 1, 1]
    half, centre = 1.959964 * np.std(padded) / math.sqrt(10), np.mean(padded)
    assert row["scores"]["referee"]["ci95"] == pytest.approx([centre - half, centre + half], abs=1e-4)
    choices = np.sign(np.array(verdicts) - 0.5).sum(1)
    shares = {"win": (choices > 0).mean(), "tie": (choices == 0).mean(), "lose": (choices < 0).mean()}
    assert {name: row["battles"]["referee"][name] for name in shares} == pytest.approx(shares)
    assert start["scores"]["referee"]["mean"] == 0.5 and start["gain"] == {} and start["curve"] == []
    score = f"{rate:.3f}"
    assert re.search(rf"^ model-b +{score} \[", said, re.MULTILINE), said
    assert "The score by referee is how often" in said
    page = (here / "out" / "measure.html").read_text("utf-8")
    assert f"{rate:.3f}"[:4] in page and "No judge scored" not in page
    assert main(["rank", "out/samples.jsonl", "--json"]) == 0
    board = json.loads(capsys.readouterr().out)
    assert {model["model"] for model in board["models"]} == {"model-a", "model-b"}


def test_without_a_start_the_command_of_the_error_works(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["measure", "mine/model-b", *GIVEN, "--out", "out"]) != 0
    told = capsys.readouterr().err.replace("\n", " ")
    assert "E777" in told and told.rstrip().endswith("give --against START")
    assert main(["measure", "mine/model-b", "mine/model-a", *GIVEN, "--out", "out"]) != 0
    told = " ".join(capsys.readouterr().err.split())
    assert not Path("out/stages").exists()
    command = shlex.split(told.partition("meet: trueup ")[2])
    assert command[0] == "battle"
    more = ["--battles", "3", "--num-prompts", "3", "--max-new-tokens", "4", "--prior", "0.1"]
    assert main([*command, *more, "--out", "battle"]) == 0, capsys.readouterr().err
    rows = [json.loads(line) for line in Path("battle/battles.jsonl").read_text("utf-8").splitlines()]
    assert len(rows) == 6 and {row["judge"] for row in rows} == {"referee"}


def test_a_wording_that_only_scores_scores_and_does_not_compare(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judge = ["--judge", "good=lm:mine/model-b#prompt=mine/good.yaml"]
    given = [*GIVEN[:2], *judge, *GIVEN[4:]]
    assert main(["measure", "mine/model-b", "--against", "mine/model-a", *given, "--out", "out"]) == 0, (
        capsys.readouterr().err
    )
    found = document("out")
    assert found["comparing"] == [] and 0 < found["models"][1]["scores"]["good"]["mean"] < 1
    groups = read_jsonl("out/samples.jsonl")
    scores = [s.value for g in groups for s in g.scores if s.completion == 1]
    assert found["models"][1]["scores"]["good"]["mean"] == pytest.approx(np.mean(scores))
    assert not any(g.comparisons for g in groups)


def test_unread_verdicts_are_told_and_leave_no_score(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from trueup.judges.language_model import PairwiseJudge, Verdict

    def compare(self: PairwiseJudge, duels: list[Any]) -> list[Verdict]:
        return [Verdict(None, 1.0, None, 0.5) for _ in duels]

    monkeypatch.setattr(PairwiseJudge, "compare", compare)
    command = ["measure", "mine/model-b", "--against", "mine/model-a", *GIVEN, "--out", "out"]
    assert main(command) == 0, capsys.readouterr().err
    said, (_, row) = capsys.readouterr().out, document("out")["models"]
    assert row["scores"] == row["gain"] == row["battles"] == {} and row["unread"] == {"referee": 6}
    assert "referee gave no verdict on 6 prompts of model-b" in said
