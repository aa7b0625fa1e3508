"""What a newcomer types at `trueup measure`: each error names a way on that works when it is typed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import small_world
from measurement import own_world
from trueup.cli import main

FEW = ["--judge", "mine/grade.py:short", "--num-prompts", "2", "--max-new-tokens", "2", "--out", "out"]
CHAT = [{"prompt": [{"role": "user", "content": f"what is {i}?"}]} for i in range(3)]
SYSTEM = [{"prompt": [{"role": "system", "content": "be brief"}, *row["prompt"]]} for row in CHAT]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`mine/` with a model, and the same model without its chat template."""
    folder = own_world.make(tmp_path_factory.mktemp("newcomer") / "mine")
    bare = small_world.save_model(folder / "bare")
    (bare / "chat_template.jinja").unlink(missing_ok=True)
    settings = json.loads((bare / "tokenizer_config.json").read_text("utf-8"))
    settings.pop("chat_template", None)
    (bare / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder.parent


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mine").symlink_to(made / "mine")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """What a measurement that is refused says."""
    capsys.readouterr()
    assert main(["measure", *options, *FEW]) != 0
    return " ".join(capsys.readouterr().err.split())


def works(capsys: pytest.CaptureFixture[str], *options: str) -> None:
    assert main(["measure", *options, *FEW]) == 0, capsys.readouterr().err
    assert json.loads(Path("out/measure.json").read_text("utf-8"))["num_prompts"] == 2


def test_a_model_without_a_template_and_one_that_refuses_the_system(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small_world.write(here / "chat.jsonl", CHAT)
    small_world.write(here / "system.jsonl", SYSTEM)
    said = refused(capsys, "mine/bare", "--prompts", "chat.jsonl")
    assert "E350" in said and "name one: `--template NAME` (hh goes with every tokenizer)" in said
    works(capsys, "mine/bare", "--prompts", "chat.jsonl", "--template", "hh")
    said = refused(capsys, "mine/bare", "--prompts", "system.jsonl", "--template", "hh")
    assert "E351" in said and "name a template that has the role, `--template NAME`" in said
    works(capsys, "mine/bare", "--prompts", "system.jsonl", "--template", "chatml")


def test_prompts_under_another_name(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_world.write(here / "asked.jsonl", [{"question": f"what is {i}?", "answer": "no"} for i in range(3)])
    said = refused(capsys, "mine/model-a", "--prompts", "asked.jsonl")
    command = re.search(r"trueup (data convert \S*asked.jsonl groups.jsonl .*)$", said)
    assert "E202" in said and command
    assert main(command[1].split()) == 0
    works(capsys, "mine/model-a", "--prompts", "groups.jsonl")
