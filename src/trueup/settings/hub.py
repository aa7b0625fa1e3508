"""Whether the Hugging Face hub answers: asked once, and not for long.

Its client tries an address that does not answer for a minute and more, a name that nothing resolves too.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
_ID = re.compile(r"(?!\.)[\w.-]+(/(?!\.)[\w.-]+)?(:[\w.-]+)?")
WITHIN = 2.0
"Seconds that the hub has for its first answer."


def within(call: Callable[[], T], seconds: float = WITHIN) -> T:
    """What a call returns. Raises what it raises, and TimeoutError where it takes longer."""
    found: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            found.append(call())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)  # resolving a name cannot be interrupted
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
    if not found:
        raise TimeoutError(f"no answer within {seconds:g} s")
    return found[0]


def unanswered() -> str:
    """Why the hub cannot be asked; "" where it answers, with whatever."""
    import huggingface_hub as hub
    from huggingface_hub import constants

    if hub.is_offline_mode():
        return "HF_HUB_OFFLINE is set"
    try:
        _answers(constants.ENDPOINT)
    except Exception as error:  # httpx's or httpx2's, as the client's version has it, and the system's own
        return f"{constants.ENDPOINT} does not answer ({str(error).strip() or type(error).__name__})"
    return ""


@cache
def _answers(endpoint: str) -> Any:
    """The answer's status; where there is none it raises, and the next asks again."""
    from huggingface_hub.utils import get_session

    return within(lambda: get_session().head(endpoint, timeout=WITHIN)).status_code


def was_fetched(dataset: str) -> bool:
    """Whether the cache may hold a data set: as the hub has it, or as `datasets` built it."""
    from huggingface_hub import constants

    built = os.environ.get("HF_DATASETS_CACHE") or Path(constants.HF_HOME) / "datasets"
    as_fetched = Path(constants.HF_HUB_CACHE) / f"datasets--{dataset.replace('/', '--')}"
    return as_fetched.is_dir() or (Path(built) / dataset.replace("/", "___").lower()).is_dir()


def fetched(name: str, *, data: bool = False) -> Path | None:
    """The folder in the cache that holds a model of an id, or a data set; None where there is none."""
    if _ID.fullmatch(name) is None:
        return None
    from huggingface_hub import constants

    repository = name.partition(":")[0].replace("/", "--")
    cached = Path(constants.HF_HUB_CACHE) / f"{'datasets' if data else 'models'}--{repository}"
    try:
        commit = (cached / "refs" / "main").read_text(encoding="utf-8").strip()
    except OSError:
        return None
    snapshot = cached / "snapshots" / commit
    return snapshot if snapshot.is_dir() else None


def use_cache() -> None:
    """Nothing; for the rest of this process the hub's client asks nobody, and takes what was fetched."""
    from huggingface_hub import constants

    constants.HF_HUB_OFFLINE = True
