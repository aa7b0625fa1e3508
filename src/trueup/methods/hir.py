"""HIR: hindsight instruction relabelling."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated

from annotated_types import Ge, Lt

from trueup.annotate.relabel import Relabel, instructed, steered
from trueup.annotate.scores import MissingEos, scored
from trueup.engine.method import Method, Parts
from trueup.errors import TrueupError
from trueup.objectives.hindsight import Hindsight
from trueup.settings.blocks import DataSettings, LoopSettings, ModelSettings, SamplerSettings
from trueup.sources.sample import Decoding, from_policy
from trueup.update.adamw import AdamW

SUMMARY = "Sample, tell each completion as the answer to the instruction it did satisfy, learn from all."
REFERENCES = ("zhang2023",)
FAMILY, UNIT, COPIES = "supervised", "pair", 1
NEEDS = ("prompts", "judge", "sampling")


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """The numbers of HIR itself."""

    instruction: str = "Answer quality: good"
    "Stands after every question while sampling and in use; what good completions are told to satisfy."
    opposite: str = "Answer quality: poor"
    "What the other completions are told to satisfy."
    threshold: float | None = None
    "The score from which a completion is good; None is the mean of those that ended."
    smoothing: Annotated[float, Ge(0), Lt(1)] = 0.0
    "Share of the likelihood's target spread over the vocabulary, and of the contrast's over the opposite: ε."
    contrastive: Annotated[float, Ge(0)] = 1.0
    "Weight of the contrast between the two instructions."
    entropy: Annotated[float, Ge(0)] = 0.001
    "Weight of the entropy bonus."
    missing_eos: MissingEos = -1.0
    "Added to the score of a completion that hit the length limit; mask: it teaches nothing; null: no rule."


@dataclass(frozen=True, kw_only=True)
class Config:
    """HIR: supervised learning of completions under the instruction that each satisfied."""

    model: ModelSettings = ModelSettings()
    judge: str = "world:truth"
    "Who scores: a reward model's folder, `stage:NAME`, `world:truth`, or FILE.py:FUNCTION."
    data: DataSettings = DataSettings(path="world:prompts")
    decoding: Decoding = Decoding()
    sampler: SamplerSettings = SamplerSettings()
    num_completions: Annotated[int, Ge(1)] = 4
    "Completions per prompt."
    epochs_per_step: int = 2
    minibatch: int | None = 16
    "Groups per update."
    algorithm: Algorithm = Algorithm()
    loop: LoopSettings = LoopSettings(steps=40, batch=32)
    update: AdamW = AdamW(schedule="constant")
    seed: int = 0


def build(config: Config, parts: Parts) -> Method:
    """The method: sample under the instruction -> score, relabel -> likelihood, contrast, entropy."""
    a = config.algorithm
    if a.instruction == a.opposite:
        raise TrueupError(
            "E734", "both instructions are the same", where="algorithm.opposite", remedy="word it otherwise"
        )
    good, bad = (partial(instructed, parts, text) for text in (a.instruction, a.opposite))

    asked = replace(parts, groups=steered(parts.groups, good), held_out=steered(parts.held_out, good))
    source, held_out = from_policy(
        asked, batch=config.loop.batch, num_completions=config.num_completions, decoding=config.decoding
    )
    return Method(
        name="hir",
        source=source,
        held_out=held_out,
        annotate=(
            *scored(a.missing_eos),
            Relabel(good=good, bad=bad, threshold=a.threshold),
        ),
        objective=Hindsight(smoothing=a.smoothing, contrastive=a.contrastive, entropy=a.entropy),
        update=config.update,
        epochs=config.epochs_per_step,
        minibatch=config.minibatch,
        temperature=config.decoding.temperature,
        judge=config.judge,
    )
