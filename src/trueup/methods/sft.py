"""Supervised finetuning: imitate demonstrations."""

from __future__ import annotations

from dataclasses import dataclass

from trueup.method import Method, Parts
from trueup.objectives.likelihood import NLL
from trueup.settings import DataSettings, LoopSettings, ModelSettings
from trueup.sources.files import Everything, Files, demonstrations
from trueup.update.adamw import AdamW

SUMMARY = "Imitate demonstrations by maximum likelihood."
REFERENCES = ("ouyang2022",)
FAMILY, UNIT, COPIES = "supervised", "token", 1
NEEDS = ("demonstrations",)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Supervised finetuning: minimise −log π(y_t) over the completions' tokens, end token included.

    Of groups with judgements, only the completions that were preferred are imitated.
    """

    model: ModelSettings = ModelSettings()
    data: DataSettings = DataSettings(path="lab:demonstrations")
    loop: LoopSettings = LoopSettings(epochs=3)
    update: AdamW = AdamW(lr=1e-3)
    seed: int = 0


def build(config: Config, parts: Parts) -> Method:
    """The method: files -> NLL."""
    return Method(
        name="sft",
        source=Files(groups=demonstrations(parts.groups), batch=config.loop.batch),
        held_out=Everything(groups=demonstrations(parts.held_out)),
        objective=NLL(),
        update=config.update,
    )
