"""A run's other ranks: what they do while the first one leads, and which runs can have any."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from trueup.errors import TrueupError
from trueup.runs.devices import world_size
from trueup.runs.done import Done, check_handed_on

if TYPE_CHECKING:
    from trueup.engine.method import Method
    from trueup.engine.ranks import Ranks
    from trueup.settings.blocks import ModelSettings

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


def refuse_ranks() -> None:
    """Nothing; raises E873 where a launcher has started several processes of what only one can do."""
    if world_size() > 1:
        raise TrueupError(
            "E873",
            f"{world_size()} processes were started, and of all commands `train` alone uses more than one",
            remedy="start this once, without torchrun; `trueup train` takes torchrun and --devices",
        )


def check_trains(module: ModuleType, ranks: Ranks | None) -> None:
    """Nothing; raises E873 where several ranks would run what trains nothing."""
    if ranks is not None and "build" not in vars(module):
        raise TrueupError(
            "E873",
            f"{module.__name__.rpartition('.')[2]} trains nothing, and several devices only train together",
            where="--devices",
            remedy="run it on one: leave --devices and torchrun out",
        )


def check_devices(method: Method, model: ModelSettings, ranks: Ranks) -> None:
    """Nothing; raises E873 for an update over a whole minibatch, E874 for weights that stay in one piece."""
    if ranks.count > 1 and not getattr(method.update, "shared_out", True):
        raise TrueupError(
            "E873",
            f"the update of {method.name} measures distances over the whole minibatch on one device",
            where="--devices",
            remedy="leave --devices out, or take ppo, which bounds its steps without them",
        )
    if ranks.sharded and model.lora is not None and model.lora.quantise != "none":
        raise TrueupError(
            "E874",
            "weights in 4 bits cannot be sharded: their scales lie beside them",
            where="--shard",
            remedy="leave --shard out: each device then has the base whole; or set model.lora.quantise: none",
        )
