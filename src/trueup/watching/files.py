"""The files of a folder that others write meanwhile: read only, each time no more than is new, none outside.

A file may be missing, grow, be cut back, end within a line, or be no file at all; all of that is ordinary.
What cannot be read is said in `faults` and read again at the next look.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trueup.errors import TrueupError
from trueup.settings.strict_yaml import read_yaml

WHOLE = 4 << 20
"Bytes of a file that is read whole."
AT_ONCE = 8 << 20
"Bytes of a file of lines that are read at one look; of a larger one the rest is read at the next."
LONGEST_LINE = 1 << 20
"Bytes; of a longer line nothing is kept."
_MARK = 64
"Bytes before the place reached, by which a file that was cut back and has grown again is recognised."


class Files:
    """A folder's files by name, opened for reading; a link is followed as long as it stays inside."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.faults: dict[str, str] = {}
        "By name what is wrong with a file, for as long as it is."
        self._known: dict[str, tuple[tuple[int, ...], Any]] = {}

    def open(self, name: str) -> int | None:
        """A handle on a regular file inside the folder; None where there is none, with the fault noted."""
        self.faults.pop(name, None)
        path = self.root / name
        try:
            # Without O_NONBLOCK a named pipe would be waited for.
            real = Path(os.path.realpath(path))
            handle = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            self.faults[name] = str(getattr(error, "strerror", None) or error)
            return None
        inside = real.is_relative_to(os.path.realpath(self.root))
        if inside and stat.S_ISREG(os.fstat(handle).st_mode):
            return handle
        os.close(handle)
        self.faults[name] = "leads out of the run's folder" if not inside else "not a regular file"
        return None

    def age(self, name: str, now: float) -> float | None:
        """Seconds since a file was last written to; None where there is none."""
        try:
            return max(0.0, now - os.stat(self.root / name, follow_symlinks=False).st_mtime)
        except (OSError, ValueError):
            return None

    def json(self, name: str, kind: type) -> Any:
        """The JSON value in a small file, if it is of a kind; else None."""

        def parse(data: bytes) -> Any:
            found = json.loads(data)
            if not isinstance(found, kind):
                raise ValueError(f"no JSON {'object' if kind is dict else 'list'}")
            return found

        return self._whole(name, parse)

    def yaml(self, name: str) -> dict[str, Any]:
        """The settings in a small file; empty where there are none."""
        path = self.root / name
        return self._whole(name, lambda _: dict(read_yaml(path).values)) or {}

    def rows(self, name: str) -> list[dict[str, Any]]:
        """The JSON objects on the lines of a small file; what is none is left out."""
        return self._whole(name, lambda data: [r for r in map(row_of, data.split(b"\n")) if r]) or []

    def last_line(self, name: str) -> str:
        """The last line of a text that is not blank, of its last 4 KiB; "" where there is none."""

        def parse(data: bytes) -> str:
            return next((t for t in reversed(data.decode("utf-8", "replace").splitlines()) if t.strip()), "")

        return self._whole(name, parse, last=4096) or ""

    def _whole(self, name: str, parse: Callable[[bytes], Any], last: int = 0) -> Any:
        """What a file's bytes, or its `last` ones, are parsed to; parsed again only once it has changed."""
        handle = self.open(name)
        if handle is None:
            self._known.pop(name, None)
            return None
        try:
            facts = os.fstat(handle)
            key = (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns)
            if name not in self._known or self._known[name][0] != key:
                if facts.st_size > WHOLE and not last:
                    raise ValueError(f"{facts.st_size} bytes are too many to read whole")
                begin = max(0, facts.st_size - last) if last else 0
                self._known[name] = (key, parse(os.pread(handle, last or WHOLE, begin)))
            return self._known[name][1]
        except TrueupError as error:
            self.faults[name] = error.reason
        except (OSError, ValueError, RecursionError) as error:
            self.faults[name] = str(error).partition("\n")[0] or type(error).__name__
        finally:
            os.close(handle)
        return None


def row_of(line: bytes) -> dict[str, Any] | None:
    """The JSON object in a line; None for what is none."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


class Tail:
    """A file of lines that grows: each look gives the whole lines that are new."""

    def __init__(self, files: Files, name: str) -> None:
        self._files, self._name = files, name
        self._file: tuple[int, int] = (0, 0)
        self._at, self._mark, self._skips = 0, b"", False
        self.left = 0
        "Bytes that are there and were not read yet."
        self.dropped = 0
        "Lines that were too long to be kept."

    def read(self) -> tuple[bool, list[bytes]]:
        """Whether the file began anew, so that all lines before are void; and the new lines without ends.

        A last line without its end is left for the next look.
        """
        handle = self._files.open(self._name)
        if handle is None:
            anew, self.left = self._at > 0, 0
            self._begin((0, 0))
            return anew, []
        try:
            facts = os.fstat(handle)
            file = (facts.st_dev, facts.st_ino)
            anew = bool(self._at) and (file != self._file or not self._continues(handle, facts.st_size))
            if anew or file != self._file:
                self._begin(file)
            data = os.pread(handle, min(AT_ONCE, max(0, facts.st_size - self._at)), self._at)
            lines = self._take(data)
            self.left = max(0, facts.st_size - self._at)
            return anew, lines
        except OSError as error:
            self._files.faults[self._name] = error.strerror or str(error)
            return False, []
        finally:
            os.close(handle)

    def _begin(self, file: tuple[int, int]) -> None:
        self._file, self._at, self._mark, self._skips, self.dropped = file, 0, b"", False, 0

    def _continues(self, handle: int, size: int) -> bool:
        """Whether what was read still stands before the place that was reached."""
        return (
            size >= self._at and os.pread(handle, len(self._mark), self._at - len(self._mark)) == self._mark
        )

    def _take(self, data: bytes) -> list[bytes]:
        """The whole lines of the bytes at the place reached, which moves on behind them."""
        end = data.rfind(b"\n") + 1
        if not end and len(data) >= LONGEST_LINE:  # no end in sight: nothing of this line is kept
            self.dropped += not self._skips
            self._skips, end = True, len(data)
            self._move(data)
            return []
        lines = data[:end].split(b"\n")[:-1] if end else []
        if lines and self._skips:
            del lines[0]
            self._skips = False
        if end:
            self._move(data[:end])
        kept = [line for line in lines if len(line) <= LONGEST_LINE]
        self.dropped += len(lines) - len(kept)
        return kept

    def _move(self, data: bytes) -> None:
        self._at += len(data)
        self._mark = (self._mark + data[-_MARK:])[-_MARK:]
