"""The tasks that sample from the policy, by name, with where each one's items come from.

A room that has such tasks on files of a user's lists them in its `sampling.py`, where they are found. A world
may have some on items of its own.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from trueup.engine.groups import Group
from trueup.evals.tasks import Task


@dataclass(frozen=True, kw_only=True, eq=False)
class Entry:
    """A task that samples; either `read` or `items` gives what it is run on."""

    task: Task
    about: str
    "One line: what is measured."
    reference: str
    rows: str = ""
    "The columns of its file."
    read: Callable[[Path], list[Group]] | None = None
    "The items of a file."
    items: Callable[[Any], list[Group]] | None = None
    "The items of a split, where a world has its own."


@cache
def sampling_entries() -> Mapping[str, Entry]:
    """The tasks that sample, on files, by name; NAME_overridden is NAME behind an adversarial suffix."""
    rooms = sorted(path.parent.name for path in Path(__file__).parents[1].glob("*/sampling.py"))
    listed = [vars(importlib.import_module(f"trueup.{room}.sampling"))["ENTRIES"] for room in rooms]
    return {entry.task.name: entry for entries in listed for entry in entries}
