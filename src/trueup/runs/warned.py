"""The warnings of a run, kept so that they stand at its end too, when what came first has scrolled away."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FILE = "warnings.json"


@contextmanager
def keeping(folder: Path) -> Iterator[None]:
    """Nothing; what is warned of meanwhile is added to the folder's warnings, once each."""
    said = warnings_of(folder)

    def note(record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING and (text := record.getMessage()) not in said:
            said.append(text)
        return True

    logger = logging.getLogger("trueup")
    logger.addFilter(note)
    try:
        yield
    finally:
        logger.removeFilter(note)
        if said:
            (folder / FILE).write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")


def warnings_of(folder: Path) -> list[str]:
    """What a run warned of, in order."""
    path = folder / FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
