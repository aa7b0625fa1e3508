"""PPO in its first form: a penalty on KL(old ‖ new), fixed, adapted, or moved as a multiplier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trueup.annotate.advantages import GAE, Whiten
from trueup.annotate.logprobs import Measure, OldLogprobs
from trueup.annotate.penalty import MovePenalty, Penalty
from trueup.annotate.rewards import KLReward
from trueup.annotate.scores import MissingEos, scored
from trueup.engine.method import Method, Parts, actor_critic
from trueup.objectives.mix import Sum
from trueup.objectives.surrogate import PenalisedSurrogate
from trueup.objectives.value import ClippedValue
from trueup.settings.blocks import DataSettings, LoopSettings, ModelSettings, SamplerSettings
from trueup.sources.sample import Decoding, from_policy
from trueup.update.adamw import AdamW

SUMMARY = "Maximise a judge's score with a critic and a penalty on how far each step moves the policy."
REFERENCES = ("schulman2017", "schulman2020", "ziegler2019")
FAMILY, UNIT, COPIES = "reinforcement", "token", 3
NEEDS = ("prompts", "judge", "sampling", "reference", "critic")


@dataclass(frozen=True, kw_only=True)
class Trust:
    """The penalty on KL(old ‖ new): its coefficient, and what moves it."""

    form: Literal["fixed", "adaptive", "dual"] = "adaptive"
    "What happens to the coefficient after a step: nothing; halved or doubled; a dual step."
    penalty: float = 1.0
    "The coefficient at the start."
    target: float = 0.01
    "δ: the KL that a step should make, nats a token."
    rate: float = 10.0
    "η of the dual step: the coefficient's change for one nat a token beyond δ."
    estimator: Literal["k1", "k3"] = "k3"
    "How the loss estimates KL(old ‖ new) from a token of the old policy: −u, or e^u − 1 − u (less noise)."


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """The numbers of the reward and of the critic."""

    beta: float = 0.05
    "Strength of the KL penalty to the reference in the reward, per nat."
    gamma: float = 1.0
    lam: float = 0.95
    "GAE's λ."
    value_clip: float = 0.2
    value_coefficient: float = 0.1
    missing_eos: MissingEos = -1.0
    "Added to the score of a completion that hit the length limit; mask: it teaches nothing; null: no rule."
    old: Literal["trainer", "sampler"] = "trainer"
    "Whose log-probabilities count as old: recomputed, or recorded while sampling (faster)."


@dataclass(frozen=True, kw_only=True)
class Config:
    """PPO-v1: sample, score, advantages from a critic, then epochs under a penalty on KL(old ‖ new)."""

    model: ModelSettings = ModelSettings()
    "The policy, and frozen as it starts, the reference."
    judge: str = "world:truth"
    "Who scores: a reward model's folder, `stage:NAME`, `world:truth`, or FILE.py:FUNCTION."
    critic: str = ""
    "Where the critic's weights start; empty is the policy's own model."
    data: DataSettings = DataSettings(path="world:prompts")
    decoding: Decoding = Decoding()
    sampler: SamplerSettings = SamplerSettings()
    epochs_per_step: int = 2
    minibatch: int | None = 64
    "Groups per update."
    trust: Trust = Trust()
    algorithm: Algorithm = Algorithm()
    loop: LoopSettings = LoopSettings(steps=40, batch=128)
    update: AdamW = AdamW(schedule="linear", warmup=0.05)
    seed: int = 0


def build(config: Config, parts: Parts) -> Method:
    """The method: sample -> score, log-probs, values, KL reward, GAE, penalty -> penalised + value."""
    a, trust, batch = config.algorithm, config.trust, config.loop.batch
    source, held_out = from_policy(parts, batch=batch, num_completions=1, decoding=config.decoding)
    policy = PenalisedSurrogate(target=trust.target, estimator=trust.estimator)
    value = ClippedValue(clip=a.value_clip, coefficient=a.value_coefficient)
    return Method(
        name="ppo_v1",
        source=source,
        held_out=held_out,
        annotate=(
            *scored(a.missing_eos),
            OldLogprobs(by=a.old),
            Measure(network="reference", want="logprobs", column="ref_logprobs"),
            Measure(network="value", want="values", column="old_values"),
            KLReward(beta=a.beta),
            GAE(gamma=a.gamma, lam=a.lam),
            Whiten(column="advantages"),
            Penalty(initial=trust.penalty),
        ),
        objective=Sum(((1.0, policy), (1.0, value))),
        settle=(MovePenalty(form=trust.form, target=trust.target, rate=trust.rate),),
        update=config.update,
        epochs=config.epochs_per_step,
        minibatch=config.minibatch,
        networks=actor_critic(config.critic),
        temperature=config.decoding.temperature,
        judge=config.judge,
    )
