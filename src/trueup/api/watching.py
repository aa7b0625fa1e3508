"""Runs under way, looked at from a notebook."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, final

from trueup.watching import told
from trueup.watching.page import Watch


@final
class Watched:
    """Runs under way. Each time that it is shown it looks again; it reads their files and changes none."""

    def __init__(self, folders: tuple[Path, ...]) -> None:
        self._watch = Watch(folders)

    @property
    def runs(self) -> list[dict[str, Any]]:
        """Of each run, or stage at work, its `name`, `state`, `step`, `steps`, `seconds_left`, `metrics` now.

        What is not known is None. `metrics` are the last numbers by phase; one that is not finite is a text.
        """
        return self._watch.numbers()

    def write(self, out: str | os.PathLike[str]) -> Path:
        """The path of the page as the runs are now: one HTML file that needs nothing else."""
        return self._watch.write(Path(out))

    def __str__(self) -> str:
        return told.headline(self._watch.look_through())

    def _repr_html_(self) -> str:
        return self._watch.screen()


def watch(run: str | os.PathLike[str], *more: str | os.PathLike[str]) -> Watched:
    """Runs under way, by their folders, begun or not. Raises E862 for what is no folder."""
    return Watched(tuple(Path(folder) for folder in (run, *more)))
