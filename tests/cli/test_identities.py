"""Identities that hold whatever is trained, typed as users type them: C1 to C12 of docs/guarantees.md."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from small_world import demonstrations, make, write
from trueup import cli
from trueup.runs.meter import read


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose settings ask for dropout, with data of uneven lengths."""
    folder = make(tmp_path_factory.mktemp("world"))
    settings = json.loads((folder / "my-model" / "config.json").read_text())
    settings["attention_dropout"] = 0.3
    (folder / "my-model" / "config.json").write_text(json.dumps(settings))
    rows = [{**row, "completion": row["completion"] * (1 + i % 5)} for i, row in enumerate(demonstrations())]
    write(folder / "demos.jsonl", rows)
    return folder


def train(
    world: Path, out: Path, method: str, data: str, *words: object, steps: int = 1
) -> list[dict[str, Any]]:
    """The lines of a run's metrics."""
    command = ["train", method, "--model.path", world / "my-model", "--data.path", world / data, "--out", out]
    more = ["--loop.steps", steps, "--loop.batch", 8, "--update.lr", 0.01, "--data.held_out", 0, *words]
    assert cli.main([str(word) for word in (*command, *more)]) == 0
    return [row for row in read(out / "metrics.jsonl") if row["phase"] == "train"]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "model.safetensors")


