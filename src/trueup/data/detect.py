"""Which format a file is in: every row votes with its keys, and a divided vote is an error, not a guess."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from trueup.data.formats import Format, all_formats
from trueup.data.problems import keys_of, nearest, printable
from trueup.errors import TrueupError

MAJORITY = 0.9
"The part of the rows that can vote which must name one and the same format."
CONTENT = frozenset(
    {"prompt", "completion", "completions", "responses", "chosen", "rejected", "text", "messages"}
    | {"conversations", "instruction", "output", "instances"}
)
"Keys that hold what is learned from: a format is only believed when it explains all of them."
_LIKELY = {
    "prompt": "question query input user_prompt context",
    "completion": "answer response reply canonical_solution target continuation output_text",
    "chosen": "preferred chosen_response preferred_output winner better accepted",
    "rejected": "dispreferred rejected_response non_preferred_output loser worse",
}
"What others call our columns, the likeliest first."


def named(name: str) -> Format:
    """The format of that name. Raises TrueupError E211 with the nearest name."""
    formats = all_formats()
    if name in formats:
        return formats[name]
    close = nearest(name, formats)
    remedy = (f"did you mean {close}? " if close else "") + "The formats: " + ", ".join(formats)
    raise TrueupError("E211", f"no format is called {name!r}", where="--format", remedy=remedy)


def detect(rows: Sequence[Mapping[str, Any]], where: str) -> tuple[Format, str]:
    """The one format that the rows have, and why. Raises TrueupError E202 (none) or E204 (more than one)."""
    votes = Counter(names for names in map(candidates, rows) if names)
    if not votes:
        raise _unknown(rows, where)
    clear = [names for names, _ in votes.most_common() if len(names) == 1]
    if not clear or votes[clear[0]] < MAJORITY * votes.total():
        raise _ambiguous(votes, clear, where)
    found = all_formats()[clear[0][0]]
    example = next(row for row in rows if candidates(row) == clear[0])
    used = ", ".join(printable(key) for key in example if key in found.keys)
    return found, f"{votes[clear[0]]} of {len(rows)} rows have {used}"


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
    """Content keys, also misspelt ones, that the format would pass over."""
    other = (key for key in row if key not in item.keys and key not in item.beside)
    return [key for key in other if key in CONTENT or _misspelt(key)]


@cache
def _misspelt(key: str) -> str:
    return nearest(key, CONTENT, cutoff=0.85) if isinstance(key, str) else ""


def _ambiguous(votes: Counter[tuple[str, ...]], clear: list[tuple[str, ...]], where: str) -> TrueupError:
    divided = [names for names, _ in votes.most_common() if len(names) > 1]
    parts = [f"{votes[names]} rows look like {names[0]}" for names in clear[:4]]
    parts += [f"{votes[names]} like {' or '.join(names)}" for names in divided[:3]]
    choices = dict.fromkeys(name for names in (*clear, *divided) for name in names)
    remedy = "name it: " + " or ".join(f"--format {name}" for name in list(choices)[:4])
    return TrueupError("E204", "the format is ambiguous: " + "; ".join(parts), where=where, remedy=remedy)


def _unknown(rows: Sequence[Mapping[str, Any]], where: str) -> TrueupError:
    keys: Counter[str] = Counter(key for row in rows for key in row)
    common = dict.fromkeys(key for key, _ in keys.most_common(12))
    misspelt = [(key, _misspelt(key)) for key in common if key not in CONTENT and _misspelt(key)]
    maps = [
        f"--columns.{ours} {printable(theirs)}"
        for ours, likely in _LIKELY.items()
        if ours not in common
        for theirs in likely.split()
        if theirs in common
    ]
    if misspelt:
        remedy = "rename " + ", ".join(f'"{printable(key)}" to "{close}"' for key, close in misspelt)
    elif maps:
        remedy = "say which column is which, perhaps " + " ".join(maps[:3])
    else:
        remedy = "say which column is which with --columns.prompt NAME, or name the format with --format"
    reason = f"no known format has these fields (found: {keys_of(common)})"
    return TrueupError("E202", reason, where=where, remedy=remedy)
