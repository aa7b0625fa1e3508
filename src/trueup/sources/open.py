"""From a reference in a recipe to encoded groups."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trueup.chat import Chat
from trueup.chat.fit import fit_all
from trueup.data import read
from trueup.engine.groups import Group
from trueup.errors import TrueupError
from trueup.settings.blocks import DataSettings
from trueup.worlds import World, door_of, open_world


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


def open_groups(settings: DataSettings, chat: Chat, *, seed: int, quarantine: Path | None = None) -> Opened:
    """The groups that `settings` name, encoded by `chat`, within `max_tokens`, with a held-out part.

    Raises TrueupError E601 when nothing is left.
    """
    groups, rows_in, quarantined, format = read_all(settings, seed, quarantine)
    encoded = (chat.encode(group, train_on=settings.train_on) for group in groups)
    fitting, report = fit_all(chat, encoded, settings.max_tokens, settings.overlong)
    if not fitting:
        raise TrueupError(
            "E601",
            f"no row is left: {rows_in} read, {quarantined} bad, {report.num_dropped} overlong",
            where=", ".join(settings.mix.values()) or settings.path,
            remedy="`trueup data check` shows the rows; data.max_tokens sets the longest",
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
    )


def read_all(settings: DataSettings, seed: int, quarantine: Path | None) -> tuple[list[Group], int, int, str]:
    """The rows of `path`, or of every part of `mix`, whose groups then name that part as their source.

    Also how many rows were read, how many of them are in `quarantine` (numbered by part), and their format.
    """
    if not settings.mix:
        return _read(settings, seed, quarantine)
    groups: list[Group] = []
    rows_in, quarantined, formats = 0, 0, []
    for name, path in settings.mix.items():
        bad = quarantine and quarantine.with_stem(f"{quarantine.stem}-{len(formats)}")
        part, rows, refused, format = _read(replace(settings, path=path, mix={}), seed, bad)
        groups += [replace(group, source=name) for group in part]
        rows_in, quarantined = rows_in + rows, quarantined + refused
        formats.append(format)
    return groups, rows_in, quarantined, " + ".join(formats)


def _read(settings: DataSettings, seed: int, quarantine: Path | None) -> tuple[list[Group], int, int, str]:
    door = door_of(settings.path)
    if door is not None:
        found = open_world(door.world).data(door.name, split=settings.split, limit=settings.limit, seed=seed)
        if not isinstance(found, str):
            return found, len(found), 0, door.world
        return _read(replace(settings, path=found), seed, quarantine)
    result = read(
        settings.path,
        format=settings.format,
        columns=dict(settings.columns) or None,
        split=settings.split,
        limit=settings.limit,
        max_bad=settings.max_bad,
        quarantine=quarantine,
    )
    return result.groups, result.counts.rows_in, result.counts.quarantined, result.format


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
