"""The report of a folder, whatever it holds: a run, or a comparison."""

from __future__ import annotations

from pathlib import Path

from trueup.errors import TrueupError
from trueup.reports import comparison
from trueup.reports.write import write_report

MARKS = ("recipe.resolved.yaml", "config.resolved.yaml", "metrics.jsonl", "summary.json")
"A folder with one of these is a run's."


def report_of(folder: Path, out: Path | None = None) -> Path:
    """The page written of a run or a comparison, at `out` or in its folder. E847 where there is neither."""
    if (folder / comparison.RESULT).is_file():
        return comparison.write_comparison(folder, out)
    if not any((folder / name).is_file() for name in MARKS):
        raise TrueupError(
            "E847", "there is no run here", where=str(folder), remedy="give the folder of a run"
        )
    return write_report(folder, out)
