"""samples.jsonl: what the policy said to a few held-out prompts, at the first and at the last evaluations.

A line is a group whose `meta` has the step. The file stays small, and a run that was stopped and resumed
leaves the same bytes: what it kept of steps that are made again is dropped before they are.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from trueup.engine import disk
from trueup.engine.groups import Completion, Group, to_json
from trueup.engine.method import Method

FILE = "samples.jsonl"
PROMPTS, EVALUATIONS, CHARACTERS = 4, 8, 2000
"How many prompts, how many evaluations beside the first, and how much of a text is kept."


def samples_policy(method: Method) -> bool:
    """Whether the held-out completions are the policy's own, written at each evaluation."""
    source = method.held_out
    return source is not None and bool(getattr(source, "samples", "sampled_logprobs" in source.writes))


def keep_samples(folder: Path, step: int, groups: Sequence[Group]) -> None:
    """Nothing; the file has the first completion of the first groups, as of this step."""
    path = folder / FILE
    kept = [row for row in _rows(path) if row["meta"]["step"] < step]
    kept += [to_json(_short(group, step)) for group in groups[:PROMPTS] if group.completions]
    steps = sorted({row["meta"]["step"] for row in kept})
    shown = {*steps[:1], *steps[-EVALUATIONS:]}
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in kept if row["meta"]["step"] in shown]
    disk.write(path, "".join(lines))


def _rows(path: Path) -> list[dict[str, Any]]:
    """The lines of before; a file that is none of ours is written anew."""
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return rows if all(type(row["meta"]["step"]) is int for row in rows) else []
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return []


def _short(group: Group, step: int) -> Group:
    """The group with one completion and its numbers, without tokens, no text longer than is kept."""
    first = group.completions[0]
    return Group(
        prompt=tuple(replace(m, content=_cut(m.content)) for m in group.prompt),
        completions=(
            Completion(
                text=_cut(first.text), source=first.source, finished=first.finished, marks=first.marks
            ),
        ),
        id=group.id,
        meta={"step": step},
    )


def _cut(text: str) -> str:
    return text if len(text) <= CHARACTERS else f"{text[:CHARACTERS]} … ({len(text) - CHARACTERS} more)"
