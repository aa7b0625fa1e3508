"""Answers that the lab's people write to its prompts: stage one of InstructGPT, with people who err."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trueup.engine.groups import Completion, Group, write_jsonl
from trueup.errors import TrueupError
from trueup.lab.replies import reply
from trueup.lab.requests import Request
from trueup.lab.world import generator
from trueup.runs import meter as metering
from trueup.runs.recipe import Done
from trueup.settings.blocks import DataSettings
from trueup.sources.open import read_all

SUMMARY = "Let the lab's people write answers to its prompts: demonstrations, most of them good."
OUTPUT = "groups.jsonl"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Which of the lab's prompts are answered."""

    data: DataSettings = DataSettings(path="world:prompts", held_out=0.0)
    seed: int = 0


def run(config: Config, folder: Path, *, stop_requested: Callable[[], str]) -> Done:
    """`groups.jsonl`: each prompt with one answer; about three in four are right, complete or short."""
    asked = read_all(config.data, config.seed, folder / "quarantine.jsonl", ("prompts",))
    shown = [_answered(group, config.seed) for group in asked.groups]
    write_jsonl(str(folder / OUTPUT), shown)
    metrics = {"demonstrations": float(len(shown))}
    meter = metering.Meter(folder)
    meter.write(0, metrics, phase="demonstrate")
    return Done(output=OUTPUT, metrics=metrics, cost=vars(meter.spend(0, tokens_trained=0, tokens_sampled=0)))


def _answered(group: Group, seed: int) -> Group:
    if "request" not in group.meta:
        raise TrueupError(
            "E704",
            "the lab's people answer the lab's prompts alone",
            where=f"row {group.id}",
            remedy="give demonstrations of your own to `sft` as --data.path",
        )
    rng = generator("demonstrate", seed, group.id)
    text = reply(rng, Request(messages=group.prompt, record=group.meta["request"]), "demonstration")
    return group.with_completions([Completion(text=text, source="demonstrator")])
