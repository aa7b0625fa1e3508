"""A run's other ranks: what they do while the first one leads."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from trueup.runs.done import Done, check_handed_on

if TYPE_CHECKING:
    from trueup.engine.ranks import Ranks

BEGIN, FOUND = "begin", "found"
"What the first rank says of a stage: that it trains now, or that it was done before."


def follow(
    module: ModuleType, config: Any, folder: Path, ranks: Ranks, stop_requested: Callable[[], str]
) -> Done:
    """What the stage in `folder` handed on; this rank trains along, and writes nothing there."""
    if ranks.first(None) == FOUND:
        return check_handed_on(folder)
    from trueup.runs.training import train  # torch is there: ranks have met

    with tempfile.TemporaryDirectory(prefix="trueup-rank-") as aside:
        trained = train(module, config, Path(aside), stop_requested=stop_requested, ranks=ranks)
    return Done(output="model", metrics=trained.metrics, cost=dataclasses.asdict(trained.cost))
