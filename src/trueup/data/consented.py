"""Prompts of people who agree to their being kept: redacted before disk, and gone after some days.

A row is `{"prompt": [{"role": "user", ...}], "day": "2026-01-31"}`; a plain prompt is a text there.
The day alone is kept of the time, and nothing of who asked, nor of the answer.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from trueup.data.personal import Numbered, find_personal
from trueup.engine import disk
from trueup.engine.groups import Message, Role
from trueup.errors import TrueupError

HEADER = "trueup-consent"
"The request's header by which a person agrees, with the value `yes`; without it nothing is kept."
_PAUSE = 3600.0
"Seconds between two looks at whether a day has passed."


class Consented:
    """A file of consented prompts, of the last `days` days; what is older goes at the start and each day."""

    def __init__(self, path: Path, days: int, today: Callable[[], date] | None = None) -> None:
        self._path, self._days, self._today = path, days, today or _utc
        self._lock, self._swept = threading.Lock(), self._today()
        find_personal("")  # Raises E732 at the start rather than at the first prompt.
        self._sweep()

    def keep(self, asked: Sequence[Message]) -> None:
        """Nothing; what was asked is the file's last row, on disk when this returns."""
        hide = Numbered()
        turns = [{"role": str(turn.role), "content": hide(turn.content)} for turn in asked]
        plain = len(asked) == 1 and asked[0].role is Role.TEXT
        prompt = turns[0]["content"] if plain else turns
        with self._lock:
            line = json.dumps({"prompt": prompt, "day": self._today().isoformat()}, ensure_ascii=True)
            disk.append(self._path, f"{line}\n".encode(), synced=True)

    def sweep_daily(self) -> None:
        """Nothing; once a day has passed, rows that are too old are gone."""
        with self._lock:
            if (today := self._today()) != self._swept:
                self._sweep()
                self._swept = today

    def watch(self) -> None:
        """Nothing; from now on rows that grow too old go, whether anybody asks or not."""
        pause = threading.Event()

        def go_on() -> None:
            while not pause.wait(_PAUSE):
                self.sweep_daily()

        threading.Thread(target=go_on, daemon=True).start()

    def _sweep(self) -> None:
        if not self._path.exists():
            return
        oldest = self._today() - timedelta(days=self._days)
        lines = self._path.read_text(encoding="utf-8").splitlines(keepends=True)
        young = [line for number, line in enumerate(lines, 1) if self._day(line, number) > oldest]
        if len(young) < len(lines):
            disk.write(self._path, "".join(young))

    def _day(self, line: str, number: int) -> date:
        try:
            return date.fromisoformat(json.loads(line)["day"])
        except (ValueError, KeyError, TypeError):
            raise TrueupError(
                "E439",
                "is no row that `trueup serve --collect` wrote, so its age is not known",
                where=f"{self._path}:{number}",
                remedy="name another file with --collect, or remove the line",
            ) from None


def _utc() -> date:
    return datetime.now(UTC).date()
