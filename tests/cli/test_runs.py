"""Training from the command line: twice is once, other settings are refused, recipes redo what changed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import small_world
from trueup.answerers import Answer
from trueup.answerers.local import LocalAnswerer
from trueup.cli import main
from trueup.runs.rates import settle
from trueup.runs.shipped import default_folder, recipe_names, recipe_path
from trueup.settings import discover
from trueup.settings.config import build, read_yaml, resolved
from trueup.worlds import DEFAULT, lead, open_world

INPUTS = ["--model.path", "my-model", "--data.path", "demos.jsonl"]
SFT = ["train", "sft", *INPUTS, "--loop.steps", "2", "--loop.batch", "4"]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a model and data."""
    monkeypatch.chdir(tmp_path)
    return small_world.make(tmp_path)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_training_twice_is_training_once(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(SFT) == 0
    first, shown = contents(world / "runs/sft"), capsys.readouterr()
    assert "model: runs/sft/model" in shown.out
    assert {"DONE.json", "metrics.jsonl", "config.resolved.yaml", "data.json"} <= set(first)
    assert "model/model.safetensors" in first
    assert main(SFT) == 0
    assert contents(world / "runs/sft") == first
    shown = capsys.readouterr()
    assert "finished before" in shown.out and "model: runs/sft/model" in shown.out
    assert not shown.err, "nothing was trained"


def test_stopped_and_started_again_is_never_stopped(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SFT, "--out", "whole"]) == 0

    @contextmanager
    def stopping() -> Iterator[Callable[[], str]]:
        yield lambda: "SIGTERM"

    with monkeypatch.context() as patch:
        patch.setattr("trueup.commands.train.stop_requests", stopping)
        patch.setattr("trueup.runs.training.end_if_asked", lambda asked: None)  # not before a step
        assert main([*SFT, "--out", "stopped"]) == 75
    assert "stopped (SIGTERM) after step 1, saved" in capsys.readouterr().err
    assert not (world / "stopped" / "DONE.json").exists()
    assert main([*SFT, "--out", "stopped"]) == 0
    for name in ("metrics.jsonl", "held_out.json", "model/model.safetensors"):
        assert (world / "stopped" / name).read_bytes() == (world / "whole" / name).read_bytes(), name


