"""What is read of files that others write: what is new, whole lines alone, nothing outside the folder."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from trueup.watching import files
from trueup.watching.files import Files, Tail
from trueup.watching.series import MOST, Series


def tail(folder: Path) -> Tail:
    return Tail(Files(folder), "lines")


def test_a_line_counts_once_its_end_is_there(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    reader = tail(tmp_path)
    assert reader.read() == (False, [])
    path.write_bytes(b"one\ntw")
    assert reader.read() == (False, [b"one"])
    assert reader.read() == (False, [])
    with path.open("ab") as more:
        more.write(b"o\nthree\n")
    assert reader.read() == (False, [b"two", b"three"])
    assert reader.left == 0


@pytest.mark.parametrize("after", ["cut back", "cut back and grown past it", "another file", "gone and back"])
def test_a_file_that_is_not_what_was_read_is_read_again(tmp_path: Path, after: str) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"one\ntwo\nthree\n")
    reader = tail(tmp_path)
    assert reader.read()[1] == [b"one", b"two", b"three"]
    if after == "gone and back":
        path.unlink()
        assert reader.read() == (True, [])
    new = {"cut back": b"one\n", "another file": b"one\ntwo\nthree\n"}.get(after, b"one\nTWO\nTHREE\nfour\n")
    if after == "another file":
        path.with_name("aside").write_bytes(new)
        os.replace(path.with_name("aside"), path)
    else:
        path.write_bytes(new)
    assert reader.read() == (after != "gone and back", new.split(b"\n")[:-1])


def test_a_file_that_was_cut_back_to_where_it_was_and_made_again_is_no_other(tmp_path: Path) -> None:
    """A run that goes on writes the same bytes again: nothing of it is read twice."""
    path = tmp_path / "lines"
    path.write_bytes(b"one\ntwo\n")
    reader = tail(tmp_path)
    reader.read()
    path.write_bytes(b"one\ntwo\nthree\n")
    assert reader.read() == (False, [b"three"])


def test_of_a_long_file_no_more_is_read_at_a_look_than_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "AT_ONCE", 40)
    monkeypatch.setattr(files, "LONGEST_LINE", 20)
    lines = [b"%04d" % n for n in range(30)]
    (tmp_path / "lines").write_bytes(b"".join(line + b"\n" for line in lines))
    reader, found, looks = tail(tmp_path), [], 0
    while looks == 0 or reader.left:
        found += reader.read()[1]
        looks += 1
    assert found == lines and looks == 4  # 40 bytes are 8 lines of 5 bytes


def test_a_line_without_end_in_sight_is_dropped_and_the_next_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "AT_ONCE", 40)
    monkeypatch.setattr(files, "LONGEST_LINE", 20)
    (tmp_path / "lines").write_bytes(b"one\n" + b"x" * 200 + b"\ntwo\n" + b"y" * 25 + b"\nthree\n")
    reader, found = tail(tmp_path), []
    for _ in range(12):
        found += reader.read()[1]
    assert found == [b"one", b"two", b"three"] and reader.dropped == 2


@pytest.mark.parametrize("what", ["link out", "folder", "pipe", "link out of a folder", "no right"])
def test_what_is_no_file_of_the_folder_is_not_read_and_said(tmp_path: Path, what: str) -> None:
    (tmp_path / "secret").write_text('["secret"]')
    run = tmp_path / "run"
    run.mkdir()
    name = "warnings.json"
    if what == "link out":
        (run / name).symlink_to("../secret")
    elif what == "folder":
        (run / name).mkdir()
    elif what == "pipe":
        os.mkfifo(run / name)
    elif what == "link out of a folder":
        (run / "inner").symlink_to(tmp_path)
        name = "inner/secret"
    else:
        (run / name).symlink_to(name)  # a link in a circle
    found = Files(run)
    assert found.json(name, list) is None
    assert found.faults[name]


def test_a_link_that_stays_inside_is_followed(tmp_path: Path) -> None:
    (tmp_path / "kept.json").write_text("[1]")
    (tmp_path / "warnings.json").symlink_to("kept.json")
    assert Files(tmp_path).json("warnings.json", list) == [1]


@pytest.mark.parametrize("text", ["{", "[1]", "\xff", "[" * 100_000, '{"a": ' + "9" * 5000 + "}"])
def test_a_damaged_small_file_is_said_and_read_again_once_it_is_mended(tmp_path: Path, text: str) -> None:
    path, found = tmp_path / "data.json", Files(tmp_path)
    path.write_text(text, encoding="latin-1")
    assert found.json("data.json", dict) is None and found.faults["data.json"]
    path.write_text('{"steps": 12345}')
    assert found.json("data.json", dict) == {"steps": 12345} and not found.faults


def test_of_many_values_the_extremes_the_first_and_the_last_are_kept() -> None:
    random.seed(0)
    values = [random.gauss(0, 1) for _ in range(10_000)]
    series = Series()
    for step, value in enumerate(values):
        series.add(step, value)
    points = series.points
    assert points[0] == (0, values[0]) and points[-1] == (9999, values[-1])
    assert {min(values), max(values)} <= {value for _, value in points}
    assert len(points) <= 2 * MOST + 2 and points == sorted(points)
    assert set(points) <= set(enumerate(values)), "no value is made up"
    assert series.count == 10_000 and series.latest == values[-1]


def test_values_that_are_not_finite_are_counted_and_not_drawn() -> None:
    series = Series()
    assert series.points == []
    for step, value in enumerate([1.0, float("nan"), 3.0, float("inf")]):
        series.add(step, value)
    assert series.points == [(0, 1.0), (2, 3.0)] and series.lost == 2 and series.latest == float("inf")
