"""What a run takes, before it is begun."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from types import ModuleType
from typing import Any

from trueup.api.models import GivenModel
from trueup.api.rows import Source
from trueup.api.training import GivenJudge, planned
from trueup.planning.plan import Asked, plan_of
from trueup.planning.printed import Plan
from trueup.planning.speed import MFU
from trueup.planning.work import Rows


def plan(
    method: str | os.PathLike[str] | ModuleType,
    *,
    gpu: str = "cpu",
    mfu: float = MFU,
    rows: int | None = None,
    row_tokens: int | None = None,
    runs: int | None = None,
    model: GivenModel | Mapping[str, Any] | None = None,
    tokenizer: Any = None,
    data: Source | Mapping[str, Any] | None = None,
    prompts: Source | Mapping[str, Any] | None = None,
    judge: GivenJudge | None = None,
    world: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> Plan:
    """What a run takes on a device, `H100x8` or `cpu`: memory by part, speed, hours, what to change.

    The run is the one that `fit` would begin with the same method, model, data, prompts, judge, world and
    settings; no weight is read. `gpu` is a device and how many, `mfu` the share of its rate that is reached.
    `rows` and `row_tokens` stand in place of reading data; `runs` is so many runs alike, side by side.
    Raises E863 for a method that trains nothing, E864 for a model that cannot be counted,
    E865 for an unknown device.
    """
    found = planned(
        method, model=model, tokenizer=tokenizer, data=data, prompts=prompts, judge=judge, out=None,
        world=world, settings=settings,
    )  # fmt: skip
    asked = Asked(gpu=gpu, mfu=mfu, rows=Rows(num=rows, tokens=row_tokens), runs=runs)
    with found.given.holding(), found.in_place() as in_place:
        config = found.stage.config
        if hasattr(config, "data") and not isinstance(config.data, str):
            config = replace(config, data=in_place(config.data))
        return plan_of(found.stage.module, config, asked)
