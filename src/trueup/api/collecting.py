"""What people said, collected from a notebook: the app in the background, and its groups at any moment."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from trueup.engine.groups import Group, from_json

OWNER = "owner"


@final
class Collection:
    """An open project. Its app is served from this process, on this machine alone, until `close`."""

    def __init__(self, project: Path, port: int) -> None:
        from trueup.answerers.door import listen
        from trueup.collecting.open import open_project

        self._opened = open_project(project)
        self._server, self._place = self._opened.server(), listen(port)
        self.address = f"http://127.0.0.1:{self._place.getsockname()[1]}"
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._place]}, daemon=True, name="trueup collect"
        )
        self._thread.start()

    @property
    def data(self) -> str:
        """What `data` of a run reads it by: the store as it is now, the same rows for ever."""
        return f"collect:{self._opened.store.place}?until={self._rows()[1]}"

    @property
    def groups(self) -> list[Group]:
        """What was said so far."""
        return [from_json(row) for row in self._rows()[0]]

    @property
    def board(self) -> dict[str, Any]:
        """How the project stands: `blocks`, `agreement`, `sides`, `people`, and the models, `rated`."""
        from trueup.collecting.board import standing

        return standing(self._opened.store, time.time())

    @property
    def report(self) -> dict[str, Any]:
        """Whose values: `groups`, `pairs`, `models`, `preferences`, `values`, and what is `said` of them."""
        from trueup.collecting.whose import groups_report

        return groups_report(self._opened.store)

    def invite(self, name: str = OWNER, role: str = "", group: str = "") -> str:
        """A link that lets somebody in, and makes an earlier one of theirs void. Raises E885."""
        role = role or ("owner" if name == OWNER else "annotator")
        return f"{self.address}/join/{self._opened.people.invite(name, role, group)}"

    def round(self, block: str, models: Mapping[str, str], **settings: Any) -> int:
        """How many new tasks a round with new models brought; `settings` are those of `trueup collect round`.

        Raises E889 or E890, and what asking a model raises.
        """
        from trueup.collecting.rounds import Round, add_round

        asked = Round(models=models, **settings)
        return add_round(self._opened.store, self._opened.project, block, asked).tasks

    def export(self, out: str | os.PathLike[str]) -> Path:
        """The path of the groups as they are now, as a file."""
        from trueup.collecting.exports import export

        export(self._opened.store, Path(out))
        return Path(out)

    def backup(self, out: str | os.PathLike[str]) -> Path:
        """The path of a copy of the store, made while it is in use. Raises E883 for PostgreSQL."""
        return self._opened.store.backup(Path(out))

    def _rows(self) -> tuple[list[dict[str, Any]], int]:
        from trueup.collecting.exports import exported_rows

        return exported_rows(self._opened.store)

    def close(self) -> None:
        """Nothing; the app is ended, what was said stays in the store."""
        self._server.should_exit = True
        self._thread.join()
        self._place.close()
        self._opened.store.close()


def collect(project: str | os.PathLike[str], *, port: int = 0) -> Collection:
    """The project of a YAML file, served in the background; port 0 is any free one.

    Raises E801 or E7xx for settings, E811 without `trueup[collect]`, E880 to E882 for the store, E885 for
    rows that cannot be tasks.
    """
    return Collection(Path(project), port)
