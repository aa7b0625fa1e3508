"""Whatever is typed, the answer is one line that says what is wrong and what to do: no traceback."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

import small_world
from trueup.cli import main

FILES = {
    "winners.jsonl": '{"a": "x", "b": "y", "winner": "a"}\n',
    "broken.yaml": "method: sft\nmodel: [1,\n",
    "twice.yaml": "method: sft\nseed: 1\nseed: 2\n",
    "list.yaml": "- 1\n",
    "empty.yaml": "",
    "no-method.yaml": "model: {path: x}\n",
    "unknown.yaml": "method: sftt\n",
    "two.yaml": 'name: two\nstages:\n  a: {method: sft, model: {path: "stage:later"}}\n',
    "number.yaml": "name: x\nstages: 3\n",
    "nothing.yaml": "name: x\nstages: {}\n",
    "raises.py": "import not_there\n",
    "no-config.py": "x = 1\n",
    "not-utf8.jsonl": b"\xff\xfe\x00{}\n",
    "no-rows.jsonl": "",
    "bad.jsonl": '{"prompt": "a", "completion": "b"}\n{"prompt": 3, "completion": "b"}\n',
}
SFT = "train sft --model.path my-model --data.path demos.jsonl --out r"

MISTAKES = [
    ("nosuch", 64, "Unknown command"),
    ("--nosuch", 64, "--nosuch"),
    ("methods extra", 64, "extra"),
    ("train", 64, "RECIPE requires an argument"),
    ("train sftt", 64, "did you mean 'sft'"),
    ("train sft --updat.lr 1", 64, "did you mean `update`"),
    ("train sft --update.lrr 1", 64, "did you mean `lr`"),
    ("train sft --learning_rat 1", 64, "did you mean `learning_rate`"),
    ("train sft --lr 0.1 --learning_rate 0.2", 64, "are the same setting"),
    (
        "train sft --update.lr fast",
        64,
        'expected a number > 0 or auto, found the text "fast" — give a number',
    ),
    ("train sft --update.lr", 64, "expected a number"),
    ("train sft --update.lr -1", 64, "number > 0"),
    ("train sft --loop.batch 0", 64, "whole number ≥ 1"),
    ("train sft --loop.steps -1", 64, "whole number ≥ 1"),
    ("train sft --data.held_out 2", 64, "< 1"),
    ("train sft extra", 64, "belongs to no key"),
    ("train sft --out", 64, "--out requires an argument"),
    ("train missing.yaml", 66, "missing.yaml"),
    ("train broken.yaml", 64, "broken.yaml:3"),
    ("train twice.yaml", 64, "`seed` stands twice, first on line 2"),
    ("train list.yaml", 64, "not a mapping"),
    ("train empty.yaml", 64, "no `method:`"),
    ("train no-method.yaml", 64, "no `method:`"),
    ("train unknown.yaml", 64, "did you mean 'sft'"),
    ("train raises.py", 64, "No module named 'not_there'"),
    ("train no-config.py", 64, "Config and build"),
    ("train sft --model.path stage:x", 64, "`trueup run`"),
    ("train sft --model.path ./nowhere --out r", 66, "./nowhere"),
    ("train sft --model.path a-folder --out r", 66, "a-folder"),
    ("train sft --model.path my-model --data.path nofile.jsonl --out r", 66, "nofile.jsonl"),
    ("train sft --model.path my-model --data.path bad.jsonl --out r", 65, "1 of 2 rows are bad"),
    ("train sft --model.path my-model --data.path no-rows.jsonl --out r", 65, "no rows"),
    ("train sft --model.path my-model --data.path not-utf8.jsonl --out r", 65, "not UTF-8"),
    ("train dpo --model.path my-model --data.path demos.jsonl --out r", 65, "can learn from"),
    (f"{SFT} --data.max_tokens 3", 65, "no row is left"),
    (f"{SFT} --loop.best eval/nothing --loop.steps 1", 64, "eval/loss"),
    (f"{SFT} --model.device tpu", 64, "cpu, cuda, mps or auto"),
    (f"{SFT} --model.device xpu", 64, "cpu, cuda, mps or auto"),
    (f"{SFT} --model.device mps", 64, "use auto, or cpu"),
    (f"{SFT} --model.template nosuch", 65, "chatml"),
    (f"{SFT} --model.lora.targets nolayer", 66, "q_proj"),
    (f"{SFT}/../demos.jsonl", 74, "demos.jsonl"),
    ("run", 64, "RECIPE requires an argument"),
    ("run nosuch", 64, "a YAML file, or one of cai/lab, "),
    ("run cai/lib", 64, "did you mean `cai/lab`?"),
    ("run self-align", 64, "did you mean `self-align/"),
    ("run compare-quick", 64, "`trueup compare` takes such files"),
    ("compare demo", 64, "`trueup run` takes such files"),
    ("compare compare-lap", 64, "did you mean `compare-lab`?"),
    ("run two.yaml --out r", 64, "stage:later is not an earlier stage"),
    ("run number.yaml --out r", 64, "found the number 3"),
    ("run nothing.yaml --out r", 64, "no stage"),
    ("run demo --sfft.seed 1 --out r", 64, "did you mean `sft`"),
    ("config nosuch", 64, "there is no method"),
    ("init nosuch", 64, "there is no method"),
    ("init sft --out list.yaml", 64, "the file exists"),
    ("init sft --out nodir/x.yaml", 74, "nodir/x.yaml"),
    ("preview evaluate", 64, "reads no data"),
    ("show nosuch", 64, "there is no method"),
    ("report nosuch", 66, "no run here"),
    ("report a-folder", 66, "no run here"),
    ("lab evaluate my-model --split nosuch", 64, "dev"),
    ("lab evaluate my-model --num-prompts 0", 64, ">= 1"),
    ("generate my-model", 64, "no prompts"),
    ("generate ./nowhere hi", 66, "./nowhere"),
    ("generate my-model hi --temperature -1", 64, ">= 0"),
    ("chat ./nowhere", 66, "./nowhere"),
    ("rank winners.jsonl", 65, "a battle has a, b and outcome"),
    ("export a-folder out", 66, "no finished model"),
    ("data check", 64, "FILE requires an argument"),
    ("data check nofile.jsonl", 66, "nofile.jsonl"),
    ("data check demos.jsonl --format nosuch", 65, "sharegpt"),
    ("data convert demos.jsonl x.txt", 65, ".jsonl or .parquet"),
    ("lab show --num 0", 64, ">= 1"),
    ("lab corpus nodir/x.jsonl --tokens 10", 74, "nodir/x.jsonl"),
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, data, and files of every kind of mistake."""
    folder = small_world.make(tmp_path_factory.mktemp("world"))
    (folder / "a-folder").mkdir()
    for name, content in FILES.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


