"""A save that dies before any of its system calls leaves a loadable checkpoint; so does a full disk."""

from __future__ import annotations

import random
import resource
from pathlib import Path

import pytest
import torch

from runs.checkpoint.power import Disk, PowerCut, stand_in
from runs.checkpoint.states import whole, write
from trueup.errors import EXIT_IO, TrueupError
from trueup.runs.checkpoint import latest, retain, save


def cut_everywhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, power: bool, syncs: bool = True, name: str = ""
) -> list[int]:
    """The step that is newest after a save of step 2 is cut before its call 0, 1, 2 ... (0 for none)."""
    ends: list[int] = []
    rng = random.Random(0)
    while True:
        folder = tmp_path / f"{power}-{len(ends)}"
        write(folder, 1)
        disk = Disk(cut=len(ends), syncs=syncs)
        with monkeypatch.context() as patch:
            stand_in(patch, disk)
            try:
                write(folder, 2, name)
                finished = True
            except PowerCut:
                finished = False
        if power:
            disk.lose(rng)
        found = latest(folder)
        ends.append(whole(found) if found else 0)
        assert found is None or not found.skipped, "a partial checkpoint stood under a final name"
        if finished:
            return ends


@pytest.mark.parametrize("power", [False, True])
@pytest.mark.parametrize("name", ["", "step-000001"])
def test_cut_before_every_call(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, power: bool, name: str
) -> None:
    # 4 files and the manifest: create, write(s), sync; folder: mkdir, sync, rename(s), sync.
    ends = cut_everywhere(monkeypatch, tmp_path, power=power, name=name)
    assert len(ends) > 18
    assert set(ends) <= {1, 2}
    assert ends[0] == 1
    assert ends[-1] == 2, "a save that returned is on disk"
    assert ends == sorted(ends), "once committed it stays"


def test_without_syncs_power_cuts_lose_acknowledged_saves(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The shim can fail a wrong implementation: with fsync doing nothing, the last save is lost."""
    ends = cut_everywhere(monkeypatch, tmp_path, power=True, syncs=False)
    assert ends[-1] != 2


def test_the_next_save_clears_what_a_cut_one_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write(tmp_path, 1)
    with monkeypatch.context() as patch:
        stand_in(patch, Disk(cut=6))
        with pytest.raises(PowerCut):
            write(tmp_path, 2)
    assert any(p.name.startswith(".staging-") for p in tmp_path.iterdir())
    write(tmp_path, 3)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000001", "step-000003"]


def test_retain_cut_before_every_call_leaves_the_newest(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for cut in range(100):
        folder = tmp_path / str(cut)
        for step in (1, 2, 3):
            write(folder, step)
        with monkeypatch.context() as patch:
            stand_in(patch, Disk(cut=cut))
            try:
                retain(folder, keep_last=1)
                break
            except PowerCut:
                pass
        found = latest(folder)
        assert whole(found) == 3
        assert found is not None
        assert not found.skipped
    assert cut > 10
    assert [p.name for p in folder.iterdir()] == ["step-000003"]


def test_retain_keeps_the_newest_and_the_named(tmp_path: Path) -> None:
    for step in range(1, 7):
        write(tmp_path, step)
    removed = retain(tmp_path, keep_last=2, keep={"step-000001"})
    assert removed == ["step-000002", "step-000003", "step-000004"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000001", "step-000005", "step-000006"]


def test_retain_removes_nothing_while_the_newest_is_damaged(tmp_path: Path) -> None:
    for step in (1, 2):
        write(tmp_path, step)
    (tmp_path / "step-000002" / "state.json").write_text("{}")
    with pytest.raises(TrueupError, match=r"E841 .*state\.json"):
        retain(tmp_path, keep_last=1)
    assert (tmp_path / "step-000001").exists()


def test_newest_is_the_last_saved_whatever_its_name(tmp_path: Path) -> None:
    for name in ("step-9", "step-10", "final", "a"):
        write(tmp_path, 1, name)
    found = latest(tmp_path)
    assert found is not None
    assert found.path.name == "a"


def test_saving_over_a_name_keeps_the_old_one_loadable(tmp_path: Path) -> None:
    write(tmp_path, 1, "final")
    write(tmp_path, 2, "final")
    assert whole(latest(tmp_path)) == 2
    (tmp_path / "final" / "state.json").unlink()
    assert whole(latest(tmp_path)) == 1


def test_disk_full_at_every_level(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    total = sum(p.stat().st_size for p in write(tmp_path, 1).iterdir())
    for room in range(0, total, total // 40):
        with monkeypatch.context() as patch:
            stand_in(patch, Disk(room=room))
            with pytest.raises(TrueupError, match=r"E941 .*No space left.*\d+ bytes needed") as caught:
                write(tmp_path, 2)
        assert caught.value.exit_code == EXIT_IO
        assert whole(latest(tmp_path)) == 1
        assert [p.name for p in tmp_path.iterdir()] == ["step-000001"], (
            "the half-written one gave its room back"
        )
    write(tmp_path, 2)
    assert whole(latest(tmp_path)) == 2


def test_file_size_limit_at_every_level(tmp_path: Path) -> None:
    """The kernel's own refusal, in the middle of a write."""
    write(tmp_path, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in range(100, 32_000, 3_100):
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
            with pytest.raises(TrueupError, match=r"E941 .*bytes needed"):
                write(tmp_path, 2, size=8_000)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert whole(latest(tmp_path)) == 1


def test_room_is_checked_before_a_byte_is_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write(tmp_path, 1)
    disk = Disk()

    class Full:
        f_bavail, f_frsize = 10, 512

    monkeypatch.setattr(disk, "statvfs", lambda path: Full(), raising=False)
    stand_in(monkeypatch, disk)
    with pytest.raises(TrueupError, match=r"E941 .*\d+ bytes needed, 5120 free"):
        write(tmp_path, 2)
    assert disk.calls == 0
    assert whole(latest(tmp_path)) == 1


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_a_number_that_is_not_finite_is_never_committed(
    tmp_path: Path, bad: float, dtype: torch.dtype
) -> None:
    write(tmp_path, 1)
    broken = torch.ones(3, 2, dtype=dtype)
    broken[2, 1] = bad
    with pytest.raises(TrueupError, match=r"E901 policy\.safetensors .*layer\.w"):
        save(tmp_path, "step-000002", tensors={"policy": {"layer.w": broken}}, documents={})
    with pytest.raises(TrueupError, match=r"E901 state\.json"):
        save(tmp_path, "step-000002", tensors={}, documents={"state": {"kl": bad}})
    assert [p.name for p in tmp_path.iterdir()] == ["step-000001"]


def test_large_finite_doubles_pass(tmp_path: Path) -> None:
    """1e300 is finite, though not in float32."""
    big = {"w": torch.tensor([1e300], dtype=torch.float64)}
    save(tmp_path, "a", tensors={"t": big}, documents={})
    assert latest(tmp_path).tensors("t")["w"].item() == 1e300


def test_names_that_leave_the_folder_are_refused(tmp_path: Path) -> None:
    for name in ("../up", "", ".hidden", "a/b", "/tmp/x"):
        with pytest.raises(TrueupError, match="E845"):
            write(tmp_path / "c", 1, name or "/")
        with pytest.raises(TrueupError, match="E845"):
            save(tmp_path / "c", "ok", tensors={}, documents={f"{name}/": 1})
    assert not (tmp_path / "c").exists()
