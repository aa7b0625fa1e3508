"""The report of a folder, whatever it holds: a run, a comparison, a battle, or what was measured."""

from __future__ import annotations

from pathlib import Path

from trueup.errors import TrueupError
from trueup.reports import battle, comparison, measured_models, measurement
from trueup.reports.write import write_report

MARKS = ("recipe.resolved.yaml", "config.resolved.yaml", "metrics.jsonl", "summary.json")
"A folder with one of these is a run's."


def report_of(folder: Path, out: Path | None = None) -> Path:
    """The page of a run, comparison, battle or measurement, at `out` or in its folder. E847 without one."""
    if (folder / comparison.RESULT).is_file():
        return comparison.write_comparison(folder, out)
    if (folder / measurement.RESULT).is_file():
        return measured_models.write_measured(folder, out)
    if (folder / battle.RESULT).is_file():
        return battle.write_battle(folder, out)
    if not any((folder / name).is_file() for name in MARKS):
        raise TrueupError(
            "E847", "there is no run here", where=str(folder), remedy="give the folder of a run"
        )
    return write_report(folder, out)
