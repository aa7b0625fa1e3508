"""Simple preference optimisation: mean log-probabilities as the reward, with a margin and no reference."""

from __future__ import annotations

from dataclasses import dataclass

from trueup.engine.method import Method, Parts
from trueup.objectives.reference_free import SimPO
from trueup.settings.blocks import DataSettings, LoopSettings, ModelSettings
from trueup.sources.files import Everything, Files, with_pairs
from trueup.update.adamw import AdamW

SUMMARY = "Raise the chosen completion's mean log-probability above the rejected one's by a margin."
REFERENCES = ("meng2024",)
FAMILY, UNIT, COPIES = "contrastive", "pair", 1
NEEDS = ("comparisons",)


@dataclass(frozen=True, kw_only=True)
class Config:
    """SimPO: −log σ(β [m(chosen) − m(rejected)] − γ), m = mean over tokens of log π."""

    model: ModelSettings = ModelSettings()
    data: DataSettings = DataSettings(path="world:comparisons")
    loop: LoopSettings = LoopSettings(epochs=1)
    update: AdamW = AdamW()
    beta: float = 2.5
    "How much a gap of one nat a token counts; 2 to 10 are usual."
    gamma: float = 1.375
    "The margin by which the chosen one is to be ahead; gamma / beta of .3 to .8 is usual."
    seed: int = 0


def build(config: Config, parts: Parts) -> Method:
    """The method: files -> SimPO."""
    return Method(
        name="simpo",
        source=Files(groups=with_pairs(parts.groups), batch=config.loop.batch),
        held_out=Everything(groups=with_pairs(parts.held_out)),
        objective=SimPO(beta=config.beta, gamma=config.gamma),
        update=config.update,
    )