def gap(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> float:
    assert ours.keys() == theirs.keys()
    return max(float((ours[key] - theirs[key]).abs().max()) for key in ours)


def test_c1_how_a_step_is_cut_into_passes_changes_rounding_alone(world: Path, tmp_path: Path) -> None:
    """Eight uneven rows in one pass, in several, and one by one."""
    found = {
        tokens: train(world, tmp_path / str(tokens), "sft", "demos.jsonl", "--loop.microbatch_tokens", tokens)
        for tokens in (1, 150, 100_000)
    }
    whole = weights(tmp_path / "100000")
    for tokens in (1, 150):
        assert gap(weights(tmp_path / str(tokens)), whole) < 1e-5
        assert found[tokens][0]["loss"] == pytest.approx(found[100_000][0]["loss"], abs=5e-6)
        assert found[tokens][0]["grad_norm"] == pytest.approx(found[100_000][0]["grad_norm"], rel=1e-5)


@pytest.mark.parametrize("lora", [[], ["--model.lora.rank", 4]])
def test_c3_dpo_begins_at_log_2_although_the_model_asks_for_dropout(
    world: Path, tmp_path: Path, lora: list[object]
) -> None:
    line = train(world, tmp_path / "run", "dpo", "preferences.jsonl", *lora)[0]
    assert line["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert abs(line["rewards/margins"]) < 1e-6


@pytest.mark.parametrize("lora", [[], ["--model.lora.rank", 4]])
def test_c9_the_reference_stays_where_training_began(world: Path, tmp_path: Path, lora: list[object]) -> None:
    """After some steps a run's own model is a new start, at log 2 against itself again."""
    lines = train(world, tmp_path / "first", "dpo", "preferences.jsonl", *lora, steps=6)
    assert lines[-1]["loss"] < math.log(2) - 1e-3, "it has learnt"
    again = tmp_path / "second"
    command = [
        "train",
        "dpo",
        "--model.path",
        tmp_path / "first" / "model",
        "--out",
        again,
        "--loop.steps",
        1,
    ]
    data = ["--data.path", world / "preferences.jsonl", "--data.held_out", 0, "--update.lr", 0.01]
    assert cli.main([str(word) for word in (*command, *data)]) == 0
    line = next(row for row in read(again / "metrics.jsonl") if row["phase"] == "train")
    assert line["loss"] == pytest.approx(math.log(2), abs=1e-6)


def test_c3_c10_ppo_begins_at_ratio_1_and_the_sampler_agrees(world: Path, tmp_path: Path) -> None:
    judge = tmp_path / "judge.py"
    judge.write_text("def score(prompt, completion):\n    return float(len(completion))\n")
    words = ["--judge", f"{judge}:score", "--decoding.max_new_tokens", 6]
    for method, more in (("ppo", ["--ppo_epochs", 1, "--minibatch", 8]), ("grpo", [])):
        line = train(world, tmp_path / method, method, "prompts.jsonl", *words, *more)[0]
        assert line["policy/clipfrac"] == 0 and line["policy/ratio"] == pytest.approx(1, abs=1e-6)
        assert line["sampler_gap"] < 1e-4


def test_c4_what_is_shown_as_learnt_is_the_answer_and_its_end(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`trueup preview` shows what the loss is on: the letters of an answer and its end, none of a prompt."""
    turns = [
        {"role": "user", "content": "one?"},
        {"role": "assistant", "content": "first"},
        {"role": "user", "content": "two?"},
        {"role": "assistant", "content": "second"},
    ]
    write(tmp_path / "chat.jsonl", [{"messages": turns}])
    for train_on, learnt in (("last", len("second") + 1), ("all", len("first") + 1 + len("second") + 1)):
        words = ["preview", "sft", "--model.path", world / "my-model", "--data.held_out", 0]
        words += ["--data.path", tmp_path / "chat.jsonl", "--data.train_on", train_on]
        assert cli.main([str(word) for word in words]) == 0
        shown = capsys.readouterr().out
        prompt, _, completion = shown.partition("completion 1")
        assert "none supervised" in prompt and "one?<|im_end|>" in prompt
        assert f", {learnt} supervised" in completion and "second<|im_end|>" in completion


def test_c5_c8_an_answer_learnt_by_heart_comes_back_letter_by_letter(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Had the prompt of training and that of sampling differed by one token, it would not."""
    turns = [{"role": "user", "content": "what is 7? "}, {"role": "assistant", "content": " seven  Ж"}]
    write(tmp_path / "one.jsonl", [{"messages": turns}])
    command = ["train", "sft", "--model.path", world / "my-model", "--data.path", tmp_path / "one.jsonl"]
    more = ["--loop.steps", 80, "--loop.batch", 1, "--update.lr", 0.05, "--data.held_out", 0]
    assert cli.main([str(w) for w in (*command, *more, "--out", tmp_path / "run")]) == 0
    capsys.readouterr()
    words = ["generate", tmp_path / "run", "what is 7? ", "--temperature", 0, "--max-new-tokens", 20]
    assert cli.main([str(w) for w in words]) == 0
    said = json.loads(capsys.readouterr().out)
    assert " seven  Ж" in json.dumps(said, ensure_ascii=False)


@pytest.mark.parametrize("most", [20, 32, 40, 48])
def test_c7_a_limit_drops_whole_rows_and_cuts_no_answer(
    world: Path, tmp_path: Path, most: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """The tokenizer reads bytes, so a token is a letter: what fits is counted by hand, end token included."""
    rows = map(json.loads, (world / "demos.jsonl").read_text().splitlines())
    sizes = [len(row["prompt"]) + len(row["completion"]) + 1 for row in rows]
    fits = sum(size <= most for size in sizes)
    words = ["--data.max_tokens", most, "--loop.batch", 4]
    command = ["train", "sft", "--model.path", world / "my-model", "--data.path", world / "demos.jsonl"]
    more = [*words, "--loop.epochs", 1, "--data.held_out", 0, "--update.lr", 0.01, "--out", tmp_path / "run"]
    code = cli.main([str(w) for w in (*command, *more)])
    told = " ".join(capsys.readouterr().err.split())
    if fits == 0:
        assert code == 65 and f"{most}" in told
    else:
        assert code == 0
        lines = [row for row in read(tmp_path / "run" / "metrics.jsonl") if row["phase"] == "train"]
        assert len(lines) == math.ceil(fits / 4), "an epoch is a pass over the rows that fit"


def test_c11_c12_a_reward_model_scores_alike_alone_and_among_others(world: Path, tmp_path: Path) -> None:
    """Its scores on its own data have mean 0 and deviation 1, whoever stands beside a row."""
    from trueup.data.reader import read as read_rows
    from trueup.judges.open import open_judge

    train(world, tmp_path / "rm", "reward_model", "preferences.jsonl", steps=3)
    judge = open_judge(str(tmp_path / "rm"))
    groups = read_rows(world / "preferences.jsonl").groups
    together = judge(groups)
    alone = [judge([group])[0] for group in groups]
    assert (
        max(abs(a - b) for x, y in zip(together, alone, strict=True) for a, b in zip(x, y, strict=True))
        < 1e-5
    )
    flat = torch.tensor([score for row in together for score in row])
    assert abs(float(flat.mean())) < 1e-4 and float(flat.std(correction=0)) == pytest.approx(1, abs=1e-3)
