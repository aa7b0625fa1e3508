"""What commands that measure a model share: the model as a policy, and what they write and print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trueup.engine.groups import Group
    from trueup.evals.view import PolicyView


def open_policy(
    model: str, *, dialogues: int = 0, context: str = "world:hhh", template: str | None = None
) -> PolicyView:
    """The model of a folder, an id or `world:base` as a policy, behind the first dialogues of a context."""
    from trueup.evals.view import open_view
    from trueup.sources.context import open_context

    prefix = open_context(context, dialogues) if dialogues else ()
    return open_view(model, model, template=template, prefix=prefix)


def write_groups(out: Path | None, groups: Sequence[Group]) -> None:
    """Nothing; the groups are in the file, where one is named."""
    from trueup.engine.groups import write_jsonl

    if out is not None:
        write_jsonl(str(out), groups)


def estimate_line(row: Mapping[str, Any]) -> str:
    """An estimate as JSON holds it, as text: `0.250 [0.210, 0.290]  n 200`."""
    interval = row["ci95"]
    shown = f"[{interval[0]:.3f}, {interval[1]:.3f}]" if interval else ""
    return f"{row['mean']:.3f} {shown}  n {row['n']}"
