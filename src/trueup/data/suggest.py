"""What others call our columns, and a map of a file's columns that has been tried before it is proposed."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from trueup.data.columns import rename

_LIKELY = {
    "prompt": "question query input user_prompt context instruction human user problem task message request",
    "completion": (
        "answer response reply canonical_solution target continuation output output_text solution assistant"
        " generated_text generation model_output summary"
    ),
    "chosen": (
        "preferred chosen_response preferred_output preferred_response winner better best accepted good"
        " positive response_chosen answer_chosen win pos"
    ),
    "rejected": (
        "dispreferred rejected_response non_preferred_output non_preferred_response loser worse worst bad"
        " negative response_rejected answer_rejected lose neg unpreferred"
    ),
    "label": "good thumbs_up liked is_good feedback rating vote thumb desirable",
    "messages": "conversation dialogue dialog chat turns history",
    "text": "content document body passage story",
}
"What others call our columns, the likeliest first."
OTHER_NAMES = frozenset(name for names in _LIKELY.values() for name in names.split())
_TARGETS: dict[str, tuple[tuple[str, ...], ...]] = {
    "comparisons": (("prompt", "chosen", "rejected"), ("chosen", "rejected")),
    "labels": (("prompt", "completion", "label"),),
    "demonstrations": (("prompt", "completion"), ("messages",), ("text",)),
    "prompts": (("prompt",),),
}
"Columns that a format needs, by what its rows give."
_INNER = ("text", "content", "full_text", "messages", "turns", "value")


def suggested(
    rows: Sequence[Mapping[str, Any]],
    keys: Iterable[str],
    needs: Sequence[str],
    *,
    reads: Callable[[Sequence[Mapping[str, Any]]], bool],
) -> str:
    """Options that name the columns such that `reads` takes the rows: `--columns.prompt question`; or "".

    Rows that give what is needed are tried first.
    """
    wanted = [need for need in needs if need in _TARGETS]
    shapes = [shape for kind in dict.fromkeys((*wanted, *_TARGETS)) for shape in _TARGETS[kind]]
    names = [key for key in keys if isinstance(key, str)]
    for shape in shapes:
        found = _assigned(shape, names, rows[0] if rows else {})
        if found and reads([rename(dict(row), found) for row in rows[:100]]):
            return " ".join(f"--columns.{ours} {shlex.quote(theirs)}" for ours, theirs in found.items())
    return ""


def _assigned(shape: tuple[str, ...], names: Sequence[str], row: Mapping[str, Any]) -> dict[str, str]:
    """Their name of every column of the shape that is not there under ours; {} unless all are found."""
    found: dict[str, str] = {}
    plain = {_plain(name): name for name in reversed(names)}
    for ours in shape:
        if ours in names:
            continue
        likely = [word for word in (ours, *_LIKELY[ours].split()) if word in plain]
        close = likely or get_close_matches(ours, list(plain), n=1, cutoff=0.85)
        left = [plain[word] for word in close if plain[word] not in found.values()]
        if not left:
            return {}
        inner = row.get(left[0])
        deeper = next((k for k in _INNER if k in inner), "") if isinstance(inner, Mapping) else ""
        found[ours] = f"{left[0]}.{deeper}" if deeper else left[0]
    return found


def _plain(name: str) -> str:
    return "_".join(name.lower().replace("-", " ").replace("_", " ").split())
