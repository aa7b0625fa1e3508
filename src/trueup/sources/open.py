"""From a reference in a recipe to encoded groups."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trueup.chat import Chat
from trueup.chat.fit import fit_all, len_of
from trueup.data import read
from trueup.engine.groups import Group
from trueup.errors import TrueupError
from trueup.settings.blocks import DataSettings
from trueup.worlds import World, door_of, open_world

MUCH = 0.05
"Share of the rows that may be lost to their length without a warning."
_READING, _TURNS = re.compile(r"--(?=columns\b|format\b|split\b)"), re.compile(r"--(?=roles\b|trim\b)")
logger = logging.getLogger("trueup")


@dataclass(frozen=True, kw_only=True)
class Opened:
    """Encoded groups and an account of every row: rows_in = train + held_out + quarantined + overlong."""

    train: list[Group]
    held_out: list[Group]
    rows_in: int
    quarantined: int
    overlong: int
    truncated: int
    "Rows that lost the beginning of their prompt; they are among `train` and `held_out`."
    format: str
    longest: int = 0
    "Tokens of the longest prompt with its longest completion, of what is kept."
    longest_prompt: int = 0


def open_groups(
    settings: DataSettings,
    chat: Chat,
    *,
    seed: int,
    quarantine: Path | None = None,
    needs: Sequence[str] = (),
) -> Opened:
    """The groups that `settings` name, encoded by `chat`, within `max_tokens`, with a held-out part.

    `needs` is what a method says it needs, and decides between formats that fit alike. Losing more than
    `MUCH` of the rows to their length is warned of. Raises TrueupError E601 when nothing is left.
    """
    groups, rows_in, quarantined, format = read_all(settings, seed, quarantine, needs)
    encoded = (chat.encode(group, train_on=settings.train_on) for group in groups)
    fitting, report = fit_all(chat, encoded, settings.max_tokens, settings.overlong)
    if not fitting:
        raise TrueupError(
            "E601",
            f"no row is left: {rows_in} read, {quarantined} bad, {report.num_dropped} longer than "
            f"data.max_tokens = {settings.max_tokens}, the shortest of them {report.shortest_dropped}",
            where=", ".join(settings.mix.values()) or settings.path,
            remedy="`trueup data check` shows the rows; --data.max_tokens sets the longest",
        )
    if report.num_dropped > MUCH * len(groups):
        logger.warning(
            "%d of %d rows (%.0f %%) are longer than data.max_tokens = %d and left out; the longest has %d",
            *(report.num_dropped, len(groups), 100 * report.num_dropped / len(groups)),
            *(settings.max_tokens, report.longest),
        )
    train, held_out = split_held_out(fitting, settings.held_out, seed)
    return Opened(
        train=train,
        held_out=held_out,
        rows_in=rows_in,
        quarantined=quarantined,
        overlong=report.num_dropped,
        truncated=report.num_truncated,
        format=format,
        longest=max(len_of(group) for group in fitting),
        longest_prompt=max(0 if g.prompt_tokens is None else len(g.prompt_tokens) for g in fitting),
    )


def read_all(
    settings: DataSettings, seed: int, quarantine: Path | None, needs: Sequence[str] = ()
) -> tuple[list[Group], int, int, str]:
    """The rows of `path`, or of every part of `mix`, whose groups then name that part as their source.

    Also how many rows were read, how many of them are in `quarantine` (numbered by part), and their format.
    """
    if not settings.mix:
        return _read(settings, seed, quarantine, needs)
    groups: list[Group] = []
    rows_in, quarantined, formats = 0, 0, []
    for name, path in settings.mix.items():
        bad = quarantine and quarantine.with_stem(f"{quarantine.stem}-{len(formats)}")
        part, rows, refused, format = _read(replace(settings, path=path, mix={}), seed, bad, needs)
        groups += [replace(group, source=name) for group in part]
        rows_in, quarantined = rows_in + rows, quarantined + refused
        formats.append(format)
    return groups, rows_in, quarantined, " + ".join(formats)


def _read(
    settings: DataSettings, seed: int, quarantine: Path | None, needs: Sequence[str]
) -> tuple[list[Group], int, int, str]:
    door = door_of(settings.path)
    if door is not None:
        found = open_world(door.world).data(door.name, split=settings.split, limit=settings.limit, seed=seed)
        if not isinstance(found, str):
            return found, len(found), 0, door.world
        return _read(replace(settings, path=found), seed, quarantine, needs)
    try:
        result = read(
            settings.path,
            format=settings.format,
            columns=dict(settings.columns) or None,
            roles=settings.turns.roles,
            trim=settings.turns.trim,
            needs=needs,
            split=settings.split,
            limit=settings.limit,
            max_bad=settings.max_bad,
            quarantine=quarantine,
        )
    except TrueupError as error:
        raise _in_training(error) from None
    return result.groups, result.counts.rows_in, result.counts.quarantined, result.format


def _in_training(error: TrueupError) -> TrueupError:
    """The error with options as a run spells them: --columns.prompt is --data.columns.prompt there."""

    def spelt(text: str) -> str:
        return _TURNS.sub("--data.turns.", _READING.sub("--data.", text))

    where, reason, remedy = spelt(error.where), spelt(error.reason), spelt(error.remedy)
    return TrueupError(error.code, reason, where=where, remedy=remedy, exit_code=error.exit_code)


def world_groups(world: World, name: str, *, split: str, limit: int | None, seed: int = 0) -> list[Group]:
    """A world's groups of a name, at most `limit`; bad rows of a file are an error above the usual share."""
    found = world.data(name, split=split, limit=limit, seed=seed)
    return read(found, limit=limit).groups if isinstance(found, str) else found


def split_held_out(groups: Sequence[Group], share: float, seed: int) -> tuple[list[Group], list[Group]]:
    """Training and held-out groups; `share` of the users (or, without users, of the prompts) is held out.

    Who is held out depends on the user's name (or the prompt's text) and the seed alone, so that one user, or
    one prompt, is never on both sides, and adding rows moves nobody.
    """
    train: list[Group] = []
    held_out: list[Group] = []
    for group in groups:
        key = group.user or "\x1e".join(m.content for m in group.prompt) or group.id
        place = int.from_bytes(hashlib.sha256(f"{seed}\x1f{key}".encode()).digest()[:7], "big") / 2**56
        (held_out if place < share else train).append(group)
    return train, held_out
