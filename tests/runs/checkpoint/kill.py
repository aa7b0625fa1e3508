"""Saves in forked children that are killed at random moments; prints what was found. Run by test_kill.py."""

from __future__ import annotations

import json
import os
import random
import select
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import torch

from trueup.runs.checkpoint import latest, save, state_digest


def state(step: int) -> dict[str, dict[str, torch.Tensor]]:
    return {"policy": {"w": torch.full((100_000,), float(step))}, "optimizer": {"m": torch.tensor([step])}}


def child(folder: Path, pipe: int) -> None:
    """Saves step after step from the newest on, and says so only after the commit."""
    torch.set_num_threads(1)
    found = latest(folder)
    step = found.document("state")["step"] if found else 0
    os.write(pipe, b"0\n")
    while True:
        step += 1
        save(folder, f"step-{step:06d}", tensors=state(step), documents={"state": {"step": step}})
        os.write(pipe, f"{step}\n".encode())


def staged(folder: Path) -> set[tuple[str, int]]:
    """The saves under way, or cut short: their folders, and when these last changed."""
    found = [path for path in folder.iterdir() if path.name.startswith(".staging-")]
    changed = set()
    for path in found:
        with suppress(FileNotFoundError):  # the save has just been committed
            changed.add((path.name, path.stat().st_mtime_ns))
    return changed


def round_of(folder: Path, seconds: float, *, after_a_save: bool, aimed: bool) -> tuple[int, bool]:
    """The last step acknowledged before the kill, and whether the kill fell inside a save.

    With `after_a_save` the clock starts at the first acknowledged save, however slow the machine is. With
    `aimed` the kill follows as soon as a save is seen, however small a part of the time saves take.
    """
    before = staged(folder)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        child(folder, write)
    os.close(write)
    said = b""
    while said.count(b"\n") < 1 + after_a_save:
        if not select.select([read], [], [], 30)[0]:
            break
        said += os.read(read, 1 << 16)
    time.sleep(seconds)
    until = time.monotonic() + 5
    while aimed and time.monotonic() < until and staged(folder) <= before:
        pass
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    with os.fdopen(read, "rb") as pipe:
        acknowledged = (said + pipe.read()).split(b"\n")[:-1]
    return max(int(a) for a in acknowledged), not staged(folder) <= before


def main(folder: Path, kills: int) -> None:
    rng = random.Random(0)
    report = {"kills": kills, "unusable": 0, "lost": 0, "partial": 0, "inside": 0, "steps": 0}
    acknowledged = 0
    for number in range(kills):
        step, inside = round_of(
            folder, rng.uniform(0, 0.03), after_a_save=number % 3 == 0, aimed=number % 3 == 1
        )
        acknowledged = max(acknowledged, step)
        report["inside"] += inside
        found = latest(folder)
        if found is None:
            report["unusable"] += acknowledged > 0
            continue
        held = found.document("state")["step"]
        tensors = {stem: found.tensors(stem) for stem in ("policy", "optimizer")}
        report["unusable"] += state_digest(tensors, {}) != state_digest(state(held), {})
        report["lost"] += held < acknowledged
        report["partial"] += len(found.skipped)
        report["steps"] = held
    print(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
