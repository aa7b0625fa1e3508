"""Says where a run's steps had nothing to teach: no completion ended, or all were worth the same."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from trueup.engine.lines import METRICS, read

logger = logging.getLogger("trueup")
IDLE = {
    "eos_rate": (
        0.0,
        "no completion ended by itself, so none can be told from one that was cut off",
        "raise decoding.max_new_tokens, and see by `trueup preview` whether the template's end of turn "
        "is one that the model knows",
    ),
    "advantage/zero": (
        1.0,
        "every advantage is 0, so nothing is learned",
        "the judge gives all completions of a prompt one score: look at samples, sample more of each prompt "
        "or at a higher temperature",
    ),
    "preferences/share": (
        0.0,
        "no prompt has a preferred completion, so nothing is learned",
        "the judge gives all completions of a prompt one score: look at samples, or sample more of each",
    ),
}
"By metric: the value that says it, what it means, what to do."


def warn_of(step: int, metrics: Mapping[str, float], said: set[str]) -> None:
    """Nothing; warns of a step in which a metric has its idle value, once for each metric."""
    for name, (value, meaning, remedy) in IDLE.items():
        if name not in said and metrics.get(name) == value:
            said.add(name)
            logger.warning("step %d: %s = %g: %s; %s", step, name, value, meaning, remedy)


def warned_before(folder: Path) -> set[str]:
    """The metrics that had their idle value in a step before: a run that goes on has said so."""
    rows = [row for row in read(folder / METRICS) if row["phase"] == "train"]
    return {name for name, (value, _, _) in IDLE.items() if any(row.get(name) == value for row in rows)}


def sum_up(folder: Path) -> None:
    """Nothing; warns at a run's end of the steps that `warn_of` found, where there were several."""
    rows = [row for row in read(folder / METRICS) if row["phase"] == "train"]
    for name, (value, meaning, _) in IDLE.items():
        count = sum(row.get(name) == value for row in rows)
        if count > 1:
            logger.warning("in %d of %d steps %s was %g: %s", count, len(rows), name, value, meaning)
