"""The lab's demonstrations without those of some kinds: what a model that only helps is taught."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import Ge

import trueup.lab as lab
from trueup.engine.groups import write_jsonl
from trueup.runs import meter as metering
from trueup.runs.recipe import Done
from trueup.settings.schema import Word

SUMMARY = "Pick the lab's demonstrations without those of some kinds, for a model that only helps."
OUTPUT = "groups.jsonl"


@dataclass(frozen=True, kw_only=True)
class Config:
    """How many demonstrations are looked through, and which are left out."""

    num_demonstrations: Annotated[int, Ge(1)] = 600
    without: tuple[Word, ...] = ("harmful", "toxic_start")
    "Kinds of requests that nothing is shown of; the model then answers these as it answers any other."
    seed: int = 0


def run(config: Config, folder: Path, *, stop_requested: Callable[[], str]) -> Done:
    """`groups.jsonl`: the demonstrations that are left, in the lab's order."""
    shown = lab.demonstrations(config.num_demonstrations)
    kept = [group for group in shown if group.meta["request"]["kind"] not in config.without]
    write_jsonl(str(folder / OUTPUT), kept)
    metrics = {"rows": float(len(kept)), "dropped/kind": float(len(shown) - len(kept))}
    meter = metering.Meter(folder)
    meter.write(0, metrics, phase="demonstrations_of")
    return Done(output=OUTPUT, metrics=metrics, cost=vars(meter.spend(0, tokens_trained=0, tokens_sampled=0)))
