"""Odds-ratio preference optimisation: finetune on the chosen one and raise its odds over the rejected one."""

from __future__ import annotations

from dataclasses import dataclass

from trueup.engine.method import Method, Parts
from trueup.objectives.reference_free import ORPO
from trueup.settings.blocks import DataSettings, LoopSettings, ModelSettings
from trueup.sources.files import Everything, Files, with_pairs
from trueup.update.adamw import AdamW

SUMMARY = "Finetune on chosen completions while raising their odds over the rejected, in one stage."
REFERENCES = ("hong2024",)
FAMILY, UNIT, COPIES = "contrastive", "pair", 1
NEEDS = ("comparisons",)


@dataclass(frozen=True, kw_only=True)
class Config:
    """ORPO: −m(chosen) − λ log σ(log odds(chosen) − log odds(rejected)), m = mean over tokens of log π."""

    model: ModelSettings = ModelSettings()
    data: DataSettings = DataSettings(path="world:comparisons")
    loop: LoopSettings = LoopSettings(epochs=1)
    update: AdamW = AdamW()
    odds_weight: float = 0.1
    "λ: weight of the odds-ratio part; at 0 this is finetuning on the chosen completions."
    seed: int = 0


def build(config: Config, parts: Parts) -> Method:
    """The method: files -> ORPO."""
    return Method(
        name="orpo",
        source=Files(groups=with_pairs(parts.groups), batch=config.loop.batch),
        held_out=Everything(groups=with_pairs(parts.held_out)),
        objective=ORPO(odds_weight=config.odds_weight),
        update=config.update,
    )
