"""The sequence-to-sequence hinge: the chosen completion more likely than the rejected one by a margin."""

from __future__ import annotations

from dataclasses import dataclass

from trueup.engine.method import Method, Parts
from trueup.objectives.hinge import Hinge
from trueup.settings.blocks import DataSettings, LoopSettings, ModelSettings
from trueup.sources.files import Everything, Files, with_pairs
from trueup.update.adamw import AdamW

SUMMARY = "Make each chosen completion likelier than the rejected one by a margin, with no reference."
REFERENCES = ("zhao2022", "sutskever2014")
FAMILY, UNIT, COPIES = "contrastive", "pair", 1
NEEDS = ("comparisons",)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Sequence-to-sequence hinge: max(0, δ − log π(chosen) + log π(rejected)), sums over tokens."""

    model: ModelSettings = ModelSettings()
    data: DataSettings = DataSettings(path="world:comparisons")
    loop: LoopSettings = LoopSettings(epochs=1)
    update: AdamW = AdamW()
    delta: float = 1.0
    "δ: the gap in nats at which a pair stops pushing."
    per_token: bool = False
    "Means of token log-probabilities in place of sums: no bias to short completions, but another loss."
    seed: int = 0


def build(config: Config, parts: Parts) -> Method:
    """The method: files (pairs) -> hinge."""
    return Method(
        name="seq2seq_hinge",
        source=Files(groups=with_pairs(parts.groups), batch=config.loop.batch),
        held_out=Everything(groups=with_pairs(parts.held_out)),
        objective=Hinge(delta=config.delta, per_token=config.per_token),
        update=config.update,
    )
