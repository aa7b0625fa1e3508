"""Process reward model: whether each step of a solution is right, learned from steps judged one by one."""

from __future__ import annotations

from dataclasses import dataclass

from trueup.engine.method import Method, Parts, Role
from trueup.objectives.stepwise import StepwiseCrossEntropy
from trueup.settings.blocks import DataSettings, LoopSettings, ModelSettings
from trueup.sources.files import Everything, Files
from trueup.sources.steps import Neutral, with_steps
from trueup.update.adamw import AdamW

SUMMARY = "Learn whether each step of a solution is right; a judge by product, minimum or last step."
REFERENCES = ("lightman2023",)
FAMILY, UNIT, COPIES = "reward models", "token", 1
NEEDS = ("steps",)


@dataclass(frozen=True, kw_only=True)
class Config:
    """PRM: binary cross-entropy of σ(V) at the token that ends each judged step."""

    model: ModelSettings = ModelSettings()
    data: DataSettings = DataSettings(path="world:steps")
    loop: LoopSettings = LoopSettings(epochs=1)
    update: AdamW = AdamW()
    first_error: bool = False
    "Learn nothing from what follows a completion's first wrong step."
    neutral: Neutral = "skip"
    "What a step counts as that was called neither right nor wrong."
    seed: int = 0


def build(config: Config, parts: Parts) -> Method:
    """The method: files (judged steps) -> binary cross-entropy at the end of each step."""
    train, held_out = (
        with_steps(groups, parts.decode, neutral=config.neutral, first_error=config.first_error)
        for groups in (parts.groups, parts.held_out)
    )
    written = frozenset({"step_label"})
    return Method(
        name="prm",
        source=Files(groups=train, batch=config.loop.batch, written=written),
        held_out=Everything(groups=held_out, written=written),
        objective=StepwiseCrossEntropy(),
        update=config.update,
        networks={"reward": Role(heads=("values",))},
        output="reward",
    )
