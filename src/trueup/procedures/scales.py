"""Judges brought to one scale: measured once on a start policy's own samples, and written down as their sum.

    n_i(s) = (s − mean_i) / std_i          mean and std over samples of the start policy

A weighted sum of rewards means nothing while one runs from 0 to 1 and another from −5 to 5. What this stage
writes is an ordinary weighted sum with every number declared, so `stage:NAME?helpful=0.3&short=0.7` is a
linear scalarisation (Barrett & Narayanan 2008) and `stage:NAME?helpful=1` one of its rewards alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from trueup.engine import disk
from trueup.engine.method import Role
from trueup.engine.order import derive
from trueup.errors import TrueupError, counted
from trueup.judges.open import open_judge
from trueup.judges.weighted import Part, Weights
from trueup.models.opening import open_chat, open_network, pick_device
from trueup.runs import meter as metering
from trueup.runs.recipe import Done
from trueup.settings import config as configuration
from trueup.settings.blocks import DataSettings, ModelSettings
from trueup.sources.open import open_groups
from trueup.sources.sample import Decoding, sample_groups

SUMMARY = (
    "Measure several judges on a policy's samples and write their sum, each with mean 0 and deviation 1."
)
OUTPUT = "rewards.yaml"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Several rewards on one scale."""

    model: ModelSettings = ModelSettings()
    "The policy that is sampled: the one that training starts from."
    judges: Mapping[str, str] = field(default_factory=dict)
    "The rewards by name: `{helpful: world:truth/helpful, short: 'rule:length?longest=20'}`."
    data: DataSettings = DataSettings(path="world:prompts", limit=200, held_out=0.0)
    num_completions: int = 4
    "Samples per prompt."
    decoding: Decoding = Decoding()
    seed: int = 0


def run(config: Config, folder: Path, *, stop_requested: Callable[[], str]) -> Done:
    """`rewards.yaml`, the sum with equal weights; E796 for fewer than two judges, or a constant one."""
    if len(config.judges) < 2:
        raise TrueupError(
            "E796",
            counted(len(config.judges), "judge"),
            where="judges",
            remedy="name two or more: a sum needs them",
        )
    device = pick_device(config.model.device)
    chat = open_chat(config.model)
    judges = {name: open_judge(ref, device=str(device)) for name, ref in config.judges.items()}
    groups = sample_groups(
        open_groups(config.data, chat, seed=config.seed).train,
        open_network(Role(trained=False), config.model, device, seed=config.seed),
        decode=chat.decode,
        stop_ids=chat.stop_ids,
        k=config.num_completions,
        decoding=config.decoding,
        seed=derive(config.seed, "scales"),
    )
    parts: list[Part] = []
    for name, judge in judges.items():
        scores = np.array([score for row in judge(groups) for score in row])
        mean, std = float(scores.mean()), float(scores.std())
        if not std > 0:
            raise TrueupError(
                "E796",
                f"every sample of the policy scores {mean:g}, so there is no scale to bring it to",
                where=f"judges.{name}",
                remedy="name a judge that tells its samples apart, or more prompts",
            )
        parts.append(
            Part(
                judge=config.judges[name],
                name=name,
                weight=1 / len(judges),
                normalise="zscore",
                mean=mean,
                std=std,
            )
        )
    rows = [{k: v for k, v in dataclasses.asdict(part).items() if v not in (None, "")} for part in parts]
    # Read back before it is handed on: what is written here must be a sum that `open_judge` takes.
    configuration.build(Weights, {"parts": rows})
    disk.write(folder / OUTPUT, configuration.dump_yaml({"parts": rows}))
    tokens = sum(c.num_tokens for g in groups for c in g.completions)
    cost = metering.Meter(folder).spend(0, tokens_trained=0, tokens_sampled=tokens)
    metrics = {f"{p.name}/{k}": v for p in parts for k, v in (("mean", p.mean or 0.0), ("std", p.std or 0.0))}
    return Done(output=OUTPUT, metrics=metrics, cost=vars(cost))
