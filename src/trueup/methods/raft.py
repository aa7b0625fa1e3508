"""RAFT: sample, rank by reward, finetune on the best, repeat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge

from trueup.annotate.logprobs import Measure, OldLogprobs
from trueup.annotate.scores import MissingEos, scored
from trueup.annotate.select import BestOfGroup, ShapedScore, TopAcrossGroups
from trueup.engine.method import Annotator, Method, Parts, Role
from trueup.errors import TrueupError
from trueup.objectives.likelihood import NLL
from trueup.settings.blocks import DataSettings, LoopSettings, ModelSettings, SamplerSettings
from trueup.sources.sample import Decoding, from_policy
from trueup.update.adamw import AdamW

SUMMARY = "Sample from the policy, keep the best 1/k by a judge's score, imitate them, repeat."
REFERENCES = ("dong2023",)
FAMILY, UNIT, COPIES = "supervised", "token", 1
NEEDS = ("prompts", "judge", "sampling")


@dataclass(frozen=True, kw_only=True)
class Config:
    """RAFT: −log π(y) over the best-scored share 1/k of what the present policy samples."""

    model: ModelSettings = ModelSettings()
    judge: str = "world:truth"
    "Who scores: a reward model's folder, `stage:NAME`, `world:truth`, or FILE.py:FUNCTION."
    data: DataSettings = DataSettings(path="world:prompts")
    decoding: Decoding = Decoding()
    sampler: SamplerSettings = SamplerSettings()
    select: Literal["global", "per_prompt"] = "global"
    "global: one completion per prompt, the best 1/k of them all; per_prompt: the best of k of each prompt."
    k: Annotated[int, Ge(1)] = 4
    "One completion in k is kept."
    beta: Annotated[float, Ge(0)] = 0.0
    "Strength of the pull to the reference: rank by score − beta · log(π / ρ). 0 needs no reference."
    missing_eos: MissingEos = -1.0
    "Added to the score of a completion that hit the length limit; mask: it teaches nothing; null: no rule."
    epochs_per_step: int = 2
    minibatch: int | None = 32
    "Groups per update."
    loop: LoopSettings = LoopSettings(steps=20, batch=128)
    update: AdamW = AdamW(schedule="constant")
    seed: int = 0


def build(config: Config, parts: Parts) -> Method:
    """The method: sample -> score, (penalise KL,) keep the top 1/k -> NLL."""
    across = config.select == "global"
    if across and config.loop.batch < config.k:
        raise TrueupError(
            "E727",
            f"one in {config.k} of {config.loop.batch} completions is none",
            where="loop.batch",
            remedy="raise loop.batch to k or more, lower k, or select per_prompt",
        )
    by = "shaped_score" if config.beta else "score"
    penalise: tuple[Annotator, ...] = (
        OldLogprobs(),
        Measure(network="reference", want="logprobs", column="ref_logprobs"),
        ShapedScore(beta=config.beta),
    )
    source, held_out = from_policy(
        parts, batch=config.loop.batch, num_completions=1 if across else config.k, decoding=config.decoding
    )
    return Method(
        name="raft",
        source=source,
        held_out=held_out,
        annotate=(
            *scored(config.missing_eos),
            *(penalise if config.beta else ()),
            TopAcrossGroups(k=config.k, by=by) if across else BestOfGroup(by=by),
        ),
        objective=NLL(),
        update=config.update,
        epochs=config.epochs_per_step,
        minibatch=config.minibatch,
        networks={"policy": Role(), **({"reference": Role(trained=False)} if config.beta else {})},
        temperature=config.decoding.temperature,
        judge=config.judge,
    )
