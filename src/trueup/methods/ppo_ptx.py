"""PPO with a language-modelling loss on pretraining text beside it, against the alignment tax."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Annotated

from annotated_types import Ge

from trueup.engine.groups import Group
from trueup.engine.method import Beside, Handles, Method, Parts
from trueup.engine.order import derive, draw
from trueup.methods import ppo
from trueup.objectives.likelihood import NLL
from trueup.settings.blocks import DataSettings, LoopSettings, ModelSettings, SamplerSettings
from trueup.sources.sample import Decoding
from trueup.update.adamw import AdamW

SUMMARY = "PPO plus the likelihood of pretraining text, so that the policy keeps what it knew."
REFERENCES = ("ouyang2022", "schulman2017", "ziegler2019")
FAMILY, UNIT, COPIES = "reinforcement", "token", 3
NEEDS = ("prompts", "judge", "sampling", "reference", "critic")


@dataclass(frozen=True, kw_only=True)
class Pretraining:
    """The text beside the prompts, and how much it weighs."""

    data: DataSettings = DataSettings(path="world:text", held_out=0.0)
    "Texts such as those the model was pretrained on: rows of the format `text`."
    coefficient: Annotated[float, Ge(0)] = 1.0
    "Multiplies the mean −log π of a token of the text batch (the paper, on its own scale: 27.8)."
    batch: Annotated[int, Ge(1)] = 32
    "Texts per update."


@dataclass(frozen=True, kw_only=True)
class Config:
    """PPO-ptx: PPO's loss plus γ_ptx times the mean token's −log π on pretraining text."""

    model: ModelSettings = ModelSettings()
    "The policy, and frozen as it starts, the reference."
    judge: str = "world:truth"
    "Who scores: a reward model's folder, `stage:NAME`, `world:truth`, or FILE.py:FUNCTION."
    critic: str = ""
    "Where the critic's weights start; empty is the policy's own model."
    data: DataSettings = DataSettings(path="world:prompts")
    pretraining: Pretraining = Pretraining()
    decoding: Decoding = Decoding()
    sampler: SamplerSettings = SamplerSettings()
    epochs_per_step: int = 2
    minibatch: int | None = 64
    "Groups per update."
    algorithm: ppo.Algorithm = ppo.Algorithm()
    loop: LoopSettings = LoopSettings(steps=40, batch=128)
    update: AdamW = AdamW(schedule="linear", warmup=0.05)
    seed: int = 0


def build(config: Config, parts: Parts) -> Method:
    """The method: PPO, and beside every update the likelihood of some texts."""
    shared = {f.name: getattr(config, f.name) for f in fields(config) if f.name != "pretraining"}
    method = replace(ppo.build(ppo.Config(**shared), parts), name="ppo_ptx")
    text = config.pretraining
    if text.coefficient == 0:
        return method
    texts = parts.more(text.data)

    def some(minibatch: Sequence[Group], update: int, handles: Handles) -> list[Group]:
        return [texts[i] for i in draw(len(texts), text.batch, update, derive(handles.seed, "pretraining"))]

    return replace(method, beside=(Beside(groups=some, objective=NLL(), weight=text.coefficient),))
