"""The warnings of a run, kept so that they stand at its end too, when what came first has scrolled away."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from trueup.engine import disk
from trueup.errors import TrueupError
from trueup.settings.json_files import read_regular, refuse

FILE = "warnings.json"


@contextmanager
def keeping(folder: Path) -> Iterator[None]:
    """Nothing; what is warned of meanwhile is added to the folder's warnings, once each."""
    said = warnings_of(folder)

    def note(record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING and (text := record.getMessage()) not in said:
            said.append(text)
            with suppress(TrueupError):  # A disk that is full says so in the run's own next write.
                disk.write(folder / FILE, json.dumps(said, indent=1) + "\n")
        return True

    logger = logging.getLogger("trueup")
    logger.addFilter(note)
    try:
        yield
    finally:
        logger.removeFilter(note)


def warnings_of(folder: Path) -> list[str]:
    """What a run warned of, in order."""
    path = folder / FILE
    if not path.is_file():
        return []
    remedy = "remove the file: the run does not depend on it"
    try:
        said = json.loads(read_regular(path, remedy=remedy))
    except (ValueError, RecursionError) as error:
        refuse(path, f"damaged: not JSON ({type(error).__name__})", remedy)
    if not isinstance(said, list) or not all(isinstance(text, str) for text in said):
        refuse(path, "damaged: no list of texts", remedy)
    return said
