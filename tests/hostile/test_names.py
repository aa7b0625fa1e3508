"""Sixty names that lead elsewhere: none is read or written outside the folder that was named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hostile.inputs import SFT, prepare
from trueup.data import read
from trueup.errors import TrueupError
from trueup.runs.recipe import Recipe, plan
from trueup.settings.names import as_name, check_links, check_name, check_within
from trueup.settings.vetted import check_folder

NAMES = [
    "", ".", "..", "...", "../x", "../../x", "../../../../etc/passwd", "a/../../x", "a/..", "a/../b",
    "./x", "/x", "//x", "/etc/passwd", "/dev/null", "/proc/self/environ", "~", "~root/x", "a/b", "a//b",
    "a/", "/", "\\x", "..\\x", "C:\\x", "C:x", "\\\\host\\x", "file:///etc/passwd", "http://a/b", "a\0b",
    "\0", "a\n", "\n", "a\tb", "a\rb", "a\x1b[2J", "\x7f", "a\u202eb", "\u200b", "a\u0301", "ａ",
    "..\u2215x", "\uff0e\uff0e/x", "x" * 101, "x" * 4096, " ", " a", "a ", "-x", "--out", ".hidden", "_x",
    "$HOME", "$(id)", "`id`", "a;b", "a|b", "a*", "a?b", "%2e%2e%2fx", "a:b", "a'b", 'a"b', "{x}", "<x>",
    "été", "😀",
]  # fmt: skip
GOOD = ["sft", "a", "0", "DPO-v2", "best_of_16", "a.b", "a..b", "x" * 100]


def test_there_are_sixty() -> None:
    assert len(set(NAMES)) >= 60


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_it_names_no_stage(name: str, tmp_path: Path) -> None:
    with pytest.raises(TrueupError, match="E770") as caught:
        plan(Recipe(name="r", stages={name: SFT}), tmp_path / "run")
    assert str(caught.value).isprintable() and caught.value.remedy
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_it_becomes_a_file_in_the_folder(name: str, tmp_path: Path) -> None:
    """Where names are others' to choose, a harness's tasks say: never refused, never elsewhere."""
    place = tmp_path / f"{as_name(name)}.jsonl"
    place.write_text("x")
    assert [p.name for p in tmp_path.iterdir()] == [place.name]
    assert check_name(as_name(name), "a file", "") and len(as_name(name)) <= 100


def test_what_others_are_called_stays_apart() -> None:
    assert len({as_name(name) for name in NAMES}) == len(set(NAMES))
    assert [as_name(name) for name in GOOD] == [check_name(name, "a stage", "") for name in GOOD] == GOOD


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("", ".")], ids=ascii)
def test_an_index_does_not_follow_it(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for secret in (tmp_path / "x", tmp_path / "x.safetensors"):
        secret.write_bytes(b"secret")
    for end in ("", ".safetensors"):
        said = {"weight_map": {"w": name + end}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(said))
        with pytest.raises(TrueupError, match="E857"):
            check_folder(folder)


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_reference_stays_in_its_stage(name: str, good: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path, good)
    later = {**SFT, "data": {"path": f"stage:sft/{name}"}}
    try:
        stages = plan(Recipe(name="r", stages={"sft": SFT, "later": later}), Path("run"))
    except TrueupError as error:
        assert error.code in ("E770", "E771", "E710", "E712")
        return
    found = stages[1].config.data.path
    assert found.startswith("stage:") or Path(found).resolve().is_relative_to(stages[0].folder.resolve())


@pytest.mark.parametrize("name", [n for n in NAMES if n], ids=ascii)
def test_a_data_set_reads_nothing_above_it(name: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_text('{"prompt": "secret"}\n')
    (tmp_path / "x.jsonl").write_text('{"prompt": "secret"}\n')
    folder = tmp_path / "saved"
    folder.mkdir()
    for state in ({"_data_files": [{"filename": name}]}, {"_data_files": [{"filename": name + ".jsonl"}]}):
        (folder / "state.json").write_text(json.dumps(state))
        with pytest.raises(TrueupError) as caught:
            read(folder)
        assert caught.value.code[:2] == "E1"


def test_links_that_lead_out_are_no_way_out(tmp_path: Path) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    for folder in (run / "stages", other):
        folder.mkdir(parents=True)
    assert check_within(run, run / "stages" / "new", "") == run / "stages" / "new"
    (run / "in").symlink_to(run / "stages")
    check_links(run)
    (run / "out").symlink_to(other)
    with pytest.raises(TrueupError, match="E771"):
        check_links(run)
    with pytest.raises(TrueupError, match="E771"):
        check_within(run, run / "out" / "file", "")
    (run / "round").symlink_to(run / "round")
    with pytest.raises(TrueupError, match="E771"):
        check_within(run, run / "round" / "x", "")


def test_a_recipe_does_not_write_through_a_link(good: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path, good)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "stages").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TrueupError, match="E771"):
        plan(Recipe(name="r", stages={"sft": SFT}), Path("run"))
    assert list((tmp_path / "elsewhere").iterdir()) == []
