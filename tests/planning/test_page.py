"""docs/plan.md: its commands print what it shows, its table is the devices', what it quotes was measured."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from page_blocks import DOCS, blocks
from trueup.cli import main
from trueup.planning.devices import GPUS, find, parse

PAGE = DOCS / "plan.md"


def shown() -> list[tuple[str, str, str]]:
    """Each command with the configuration above it and the output below it."""
    found, config = [], ""
    for block in blocks(PAGE):
        config = block.text if block.file else config
        found += [(line, config, said) for line, said in block.commands if line.startswith("trueup plan")]
    return found


SHOWN = shown()


@pytest.mark.parametrize(
    "number", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, len(SHOWN)))]
)
def test_a_command_prints_what_the_page_shows(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line, config, said = SHOWN[number]
    monkeypatch.chdir(tmp_path)
    Path("config.json").write_text(config, encoding="utf-8")
    assert main(shlex.split(line)[1:]) == 0
    assert capsys.readouterr().out == said
    assert len(SHOWN) == 4 and all(len(row) <= 80 for row in said.splitlines())


def test_the_table_of_devices_is_the_one_that_is_used() -> None:
    rows = re.findall(
        r"^\| ([\w-]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| (\d+) \|$", PAGE.read_text("utf-8"), re.M
    )
    assert [(name, *map(float, numbers)) for name, *numbers in rows] == [
        (g.name, g.memory / 1e9, g.bf16 / 1e12, g.fp32 / 1e12, g.bandwidth / 1e9) for g in GPUS
    ]
    assert all(gpu.source for gpu in GPUS)


def test_devices_are_named_in_any_case_and_this_machine_is_measured() -> None:
    assert parse("h100X8") == ("H100", 8) and parse("rtx4090") == ("RTX4090", 1)
    assert parse("a100-40x2") == ("A100-40", 2)
    here = find("cpu", "float32")
    assert here.kind == "cpu" and here.rate("float32") > 1e8 and here.bandwidth > 1e8 and here.memory > 1e8
