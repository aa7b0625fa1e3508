"""A battle from its settings to ratings: answers, rounds of duels, verdicts, and the files that others read.

Everything is kept as it comes, and which duels are next depends on what was kept alone, so a battle that was
stopped goes on to the same end.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trueup.battles.answers import FOLDER as ANSWERS
from trueup.battles.answers import answers_of, taken
from trueup.battles.judging import Judges, check_by
from trueup.battles.settings import PEOPLE, Config, led
from trueup.battles.shown import told
from trueup.battles.table import Bench, Table
from trueup.data import read
from trueup.engine import disk, inputs
from trueup.engine.groups import Group, write_jsonl
from trueup.engine.inputs import Input
from trueup.errors import TrueupError, counted
from trueup.ratings.battles import BattleSet, write_battles
from trueup.ratings.fit import fit_ratings
from trueup.ratings.leaderboard import leaderboard
from trueup.runs.files_read import inputs_of
from trueup.runs.hold import holding
from trueup.runs.signals import Interrupted, stop_requests
from trueup.sources.open import as_groups_first, world_groups
from trueup.worlds import open_world

SETTINGS, BATTLES, GROUPS, RESULT = "settings.json", "battles.jsonl", "groups.jsonl", "battle.json"


@dataclass(frozen=True, kw_only=True)
class Fought:
    """How a battle stands."""

    folder: Path
    board: dict[str, Any] | None
    "The ratings, as `trueup rank` has them; None while too little has been fought."
    waiting: str = ""
    "What people are to do; empty where nobody is waited for."
    why: str = ""
    "Why it ended."


@dataclass(frozen=True, kw_only=True)
class _Read:
    """The settings that name files."""

    models: Mapping[str, str] = field(default_factory=dict)
    by: Mapping[str, str] = field(default_factory=dict)
    prompts: str = ""
    world: str = ""


def fight(
    config: Config,
    folder: Path,
    *,
    say: Callable[[str], None],
    prompts: Sequence[Group] | None = None,
    given: Sequence[Input] = (),
    accept: bool = False,
) -> Fought:
    """How the battle in a folder stands once it has gone on as far as it can.

    `prompts` are those in memory, and `given` the objects among its settings. Raises E432 where the folder
    has a battle of other settings, E820 or E752 where it began with other files or objects, unless told to
    `accept` them, and what models, judges and the fit raise.
    """
    config = led(config)
    check_by(config.by)
    with stop_requests() as stop_requested, holding(folder, waits=False, stop_requested=stop_requested):
        groups = _prompts(config) if prompts is None else prompts
        chosen = taken(groups, config)
        _hold(config, folder, given, accept)

        def between(rounds: int | None = None) -> None:
            if stop_requested():
                raise Interrupted(rounds, stop_requested())

        answers = {
            name: answers_of(name, config, chosen, folder, say=say, between=between) for name in config.models
        }
        bench = Bench(config=config, prompts=chosen, answers=answers)
        judges = Judges(bench=bench, folder=folder)
        table = Table(bench=bench, fought=[])
        why, waiting = _rounds(table, judges, say, between)
        return _written(table, judges, folder, why, waiting)


def _rounds(
    table: Table, judges: Judges, say: Callable[[str], None], between: Callable[[int | None], None]
) -> tuple[str, str]:
    """Why no further round is fought, and what people are to do where they are waited for."""
    config = table.bench.config
    for number in range(1, config.battles + 1):
        between(number - 1 or None)
        left = config.battles - len(table.fought)
        if left <= 0:
            break
        duels = table.next_duels(min(config.batch, left))
        if not duels:
            more = "more prompts, or `--samples`, give more battles"
            return f"every two models have met on every prompt ({more})", ""
        verdicts = judges.ask(duels, number)
        if isinstance(verdicts, str):
            return "", verdicts
        table.fought.extend(zip(duels, verdicts, strict=True))
        width = widest(table)
        if width is not None:
            say(f"{len(table.fought)} battles, widest interval {width:.0f} points")
            if 0 < width <= config.until:
                return f"the widest interval is {width:.0f} points, no wider than {config.until:g}", ""
    return f"{config.battles} battles are fought", ""


def widest(table: Table) -> float | None:
    """The width of the widest interval of a rating, in points; None while there is none."""
    battles = table.battles()
    try:
        found = fit_ratings(battles, alpha=table.bench.config.prior)
    except TrueupError:  # too few battles yet; what is wrong with all of them is said in the end
        return None
    return max(model.high - model.low for model in found.models)


def _written(table: Table, judges: Judges, folder: Path, why: str, waiting: str) -> Fought:
    """The standing, with its files written; what the fit raises is raised once they are."""
    battles = table.battles()
    write_battles(folder / BATTLES, battles)
    write_jsonl(str(folder / GROUPS), table.groups(judges.scores()))
    origin = counted(len(table.fought), "pair of answers", "pairs of answers")
    found = BattleSet(battles=tuple(battles), origin=origin, left_out={})
    try:
        board = leaderboard(found, fit_ratings(battles, alpha=table.bench.config.prior))
    except TrueupError:
        if not waiting:
            raise
        return Fought(folder=folder, board=None, waiting=waiting)
    document = told(table, board, why=why, waiting=waiting)
    disk.write(folder / RESULT, json.dumps(document, ensure_ascii=False, indent=1) + "\n")
    return Fought(folder=folder, board=board, waiting=waiting, why=why)


def _prompts(config: Config) -> list[Group]:
    if config.world:
        return world_groups(open_world(config.world), "prompts", split="test", limit=None)
    with as_groups_first(config.prompts):
        return read(config.prompts).groups


def _hold(config: Config, folder: Path, given: Sequence[Input], accept: bool) -> None:
    """Nothing; the folder's battle is one of these settings and of these files."""
    path, now = folder / SETTINGS, json.loads(json.dumps(config.fixed()))
    # Until somebody has answered nothing holds a battle to its settings: they may have been a mistake.
    begun = path.is_file() and any((folder / ANSWERS).glob("*.jsonl"))
    before = json.loads(path.read_bytes()) if begun else now
    changed = [name for name in now if before.get(name) != now[name]]
    if changed:
        was = ", ".join(f"{name} {json.dumps(before.get(name), ensure_ascii=False)}" for name in changed[:3])
        raise TrueupError(
            "E432",
            f"the battle in this folder was begun with {was}",
            where=str(folder),
            remedy="give the same, or choose another --out; --battles, --until and --prior may change",
        )
    by = {name: ref for name, ref in config.by.items() if ref != PEOPLE}
    read_ = inputs_of(
        _Read(models=config.models, by=by, prompts=config.prompts, world=config.world), outside=folder
    )
    inputs.settle(folder, [*given, *read_], begun=begun, at="its battles", accept=accept)
    disk.write(path, json.dumps(now, ensure_ascii=False, indent=1) + "\n")