@pytest.mark.parametrize(("line", "code", "says"), MISTAKES, ids=[m[0] for m in MISTAKES])
def test_a_mistake_is_answered_in_one_line(
    line: str,
    code: int,
    says: str,
    world: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(world)
    assert main(line.split()) == code
    shown = capsys.readouterr()
    (error,) = [text for text in shown.err.splitlines() if text.startswith("error ")]
    assert re.match(r"error E\d{3} ", error) and " — " in error
    assert "E999" not in error and "Traceback" not in shown.err
    assert says in error
    assert "model:" not in shown.out


def test_a_port_that_is_taken_is_named(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(world)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "my-model", "--port", str(port)]) == 69
    assert f"error E964 port {port} — cannot listen: Address already in use" in capsys.readouterr().err


def test_what_nobody_foresaw_is_one_line_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], world: Path
) -> None:
    def fail(*given: object, **named: object) -> None:
        raise KeyError("something")

    monkeypatch.chdir(world)
    monkeypatch.delenv("TRUEUP_TRACEBACK", raising=False)
    monkeypatch.setattr("trueup.data.check", fail)
    assert main(["data", "check", "demos.jsonl"]) == 70
    assert "error E999 — KeyError: 'something'" in capsys.readouterr().err
    monkeypatch.setenv("TRUEUP_TRACEBACK", "1")
    with pytest.raises(KeyError):
        main(["data", "check", "demos.jsonl"])


def test_a_bad_file_is_told_row_by_row(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(world)
    assert main(["data", "check", "bad.jsonl"]) == 65
    shown = capsys.readouterr().out
    assert "rows in 2 = accepted 1 + quarantined 1" in shown and "bad.jsonl:2" in shown
    assert main(["data", "check", "demos.jsonl"]) == 0
    assert "prompt-completion" in capsys.readouterr().out
