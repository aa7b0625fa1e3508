"""The attacks: each yields a row for each try, with `held` and, where something got through, `why`."""

from __future__ import annotations

import ctypes
import errno
import os
import random
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from runs.checkpoint.test_damage import FAULTS, damage
from torture.commands import COMMANDS, bits, call, fresh
from torture.cuts import CUT, cut_at, forked
from trueup.engine import disk
from trueup.runs import manifest

Row = dict[str, Any]
DONE = "DONE.json"


@dataclass(eq=False)
class Room:
    """A folder to work in, with a world that commands are run in copies of."""

    folder: Path
    world: Path
    seed: int
    _whole: dict[str, tuple[Path, dict[str, str], int]] = field(default_factory=dict)

    @property
    def said(self) -> Path:
        """What the last process printed."""
        return self.folder / "said.txt"

    def run(self, at: Path, line: str, cut: int = 0, log: Path | None = None) -> int:
        """The exit code of a command line in `at`, cut at an operation of that number."""

        def work() -> int:
            os.chdir(at)
            return call(line)

        return cut_at(at, cut, work, self.said, log)

    def whole(self, name: str) -> tuple[Path, dict[str, str], int]:
        """A world in which the command is about to run; what it leaves; how many operations it makes."""
        if name not in self._whole:
            command = COMMANDS[name]
            base = fresh(self.world, self.folder / f"{name}-before")
            for line in command.before:
                assert self.run(base, line) == 0, self.said.read_text()
            at, log = fresh(base, self.folder / f"{name}-whole"), self.folder / f"{name}.log"
            assert self.run(at, command.line, log=log) == 0, self.said.read_text()
            self._whole[name] = base, bits(at), len(log.read_text().splitlines())
        return self._whole[name]

    def ends_alike(self, at: Path, name: str, found: list[str], but: str = "") -> None:
        """Nothing; runs the command again where it was cut, and notes in `found` what is then not alike.

        `but` is a file that need not be: it was damaged, and nothing makes it again.
        """
        code = self.run(at, COMMANDS[name].line)
        if code:
            found.append(f"the same command ends with {code}: {self.said.read_text()[-300:]}")
            return
        try:
            expected, left = self.whole(name)[1], bits(at, but)
        except AssertionError as error:
            found.append(str(error))
            return
        found += [
            f"{path} differs"
            for path in sorted(expected.keys() | left.keys())
            if path != but and expected.get(path) != left.get(path)
        ]


def spaced(total: int, count: int) -> list[int]:
    """`count` numbers from 1 to `total`, evenly spaced with both ends; all of them for 0."""
    if not count or count >= total:
        return list(range(1, total + 1))
    return sorted({1 + round(i * (total - 1) / max(1, count - 1)) for i in range(count)})


def cuts(room: Room, name: str, count: int) -> Iterator[Row]:
    """The command dies at each of its operations on the disk, and is given again."""
    base, _, total = room.whole(name)
    for number in spaced(total, count):
        at, found = fresh(base, room.folder / "at"), list[str]()
        if room.run(at, COMMANDS[name].line, cut=number) != CUT:
            found.append(f"it was not cut: {room.said.read_text()[-300:]}")
        room.ends_alike(at, name, found)
        yield {"of": name, "at": number, "held": not found, "why": found[:3]}


