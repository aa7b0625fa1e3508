"""The report of a folder, whatever it holds: a run, a comparison, or a battle."""

from __future__ import annotations

from pathlib import Path

from trueup.errors import TrueupError
from trueup.reports import battle, comparison
from trueup.reports.write import write_report

MARKS = ("recipe.resolved.yaml", "config.resolved.yaml", "metrics.jsonl", "summary.json")
"A folder with one of these is a run's."


def report_of(folder: Path, out: Path | None = None) -> Path:
    """The page written of a run, a comparison or a battle, at `out` or in its folder. E847 without one."""
    if (folder / comparison.RESULT).is_file():
        return comparison.write_comparison(folder, out)
    if (folder / battle.RESULT).is_file():
        return battle.write_battle(folder, out)
    if not any((folder / name).is_file() for name in MARKS):
        raise TrueupError(
            "E847", "there is no run here", where=str(folder), remedy="give the folder of a run"
        )
    return write_report(folder, out)
