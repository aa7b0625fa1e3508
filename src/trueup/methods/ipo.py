"""Identity preference optimisation: bring each pair's log-ratio gap to the size its label asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Gt

from trueup.annotate.logprobs import Measure
from trueup.engine.method import Method, Parts, Role
from trueup.objectives.pairwise import IPO
from trueup.settings.blocks import DataSettings, LoopSettings, ModelSettings
from trueup.sources.files import Everything, Files, with_pairs
from trueup.update.adamw import AdamW

SUMMARY = "Regress each pair's log-ratio gap on a fixed size, so that certain labels stay harmless."
REFERENCES = ("azar2023",)
FAMILY, UNIT, COPIES = "contrastive", "pair", 2
NEEDS = ("comparisons", "reference")


@dataclass(frozen=True, kw_only=True)
class Config:
    """IPO: (h(chosen) − h(rejected) − 1 / (2β))², h = mean over tokens of log π − log ρ."""

    model: ModelSettings = ModelSettings()
    "The policy, and frozen as it starts, the reference."
    data: DataSettings = DataSettings(path="world:comparisons")
    loop: LoopSettings = LoopSettings(epochs=1)
    update: AdamW = AdamW()
    beta: Annotated[float, Gt(0)] = 0.5
    "Strength of the pull to the reference, the paper's τ: the gap asked for is 1 / (2 beta) nats."
    log_ratio: Literal["mean", "sum"] = "mean"
    "Over a completion's tokens; `sum` is the paper's formula to the letter."
    seed: int = 0


def build(config: Config, parts: Parts) -> Method:
    """The method: files -> reference log-probs -> IPO."""
    return Method(
        name="ipo",
        source=Files(groups=with_pairs(parts.groups), batch=config.loop.batch),
        held_out=Everything(groups=with_pairs(parts.held_out)),
        annotate=(Measure(network="reference", want="logprobs", column="ref_logprobs"),),
        objective=IPO(beta=config.beta, log_ratio=config.log_ratio),
        update=config.update,
        networks={"policy": Role(), "reference": Role(trained=False)},
    )