def resumed(room: Room, name: str, count: int) -> Iterator[Row]:
    """The command dies at two thirds of its operations, and again at each of those of its second start."""
    base, _, total = room.whole(name)
    half = fresh(base, room.folder / f"{name}-half")
    assert room.run(half, COMMANDS[name].line, cut=max(1, total * 2 // 3)) == CUT
    log = room.folder / "again.log"
    assert room.run(fresh(half, room.folder / "at"), COMMANDS[name].line, log=log) == 0, room.said.read_text()
    for number in spaced(len(log.read_text().splitlines()), count):
        at, found = fresh(half, room.folder / "at"), list[str]()
        if room.run(at, COMMANDS[name].line, cut=number) != CUT:
            found.append("it was not cut")
        room.ends_alike(at, name, found)
        yield {"of": name, "at": number, "held": not found, "why": found[:3]}


# ------------------------------------------------------------------------------------------ a full disk

LEVELS = 40


def full(room: Room, name: str, count: int) -> Iterator[Row]:
    """The disk has so much room and no more, for a run that starts and for one that starts again.

    At every other level the check beforehand is off, so that the disk runs full inside a write. Of `count`
    levels each is for one of the two.
    """
    base, _, total = room.whole(name)
    half = fresh(base, room.folder / f"{name}-half")
    assert room.run(half, COMMANDS[name].line, cut=max(1, total * 2 // 3)) == CUT
    needed = _size(room.folder / f"{name}-whole") - _size(base)
    for number, level in enumerate(spaced(LEVELS, count)):
        checked = number % 2 == 1
        free = level * (needed + disk.MARGIN * checked) // LEVELS
        for start in (base, half) if not count else (half if number // 2 % 2 else base,):
            work = partial(_on_full_disk, room, name, start, free, checked)
            held = forked(work, room.folder / "full.txt") == 0
            told = (room.folder / "full.txt").read_text()
            row = {"of": name, "at": free, "resumed": start is half, "held": held}
            yield {**row, "ran full": told.startswith("74"), "why": [] if held else [told[-600:]]}


def _size(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def _on_full_disk(room: Room, name: str, start: Path, free: int, checked: bool) -> int:
    """0 where the command ended with 74 or 0, kept all that was good, and goes on once there is room."""
    at, found = room.folder / "small", list[str]()
    room_again = _small(at, start, free)
    before = newest(at)
    if not checked:
        disk.require_space = lambda folder, num_bytes: None
    code = room.run(at, COMMANDS[name].line)
    said = room.said.read_text()
    print(f"{code} {said[-300:]}")
    if code not in (0, 74) or (code == 74 and not re.search(r"E941 .*\d+ bytes needed", said)):
        found.append("the ending is wrong")
    if newest(at) < before:
        found.append("a good checkpoint is lost")
    room_again()
    room.ends_alike(at, name, found)
    print(*found, sep="\n")
    return int(bool(found))


def newest(at: Path) -> int:
    """The serial of the newest checkpoint below a folder, which must verify; 0 for none."""
    ordered = [found for folder in at.rglob("checkpoints") for found in manifest.ordered(folder, [])]
    if ordered:
        manifest.verify(max(ordered)[1])
    return max(ordered)[0] if ordered else 0


def _small(at: Path, start: Path, free: int) -> Callable[[], None]:
    """Makes room for no more than `free` bytes beside a copy of `start`; the function gives room again.

    A small disk of this process's own where the system lets it have one; else `os.write` plays it.
    """
    try:
        mounted(at, ("tmpfs", 0, f"size={_size(start) + free + (8 << 20)}"))
    except OSError:
        write, left = os.write, [free]

        def limited(handle: int, data: memoryview) -> int:
            if not left[0]:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            done = write(handle, memoryview(data)[: left[0]])
            left[0] -= done
            return done

        fresh(start, at)
        os.write = limited
        return lambda: setattr(os, "write", write)
    shutil.copytree(start, at, dirs_exist_ok=True)
    _fill(at, free)
    return (at / "filler").unlink


def _fill(at: Path, free: int) -> None:
    """Nothing; a file takes all room but `free` bytes."""
    space = os.statvfs(at)
    rest = space.f_bavail * space.f_frsize - free
    with (at / "filler").open("wb") as file:
        while rest > 0:
            rest -= file.write(bytes(min(rest, 1 << 20)))


def mounted(at: Path, *mounts: tuple[str, int, str]) -> None:
    """Nothing; this process alone sees mounts at a folder: of a kind, or a path, with flags and options.

    Raises OSError where the system does not let it.
    """
    at.mkdir(exist_ok=True)
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    if libc.unshare(0x10020000):  # CLONE_NEWUSER | CLONE_NEWNS
        raise OSError(ctypes.get_errno(), "unshare")
    for file, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
        Path("/proc/self", file).write_text(text)
    for source, flags, options in mounts:
        given = source.encode()
        if libc.mount(given, str(at).encode(), given, ctypes.c_ulong(flags), options.encode()):
            raise OSError(ctypes.get_errno(), "mount")


# ------------------------------------------------------------------------------------------ kills, damages


def kills(room: Room, name: str, count: int) -> Iterator[Row]:
    """SIGKILL at random times, at least half of them inside a save; each is resumed to its end."""
    rng = random.Random(f"{room.seed} {name}")
    base, _, _ = room.whole(name)
    began = time.monotonic()
    room.run(fresh(base, room.folder / "at"), COMMANDS[name].line)
    seconds = time.monotonic() - began
    for number in range(count or 500):
        at, found = fresh(base, room.folder / "at"), list[str]()
        inside = _killed(room, at, name, rng.uniform(0, seconds), aimed=number % 3 != 0)
        room.ends_alike(at, name, found)
        yield {"of": name, "at": number, "held": not found, "inside": inside, "why": found[:3]}


def _killed(room: Room, at: Path, name: str, seconds: float, *, aimed: bool) -> bool:
    """Whether the command was killed inside a save: after so many seconds, or at the next save after them."""
    pid = os.fork()
    if pid == 0:
        os.chdir(at)
        handle = os.open(room.said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        os._exit(call(COMMANDS[name].line))
    time.sleep(seconds)
    while aimed and not _saving(at) and not os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        time.sleep(0.0002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return _saving(at)


def _saving(at: Path) -> bool:
    """Whether a checkpoint or a model is being written, or was when its writer died."""
    # `os.walk` lets folders vanish while it looks.
    return any(
        re.match(r"\.(staging-|removing-|.+\.staged$)", n) for _, names, _ in os.walk(at) for n in names
    )


def damages(room: Room, name: str, count: int) -> Iterator[Row]:
    """A random fault in the newest checkpoint of the stage under way is named; then the run ends alike."""
    rng = random.Random(f"{room.seed} {name}")
    base, _, total = room.whole(name)
    half = room.folder / f"{name}-half"
    for cut in range(total * 2 // 3, total, max(1, total // 20)):
        assert room.run(fresh(base, half), COMMANDS[name].line, cut=cut) == CUT
        if under_way(half):
            break
    for number in range(count or 1000):
        at, found = fresh(half, room.folder / "at"), list[str]()
        newest = under_way(at)
        assert newest is not None
        file = rng.choice(sorted(newest.iterdir()))
        kind = FAULTS[number % len(FAULTS)] if file.stat().st_size else ("append", "delete")[number % 2]
        damage(file, kind, rng)
        room.ends_alike(at, name, found)
        if f"{newest.name}/{file.name}" not in room.said.read_text():
            found.append(f"{kind} of {file.name} was not noticed")
        yield {"of": name, "at": f"{kind} {file.name}", "held": not found, "why": found[:3]}


def under_way(at: Path) -> Path | None:
    """The newest checkpoint of the one run that has begun and not finished; None before it has one."""
    begun = [folder for folder in at.rglob("checkpoints") if not (folder.parent / DONE).exists()]
    found = [rows[-1][1] for folder in begun if (rows := manifest.ordered(folder, []))]
    assert len(found) < 2
    return found[0] if found else None


def finished(room: Room, name: str, count: int) -> Iterator[Row]:
    """A random fault in what a finished stage left: of its model it is named, of the rest nothing follows.

    The command reads the stage's model: it must end in an error that names the file, and once the file is
    whole again it must end alike. Any other file may be named, or the command goes on to the same bits
    everywhere else. Every other fault is in a model.
    """
    rng = random.Random(f"{room.seed} {name}")
    base, _, total = room.whole(name)
    if not any(base.rglob(DONE)):
        half = fresh(base, room.folder / f"{name}-half")
        assert room.run(half, COMMANDS[name].line, cut=max(1, total * 2 // 3)) == CUT
        base = half
    for number in range(count or 250):
        at, found = fresh(base, room.folder / "at"), list[str]()
        files = [file for done in at.rglob(DONE) for file in done.parent.rglob("*") if file.is_file()]
        read = number % 2 == 0
        file = rng.choice(sorted(f for f in files if (f.parent.name == "model") == read))
        kind = FAULTS[number // 2 % len(FAULTS)] if file.stat().st_size else ("append", "delete")[number % 2]
        whole = file.read_bytes()
        damage(file, kind, rng)
        code, said = room.run(at, COMMANDS[name].line), room.said.read_text()
        if code:
            if not re.search(r"^error E(?!999)\d{3} ", said, re.MULTILINE) or file.name not in said:
                found.append(f"{kind} of {file.name}: it ends with {code} and does not name the file")
            file.write_bytes(whole)
        elif read:
            found.append(f"{kind} of {file.name} was not noticed")
        room.ends_alike(at, name, found, but="" if code else str(file.relative_to(at)))
        where = f"{file.parent.name}/{file.name}"
        yield {"of": name, "at": f"{kind} {where}", "held": not found, "named": bool(code), "why": found[:3]}
