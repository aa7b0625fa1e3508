"""Proximal policy optimisation with a KL penalty to the reference in the reward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Gt

from trueup.annotate.advantages import GAE, Whiten
from trueup.annotate.logprobs import Measure, OldLogprobs
from trueup.annotate.rewards import AdaptiveKL, KLReward
from trueup.annotate.scores import MissingEos, scored
from trueup.engine.method import Method, Parts, actor_critic
from trueup.objectives.mix import Sum
from trueup.objectives.policy_gradient import Clipped
from trueup.objectives.value import ClippedValue
from trueup.settings.blocks import DataSettings, LoopSettings, ModelSettings, SamplerSettings
from trueup.sources.sample import Decoding, from_policy
from trueup.update.adamw import AdamW

SUMMARY = "Maximise a judge's score minus a KL penalty, with a critic and clipped steps."
REFERENCES = ("schulman2017", "ziegler2019", "ouyang2022", "ye2020")
FAMILY, UNIT, COPIES = "reinforcement", "token", 3
NEEDS = ("prompts", "judge", "sampling", "reference", "critic")


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """The numbers of PPO itself."""

    beta: float = 0.05
    "Strength of the KL penalty in the reward, per nat."
    kl_target: float | None = None
    "Move beta so that the KL approaches this many nats; None keeps beta fixed."
    kl_horizon: int = 10_000
    clip: float = 0.2
    "How far a token's probability ratio may move before it stops pushing."
    dual_clip: Annotated[float, Gt(1)] | None = None
    "The ratio beyond which a token of negative advantage stops pushing too; the paper's is 3."
    entropy: float = 0.0
    "Weight of the entropy bonus."
    value_clip: float = 0.2
    value_coefficient: float = 0.1
    gamma: float = 1.0
    lam: float = 0.95
    "GAE's λ."
    whiten_rewards: bool = False
    missing_eos: MissingEos = -1.0
    "Added to the score of a completion that hit the length limit; mask: it teaches nothing; null: no rule."
    old: Literal["trainer", "sampler"] = "trainer"
    "Whose log-probabilities count as old: recomputed, or recorded while sampling (faster)."


@dataclass(frozen=True, kw_only=True)
class Config:
    """PPO: sample, score, penalise KL, estimate advantages with a critic, then clipped epochs."""

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
    """The method: sample -> score, log-probs, values, KL reward, GAE, whiten -> clipped policy + value."""
    a = config.algorithm
    source, held_out = from_policy(
        parts, batch=config.loop.batch, num_completions=config.num_completions, decoding=config.decoding
    )
    policy = Clipped(clip=a.clip, dual_clip=a.dual_clip, entropy=a.entropy)
    value = ClippedValue(clip=a.value_clip, coefficient=a.value_coefficient)
    return Method(
        name="ppo",
        source=source,
        held_out=held_out,
        annotate=(
            *scored(a.missing_eos),
            OldLogprobs(by=a.old),
            Measure(network="reference", want="logprobs", column="ref_logprobs"),
            Measure(network="value", want="values", column="old_values"),
            KLReward(beta=a.beta),
            *((Whiten(column="rewards", keep_mean=True),) if a.whiten_rewards else ()),
            GAE(gamma=a.gamma, lam=a.lam),
            Whiten(column="advantages"),
            *((AdaptiveKL(target=a.kl_target, horizon=a.kl_horizon),) if a.kl_target is not None else ()),
        ),
        objective=Sum(((1.0, policy), (1.0, value))),
        update=config.update,
        epochs=config.epochs_per_step,
        minibatch=config.minibatch,
        networks=actor_critic(config.critic),
        temperature=config.decoding.temperature,
        judge=config.judge,
    )