def test_a_folder_takes_one_run(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(SFT) == 0
    assert main([*SFT, "--update.lr", "0.5"]) == 64
    error = capsys.readouterr().err
    assert "E723" in error and "update.lr" in error
    assert main([*SFT, "--update.lr", "0.5", "--out", "elsewhere"]) == 0


def test_a_folder_takes_one_method(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Another method with the same settings is another run."""
    source = Path(str(discover.find("sft").__file__)).read_text(encoding="utf-8")
    (world / "mine.py").write_text(source, encoding="utf-8")
    assert main([*SFT, "--out", "r"]) == 0
    assert main(["train", "mine.py", *SFT[2:], "--out", "r"]) == 64
    assert "E723" in capsys.readouterr().err


def test_the_resolved_settings_are_a_recipe(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(SFT) == 0
    assert main(["train", "runs/sft/config.resolved.yaml", "--out", "again"]) == 0
    assert contents(world / "again" / "model") == contents(world / "runs/sft/model")
    assert main(["train", "runs/sft/config.resolved.yaml", "--out", "runs/sft"]) == 0
    assert "finished before" in capsys.readouterr().out


def test_a_run_that_never_began_is_in_nobodys_way(world: Path) -> None:
    assert main(["train", "sft", "--model.path", "my-model", "--data.path", "nofile.jsonl"]) == 66
    assert main(SFT) == 0


def test_nothing_but_our_own_lines_is_printed(world: Path) -> None:
    code = "import sys; from trueup.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, *SFT], capture_output=True, text=True, check=True, cwd=world
    )
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["update.lr", "model:", "loss", "data"]
    assert all(line.startswith("sft ") for line in done.stderr.splitlines()), done.stderr


def test_an_accuracy_of_a_few_agreeing_prompts_is_no_certainty(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"prompt": f"Question {i}?", "chosen": "yes " * 20, "rejected": "no"} for i in range(10)]
    (world / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    inputs = ["--model.path", "my-model", "--data.path", "pairs.jsonl", "--data.held_out", "0.3"]
    assert main(["train", "reward_model", *inputs, "--loop.steps", "20", "--update.lr", "1e-2"]) == 0
    (line,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith("held out accuracy")]
    # Six of eight with two wins and two losses added: .75 - 1.96 √(.1875 / 8).
    assert line == "held out accuracy 1.000 [0.450, 1.000] over 4 prompts (chance 0.5)"


RECIPE = """
name: two
stages:
  sft:
    model: {path: my-model}
    data: {path: demos.jsonl}
    loop: {steps: 2, batch: 4}
  reward:
    method: reward_model
    model: {path: my-model}
    data: {path: preferences.jsonl}
    loop: {steps: 1, batch: 4}
  dpo:
    model: {path: "stage:sft"}
    data: {path: preferences.jsonl}
    loop: {steps: 1, batch: 4}
"""


def _stages(world: Path) -> dict[str, Path]:
    return {p.name.rpartition("-")[0]: p for p in (world / "runs/two/stages").iterdir()}


def test_a_recipe_redoes_what_depends_on_a_change(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (world / "two.yaml").write_text(RECIPE)
    assert main(["run", "two.yaml"]) == 0
    capsys.readouterr()
    first = contents(world / "runs/two")
    assert set(_stages(world)) == {"sft", "reward", "dpo"}
    dpo = (_stages(world)["dpo"] / "config.resolved.yaml").read_text()
    assert f"stages/{_stages(world)['sft'].name}/model" in dpo
    assert main(["run", "two.yaml"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("done before") == 3
    assert contents(world / "runs/two") == first
    assert main(["run", "two.yaml", "--sft.update.lr", "0.01"]) == 0
    shown = capsys.readouterr().out
    assert (
        "[1/3] sft: again, since update.lr changed" in shown
        and "[2/3] reward: done before\n" in shown
        and "[3/3] dpo: again" in shown
    )
    assert main(["run", "two.yaml", "--dpo.beta", "0.5"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("done before") == 2 and "[3/3] dpo: again" in shown


def test_a_recipe_runs_in_a_folder_of_its_own_name(world: Path) -> None:
    (world / "my").mkdir()
    (world / "my" / "two-ways.yaml").write_text(RECIPE)
    assert default_folder("my/two-ways.yaml") == Path("runs/two-ways")
    folders = {name: default_folder(name) for name in recipe_names()}
    assert folders["cai/lab"] == Path("runs/cai-lab")
    named = {name: read_yaml(recipe_path(name)).values.get("name", name) for name in folders}
    assert {name: folder.name for name, folder in folders.items()} == named


def test_a_changed_file_redoes_what_reads_it(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (world / "two.yaml").write_text(RECIPE)
    assert main(["run", "two.yaml"]) == 0
    small_world.write(world / "preferences.jsonl", small_world.preferences(12))
    capsys.readouterr()
    assert main(["run", "two.yaml"]) == 0
    shown = capsys.readouterr().out
    assert (
        "[1/3] sft: done before\n" in shown and "[2/3] reward: again" in shown and "[3/3] dpo: again" in shown
    )


@pytest.mark.parametrize("name", [*discover.names(), "evaluate", "label"])
def test_init_writes_a_recipe_that_is_the_defaults(
    name: str, world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", name]) == 0
    printed = capsys.readouterr().out
    assert main(["init", name, "--out", "new.yaml"]) == 0
    assert (world / "new.yaml").read_text() == printed
    values: dict[str, Any] = dict(read_yaml(world / "new.yaml").values)
    assert values.pop("method") == name
    config_class = vars(discover.find(name))["Config"]
    own = "world" in resolved(config_class())
    assert (values["world"] if own else values.pop("world")) == ("" if own else DEFAULT)
    assert build(config_class, values) == config_class()
    capsys.readouterr()
    assert main(["config", "new.yaml"]) == 0
    (world / "shown.yaml").write_text(capsys.readouterr().out)
    # `auto` alone is another word by then: the number of the lab's base, which the table's first column is.
    settled, _ = settle(discover.find(name), config_class(), lambda reference: 910_000)
    led = lead(resolved(settled), open_world(DEFAULT))
    shown = read_yaml(world / "shown.yaml").values
    assert {**shown, "world": ""} == {"method": name, **led, "world": ""}, "shown with every door led"


def test_config_merges_recipe_and_options(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (world / "a.yaml").write_text("method: dpo\nbeta: 0.3\nupdate: {lr: 1e-5}\n")
    assert main(["config", "a.yaml", "--update.lr", "1e-6", "--num_train_epochs", "2"]) == 0
    (world / "b.yaml").write_text(capsys.readouterr().out)
    values = read_yaml(world / "b.yaml").values
    assert (values["method"], values["beta"], values["update"]["lr"]) == ("dpo", 0.3, 1e-6)
    assert values["loop"]["epochs"] == 2


def test_methods_are_listed_with_their_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert {"sft", "reward_model", "dpo", "ppo", "best_of_n", "label", "evaluate"} <= set(rows)
    assert rows["dpo"]["defaults"]["beta"] == 0.1 and rows["label"]["kind"] == "procedure"
    assert main(["methods"]) == 0
    shown = capsys.readouterr().out
    for name, row in rows.items():
        assert name in shown and row["summary"].split()[0] in shown
        assert row["kind"] != "method" or discover.summary(name) == row["summary"]


def test_show_reads_a_method_down_to_the_loop(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "ppo"]) == 0
    shown = capsys.readouterr().out
    places = [shown.index(part) for part in ("class Algorithm", "class Sample", "class Clipped", "def fit(")]
    assert places == sorted(places)


def test_preview_shows_what_is_trained_on(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["preview", "sft", *INPUTS, "--num", "1"]) == 0
    shown = capsys.readouterr().out
    assert "what is" in shown and "it is" in shown and "<|im_end|>" in shown
    assert "16 rows:" in shown and "0 bad" in shown


def test_what_a_model_says_is_shown_as_it_is(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = "[red]a[/] [/b] \x1b[2J" + "word " * 40
    lines = iter(["hello", "/new", "again", ""])
    monkeypatch.setattr("builtins.input", lambda prompt="": next(lines))
    asked: list[Any] = []

    def answer(self: object, prompts: list[Any], **rest: object) -> list[list[Answer]]:
        asked.extend(prompts)
        return [[Answer(text=said)]]

    monkeypatch.setattr(LocalAnswerer, "complete", answer)
    assert main(["chat", "my-model", "--system", "be kind"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("model> [red]a[/] [/b] ⟦U+001B⟧[2J" + "word " * 39) == 2
    assert [[m.content for m in prompt] for prompt in asked] == [["be kind", "hello"], ["be kind", "again"]]


def test_a_folder_with_brackets_is_printed_whole(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = "runs/[bold]" + "x" * 90
    assert main([*SFT, "--out", out]) == 0
    assert f"model: {out}/model\n" in capsys.readouterr().out


def test_names_of_other_toolkits_train_the_same_run(world: Path) -> None:
    assert main([*SFT, "--update.lr", "1e-2", "--out", "a"]) == 0
    theirs = "--model_name_or_path my-model --train_file demos.jsonl --max_steps 2 --train_batch_size 4"
    more = "--learning_rate 1e-2 --report_to none --output_dir b"
    assert main(["train", "sft", *theirs.split(), *more.split()]) == 0
    mine, other = contents(world / "a"), contents(world / "b")
    for name in ("metrics.jsonl", "config.resolved.yaml", "model/model.safetensors"):
        assert mine[name] == other[name], name


def test_generate_and_export(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(SFT) == 0
    capsys.readouterr()
    assert main(["generate", "runs/sft", "hi", "--num", "2", "--max-new-tokens", "3"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["prompt"] == "hi" and len(row["completions"]) == 2
    assert main(["export", "runs/sft", "out"]) == 0
    assert (world / "out" / "model.safetensors").is_file() and (world / "out" / "README.md").is_file()
