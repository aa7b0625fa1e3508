"""The README and pages that start from a task can be followed: commands run, and outputs agree."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

import small_world
from fake_run import write_fake_run
from page_blocks import DOCS, HARDWARE, ROOT, blocks
from trueup.cli import main
from trueup.errors import EXIT_DATA

# Minutes long; test_pages.py holds every option of theirs against the command line.
# `doctor` reads what another trainer wrote: tests/doctor/test_page.py runs its page.
LONG = ("trueup compare ", "trueup run ", "trueup eval ", "trueup doctor ")
SHORT = "--loop.steps 1 --loop.batch 4"


def shortened(line: str) -> list[str]:
    """The words after `trueup`; a training run makes one small step, on a CPU."""
    words = shlex.split(line)[1:]
    words = ["cpu" if word == "cuda" else "3" if word == "256" else word for word in words]
    return [*words, *SHORT.split()] if words[0] == "train" and "--loop.steps" not in words else words


TASKS = ("docs/your-data.md", "docs/reading-a-report.md", "docs/one-gpu.md", "docs/cluster.md")


@pytest.mark.parametrize("page", ["README.md", *TASKS])
def test_a_task_can_be_followed(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small_world.make(tmp_path)
    write_fake_run(tmp_path / "runs" / "demo", steps=5)
    monkeypatch.chdir(tmp_path)
    ran = 0
    for block in blocks(ROOT / page):
        if block.file:
            Path(block.file).write_text(block.text, encoding="utf-8")
        for line, shown in block.commands:
            if not line.startswith("trueup ") or line.startswith(LONG):
                continue
            code = main(shortened(line))
            said = capsys.readouterr()
            assert code == (EXIT_DATA if "\nE402 " in shown else 0), (line, said.err)
            assert not shown or said.out == shown, line
            ran += 1
    assert ran


def test_commands_for_a_gpu_are_marked_and_no_others() -> None:
    for page in DOCS.rglob("*.md"):
        for block in blocks(page):
            asks = any("--model.device cuda" in line for line, _ in block.commands)
            assert asks == block.needs_hardware, f"{page.name}: put {HARDWARE!r} above blocks that need it"
