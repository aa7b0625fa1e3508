"""What commands that measure a model share: what they write and print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trueup.engine.groups import Group


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
