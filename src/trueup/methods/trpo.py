"""Trust-region policy optimisation: each step as far as a KL constraint allows, checked before it is kept."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from trueup.annotate.advantages import GAE, Whiten
from trueup.annotate.logprobs import Measure, OldLogprobs
from trueup.annotate.rewards import KLReward
from trueup.annotate.scores import MissingEos, scored
from trueup.engine.method import Method, Parts, actor_critic
from trueup.objectives.mix import Sum
from trueup.objectives.surrogate import Surrogate
from trueup.objectives.value import ClippedValue
from trueup.settings.blocks import DataSettings, LoopSettings, ModelSettings, SamplerSettings
from trueup.sources.sample import Decoding, from_policy
from trueup.update.trust_region import TrustRegion

SUMMARY = "Maximise a judge's score by natural-gradient steps that never leave a KL trust region."
REFERENCES = ("schulman2015", "schulman2016")
FAMILY, UNIT, COPIES = "reinforcement", "token", 3
NEEDS = ("prompts", "judge", "sampling", "reference", "critic")


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """The numbers of the surrogate; those of the trust region are under `update`."""

    beta: float = 0.05
    "Strength of the KL penalty to the reference in the reward, per nat."
    gamma: float = 1.0
    lam: float = 0.95
    "GAE's λ."
    missing_eos: MissingEos = -1.0
    "Added to the score of a completion that hit the length limit; mask: it teaches nothing; null: no rule."
    old: Literal["trainer", "sampler"] = "trainer"
    "Whose log-probabilities count as old: recomputed, or recorded while sampling (faster)."


@dataclass(frozen=True, kw_only=True)
class Config:
    """TRPO: sample, score, penalise KL, estimate advantages with a critic, then one trust-region update."""

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
    algorithm: Algorithm = Algorithm()
    loop: LoopSettings = LoopSettings(steps=40, batch=128)
    update: TrustRegion = TrustRegion()
    seed: int = 0


def build(config: Config, parts: Parts) -> Method:
    """The method: sample -> score, log-probs, values, KL reward, GAE -> surrogate, by trust region."""
    a = config.algorithm

    source, held_out = from_policy(
        parts, batch=config.loop.batch, num_completions=config.num_completions, decoding=config.decoding
    )
    return Method(
        name="trpo",
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
        ),
        # The critic is fitted apart from the policy, so its weight is 1 and nothing holds it back.
        objective=Sum(((1.0, Surrogate()), (1.0, ClippedValue(clip=math.inf, coefficient=1.0)))),
        update=config.update,
        networks=actor_critic(config.critic),
        temperature=config.decoding.temperature,
        judge=config.judge,
    )
