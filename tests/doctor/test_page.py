"""The page: its outputs are the command's, its tables name every key and kind, its recorders are Python."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from doctor import corpus
from page_blocks import DOCS, blocks
from trueup.cli import main
from trueup.doctor import dump, examine, row_of
from trueup.doctor.examine import checks

PAGE = DOCS / "doctor.md"
SHOWN = {
    "clean": corpus.CLEAN["samples, bfloat16"],
    **{
        f.__name__: f
        for f in (corpus.warm_top_p, corpus.stale_cache, corpus.on_prompts, corpus.endless, corpus.shuffled)
    },
}
"The dumps on the page."


def alike(text: str) -> str:
    """The text without its numbers and line ends: float arithmetic differs by machine."""
    return " ".join(
        re.sub(r"[+-]?[\d.]+(e[+-]?\d+)?", "0", text).replace("0-0", "0").replace("0, 0", "0").split()
    )


def test_the_outputs_are_those_of_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    corpus.save(tmp_path / "my-model")
    capsys.readouterr()
    seen = 0
    for block in blocks(PAGE):
        for line, shown in block.commands:
            if shown:
                name = line.split()[2].removesuffix(".jsonl")
                rows = SHOWN[name](0)
                Path(f"{name}.jsonl").write_text(
                    "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8"
                )
                assert main(line.split()[1:]) == (name != "clean")
                said = capsys.readouterr().out
                assert re.sub(r"(0 ?)+", "0 ", alike(said)) == re.sub(r"(0 ?)+", "0 ", alike(shown)), said
                assert max(map(len, said.splitlines())) <= 80
                seen += 1
    assert seen == len(SHOWN) == 6


def test_every_key_and_kind_is_in_its_table() -> None:
    page = PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]+) \|", page, flags=re.MULTILINE)
    keys = {key for row in rows for key in re.findall(r"`(\w+)`", row)}
    assert keys == set(dump.KEYS)
    kinds = {kind for row in rows for kind in re.sub(r" \(.*?\)", "", row).split(", ")}
    assert {kind for check in checks() for kind in check.kinds} <= kinds


def test_recorders_are_python_and_what_was_not_run_says_so() -> None:
    page = PAGE.read_text(encoding="utf-8")
    found = [block for block in blocks(PAGE) if block.kind == "python"]
    for block in found:
        compile(block.text, "docs/doctor.md", "exec")
    assert len(found) == 4 and page.count("**Not run here.**") == 3


def test_json_holds_what_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "dump.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in corpus.off_baseline(0)), encoding="utf-8")
    assert main(["doctor", str(path), "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    (found,) = said["findings"]
    assert found["name"] == "advantages not zero-mean" and found["count"] == 40 == said["rows"]
    assert found["lines"] == list(range(1, 41)) and found["measured"]["groups"] == 10


def test_the_worst_comes_first() -> None:
    """Faults before doubts, then by rows: padding attended is a doubt, whatever its number."""
    rows = corpus.attended(0)
    rows[0]["labels"] = rows[0]["input_ids"]
    found = examine([row_of(row, line=k) for k, row in enumerate(rows, 1)], corpus.opened()).findings
    assert [f.severity for f in found] == sorted((f.severity for f in found), reverse=True)
    assert found[-1].name == "padding attended" and len(found[-1].lines) > len(found[0].lines) == 1
