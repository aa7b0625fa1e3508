"""Runs a measurement: its stages, then the document that is made of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trueup.engine.inputs import Input
from trueup.errors import TrueupError
from trueup.measurement.document import Measurement, document, read_found, write
from trueup.measurement.plan import Asked, check, recipe_of, serves_every_split, world_for
from trueup.measurement.told import headline, limits, notes
from trueup.reports.which import report_of
from trueup.runs.recipe import Stage, plan, run_recipe
from trueup.runs.signals import stop_requests
from trueup.runs.unchanged import STRICT, Terms


def measure_in(
    folder: Path,
    asked: Asked,
    *,
    say: Callable[[str], None] = lambda line: None,
    terms: Terms = STRICT,
    given: Callable[[Stage], Sequence[Input]] = lambda stage: (),
) -> tuple[dict[str, Any], Path]:
    """The document, written to `measure.json`, and its page; what is measured is not measured again.

    A signal lets the model that is at work end. `given` are the objects of a Python session that a stage is
    made of. Raises E763 without a world, and what the world, the models and the stages raise.
    """
    world = world_for(asked.world, list(asked.order.values()))
    check(asked, world)
    recipe = recipe_of(asked, world)
    with stop_requests() as stop_requested, _options_as_typed(recipe.stages):
        run_recipe(recipe, folder, stop_requested=stop_requested, say=say, terms=terms, given=given)
    stages = plan(recipe, folder)
    found = {s.name: read_found(s, s.name, asked.order[s.name]) for s in stages}
    measurement = Measurement(asked=asked, world=world, found=found)
    said = document(measurement)
    said |= {"headline": headline(said), "limits": limits(said)}
    said |= {"notes": notes(said, one_file=serves_every_split(world))}
    write(folder, measurement, said)
    return said, report_of(folder)


@contextmanager
def _options_as_typed(stages: Iterable[str]) -> Iterator[None]:
    """Inside, an error's remedy spells options as `trueup measure` has them, not as a recipe's stage does."""
    try:
        yield
    except TrueupError as error:
        error.remedy = re.sub(rf"`--(?:{'|'.join(map(re.escape, stages))})\.", "`--", error.remedy)
        raise
