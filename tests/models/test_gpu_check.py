"""The check of a GPU, on a CPU: every part that a CPU can run, and what becomes of a part that fails."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "gpu_check.py"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    for name in ("HF_HUB_OFFLINE", "TOKENIZERS_PARALLELISM", "TRANSFORMERS_VERBOSITY"):
        monkeypatch.setenv(name, os.environ.get(name, ""))  # the script sets them; set back afterwards
    return importlib.import_module("gpu_check")


def checked(folder: Path, *options: str) -> dict[str, Any]:
    """The parts, as the JSON beside the page has them."""
    command = [sys.executable, str(SCRIPT), "--device", "cpu", "--size", "tiny", "--out", str(folder)]
    source = {"PYTHONPATH": f"{ROOT / 'src'}:{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run([*command, *options], env={**os.environ, **source}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((folder / "speed-gpu.json").read_text())["parts"]


def test_every_part_is_without_fault_on_a_cpu(script: ModuleType) -> None:
    asked = script.Asked(device="cpu", size=script.SIZES["tiny"], libraries="", with_trl=False)
    parts: dict[str, Any] = {}
    for name in script.PARTS:
        told: list[Any] = []
        script.at_work(name, asked, SimpleNamespace(send=told.append))
        parts[name] = {**told[0], "seconds": 1.0}
    assert list(parts) == ["machine", "exactness", "kernel", "checkpointing", "dpo", "grpo", "dpo_liger"]
    assert not any(part["faults"] for part in parts.values()), parts
    error = {(r["precision"], r["forward"]): r["rms error of log-probs"] for r in parts["exactness"]["rows"]}
    assert 0 < error["float32", "packed"] < 1e-5 < error["bfloat16", "packed"] < 1e-2
    assert all(row["largest gap"] < 1e-5 for row in parts["kernel"]["rows"])
    assert [r["apart from none"] for r in parts["checkpointing"]["rows"]] == [0.0] * 6
    assert parts["dpo"]["rows"][0]["loss"] == pytest.approx(0.69, abs=0.05)
    assert parts["dpo"]["notes"][-1] == "TRL: not run: it was not asked for"
    assert parts["grpo"]["rows"][0]["tokens a second"] > 0
    page = script.page(parts, "python it", on_gpu=False)
    assert "nothing here is about a GPU" in page and "| float32 | packed |" in page
    assert "torch 2." in page and "**fault**" not in page


@pytest.mark.slow  # imports everything anew, TRL too
def test_the_script_runs_whole_and_trl_gives_the_same_loss(tmp_path: Path) -> None:
    parts = checked(tmp_path)
    assert list(parts) == ["machine", "exactness", "kernel", "checkpointing", "dpo", "grpo", "dpo_liger"]
    ours, theirs = parts["dpo"]["rows"]
    assert (ours["by"], theirs["by"]) == ("trueup", "TRL")
    assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-5) and abs(ours["loss"] - 0.693147) > 1e-4
    assert [row["by"] for row in parts["grpo"]["rows"]] == ["trueup", "TRL"]
    assert "## dpo_liger" in (tmp_path / "speed-gpu.md").read_text()


def good(asked: Any) -> Any:
    return sys.modules["gpu_check"].Part(rows=[{"a": 1.0}], faults=[], notes=[])


def raising(asked: Any) -> Any:
    raise RuntimeError("CUDA error: an illegal memory access\nand more")


def dying(asked: Any) -> Any:
    os._exit(3)


def hanging(asked: Any) -> Any:
    time.sleep(60)


def test_a_part_fails_alone_with_its_reason(
    tmp_path: Path, script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = {"raises": (raising, 9), "dies": (dying, 9), "hangs": (hanging, 1), "is good": (good, 9)}
    monkeypatch.setattr(script, "PARTS", parts)
    monkeypatch.setattr(script, "import_all", lambda: None)
    assert script.main(["--device", "cpu", "--out", str(tmp_path)]) == 1
    said = capsys.readouterr().out.splitlines()
    reasons = ("RuntimeError: CUDA error: an illegal memory access", "its process ended with 3")
    for line, reason in zip(said, (*reasons, "it took longer than 1 s", "no fault"), strict=True):
        assert f": {reason}  " in line, line
    page = (tmp_path / "speed-gpu.md").read_text()
    assert page.count("**fault**") == 3 and "| 1 |" in page
    assert script.main(["--device", "cpu", "--out", str(tmp_path), "--minutes", "0"]) == 1
    assert "is good: not run: the time was over" in capsys.readouterr().out


def test_without_a_gpu_nothing_is_written(
    tmp_path: Path, script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script, "has_gpu", lambda: False)
    assert script.main(["--out", str(tmp_path)]) == 1
    assert "torch sees no GPU here; nothing was run and nothing written" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert script.main(["--device", "cpu"]) == 1, "what a CPU does is no result"


def test_the_page_says_whether_it_has_been_run(script: ModuleType) -> None:
    page = (ROOT / "results" / "speed-gpu.md").read_text()
    if not (ROOT / "results" / "speed-gpu.json").exists():
        assert page == script.NOT_RUN
        assert "not run yet" in (ROOT / "results" / "README.md").read_text()


def test_wheels_are_read_where_packages_are_missing(tmp_path: Path, script: ModuleType) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "liger_kernel-0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("liger_kernel/__init__.py", "")
    assert (Path(script.unpacked(tmp_path)) / "liger_kernel" / "__init__.py").is_file()
    assert script.unpacked(None) == ""
