"""From a reference in a recipe to encoded groups."""

from __future__ import annotations

import hashlib
import logging
import re
import shlex
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, final

from trueup.chat import Chat
from trueup.chat.fit import fit_all
from trueup.data import read
from trueup.data.problems import Fault
from trueup.data.reader import Encode, Into
from trueup.engine.groups import Group
from trueup.engine.views import chained, mapped, picked
from trueup.errors import TrueupError
from trueup.settings.blocks import DataSettings
from trueup.sources.kept import Facts, digest_of, kept, too_large
from trueup.worlds import World, door_of, open_world

_OF_A_ROW = frozenset(
    {"E351", "E352", "E353", "E354", "E355", "E356", "E360", "E361", "E362", "E363", "E364", "E365",
     "E551", "E555"}
)  # fmt: skip
"What a chat says of one row; its other errors are about the template or the tokenizer, so about all rows."


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The groups of a file, or of the parts of a mix, and an account of the rows."""

    groups: Sequence[Group]
    rows_in: int
    quarantined: int = 0
    format: str
    unread: tuple[str, ...] = ()
    "What stands beside the text and is not trained on, a sentence each."


MUCH = 0.05
"Share of the rows that may be lost to their length without a warning."
_OPTIONS = re.compile(r"(?<![ ]or )--(?:columns|format|roles|trim)\S* [^\s,]+(?: --\S+ [^\s,]+)*$")
"The options of reading with which a remedy ends, where it leaves no choice."
_READING, _TURNS = re.compile(r"--(?=columns\b|format\b|split\b)"), re.compile(r"--(?=roles\b|trim\b)")
logger = logging.getLogger("trueup")


@dataclass(frozen=True, kw_only=True)
class Opened:
    """Encoded groups and an account of every row: rows_in = train + held_out + quarantined + overlong."""

    train: Sequence[Group]
    held_out: Sequence[Group]
    rows_in: int
    quarantined: int
    overlong: int
    truncated: int
    "Rows that lost the beginning of their prompt; they are among `train` and `held_out`."
    format: str
    unread: tuple[str, ...] = ()
    "As in `Rows`."
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

    A row that the chat cannot show is a bad one. Of large files the groups are views of what `kept` keeps,
    the same groups in the same order. `needs` is what a method says it needs, and decides between
    formats that fit alike. Losing more than `MUCH` of the rows to their length is warned of. Raises
    TrueupError E824 when nothing is left.
    """
    found = read_all(settings, seed, quarantine, needs, chat=chat)
    sides = _Sides(share=settings.held_out, seed=seed)
    fitting, report = fit_all(chat, found.groups, settings.max_tokens, settings.overlong, seen=sides.see)
    if not fitting:
        raise TrueupError(
            "E824",
            f"no row is left: {found.rows_in} read, {found.quarantined} bad, {report.num_dropped} longer "
            f"than data.max_tokens = {settings.max_tokens}, the shortest of them {report.shortest_dropped}",
            where=", ".join(settings.mix.values()) or settings.path,
            remedy=f"`--data.max_tokens {report.shortest_dropped}` keeps the shortest of them",
        )
    if report.num_dropped > MUCH * len(found.groups):
        logger.warning(
            "%d of %d rows (%.0f %%) are longer than data.max_tokens = %d and left out; the longest has %d",
            *(report.num_dropped, len(found.groups), 100 * report.num_dropped / len(found.groups)),
            *(settings.max_tokens, report.longest),
        )
    train, held_out = sides.of(fitting)
    return Opened(
        train=train,
        held_out=held_out,
        rows_in=found.rows_in,
        quarantined=found.quarantined,
        overlong=report.num_dropped,
        truncated=report.num_truncated,
        format=found.format,
        unread=found.unread,
        longest=report.longest_left,
        longest_prompt=report.longest_prompt,
    )


def encoder(chat: Chat, train_on: Literal["last", "all"] = "last", *, alone: bool = False) -> Encode:
    """A function that gives a group encoded, and raises Fault for one whose row the chat cannot show.

    `alone`: remedies name options as `data check` has them, `--template` and not a run's `--model.template`.
    """

    def encode(group: Group) -> Group:
        try:
            return chat.encode(group, train_on=train_on)
        except TrueupError as error:
            if error.code not in _OF_A_ROW:
                raise
            remedy = re.sub(r"--(model|data)\.", "--", error.remedy) if alone else error.remedy
            raise Fault(error.code, error.reason, remedy=remedy) from None

    return encode


def read_all(
    settings: DataSettings,
    seed: int,
    quarantine: Path | None,
    needs: Sequence[str] = (),
    chat: Chat | None = None,
) -> Rows:
    """The rows of `path`, or of every part of `mix`, whose groups then name that part as their source.

    The bad ones of each part go into a `quarantine` of its own, numbered; `chat` encodes them.
    """
    if not settings.mix:
        return _read(settings, seed, quarantine, needs, chat)
    parts: list[Rows] = []
    for name, path in settings.mix.items():
        bad = quarantine and quarantine.with_stem(f"{quarantine.stem}-{len(parts)}")
        part = _read(replace(settings, path=path, mix={}), seed, bad, needs, chat)
        parts.append(replace(part, groups=mapped(part.groups, partial(replace, source=name))))
    return Rows(
        groups=chained([part.groups for part in parts]),
        rows_in=sum(part.rows_in for part in parts),
        quarantined=sum(part.quarantined for part in parts),
        format=" + ".join(part.format for part in parts),
        unread=tuple(
            f"{name}: {note}" for name, part in zip(settings.mix, parts, strict=True) for note in part.unread
        ),
    )


