"""What somebody typed over the stages of a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trueup.settings.blocks import LoopSettings
from trueup.settings.config import typed


def typed_stages(values: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    """What was typed over a file of stages, each as `typed` has it; `keys` are where stages stand by name."""
    made = dict(values)
    for key in keys:
        stages = made.get(key)
        if isinstance(stages, Mapping):
            made[key] = {
                name: typed(AnyStage, given, f"{key}.{name}") if isinstance(given, Mapping) else given
                for name, given in stages.items()
            }
    return made


@dataclass(frozen=True, kw_only=True)
class AnyStage:
    """What every stage has that trains, whatever its method."""

    loop: LoopSettings = field(default_factory=LoopSettings)
