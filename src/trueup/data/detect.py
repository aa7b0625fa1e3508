"""Which format a file is in: every row votes with its keys, and a divided vote is an error, not a guess."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import Any

from trueup.data.formats import CONTENT, Format, all_formats
from trueup.data.problems import Fault, keys_of, nearest, printable
from trueup.data.suggest import OTHER_NAMES, suggested
from trueup.errors import TrueupError, counted

MAJORITY = 0.9
"The part of the rows that can vote which must name one and the same format."
_KINDS = {
    "comparisons": ("comparisons",),
    "labels": ("labels", "comparisons"),
    "demonstrations": ("demonstrations",),
    "prompts": ("comparisons", "demonstrations", "labels"),
}
"What a method needs, and the kinds of rows that give it, the fullest first."


BATTLE, ARENA = frozenset({"a", "b", "outcome"}), frozenset({"model_a", "model_b"})


def named(name: str) -> Format:
    """The format of that name. Raises TrueupError E211 with the nearest name."""
    formats = all_formats()
    if name in formats:
        return formats[name]
    close = nearest(name, formats)
    remedy = (f"did you mean {close}? " if close else "") + "The formats: " + ", ".join(formats)
    raise TrueupError("E211", f"no format is called {name!r}", where="--format", remedy=remedy)


def detect(rows: Sequence[Mapping[str, Any]], where: str, needs: Sequence[str] = ()) -> tuple[Format, str]:
    """The one format that the rows have, and why; where several fit, the one that gives what is needed.

    `needs` are words of `settings.discover.NEEDS`. Raises TrueupError E202 (none) or E204 (more than one).
    """
    voted = [_decided(candidates(row), needs) for row in rows]
    votes = Counter(names for names in voted if names)
    if not votes:
        raise _unknown(rows, where, needs)
    clear = [names for names, _ in votes.most_common() if len(names) == 1]
    if not clear or votes[clear[0]] < MAJORITY * votes.total():
        raise _ambiguous(votes, clear, where)
    found = all_formats()[clear[0][0]]
    example = rows[voted.index(clear[0])]
    used = ", ".join(printable(key) for key in example if key in found.keys)
    chosen = (
        f"; of {' or '.join(others)} it gives the {needs[0]}"
        if len(others := candidates(example)) > 1
        else ""
    )
    return found, f"{votes[clear[0]]} of {counted(len(rows), 'row has', 'rows have')} {used}{chosen}"


def _decided(names: tuple[str, ...], needs: Sequence[str]) -> tuple[str, ...]:
    """Of several formats the one whose rows give what is needed first; all of them where none or more do."""
    kinds = {name: _kind(all_formats()[name]) for name in names} if len(names) > 1 else {}
    for kind in (kind for need in needs for kind in _KINDS.get(need, ())):
        fitting = tuple(name for name in kinds if kinds[name] == kind)
        if len(fitting) == 1:
            return fitting
    return names


def _kind(item: Format) -> str:
    if "rejected" in item.keys:
        return "comparisons"
    return "labels" if item.keys & {"label", "kto_tag"} else "demonstrations"


def candidates(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The formats that the row's keys may mean: one name is clear, two are ambiguous, none is no format."""
    present = frozenset(row)
    fitting = [
        (item, need)
        for item in all_formats().values()
        for need in item.needs
        if need <= present and item.fits(row)
    ]
    widest = [(item, need) for item, need in fitting if not any(need < other for _, other in fitting)]
    left = {item.name: _unexplained(item, row) for item, _ in widest}
    clear = tuple(name for name, keys in left.items() if not keys)
    if clear:
        return clear
    return tuple(left) if len(left) > 1 else ()


def _unexplained(item: Format, row: Mapping[str, Any]) -> list[str]:
    """Content keys, also misspelt ones, that the format would pass over; a conversation it reads is none."""
    other = [key for key in row if key not in item.keys and key not in item.beside]
    held = [row[key] for key in item.keys if isinstance(row.get(key), list)]
    return [key for key in other if (key in CONTENT or misspelt(key)) and row[key] not in held]


@cache
def misspelt(key: str) -> str:
    """The content key that a key is nearly, but not one of the names that others give theirs; or ""."""
    known = isinstance(key, str) and key.lower() in OTHER_NAMES
    return "" if known or not isinstance(key, str) else nearest(key, CONTENT, cutoff=0.85)


def _ambiguous(votes: Counter[tuple[str, ...]], clear: list[tuple[str, ...]], where: str) -> TrueupError:
    divided = [names for names, _ in votes.most_common() if len(names) > 1]
    parts = [f"{counted(votes[names], 'row looks', 'rows look')} like {names[0]}" for names in clear[:4]]
    parts += [f"{votes[names]} like {' or '.join(names)}" for names in divided[:3]]
    choices = dict.fromkeys(name for names in (*clear, *divided) for name in names)
    remedy = "name it: " + " or ".join(f"--format {name}" for name in list(choices)[:4])
    return TrueupError("E204", "the format is ambiguous: " + "; ".join(parts), where=where, remedy=remedy)


def _unknown(rows: Sequence[Mapping[str, Any]], where: str, needs: Sequence[str]) -> TrueupError:
    keys: Counter[str] = Counter(key for row in rows for key in row)
    common = dict.fromkeys(key for key, _ in keys.most_common(12))
    map_ = suggested(rows, common, needs, reads=_reads)
    renames = {key: misspelt(key) for key in common if key not in CONTENT and misspelt(key)}
    if keys.keys() >= BATTLE or keys.keys() >= ARENA:
        remedy = "these are battles of models, without text: `trueup rank` reads them"
    elif map_:
        remedy = "say which column is which, perhaps " + map_
    elif renames:
        remedy = "rename " + ", ".join(f'"{printable(key)}" to "{close}"' for key, close in renames.items())
    else:
        remedy = "say which column is which with --columns.prompt NAME, or name the format with --format"
    reason = f"no known format has these fields (found: {keys_of(common)})"
    return TrueupError("E202", reason, where=where, remedy=remedy)


def _reads(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the rows are of one clear format, and most of the first can be read in it."""
    votes = Counter(map(candidates, rows))
    names, count = votes.most_common(1)[0]
    if len(names) != 1 or count < MAJORITY * len(rows):
        return False
    parse, good = all_formats()[names[0]].parse, 0
    for row in (first := rows[:20]):
        with suppress(Fault):
            good += bool(parse(row))
    return good >= MAJORITY * len(first)