def _read(
    settings: DataSettings, seed: int, quarantine: Path | None, needs: Sequence[str], chat: Chat | None
) -> Rows:
    encode = None if chat is None else encoder(chat, settings.train_on)
    door = door_of(settings.path)
    if door is not None:
        found = open_world(door.world).data(door.name, split=settings.split, limit=settings.limit, seed=seed)
        if not isinstance(found, str):
            groups = found if encode is None else [_encoded(group, encode) for group in found]
            return Rows(groups=groups, rows_in=len(found), format=door.world)
        return _read(replace(settings, path=found), seed, quarantine, needs, chat)
    reading: dict[str, Any] = {
        "format": settings.format,
        "columns": dict(settings.columns) or None,
        "roles": dict(settings.turns.roles),
        "trim": settings.turns.trim,
        "needs": tuple(needs),
        "split": settings.split,
        "limit": settings.limit,
        "max_bad": settings.max_bad,
    }

    def make(into: Into, bad: Path | None) -> Facts:
        result = read(settings.path, **reading, quarantine=bad, encode=encode, into=into)
        said = result.counts
        return Facts(
            rows_in=said.rows_in, quarantined=said.quarantined, format=result.format, unread=said.unread
        )

    def digest() -> str | None:
        assert chat is not None
        return digest_of(settings.path, settings.split, {**reading, "train_on": settings.train_on}, chat)

    try:
        if chat is not None and too_large(settings.path, settings.split, settings.limit):
            with _warned_of_no_room():
                groups, facts = kept(digest, make, quarantine)
                return Rows(groups=groups, **vars(facts))
        held: list[Group] = []
        facts = make(held.append, quarantine)
    except TrueupError as error:
        raise _in_training(error) from None
    return Rows(groups=held, **vars(facts))


@contextmanager
def _warned_of_no_room() -> Iterator[None]:
    """Nothing; where encoded rows cannot be kept on disk it says so, and goes on behind the block."""
    try:
        yield
    except TrueupError as error:
        if error.code != "E120":
            raise
        logger.warning("%s; they are held in memory instead (%s)", error.reason, error.remedy)


def _encoded(group: Group, encode: Encode) -> Group:
    """The encoded group of a world, whose rows are no file's: one that cannot be shown ends the run."""
    try:
        return encode(group)
    except Fault as fault:
        raise TrueupError(fault.code, fault.reason, where=f"row {group.id}", remedy=fault.remedy) from None


def _in_training(error: TrueupError) -> TrueupError:
    """The error with options as a run spells them: --columns.prompt is --data.columns.prompt there."""

    def spelt(text: str) -> str:
        return _TURNS.sub("--data.turns.", _READING.sub("--data.", text))

    where, reason, remedy = spelt(error.where), spelt(error.reason), spelt(error.remedy)
    return TrueupError(error.code, reason, where=where, remedy=remedy, exit_code=error.exit_code)


def world_groups(world: World, name: str, *, split: str, limit: int | None, seed: int = 0) -> list[Group]:
    """A world's groups of a name, at most `limit`; bad rows of a file are an error above the usual share."""
    found = world.data(name, split=split, limit=limit, seed=seed)
    if isinstance(found, str) and (door := door_of(found)) is not None:
        return world_groups(open_world(door.world), door.name, split=split, limit=limit, seed=seed)
    if not isinstance(found, str):
        return found
    with as_groups_first(found):
        return read(found, limit=limit).groups


@contextmanager
def as_groups_first(path: str) -> Iterator[None]:
    """Inside, an error whose remedy is an option of reading names the command that has it.

    A world's file and a file of prompts are read as they are; `trueup data convert` takes the options.
    """
    try:
        yield
    except TrueupError as error:
        if "--" in error.remedy:
            convert, options = (
                f"trueup data convert {shlex.quote(path)} groups.jsonl",
                _OPTIONS.search(error.remedy),
            )
            error.remedy = (
                f"write it as groups, and name those: {convert} {options[0]}"
                if options
                else f"{error.remedy}, an option of `{convert}`; then name groups.jsonl"
            )
        raise


def split_held_out(
    groups: Sequence[Group], share: float, seed: int
) -> tuple[Sequence[Group], Sequence[Group]]:
    """Training and held-out groups; `share` of the users (or, without users, of the prompts) is held out.

    Who is held out depends on the user's name (or the prompt's text) and the seed alone, so that one user, or
    one prompt, is never on both sides, and adding rows moves nobody.
    """
    sides = _Sides(share=share, seed=seed)
    for group in groups:
        sides.see(group)
    return sides.of(groups)


@final
@dataclass(frozen=True, kw_only=True)
class _Sides:
    """Which groups, of those seen in order, are trained on, and which are held out."""

    share: float
    seed: int
    places: tuple[array[int], array[int]] = field(default_factory=lambda: (array("q"), array("q")))

    def see(self, group: Group) -> None:
        key = group.user or "\x1e".join(m.content for m in group.prompt) or group.id
        place = int.from_bytes(hashlib.sha256(f"{self.seed}\x1f{key}".encode()).digest()[:7], "big") / 2**56
        self.places[place < self.share].append(sum(map(len, self.places)))

    def of(self, groups: Sequence[Group]) -> tuple[Sequence[Group], Sequence[Group]]:
        train, held_out = self.places
        return picked(groups, train), picked(groups, held_out)
