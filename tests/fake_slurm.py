"""Slurm's commands, played by this machine: tasks of arrays are local processes, all at once.

`install` puts sbatch, squeue, scancel and sacct into a folder for PATH. What they know is in the folder
`state` beside them: `N_T` holds a task's process, `calls` every command line. While `state/down` exists the
controller does not answer; while `state/full` does, tasks wait.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path


def install(folder: Path) -> Path:
    """The folder of the commands, to be put first on PATH."""
    (folder / "state").mkdir(parents=True)
    for name in ("sbatch", "squeue", "scancel", "sacct"):
        path = folder / name
        path.write_text(f'#!/bin/bash\nexec "{sys.executable}" -S -E "{__file__}" "{folder}" {name} "$@"\n')
        path.chmod(0o755)
    return folder


def calls(folder: Path, name: str) -> list[list[str]]:
    """The words of every call of a command."""
    said = (folder / "state" / "calls").read_text().splitlines()
    return [words[1:] for line in said if (words := line.split("\t"))[0] == name]


def lives(number: str, state: Path) -> bool:
    """Whether a task waits or runs."""
    pid = (state / number).read_text()
    if pid == "waits":
        return True
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def sbatch(state: Path, words: list[str]) -> None:
    """An array: each task a process that outlives this one."""
    if "--partition=closed" in words:
        sys.exit("sbatch: error: invalid partition specified: closed")
    said = dict(word.lstrip("-").partition("=")[::2] for word in words)
    array = 100 + len({path.name.split("_")[0] for path in state.glob("*_*")})
    first, last = map(int, said["array"].split("-"))
    for task in range(first, last + 1):
        if (state / "full").exists():
            (state / f"{array}_{task}").write_text("waits")
            continue
        environment = {**os.environ, "SLURM_ARRAY_TASK_ID": str(task), "SLURM_CPUS_PER_TASK": "1"}
        with Path(said["output"].replace("%%", "%").replace("%a", str(task))).open("w") as output:
            process = subprocess.Popen(
                ["bash", words[-1]], env=environment, stdout=output, stderr=output, start_new_session=True
            )
        (state / f"{array}_{task}").write_text(str(process.pid))
    print(f"{array};cluster")


def squeue(state: Path, words: list[str]) -> None:
    """The tasks that wait or run."""
    print(*(p.name for p in state.glob("*_*") if lives(p.name, state)), sep="\n")


def scancel(state: Path, words: list[str]) -> None:
    """Those that wait are gone, or those that run have a signal."""
    for number in (word for word in words if not word.startswith("-")):
        pid = (state / number).read_text()
        if "--state=PENDING" in words and pid == "waits":
            (state / number).write_text("0")
        elif "--signal=TERM" in words and pid != "waits" and lives(number, state):
            os.kill(int(pid), signal.SIGTERM)


def sacct(state: Path, words: list[str]) -> None:
    """Why a task is gone: one of ours is killed as for memory."""
    print("OUT_OF_MEMORY")


if __name__ == "__main__":
    own = Path(sys.argv[1]) / "state"
    with (own / "calls").open("a") as log:
        log.write("\t".join(sys.argv[2:]) + "\n")
    if (own / "down").exists():
        sys.exit("slurm_load_jobs error: Unable to contact slurm controller")
    {"sbatch": sbatch, "squeue": squeue, "scancel": scancel, "sacct": sacct}[sys.argv[2]](own, sys.argv[3:])
