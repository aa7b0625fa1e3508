"""failed.json: the error that ended a stage, for who looks at its folder; gone once the stage runs again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from trueup.engine import disk
from trueup.errors import TrueupError
from trueup.runs.signals import Interrupted
from trueup.settings.secret import clean

FILE = "failed.json"


@contextmanager
def noting_failure(folder: Path) -> Iterator[None]:
    """Inside, an error is noted in the folder on its way out; a stop that was asked for is none."""
    disk.remove(folder / FILE)
    try:
        yield
    except Interrupted:
        raise
    except Exception as error:
        said = {"reason": f"{type(error).__name__}: {error}".strip().splitlines()[0]}
        if isinstance(error, TrueupError):
            said = {part: str(value) for part, value in error.to_json().items() if part != "exit"}
        with suppress(TrueupError):  # a disk that is full is what the error is about
            disk.write(folder / FILE, json.dumps({k: clean(v) for k, v in said.items()}, indent=1) + "\n")
        raise
