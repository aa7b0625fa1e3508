"""Writes the tables of results/methods.md from a finished comparison; the words around them stay.

    python scripts/make_methods_page.py runs/compare-lab/comparison.json

Between `<!-- NAME -->` and `<!-- end -->` everything is replaced, so no number is copied by hand.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from blocks import fill

PAGE = Path(__file__).resolve().parents[1] / "results" / "methods.md"


def main(path: str) -> int:
    """Exit code 0; the page holds the comparison's numbers."""
    found = json.loads(Path(path).read_text(encoding="utf-8"))
    fill(PAGE, {"summary": summary(found), "table": table(found), "tax": tax(found), "sweeps": sweeps(found)})
    return 0


def summary(found: dict[str, Any]) -> str:
    """The start's own sweep, and how many methods beat it."""
    start = found["start"]
    tried = ", ".join(f"{short(label)} {gold:.3f}" for label, gold in start["candidates"].items())
    golds = ", ".join(f"{gold:.3f}" for gold in start["gold_by_seed"])
    rows = found["methods"]
    above = [row for row in rows if row["gain"]["ci95"][0] > 0]
    below = [row["method"] for row in rows if row["gain"]["ci95"][1] < 0]
    others = [row["method"] for row in rows if row not in above and row["method"] not in below]
    return (
        f"SFT's own sweep (development gold): {tried}; chosen {short(start['chosen'])}. Its test gold at the "
        f"seeds: {golds}.\n\n"
        f"**{len(above)} of {len(rows)} settings beat SFT with the 95 % interval over seeds above 0** (t, "
        f"{len(start['gold_by_seed']) - 1} degrees of freedom, so wide). "
        f"Not told from SFT: {', '.join(others) or 'none'}. Below it: {', '.join(below) or 'none'}."
    )


def table(found: dict[str, Any]) -> str:
    """One row a method, the largest gain first."""
    out = [
        "| method | chosen | gold | gain over SFT, 95 % over seeds | over prompts | by seed | KL | length "
        "| trained tokens | sampled tokens |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(found["methods"], key=lambda row: -row["gain"]["mean"]):
        gain, prompts = row["gain"], row["over_prompts"]
        out.append(
            f"| {row['method']} | {short(row['chosen'])} | {row['gold']:.3f} | {interval(gain)} "
            f"| [{prompts['ci95'][0]:+.3f}, {prompts['ci95'][1]:+.3f}] "
            f"| {' '.join(f'{g:+.3f}' for g in row['gain_by_seed'])} | {row['kl']:.2f} | {row['length']:.1f} "
            f"| {row['tokens_trained'] / 1e3:.0f}k | {row['tokens_sampled'] / 1e3:.0f}k |"
        )
    return "\n".join(out)


def tax(found: dict[str, Any]) -> str:
    """What each method's policies lost or gained on the exams, in the order of the gains."""
    rows = sorted(found["methods"], key=lambda row: -row["gain"]["mean"])
    exams = list(dict.fromkeys(exam for row in rows for exam in row["tax"]))
    out = [f"| method | {' | '.join(exams)} |", "|---" * (len(exams) + 1) + "|"]
    out += [
        f"| {row['method']} | {' | '.join(interval(row['tax'][exam]) for exam in exams)} |" for row in rows
    ]
    return "\n".join(out)


def sweeps(found: dict[str, Any]) -> str:
    """What every candidate reached on the development prompts."""
    out = ["| method | settings tried |", "|---|---|"]
    for row in sorted(found["methods"], key=lambda row: row["method"]):
        tried = [
            f"{short(label)}: {'failed' if gold is None else f'{gold:.3f}'}"
            for label, gold in row["candidates"].items()
        ]
        out.append(f"| {row['method']} | {', '.join(tried)} |")
    return "\n".join(out)


def interval(estimate: dict[str, Any]) -> str:
    """`+0.203 [+0.141, +0.265]`."""
    low, high = estimate["ci95"]
    return f"{estimate['mean']:+.3f} [{low:+.3f}, {high:+.3f}]"


def short(label: str) -> str:
    """`lr=0.0001` for `update.lr=0.0001`."""
    return label.replace("update.", "") or "one setting"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
