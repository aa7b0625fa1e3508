"""`python -m torture cuts resumed full kills damages finished`, from tests/: attacks from outside.

Prints a table at the end; exits with 1 where something did not hold. Each part ends after `--count` attacks
or `--seconds`, whichever is first. Every run is forked from this process, which has imported everything. A
line of `--out` has the attack's row with the day, the seed, the machine and what was typed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import torch

from torture import attacks
from torture.commands import COMMANDS, make_world

PRELOADED = (
    "trueup.commands.app", "trueup.commands.stages", "trueup.runs.training", "trueup.runs.export",
    "trueup.comparison.run", "trueup.claims.measure", "trueup.claims.files.kl_directions",
    "trueup.soups.write", "trueup.soups.picture", "trueup.reports.which", "trueup.procedures.soup",
    "trueup.procedures.measure", "trueup.methods.sft", "trueup.methods.dpo", "trueup.methods.reinforce",
    "transformers.models.llama.modeling_llama",
)  # fmt: skip
PARTS = {
    "cuts": attacks.cuts,
    "resumed": attacks.resumed,
    "full": attacks.full,
    "kills": attacks.kills,
    "damages": attacks.damages,
    "finished": attacks.finished,
}


def main() -> int:
    """1 where an attack got through."""
    asked = argparse.ArgumentParser(prog="torture", description=__doc__)
    asked.add_argument("parts", nargs="+", choices=PARTS)
    asked.add_argument("--of", nargs="*", default=["train"], choices=COMMANDS, help="the commands attacked")
    asked.add_argument("--count", type=int, default=0, help="attacks on each command; 0 for all there are")
    asked.add_argument("--seconds", type=float, default=float("inf"), help="when to stop")
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--note", default="", help="a sentence on these attacks, for the page")
    asked.add_argument("--out", type=Path, help="a file for a line of JSON on each attack")
    given = asked.parse_args()
    torch.set_num_threads(1)
    for name in PRELOADED:
        importlib.import_module(name)
    rows, circumstances = [], under(given.seed, given.note)
    with tempfile.TemporaryDirectory(prefix="torture-") as folder:
        # Resolved, since operations are told apart by where they are.
        room = attacks.Room(Path(folder).resolve(), make_world(Path(folder).resolve() / "world"), given.seed)
        for row in within(
            given.seconds,
            (
                {"part": part, **row}
                for part in given.parts
                for name in given.of
                for row in PARTS[part](room, name, given.count)
            ),
        ):
            rows.append(row)
            if given.out:
                with given.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({**row, **circumstances}) + "\n")
            if not row["held"]:
                print(json.dumps(rows[-1]), flush=True)
    return max(report(part, [row for row in rows if row["part"] == part]) for part in given.parts)


def under(seed: int, note: str) -> dict[str, Any]:
    """What the attacks are made under: the day, the seed, the machine, what was typed, a note."""
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    apart = {"--out", "--note", note} | {word for word in sys.argv if word.endswith(".jsonl")}
    typed = " ".join(word for word in sys.argv[1:] if word not in apart)
    return {"day": date.today().isoformat(), "seed": seed, "machine": machine, "typed": typed, "note": note}


def within(seconds: float, rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The rows that come within so many seconds."""
    began = time.monotonic()
    for row in rows:
        yield row
        if time.monotonic() - began > seconds:
            return


def report(part: str, rows: list[dict[str, Any]]) -> int:
    """1 where something did not hold; prints what was attacked, how often, and what held."""
    tried, held = Counter(r["of"] for r in rows), Counter(r["of"] for r in rows if r["held"])
    marks = sorted({key for r in rows for key in r if key not in ("part", "of", "held", "why", "at")})
    print(f"{part:16}{'tried':>8}{'held':>8}", *(f"{m:>12}" for m in marks))
    for name in tried:
        counts = [sum(bool(r.get(m)) for r in rows if r["of"] == name) for m in marks]
        print(f"{name:16}{tried[name]:8}{held[name]:8}", *(f"{c:12}" for c in counts))
    return int(held != tried or not rows)


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    sys.exit(main())
