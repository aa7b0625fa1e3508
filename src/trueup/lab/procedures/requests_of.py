"""The lab's requests of some kinds, about people and acts that its corpus never names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import Ge

import trueup.lab as lab
from trueup.engine.groups import write_jsonl
from trueup.errors import TrueupError
from trueup.lab.world import NewSplit, Split
from trueup.runs import meter as metering
from trueup.runs.recipe import Done
from trueup.settings.schema import Word

SUMMARY = "Pick the lab's requests of some kinds, for a model to answer, critique and judge."
OUTPUT = "groups.jsonl"


@dataclass(frozen=True, kw_only=True)
class Config:
    """How many of the lab's prompts are looked through, and which are kept."""

    split: Split | NewSplit = "new_train"
    "Whom the requests are about; nobody of a split `new_...` is named in the corpus, and no harm done there."
    num_prompts: Annotated[int, Ge(1)] = 4000
    "Prompts that are looked through."
    kinds: tuple[Word, ...] = ("harmful", "toxic_start")
    "Kinds of requests to keep."
    seed: int = 0


def run(config: Config, folder: Path, *, stop_requested: Callable[[], str]) -> Done:
    """`groups.jsonl`: prompts alone, in the lab's order. E825 where none is left."""
    drawn = lab.prompts(config.split, config.num_prompts, config.seed)
    kept = [group for group in drawn if group.meta["request"]["kind"] in config.kinds]
    if not kept:
        raise TrueupError(
            "E825",
            f"no prompt is left of {len(drawn)}",
            where="kinds",
            remedy=f"more `num_prompts`, or other kinds than {', '.join(config.kinds) or 'none'}",
        )
    write_jsonl(str(folder / OUTPUT), kept)
    kinds = Counter(group.meta["request"]["kind"] for group in kept)
    metrics = {"prompts": float(len(kept)), "dropped/kind": float(len(drawn) - len(kept))}
    metrics |= {f"prompts/{kind}": float(kinds[kind]) for kind in config.kinds}
    meter = metering.Meter(folder)
    meter.write(0, metrics, phase="requests_of")
    return Done(output=OUTPUT, metrics=metrics, cost=vars(meter.spend(0, tokens_trained=0, tokens_sampled=0)))
