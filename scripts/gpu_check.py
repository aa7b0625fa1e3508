"""Whether trueup computes on a GPU what it computes on a CPU, and how fast: `make gpu-check`, 8 minutes.

    python scripts/gpu_check.py --wheels DIR                        writes results/speed-gpu.md and .json
    python scripts/gpu_check.py --device cpu --size tiny --out DIR  every part that a CPU can run, in seconds
    python scripts/gpu_check.py --not-run                           the page that says it has not been run

Each part is a process of its own with a limit of time: one that fails, hangs or runs out of memory ends
alone, with its reason on the page, and the exit code is 1 once all have run. Models are random, built from a
configuration; nothing is fetched. Where TRL or Liger are not installed they are read out of a folder of
wheels.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shlex
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gpu_parts import SIZES, Asked, Part, Row, checkpointing, exactness, kernel, machine
from gpu_steps import dpo, dpo_liger, grpo

ROOT = Path(__file__).resolve().parents[1]
COMMAND = "make gpu-check"
MINUTES = 8.0
PARTS: dict[str, tuple[Callable[[Asked], Part], float]] = {
    "machine": (machine, 60),
    "exactness": (exactness, 100),
    "kernel": (kernel, 90),
    "checkpointing": (checkpointing, 90),
    "dpo": (dpo, 120),
    "grpo": (grpo, 150),
    "dpo_liger": (dpo_liger, 90),
}
"Each part by its name, with the seconds that it may take."


def at_work(name: str, asked: Asked, told: Any) -> None:
    """Nothing; sends what a part found, or why it found nothing."""
    try:
        found: Row = asdict(PARTS[name][0](asked))
    except Exception as error:
        said = (str(error).strip().splitlines() or [""])[0][:300]
        found = {"rows": [], "faults": [f"{type(error).__name__}: {said}"], "notes": []}
        if "-v" in sys.argv:
            raise
    told.send(found)


def run_parts(names: Sequence[str], asked: Asked, seconds: float) -> Iterator[tuple[str, Row]]:
    """What each part found, with its seconds; parts that the time is too short for say so."""
    # A process forked from one with a CUDA driver cannot use it; without a driver a fork saves the imports.
    if asked.device == "cpu":
        import_all()
    context: Any = multiprocessing.get_context("spawn" if asked.device == "cuda" else "fork")
    end = time.monotonic() + seconds
    for name in names:
        limit = min(PARTS[name][1], end - time.monotonic())
        began = time.monotonic()
        if limit < 1:
            found = {"rows": [], "faults": ["not run: the time was over"], "notes": []}
        else:
            here, there = context.Pipe(duplex=False)
            process = context.Process(target=at_work, args=(name, asked, there))
            process.start()
            there.close()
            found = received(here, process, limit)
        yield name, {**found, "seconds": round(time.monotonic() - began, 1)}


def has_gpu() -> bool:
    """Whether torch sees a GPU."""
    import torch

    return torch.cuda.is_available()


def import_all() -> None:
    """Nothing; what parts import is there, for their processes to begin with."""
    import transformers

    import trueup.api.comparing
    import trueup.methods.dpo

    _ = transformers.LlamaForCausalLM, trueup.methods.dpo.build


def received(pipe: Any, process: Any, limit: float) -> Row:
    """What a part's process sent within its time; afterwards it is no more."""
    found: Row = {"rows": [], "faults": [f"it took longer than {limit:.0f} s"], "notes": []}
    if pipe.poll(limit):
        try:
            found = pipe.recv()
        except EOFError:
            process.join()
            found = {"rows": [], "faults": [f"its process ended with {process.exitcode}"], "notes": []}
    process.join(5)
    if process.is_alive():
        process.kill()
        process.join()
    return found


def unpacked(wheels: Path | None) -> str:
    """A folder with the packages of the wheels in a folder; empty without one."""
    if wheels is None:
        return ""
    folder = tempfile.mkdtemp(prefix="gpu-check-")
    for wheel in sorted(wheels.glob("*.whl")):
        with zipfile.ZipFile(wheel) as packed_one:
            packed_one.extractall(folder)
    return folder


