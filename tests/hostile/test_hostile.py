"""What others made, or spoiled, ends in an error that says what to do, soon, and leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from hostile.conftest import HANGS, ending
from hostile.folders import FOLDERS, make
from hostile.inputs import INPUTS, prepare
from hostile.runs import RUNS

READERS = {
    "generate": ("generate", "F", "hi", "--max-new-tokens", "1"),
    "train": ("train", "sft", "--model.path", "F", "--data.path", "demos.jsonl", "--loop.steps", "1"),
    "train of adapters": (
        "train", "dpo", "--model.path", "F", "--data.path", "prefs.jsonl", "--loop.steps", "1",
        "--model.lora.rank", "2", "--model.roles", "shared",
    ),
    "soup": ("soup", "F", "good", "--out", "s"),
    "judge by words": ("judge", "prefs.jsonl", "judged.jsonl", "--by", "lm:F"),
    "judge by scores": ("judge", "prefs.jsonl", "judged.jsonl", "--how", "scores", "--by", "F"),
    "eval": ("refusals", "F", "--data", "asked.jsonl"),
    "rates": ("init", "sft", "--model.path", "F"),
}  # fmt: skip
"Commands that read a model's folder."
OTHER = {"judge by scores": ("E834",), "rates": ("", "E765")}
"What else commands may say: this is no judge; a rate needs no weights to be read."
APART = {
    ("train of adapters", "a tokenizer with more tokens than rows"): "E504",
    ("soup", "a tokenizer with more tokens than rows"): "E850",
    ("soup", "weights of whole numbers"): "E851",
    ("soup", "a template that is no Jinja"): "",
}
"What a command says of a folder that it looks at in another way: a mixture's template is not used, say."


def test_there_are_as_many_as_promised() -> None:
    assert len(FOLDERS) + len(RUNS) >= 60 and len(INPUTS) >= 60


@pytest.mark.parametrize("name", FOLDERS)
def test_a_hostile_folder(name: str, good: Path, typed, tmp_path: Path) -> None:
    make(name, tmp_path / "F", good)
    assert typed(tmp_path, READERS["generate"]) == FOLDERS[name][1]


@pytest.mark.parametrize("name", INPUTS)
def test_a_hostile_input(name: str, good: Path, typed, tmp_path: Path) -> None:
    at = tmp_path / "inside" / "here"
    at.mkdir(parents=True)
    prepare(at, good)
    made, words, code = INPUTS[name]
    made(at)
    assert typed(at, words) == code
    # Nothing was written above the folder in which the command was typed.
    assert [p.name for p in tmp_path.iterdir()] == ["inside"]
    assert [p.name for p in (tmp_path / "inside").iterdir()] == ["here"]


@pytest.mark.parametrize("name", RUNS)
def test_a_run_that_something_happened_to(name: str, run: Path, typed, tmp_path: Path) -> None:
    spoil, commands, code = RUNS[name]
    shutil.copytree(run, tmp_path / "at", symlinks=True)
    spoil(tmp_path / "at" / "o")
    assert {words[0]: typed(tmp_path / "at", words) for words in commands} == {w[0]: code for w in commands}


@pytest.mark.slow  # every folder by every command that reads one, hundreds of trainings: a minute
@pytest.mark.parametrize("reader", [name for name in READERS if name != "generate"])
def test_every_command_that_reads_folders(reader: str, good: Path, typed, tmp_path: Path) -> None:
    wrong = {}
    for number, name in enumerate(FOLDERS):
        at = tmp_path / str(number)
        at.mkdir()
        prepare(at, good)
        (at / "asked.jsonl").write_text('{"prompt": "x", "harmful": false}\n')
        make(name, at / "F", good)
        code, found = APART.get((reader, name), FOLDERS[name][1]), typed(at, READERS[reader])
        if found not in (code, *OTHER.get(reader, ())):
            wrong[name] = (code, found)
    assert not wrong


@pytest.mark.slow  # each a program of its own that imports torch: minutes
@pytest.mark.parametrize("table", ["folders", "inputs", "runs"])
def test_through_the_command_line(table: str, good: Path, run: Path, tmp_path: Path) -> None:
    wrong = {}
    for number, name in enumerate({"folders": FOLDERS, "inputs": INPUTS, "runs": RUNS}[table]):
        at = tmp_path / str(number)
        if table == "runs":
            shutil.copytree(run, at, symlinks=True)
            spoil, (words, *_), code = RUNS[name]
            spoil(at / "o")
        else:
            at.mkdir()
            prepare(at, good)
            words, code = READERS["generate"], ""
            if table == "folders":
                make(name, at / "F", good)
                code = FOLDERS[name][1]
            else:
                made, words, code = INPUTS[name]
                made(at)
        if any("\0" in word for word in words):
            continue  # no program can be given one
        found = as_program(at, words)
        if found != code:
            wrong[name] = (code, found)
    assert not wrong


def as_program(at: Path, words: Sequence[str]) -> str:
    """The code of the error in which a program of its own ends, with no process of its session left."""
    command = [sys.executable, "-m", "trueup.cli", *words]
    with subprocess.Popen(
        command, cwd=at, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as program:  # fmt: skip
        try:
            out, err = program.communicate(timeout=HANGS)
        except subprocess.TimeoutExpired:
            os.killpg(program.pid, signal.SIGKILL)
            return f"nothing after {HANGS} s"
    assert str(program.pid) not in sessions()
    return ending(program.returncode, out, err)


def sessions() -> set[str]:
    """The sessions of all processes."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            found.add(path.read_text().rpartition(")")[2].split()[3])
        except OSError:
            continue
    return found
