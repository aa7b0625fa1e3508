"""Files appear whole or stay as they were; links are never followed to remove; refusals say what to do."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from trueup.engine import disk
from trueup.errors import EXIT_IO, TrueupError


def full(patch: pytest.MonkeyPatch, room: int) -> None:
    """`os.write` takes so many bytes more, the last of them in a short write, then none."""
    left, write = [room], os.write

    def limited(handle: int, data: memoryview) -> int:
        if not left[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        left[0] -= (done := write(handle, data[: left[0]]))
        return done

    patch.setattr(os, "write", limited)


def rusty(path: Path) -> None:
    (path / "half").write_bytes(b"123")
    raise RuntimeError("SafetensorError: I/O error: No space left on device (os error 28)")


def replaced(path: Path, content: bytes) -> None:
    with disk.whole_folder(path) as staged:
        (staged / "b").write_bytes(content)


@pytest.mark.parametrize("room", [0, 1, 5])
def test_a_full_disk_leaves_what_was_there_and_says_what_is_needed(
    room: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, lines = tmp_path / "a.json", tmp_path / "lines"
    path.write_bytes(b"before")
    lines.write_bytes(b"1\n")
    full(monkeypatch, room)
    with pytest.raises(TrueupError, match=r"E941 .*No space left on device; 6 bytes needed.*free") as caught:
        disk.write(path, "after!")
    assert caught.value.exit_code == EXIT_IO and caught.value.where == str(path)
    with pytest.raises(TrueupError, match=r"E941 .*8 bytes needed"):
        disk.append(lines, b"2\n3\n4\n5\n")
    disk.write(path, "before")  # the same again takes no room
    assert path.read_bytes() == b"before" and lines.read_bytes() == b"1\n"
    assert sorted(os.listdir(tmp_path)) == ["a.json", "lines"]


def test_a_folder_gives_way_to_a_whole_one_only(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    replaced(folder, b"1")
    replaced(folder, b"2")
    assert [(p.name, p.read_bytes()) for p in folder.iterdir()] == [("b", b"2")]
    with (
        pytest.raises(TrueupError, match=r"E941 .*No space left on device; more than 3 bytes needed"),
        disk.whole_folder(folder) as staged,
    ):
        rusty(staged)
    with pytest.raises(ValueError, match="its own"), disk.whole_folder(folder):
        raise ValueError("its own")
    assert os.listdir(tmp_path) == ["model"] and (folder / "b").read_bytes() == b"2"


@pytest.mark.parametrize("what", [disk.remove, lambda path: replaced(path, b"2")])
def test_a_link_goes_and_what_it_leads_to_stays(what: Callable[[Path], None], tmp_path: Path) -> None:
    """For `whole_folder` the link stands where a killed write left its folder: `.model.staged`."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "file").write_text("kept")
    for name in ("model", ".model.staged", ".model.old"):
        (tmp_path / name).symlink_to("theirs" if name != "model" or what is disk.remove else "model-to")
    what(tmp_path / "model")
    assert (tmp_path / "theirs" / "file").read_text() == "kept"
    assert not (tmp_path / "theirs" / "b").exists()


def test_what_killed_writes_left_is_cleared_and_what_is_being_written_is_not(tmp_path: Path) -> None:
    (tmp_path / ".a.json.1.part").write_text("left by a kill")
    (tmp_path / ".b.json.1.part").write_text("of another file")
    with disk.whole(tmp_path / "a.json") as staged:
        staged.write_text("slow")
        other = os.fork()
        if other == 0:
            os.getpid = lambda: 7
            disk.write(tmp_path / "a.json", "quick")
            os._exit(int(not staged.exists()))
        assert os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]) == 0
    assert (tmp_path / "a.json").read_text() == "slow"
    assert sorted(os.listdir(tmp_path)) == [".b.json.1.part", "a.json"]
    disk.sweep(tmp_path)
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_file_of_lines_is_cut_back_without_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lines"
    disk.append(path, b"1\n2\n", synced=True)
    full(monkeypatch, 0)
    disk.cut(path, 2)
    disk.cut(path, 4)
    assert path.read_bytes() == b"1\n"


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_folder_that_cannot_be_written_to_is_named(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: object, *_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(TrueupError, match=r"E941 .*name a folder that can be written to") as caught:
        disk.write(tmp_path / "a", "text")
    assert caught.value.where == str(tmp_path / "a") and os.strerror(number) in caught.value.reason
