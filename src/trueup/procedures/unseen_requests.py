"""Requests of the lab that its corpus neither critiques nor judges, for a model to critique and judge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import Ge

import trueup.lab as lab
from trueup import meter as metering
from trueup.constitution.overlap import CORPUS_TOKENS, lessons, subject
from trueup.errors import TrueupError
from trueup.groups import write_jsonl
from trueup.lab.world import Split
from trueup.run import Done

SUMMARY = "Pick requests of the lab that its corpus neither critiques nor judges."
OUTPUT = "groups.jsonl"


@dataclass(frozen=True, kw_only=True)
class Config:
    """The lab's requests without those that a critique or a judgement of its corpus is about."""

    split: Split = "train"
    num_prompts: Annotated[int, Ge(1)] = 12000
    "Requests that are looked through."
    kinds: tuple[str, ...] = ("harmful", "toxic_start")
    "Kinds of requests to pick."
    corpus_tokens: Annotated[int, Ge(1)] = CORPUS_TOKENS
    "About how many tokens of the corpus the critic has read; unless given, as many as `lab:base`."
    corpus_seed: int = 0
    seed: int = 0


def run(config: Config, folder: Path, *, stop_requested: Callable[[], str]) -> Done:
    """`groups.jsonl`: prompts alone, in the lab's order. E601 where none is left."""
    taught = lessons(config.corpus_tokens, config.corpus_seed)
    asked = [
        group
        for group in lab.prompts(config.split, config.num_prompts, config.seed)
        if group.meta["request"]["kind"] in config.kinds
    ]
    unseen = [group for group in asked if subject(group) not in taught]
    if not unseen:
        raise TrueupError(
            "E601",
            f"no prompt is left of {len(asked)}",
            where="kinds",
            remedy=f"more `num_prompts`, or other kinds than {', '.join(config.kinds) or 'none'}",
        )
    write_jsonl(str(folder / OUTPUT), unseen)
    kept = Counter(group.meta["request"]["kind"] for group in unseen)
    metrics = {"prompts": float(len(unseen)), "dropped/taught": float(len(asked) - len(unseen))}
    metrics |= {f"prompts/{kind}": float(kept[kind]) for kind in config.kinds}
    meter = metering.Meter(folder)
    meter.write(0, metrics, phase="unseen_requests")
    cost = meter.spend(0, tokens_trained=0, tokens_sampled=0)
    return Done(output=OUTPUT, metrics=metrics, cost=vars(cost))
