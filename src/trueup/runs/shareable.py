"""What can be done on several devices, and in parts."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

from trueup.errors import TrueupError
from trueup.runs.devices import world_size

if TYPE_CHECKING:
    from trueup.engine.method import Method
    from trueup.engine.ranks import Ranks
    from trueup.settings.blocks import ModelSettings


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
