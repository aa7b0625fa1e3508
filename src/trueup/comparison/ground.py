"""Where a comparison is measured, and what would make its numbers say something else, before it begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trueup.comparison.plan import Comparison, candidates, final_jobs, start_jobs
from trueup.errors import TrueupError
from trueup.measurement.trained import trained_on
from trueup.reports.numbers import listed
from trueup.runs.recipe import Stage, plan
from trueup.runs.references import strings
from trueup.worlds import DEFAULT, World, door_of, world_of
from trueup.worlds.doors import shipped


def ground_of(comparison: Comparison, folder: Path) -> World:
    """The world that every run of the comparison is measured in.

    Raises E763 where nothing says, E762 where it believes no judge, E761 for a split that it does not have,
    E775 where settings would be chosen on the prompts that are reported, E776 for a comparison that names the
    data of another world.
    """
    _refuse_other_worlds(comparison)
    (start, *_) = candidates(comparison.start, comparison.shared[comparison.start])
    firsts = {name: candidates(name, given)[0] for name, given in comparison.methods.items()}
    jobs = [*start_jobs(comparison)[:1], *final_jobs(comparison, start, firsts)[:: len(comparison.seeds)]]
    worlds = [_measured_in(plan(job.recipe, folder)) for job in jobs]
    world = worlds[0]
    for other, job in zip(worlds, jobs, strict=True):
        if other.name != world.name:
            raise TrueupError(
                "E776",
                f"{job.candidate.method} would be measured in {other.name}, the start in {world.name}",
                where=comparison.name,
                remedy=f"name one for all: --world {world.name}",
            )
    world.believed()
    _refuse_same_prompts(comparison, world)
    return world


def _measured_in(stages: Sequence[Stage]) -> World:
    planned = {str(stage.folder): stage.settings for stage in stages}
    config = stages[-1].config
    return world_of(config.world, config.model, config.reference, where="compare", planned=planned)


def _refuse_other_worlds(comparison: Comparison) -> None:
    """Raises E776 where a world is named, and settings name the data of one that comes with trueup."""
    if not comparison.world:
        return
    for reference in strings({**comparison.shared, **comparison.methods}):
        door = door_of(reference)
        if door is not None and door.world in shipped() and door.world != comparison.world:
            if reference.startswith("world:"):
                continue
            raise TrueupError(
                "E776",
                f"the comparison itself reads {reference}: it would not train on what {comparison.world} has",
                where=comparison.name,
                remedy=f"`trueup compare compare-own --world {comparison.world}`, or copy the file and write "
                f"world:{door.name} there",
            )


def _refuse_same_prompts(comparison: Comparison, world: World) -> None:
    splits = [str(said.get("split", "test")) for said in (comparison.choose, comparison.report)]
    places = [world.data("prompts", split=split, limit=1, seed=0) for split in splits]
    swept = [
        name
        for name, given in (
            {comparison.start: comparison.shared[comparison.start]} | dict(comparison.methods)
        ).items()
        if len(candidates(name, given)) > 1
    ]
    same = splits[0] == splits[1] or (isinstance(places[0], str) and places[0] == places[1])
    if swept and same:
        raise TrueupError(
            "E775",
            f"settings of {listed(swept)} would be chosen on the prompts that are reported",
            where=world.name,
            remedy="give the world others to choose on: `prompts: {dev: dev.jsonl, test: test.jsonl}`",
        )


def world_line(comparison: Comparison, world: World) -> str:
    """What is said first: in which world everything is measured."""
    named = comparison.world or world.name != DEFAULT
    return f"world: {world.name}{'' if named else ' (the default; --world FILE.yaml leads to yours)'}"


def measured_by_trainer(methods: Mapping[str, tuple[Path, Any]], world: World) -> list[str]:
    """The methods whose training, or whose choice among samples, the judge that is believed took part in.

    Each comes with its model's folder, and the settings that it was measured with.
    """
    truth = world.believed()
    found = []
    for name, (model, measured) in methods.items():
        chosen = measured.judge if measured.best_of > 1 else ""
        if truth in trained_on(str(model), world, also=(chosen,)):
            found.append(name)
    return found


def trainer_lines(methods: Sequence[str], truth: str) -> list[str]:
    """What is said of them at the end; nothing where there are none."""
    if not methods:
        return []
    return [
        f"{truth}, by which everything is measured, also trained {listed(methods)}: of "
        f"{'that method' if len(methods) == 1 else 'those'} it is a proxy, and the gain flatters. "
        "A judge that trained none would be a referee."
    ]
