"""Best-of-n finetuning: imitate the best of n samples of the policy as the run started."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge

from trueup.annotate.scores import MissingEos, scored
from trueup.annotate.select import BestOfGroup
from trueup.engine.method import Method, Parts, Role
from trueup.objectives.likelihood import NLL
from trueup.settings.blocks import DataSettings, LoopSettings, ModelSettings
from trueup.sources.sample import Decoding, from_policy
from trueup.update.adamw import AdamW

SUMMARY = "Sample n completions from the frozen start, imitate the one a judge likes best."
REFERENCES = ("stiennon2020", "beirami2024")
FAMILY, UNIT, COPIES = "supervised", "token", 2
NEEDS = ("prompts", "judge", "sampling", "reference")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Best-of-n finetuning: −log π(y*), y* the best of n samples of the initial policy."""

    model: ModelSettings = ModelSettings()
    "The policy, and frozen as it starts, the sampler."
    judge: str = "world:truth"
    "Who scores: a reward model's folder, `stage:NAME`, `world:truth`, or FILE.py:FUNCTION."
    data: DataSettings = DataSettings(path="world:prompts")
    "Prompts; best those that no reward model has seen."
    decoding: Decoding = Decoding()
    n: Annotated[int, Ge(1)] = 4
    "Samples per prompt."
    missing_eos: MissingEos = -1.0
    "Added to the score of a completion that hit the length limit; mask: it teaches nothing; null: no rule."
    epochs_per_step: int = 1
    minibatch: int | None = 32
    "Groups per update."
    loop: LoopSettings = LoopSettings(steps=40, batch=64)
    update: AdamW = AdamW()
    seed: int = 0


def build(config: Config, parts: Parts) -> Method:
    """The method: sample(n) from the start -> score, keep the best -> NLL."""
    source, held_out = from_policy(
        parts,
        batch=config.loop.batch,
        num_completions=config.n,
        decoding=config.decoding,
        network="reference",
    )
    return Method(
        name="best_of_n_sft",
        source=source,
        held_out=held_out,
        annotate=(*scored(config.missing_eos), BestOfGroup()),
        objective=NLL(),
        update=config.update,
        epochs=config.epochs_per_step,
        minibatch=config.minibatch,
        networks={"policy": Role(), "reference": Role(trained=False)},
        temperature=config.decoding.temperature,
        judge=config.judge,
    )
