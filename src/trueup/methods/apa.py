"""Advantage-induced policy alignment: match the log-policy to reference plus advantage by squared error."""

from __future__ import annotations

import math
from dataclasses import dataclass

from trueup.annotate.advantages import GAE, Whiten
from trueup.annotate.logprobs import Measure, OldLogprobs
from trueup.annotate.rewards import KLReward
from trueup.annotate.scores import MissingEos, scored
from trueup.engine.method import Method, Parts, actor_critic
from trueup.objectives.mix import Sum
from trueup.objectives.squared import APA
from trueup.objectives.value import ClippedValue
from trueup.settings.blocks import DataSettings, LoopSettings, ModelSettings, SamplerSettings
from trueup.sources.sample import Decoding, from_policy
from trueup.update.adamw import AdamW

SUMMARY = "Match the policy's log-probabilities to the reference's plus the advantage, by squared error."
REFERENCES = ("zhu2023", "schulman2016")
FAMILY, UNIT, COPIES = "reinforcement", "token", 3
NEEDS = ("prompts", "judge", "sampling", "reference", "critic")


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """The numbers of APA itself."""

    beta: float = 1.0
    "The paper's λ: an advantage of 1 is worth 1 / beta nats (their code: .1)."
    value_coefficient: float = 1.0
    "Weight of the critic's loss, ½ (V − G)², unclipped."
    gamma: float = 1.0
    lam: float = 0.95
    "GAE's λ."
    whiten: bool = True
    "Bring advantages to mean 0 and variance 1 over the step."
    missing_eos: MissingEos = -1.0
    "Added to the score of a completion that hit the length limit; mask: it teaches nothing; null: no rule."


@dataclass(frozen=True, kw_only=True)
class Config:
    """APA: (log π − A / β − log ρ)² at every token, A by GAE from the score alone."""

    model: ModelSettings = ModelSettings()
    "The policy, and frozen as it starts, the reference."
    judge: str = "world:truth"
    "Who scores: a reward model's folder, `stage:NAME`, `world:truth`, or FILE.py:FUNCTION."
    critic: str = ""
    "Where the critic's weights start; empty is the policy's own model."
    data: DataSettings = DataSettings(path="world:prompts")
    decoding: Decoding = Decoding()
    sampler: SamplerSettings = SamplerSettings()
    num_completions: int = 1
    "Completions per prompt."
    epochs_per_step: int = 2
    minibatch: int | None = 64
    "Groups per update."
    algorithm: Algorithm = Algorithm()
    loop: LoopSettings = LoopSettings(steps=40, batch=128)
    update: AdamW = AdamW(schedule="linear", warmup=0.05)
    seed: int = 0


def build(config: Config, parts: Parts) -> Method:
    """The method: sample -> score, log-probs, values, reward without KL, GAE, whiten -> squares."""
    a = config.algorithm
    source, held_out = from_policy(
        parts, batch=config.loop.batch, num_completions=config.num_completions, decoding=config.decoding
    )
    unclipped = ClippedValue(clip=math.inf, coefficient=a.value_coefficient)
    return Method(
        name="apa",
        source=source,
        held_out=held_out,
        annotate=(
            *scored(a.missing_eos),
            OldLogprobs(),
            Measure(network="reference", want="logprobs", column="ref_logprobs"),
            Measure(network="value", want="values", column="old_values"),
            KLReward(beta=0.0),  # the score alone: the pull to the reference is in the loss
            GAE(gamma=a.gamma, lam=a.lam),
            *((Whiten(column="advantages"),) if a.whiten else ()),
        ),
        objective=Sum(((1.0, APA(beta=a.beta)), (1.0, unclipped))),
        update=config.update,
        epochs=config.epochs_per_step,
        minibatch=config.minibatch,
        networks=actor_critic(config.critic),
        temperature=config.decoding.temperature,
        judge=config.judge,
    )