def shown(value: Any) -> str:
    """A number as the tables have it."""
    if value is None:
        return ""
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def page(found: Mapping[str, Row], command: str, *, on_gpu: bool) -> str:
    """The page: a part after the other, each with its faults or without."""
    where = "one GPU" if on_gpu else "a CPU, to try the script: nothing here is about a GPU"
    lines = ["# Speed and exactness on one GPU", "", f"Run on {where}.", "", f"    {command}", ""]
    for name, part in found.items():
        title = (PARTS[name][0].__doc__ or name).splitlines()[0]
        lines += [f"## {name}", "", title, ""]
        lines += [f"* {note}" for note in part["notes"]] + [""] * bool(part["notes"])
        lines += [f"* **fault**: {fault}" for fault in part["faults"]] + [""] * bool(part["faults"])
        if part["rows"]:
            heads = list(part["rows"][0])
            lines += ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
            lines += ["| " + " | ".join(shown(row[head]) for head in heads) + " |" for row in part["rows"]]
            lines += [""]
        lines += [f"{part['seconds']:.0f} s.", ""]
    return "\n".join(lines)


NOT_RUN = f"""\
# Speed and exactness on one GPU

**This has not been run**: no GPU was at hand. No measured number of trueup's on a GPU stands anywhere in
this repository, and nothing here claims one.

    {COMMAND}

on a machine with one NVIDIA GPU (compute capability 8.0 or later) writes this page in at most
{MINUTES:.0f} minutes: what packed rows give against float64 on the CPU, the fused kernel against plain
blocks, activation checkpointing against none, and a DPO and a GRPO step of a model of 1.5 B random weights
beside TRL's. By arithmetic trueup's side of these takes some 30 GB; what of TRL's does not fit is named.
Nothing is fetched: TRL and Liger come from a folder of wheels where they are not installed,
`{COMMAND} ARGS="--wheels DIR"`.

The tests run the script on a CPU, with a model of a few thousand weights:

    python scripts/gpu_check.py --device cpu --size tiny --out DIR
"""


def main(words: Sequence[str]) -> int:
    """The exit code: 0 when every part ran without fault."""
    parser = argparse.ArgumentParser(prog="gpu_check.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--size", choices=tuple(SIZES), default="real")
    parser.add_argument("--out", type=Path, default=ROOT / "results", help="where the page and its JSON go")
    parser.add_argument("--wheels", type=Path, help="a folder with wheels of TRL and Liger")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="that all parts may take together")
    parser.add_argument("--parts", nargs="+", choices=tuple(PARTS), default=list(PARTS))
    parser.add_argument("--without-trl", action="store_true", help="trueup's side alone")
    parser.add_argument(
        "--not-run", action="store_true", help="write the page that says so, and nothing else"
    )
    parser.add_argument("-v", action="store_true", help="show the traceback of a part that fails")
    given = parser.parse_args(words)
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", TRANSFORMERS_VERBOSITY="error")
    if given.not_run:
        (given.out / "speed-gpu.md").write_text(NOT_RUN, encoding="utf-8")
        return 0
    if given.device == "cuda" and not has_gpu():
        print("gpu-check: torch sees no GPU here; nothing was run and nothing written", file=sys.stderr)
        print(
            "to try the script: python scripts/gpu_check.py --device cpu --size tiny --out DIR",
            file=sys.stderr,
        )
        return 1
    if given.device == "cpu" and given.out.resolve() == ROOT / "results":
        print(
            "gpu-check: what a CPU does is no result for a GPU: name another folder, --out DIR",
            file=sys.stderr,
        )
        return 1
    asked = Asked(
        device=given.device,
        size=SIZES[given.size],
        libraries=unpacked(given.wheels),
        with_trl=not given.without_trl,
    )
    found: dict[str, Row] = {}
    for name, part in run_parts(given.parts, asked, 60 * given.minutes):
        found[name] = part
        print(f"{name}: {'; '.join(part['faults']) or 'no fault'}  {part['seconds']} s", flush=True)
    command = shlex.join(["python", "scripts/gpu_check.py", *words])
    given.out.mkdir(parents=True, exist_ok=True)
    document = {"command": command, "device": given.device, "parts": found}
    (given.out / "speed-gpu.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    (given.out / "speed-gpu.md").write_text(
        page(found, command, on_gpu=given.device == "cuda"), encoding="utf-8"
    )
    return 1 if any(part["faults"] for part in found.values()) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
