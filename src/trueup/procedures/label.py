"""Preferences from simulated labelers: sample from a policy, let labelers compare, write the groups down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import trueup.lab as lab
from trueup import meter as metering
from trueup.groups import write_jsonl
from trueup.method import Role
from trueup.order import derive
from trueup.run import Done
from trueup.settings import DataSettings, ModelSettings
from trueup.sources.open import open_groups
from trueup.sources.sample import Decoding, sample_groups
from trueup.training import open_chat, open_network, pick_device

SUMMARY = "Sample from a policy and let the lab's labelers compare the samples."
OUTPUT = "groups.jsonl"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Simulated preference collection on the policy's own samples."""

    model: ModelSettings = ModelSettings()
    "The policy that is sampled."
    data: DataSettings = DataSettings(path="lab:prompts", held_out=0.0)
    num_completions: int = 4
    "Samples per prompt."
    kind: Literal["comparisons", "ranking"] = "comparisons"
    num_comparisons: int = 2
    "Comparisons per prompt, of different pairs."
    decoding: Decoding = Decoding()
    seed: int = 0


def run(config: Config, folder: Path, *, stop_requested: Callable[[], str]) -> Done:
    """The labelled groups, in `groups.jsonl`."""
    chat = open_chat(config.model)
    opened = open_groups(config.data, chat, seed=config.seed)
    device = pick_device(config.model.device)
    network = open_network(Role(trained=False), config.model, device, seed=config.seed)
    meter = metering.Meter(folder)
    sampled = sample_groups(
        opened.train,
        network,
        decode=chat.decode,
        stop_ids=chat.stop_ids,
        k=config.num_completions,
        decoding=config.decoding,
        seed=derive(config.seed, "label"),
    )
    labelled = lab.label(sampled, config.seed, config.kind, num_comparisons=config.num_comparisons)
    write_jsonl(str(folder / OUTPUT), labelled)
    tokens = sum(c.num_tokens for g in sampled for c in g.completions)
    cost = meter.spend(0, tokens_trained=0, tokens_sampled=tokens)
    pairs = sum(len(g.pairs()) for g in labelled)
    meter.write(0, {"pairs": pairs, "groups": len(labelled)}, phase="label")
    return Done(output=OUTPUT, metrics={"pairs": pairs, "groups": len(labelled)}, cost=vars(cost))
