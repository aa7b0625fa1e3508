"""What is seen first of a report, for a notebook: the sentence, its table and its chart."""

from __future__ import annotations

from pathlib import Path

from trueup.reports import comparison, measured_models, measurement, write
from trueup.reports.page import page
from trueup.reports.record import read_run


def first_screen(run_dir: Path) -> str:
    """What is seen first of the report of a run, comparison or measurement: HTML that needs nothing else.

    Its style holds for the fragment alone and follows a notebook that is light or dark. Of a run whose
    policies were not evaluated it shows what was held out, and the last stage's first curves. Raises
    TrueupError if the directory or a file in it cannot be read.
    """
    if (run_dir / comparison.RESULT).is_file():
        values, first, given = comparison.shown(comparison.load(run_dir)), ("gains", "methods"), ()
    elif (run_dir / measurement.RESULT).is_file():
        values, first = measured_models.shown(measurement.load(run_dir)), (measured_models.FIRST,)
        given = values["m"].notes
    else:
        run = read_run(run_dir)
        values, first = write.shown(run), ("trained",) if run.training_only else ("policies",)
        given = (*run.changed, *run.given)
    return page("screen.html.j2", first=[f"{part}.html.j2" for part in first], given=given, **values)
