"""`trueup measure`: every number of the document against what it says it is, from the command line."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import trueup
from measurement import own_world
from trueup.behaviour.phrases import refuses
from trueup.cli import main
from trueup.engine.groups import read_jsonl
from trueup.measurement.document import battle, judged

SPLIT = ["--num-prompts", "6", "--max-new-tokens", "5"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A person's folder with `model-b`, the start with other weights, and a model of other tokens."""
    made = own_world.make(tmp_path_factory.mktemp("own") / "mine", gguf=True)
    own_world.add_changed(made)
    return made.parent


@pytest.fixture(autouse=True)
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(folder)
    yield folder


def measured(
    capsys: pytest.CaptureFixture[str], *options: str, out: str = "out"
) -> tuple[str, dict[str, Any]]:
    """What a command printed, and its document."""
    capsys.readouterr()
    assert main(["measure", *options, *SPLIT, "--out", out]) == 0, capsys.readouterr().err
    return capsys.readouterr().out, json.loads(Path(out, "measure.json").read_text(encoding="utf-8"))


def test_every_number_is_what_it_says(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [
        "mine/model-b",
        "other=mine/small.gguf",
        "--against",
        "mine/model-a",
        "--world",
        "mine/world.yaml",
    ]
    said, found = measured(capsys, *options, "--samples-per-prompt", "2")
    assert found["judges"] == ["short", "vowels"] and found["truth"] == found["by"] == "short"
    assert (found["start"], found["num_prompts"], found["samples_per_prompt"]) == ("model-a", 6, 2)
    rows = {row["name"]: row for row in found["models"]}
    assert list(rows) == ["model-a", "model-b", "other"]
    groups = read_jsonl("out/samples.jsonl")
    assert [g.prompt[0].content for g in groups] == [f"test asks {i}?" for i in range(6)]
    texts = {n: [[c.text for c in g.completions if c.source == n] for g in groups] for n in rows}
    short = {n: np.array([[1 / (1 + len(t)) for t in p] for p in said]) for n, said in texts.items()}
    for name, row in rows.items():
        assert row["scores"]["short"]["mean"] == pytest.approx(short[name].mean())
        count = [[sum(c in "aeiou" for c in t) for t in p] for p in texts[name]]
        assert row["scores"]["vowels"]["mean"] == pytest.approx(np.mean(count))
        assert row["refused"]["mean"] == np.mean([[refuses(t) for t in p] for p in texts[name]])
        assert row["scores"]["short"]["n"] == row["length"]["n"] == row["ended"]["n"] == 6
    gap = (short["model-b"] - short["model-a"]).mean(1)
    gain = rows["model-b"]["gain"]["short"]
    assert gain["mean"] == pytest.approx(gap.mean())
    half = 2.570582 * gap.std(ddof=1) / math.sqrt(6)
    assert gain["ci95"] == pytest.approx([gap.mean() - half, gap.mean() + half], abs=1e-6)
    assert rows["model-a"]["gain"] == rows["model-a"]["battles"] == {}
    fought = rows["model-b"]["battles"]["short"]
    wins = (short["model-b"][:, :, None] > short["model-a"][:, None, :]).mean()
    assert fought["win"] == pytest.approx(wins)
    assert fought["win"] + fought["tie"] + fought["lose"] == pytest.approx(1)
    assert rows["model-b"]["matrix"]["model-a"]["mean"] == pytest.approx(fought["win"] + fought["tie"] / 2)
    assert rows["model-a"]["matrix"]["model-b"]["mean"] == pytest.approx(fought["lose"] + fought["tie"] / 2)
    assert rows["model-a"]["kl"]["mean"] == 0 and rows["model-b"]["kl"]["mean"] > 0
    assert rows["other"]["kl"] is None and "No KL to model-a is defined of other" in said
    assert all(row["perplexity"]["mean"] > 1 for row in rows.values())
    assert found["trained_on"] == {name: [] for name in rows}
    assert set(found["samples"][0]["replies"]) == set(rows)
    reply = found["samples"][2]["replies"]["model-b"]
    assert reply["text"] == texts["model-b"][2][0]
    assert reply["scores"]["short"] == pytest.approx(1 / (1 + len(reply["text"])))
    best = max(rows, key=lambda n: rows[n]["scores"]["short"]["mean"])
    page = re.search(r"^report: (\S+)$", said, re.MULTILINE)
    assert page and "model-b" in Path(page[1]).read_text(encoding="utf-8")
    assert best in found["headline"][0] and found["headline"][0] in said.replace("\n", "")


def test_what_the_networks_say_is_what_transformers_says(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of one-token answers KL, perplexity under the start and entropy are sums over both softmaxes.

    The entropy is exact; the other two are means over 8 prompts of 64 samples, and unbiased.
    """
    options = ["mine/model-b", "--against", "mine/model-a", "--world", "mine/world.yaml", "--out", "one"]
    assert main(["measure", *options, "--max-new-tokens", "1", "--samples-per-prompt", "64"]) == 0
    row = json.loads(Path("one/measure.json").read_text())["models"][1]
    tokenizer = AutoTokenizer.from_pretrained("mine/model-a")
    logs = []
    for name in ("mine/model-a", "mine/model-b"):
        model = AutoModelForCausalLM.from_pretrained(name).eval()
        with torch.no_grad():
            asked = [tokenizer(f"test asks {i}?", return_tensors="pt").input_ids for i in range(8)]
            logs.append(
                torch.stack([torch.log_softmax(model(ids).logits[0, -1].double(), -1) for ids in asked])
            )
    start, mine = logs
    p = mine.exp()
    assert row["diversity"]["entropy"]["mean"] == pytest.approx(float(-(p * mine).sum(-1).mean()), abs=1e-5)
    kl, cross = float((p * (mine - start)).sum(-1).mean()), float(-(p * start).sum(-1).mean())
    spread = float((p * (mine - start) ** 2).sum(-1).mean()) - kl**2
    assert abs(row["kl"]["mean"] - kl) < 3 * math.sqrt(spread / (8 * 64))
    assert math.log(row["perplexity"]["mean"]) == pytest.approx(cross, abs=0.05)
    assert row["length"]["mean"] == 1.0


def test_it_goes_on_where_it_was_and_measures_nothing_twice(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = ["--world", "mine/world.yaml", "--against", "mine/model-a"]
    first, _ = measured(capsys, *world, out="again")
    assert "[1/1] model-a\n" in first
    second, found = measured(capsys, "mine/model-b", *world, out="again")
    assert "[1/2] model-a: done before" in second and "[2/2] model-b\n" in second
    bits = Path("again/measure.json").read_bytes()
    third, _ = measured(capsys, "mine/model-b", *world, out="again")
    assert "[2/2] model-b: done before" in third and Path("again/measure.json").read_bytes() == bits
    grade = Path("mine/grade.py")
    before = grade.read_text()
    try:
        grade.write_text(before.replace("1.0 / (1", "2.0 / (1"))
        fourth, changed = measured(capsys, "mine/model-b", *world, out="again")
    finally:
        grade.write_text(before)
    assert "[2/2] model-b: again, since" in fourth
    mean = found["models"][1]["scores"]["short"]["mean"]
    assert changed["models"][1]["scores"]["short"]["mean"] == pytest.approx(2 * mean)


def test_a_world_from_the_command_line_and_curves(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The best of n of 4 samples by hand: of 4 the largest, of 2 (3·first + 2·second + third) / 6."""
    judges = ["--judge", "mine/grade.py:short", "--judge", "v=mine/grade.py:vowels", "--truth", "v"]
    said, found = measured(
        capsys, "mine/model-a", "--prompts", "mine/test.jsonl", *judges, "--best-of", "4", out="b"
    )
    (row,) = found["models"]
    assert found["judges"] == ["v", "short"] and found["world"] == "b/world.yaml"
    assert [point["n"] for point in row["curve"]] == [1, 2, 4]
    v = [
        sorted((s.value for s in g.scores if s.judge == "v"), reverse=True)
        for g in read_jsonl("b/samples.jsonl")
    ]
    assert row["curve"][2]["v"]["mean"] == pytest.approx(np.mean([s[0] for s in v]))
    two = np.mean([(3 * s[0] + 2 * s[1] + s[2]) / 6 for s in v])
    assert row["curve"][1]["v"]["mean"] == pytest.approx(two)
    assert row["curve"][1]["kl_bound"] == pytest.approx(math.log(2) - 0.5)
    assert "No start was named" in said and "One file of prompts serves every split" in said
    page = re.sub(r"<[^>]*>", "", Path("b/measure.html").read_text(encoding="utf-8"))
    assert "no start was measured" in page and "No start was named" not in page, "said once"
    assert row["gain"] == row["battles"] == row["tax"] == {} and row["kl"] is row["perplexity"] is None


@pytest.mark.slow
def test_the_samples_are_read_by_the_other_commands(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["mine/model-b", "--against", "mine/model-a", "--world", "mine/world.yaml"]
    measured(capsys, *options, out="kept")
    assert main(["rank", "kept/samples.jsonl", "--judge", "short", "--json"]) == 0
    board = json.loads(capsys.readouterr().out)
    assert {model["model"] for model in board["models"]} == {"model-a", "model-b"}
    assert main(["data", "check", "kept/samples.jsonl"]) == 0
    assert "accepted 6 + quarantined 0" in capsys.readouterr().out
    assert (
        main(["judge", "kept/samples.jsonl", "kept/again.jsonl", "--by", "rule:length", "--how", "scores"])
        == 0
    )
    model = ["--model.path", "mine/model-a", "--loop.steps", "1", "--loop.batch", "2"]
    assert main(["train", "sft", "--data.path", "kept/samples.jsonl", *model, "--out", "kept/sft"]) == 0


def test_a_language_model_compares_in_both_orders(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    judge = "lm=lm:mine/model-a#read=logprobs"
    options = ["mine/model-b", "--against", "mine/model-a", "--prompts", "mine/test.jsonl", "--judge", judge]
    _, found = measured(capsys, *options, out="lm")
    fought = found["models"][1]["battles"]["lm"]
    (stage,) = Path("lm/stages").glob("model-b-*")
    verdicts = json.loads((stage / "measured.json").read_text())["battles"]["lm"]
    assert len(verdicts) == 6 and len({tuple(v) for v in verdicts}) > 1
    assert fought["win_rate"]["mean"] == pytest.approx(np.mean(verdicts))
    assert 0 <= fought["inconsistent"] <= 1 and fought["unread"] == 0
    (start,) = Path("lm/stages").glob("model-a-*")
    assert json.loads((start / "measured.json").read_text())["battles"] == {}


def test_battles_by_hand() -> None:
    """Prompt 1: (1, 0) against (0, 0) wins 2 of 4 and ties 2; prompt 2: .05 apart ties within .1."""
    a, b = np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([[0.0, 0.0], [0.45, 0.45]])
    found = battle(a, b)
    assert (found["win"], found["tie"], found["lose"]) == (0.75, 0.25, 0.0)
    assert found["win_rate"]["mean"] == pytest.approx((0.75 + 1) / 2)
    assert battle(a, b, 0.1)["tie"] == 0.75 and battle(b, a)["win"] == 0
    rows = [[1.0, 1.0], [1.0, 0.0], [0.2, 0.4], [None, 1.0]]
    said = judged(rows)
    assert (said["win"], said["tie"], said["lose"]) == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    assert said["win_rate"]["mean"] == pytest.approx((1 + 0.5 + 0.3) / 3) and said["unread"] == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "E772 .*no model to measure"),
        (["mine/model-a", "x/mine/model-a"], "E801|E772"),
        (["a=mine/model-a", "a=mine/model-b"], "E772 .*are called a.*a-1=mine/model-a a-2=mine/model-b"),
        (["mine/model-a"], "E763 .*--world FILE.yaml .*--prompts FILE --judge"),
        (["mine/model-a", "--world", "mine/world.yaml", "--judge", "rule:length"], "E773 .*of its own"),
        (["mine/model-a", "--judge", "rule:length"], "E773 .*give --prompts FILE"),
        (["mine/model-a", "--prompts", "mine/test.jsonl", "--judge", "a=rule:length", "--truth", "b"],
         "E774 .*--judge b=FILE.py:NAME"),
        (["mine/model-a", "--prompts", "mine/test.jsonl", "--judge", "rule:length", "--judge", "rule:length"],
         "E772 .*two judges are called"),
        (["mine/model-a", "--prompts", "no.jsonl"], "E801"),
        (["mine/model-a", "--world", "mine/world.yaml", "--split", "tset"], "E761 .*did you mean 'test'"),
        (["mine/model-a", "--world", "mine/world.yaml", "--exams", "sums"], "E761"),
        (["mine/nowhere", "--world", "mine/world.yaml"], "E801"),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_is_said_before_a_model_loads(
    here: Path, options: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["measure", *options, "--out", str(tmp_path / "x")]) != 0
    told = capsys.readouterr()
    assert re.search(said, (told.out + told.err).replace("\n", " ")), told.err
    assert not (tmp_path / "x" / "stages").exists()


def test_from_python_on_rows_functions_and_models_in_memory(here: Path) -> None:
    def length(completion: str) -> float:
        return float(len(completion))

    model = AutoModelForCausalLM.from_pretrained("mine/model-b")
    tokenizer = AutoTokenizer.from_pretrained("mine/model-b")
    rows = [{"prompt": f"say {i}"} for i in range(4)]
    given: dict[str, Any] = {
        "against": "mine/model-a", "tokenizer": tokenizer, "prompts": rows, "judges": {"length": length},
        "max_new_tokens": 3, "out": "python", "say": lambda line: None,
    }  # fmt: skip
    with pytest.raises(trueup.TrueupError, match="may not be called 'length'"):
        trueup.measure({"mine": model}, **given)
    given["judges"] = {"size": length}
    found = trueup.measure({"mine": model}, **given)
    texts = [[len(c.text) for c in g.completions] for g in found.groups]
    assert found.gains["mine"].mean == pytest.approx(np.mean([b - a for a, b in texts]))
    assert found.models[1]["name"] == "mine" and list(found.frame()["name"]) == ["model-a", "mine"]
    assert "mine" in str(found) and found._repr_html_().startswith("<")
    with torch.no_grad():
        model.lm_head.weight.mul_(0.5)
    with pytest.raises(trueup.TrueupError, match="E752"):
        trueup.measure({"mine": model}, **given)
