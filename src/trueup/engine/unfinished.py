"""A step that failed while it collected its groups: the run stands as it did before, and is saved so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from trueup.engine.method import Handles, Rule
from trueup.errors import TrueupError


class Collecting(Protocol):
    """What of a run's progress collecting moves on."""

    noted: list[dict[str, float]]
    tokens_sampled: int


class Leaving(Protocol):
    """What of a run's keeper is called."""

    @property
    def left(self) -> Callable[[Any, Handles, Rule], None]: ...


@contextmanager
def put_back(progress: Collecting, handles: Handles, rule: Rule, keeper: Leaving | None) -> Iterator[None]:
    """Inside, an error undoes what the step had begun, and saves: a server that is gone costs no step.

    Of several ranks one alone may have failed, and saving takes all: there the last checkpoint stands.
    """
    state, sampled = dict(handles.state), progress.tokens_sampled
    try:
        yield
    except TrueupError:
        handles.state.clear()
        handles.state.update(state)
        progress.noted, progress.tokens_sampled = [], sampled
        if keeper is not None and handles.ranks.count == 1:
            keeper.left(progress, handles, rule)
        raise
