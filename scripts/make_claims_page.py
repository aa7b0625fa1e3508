"""Writes results/claims.md and its pictures: python scripts/make_claims_page.py [runs/claims]."""

from __future__ import annotations

import os
import shutil
import sys
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

from trueup.claims import reproduce

ROOT = Path(__file__).parents[1]
HEAD = """# The field's claims, measured again

Written by `python scripts/make_claims_page.py {folder}` from what `trueup reproduce all --out {folder}` kept.
[What a claim and its verdict are](../docs/reproduce.md). Machine: {cores} cores, {device}.
Versions: {versions}.

{counts}. An interval is the 95 % t interval over seeds; a claim *holds* where the whole of it lies in
the range that its file names, *does not hold here* where none of it does, shows *no effect beyond ±X* where
it lies across an end of that range and within X, which the file names too. What was changed after numbers had
been seen, and why a claim was given more seeds, is said with the claim.

| name | claim | effect | 95 % interval | seeds | verdict |
|---|---|---|---|---|---|
"""
SHOWN = 2
"Effects of one claim in the table; its section has all."


def write(folder: Path, results: Path) -> Path:
    """`results/claims.md` from a folder of claims, the pictures beside it in `claims/`."""
    rows = reproduce.listing(folder)
    found = [row for row in rows if "effects" in row]
    said = Counter(row["verdict"] or "not measured" for row in rows)
    counts = ", ".join(f"{verdict} {number}" for verdict, number in said.most_common())
    head = HEAD.format(
        folder="runs/claims",
        cores=os.cpu_count(),
        device=_device(),
        versions=", ".join(f"{name} {version(name)}" for name in ("trueup", "torch", "numpy")),
        counts=f"{len(rows)} claims: {counts}",
    )
    pictures = results / "claims"
    pictures.mkdir(parents=True, exist_ok=True)
    for row in found:
        shutil.copyfile(folder / row["name"] / row["figure"], pictures / f"{row['name']}.svg")
    page = results / "claims.md"
    table = "".join(f"| {' | '.join(_cells(row))} |\n" for row in rows)
    page.write_text(head + table + "".join(map(_section, found)), encoding="utf-8")
    return page


def _cells(row: dict[str, Any]) -> list[str]:
    name = row["name"]
    if "effects" not in row:
        return [f"`{name}`", row["claim"], "", "", "", "*not measured*"]
    effects, verdict = reproduce.effects_of(row), f"*{reproduce.verdict_of(row)}*"
    more = [f"and {len(effects) - SHOWN} more"] if len(effects) > SHOWN else []
    values = [f"{_cell(e.name)}: {e.value:.3g}" for e in effects[:SHOWN]] + more
    intervals = [reproduce.between(e.interval) if e.interval else "exact" for e in effects[:SHOWN]]
    seeds = ", ".join(map(str, row["seeds"])) or "none"
    # GitHub and this project's own site make anchors of headings alike.
    return [f"[{name}](#{name})", row["claim"], "<br>".join(values), "<br>".join(intervals), seeds, verdict]


def _section(row: dict[str, Any]) -> str:
    """A claim's setting, numbers, picture and command."""
    cells = [
        (_cell(e.name), f"{reproduce.measured(e)} {e.unit}".strip(), reproduce.between(e.wanted), e.verdict)
        for e in reproduce.effects_of(row)
    ]
    lines = [f"| {' | '.join(line)} |" for line in cells]
    changed = [f"With other settings than its own: {row['changed']}."] if row["changed"] else []
    name, said = row["name"], f"The claim {reproduce.sentence_of(row)}"
    parts = [
        f"\n## {name}",
        f"{row['claim']} {said}. Said by: {', '.join(row['references'])}.",
        " ".join([row["setting"], *changed]),
        row.get("because", ""),
        f"*Changed after a first look:* {row['revised']}" if row.get("revised") else "",
        reproduce.plan_told(row),
        "\n".join(["| effect | measured | claimed | verdict |", "|---|---|---|---|", *lines]),
        f"![{name}](claims/{name}.svg)",
        row.get("caption", ""),
        f"```sh\ntrueup reproduce {name}\n```",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _device() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"


if __name__ == "__main__":
    found = write(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/claims"), ROOT / "results")
    print(f"wrote {found.relative_to(ROOT)}")
