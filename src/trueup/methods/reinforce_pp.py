"""REINFORCE++: returns-to-go whitened over the whole batch, and PPO's clip; no critic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Gt

from trueup.annotate.advantages import ReturnsToGo, Whiten
from trueup.annotate.baselines import GroupCentred
from trueup.annotate.logprobs import Measure, OldLogprobs
from trueup.annotate.rewards import KLReward
from trueup.annotate.scores import MissingEos, Scores, masked
from trueup.engine.method import Method, Parts, Role
from trueup.objectives.policy_gradient import Clipped
from trueup.settings.blocks import DataSettings, LoopSettings, ModelSettings, SamplerSettings
from trueup.sources.sample import Decoding, from_policy
from trueup.update.adamw import AdamW

SUMMARY = "Clipped steps on rewards whitened over the whole batch, a KL penalty in them; no critic."
REFERENCES = ("hu2025", "williams1992", "schulman2017", "ye2020")
FAMILY, UNIT, COPIES = "reinforcement", "token", 2
NEEDS = ("prompts", "judge", "sampling", "reference")


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """The numbers of REINFORCE++ itself."""

    beta: float = 0.05
    "Strength of the KL penalty in the reward, per nat."
    baseline: Literal["batch", "group"] = "batch"
    "`group` takes the mean score of the prompt's completions off first: REINFORCE++ with a baseline."
    gamma: float = 1.0
    "Discount."
    clip: float = 0.2
    "How far a token's probability ratio may move before it stops pushing."
    dual_clip: Annotated[float, Gt(1)] | None = None
    "The ratio beyond which a token of negative advantage stops pushing too."
    entropy: float = 0.0
    "Weight of the entropy bonus."
    missing_eos: MissingEos = -1.0
    "Added to the score of a completion that hit the length limit; mask: it teaches nothing; null: no rule."


@dataclass(frozen=True, kw_only=True)
class Config:
    """REINFORCE++: advantage = the rewards still to come, whitened over the batch; clipped ratios."""

    model: ModelSettings = ModelSettings()
    "The policy, and frozen as it starts, the reference."
    judge: str = "world:truth"
    "Who scores: a reward model's folder, `stage:NAME`, `world:truth`, or FILE.py:FUNCTION."
    data: DataSettings = DataSettings(path="world:prompts")
    decoding: Decoding = Decoding()
    sampler: SamplerSettings = SamplerSettings()
    num_completions: int = 1
    "Completions per prompt; `baseline: group` needs at least 2."
    algorithm: Algorithm = Algorithm()
    epochs_per_step: int = 2
    minibatch: int | None = 64
    "Groups per update."
    loop: LoopSettings = LoopSettings(steps=40, batch=128)
    update: AdamW = AdamW(schedule="linear", warmup=0.05)
    seed: int = 0


def build(config: Config, parts: Parts) -> Method:
    """The method: sample -> score, log-probs, KL reward, (group mean off,) returns, whiten -> clipped."""
    a = config.algorithm
    source, held_out = from_policy(
        parts, batch=config.loop.batch, num_completions=config.num_completions, decoding=config.decoding
    )
    return Method(
        name="reinforce_pp",
        source=source,
        held_out=held_out,
        annotate=(
            Scores(missing_eos=a.missing_eos),
            OldLogprobs(),
            Measure(network="reference", want="logprobs", column="ref_logprobs"),
            KLReward(beta=a.beta),
            *((GroupCentred(),) if a.baseline == "group" else ()),
            ReturnsToGo(gamma=a.gamma),
            Whiten(column="advantages"),
            *masked(a.missing_eos),
        ),
        objective=Clipped(clip=a.clip, dual_clip=a.dual_clip, entropy=a.entropy),
        update=config.update,
        epochs=config.epochs_per_step,
        minibatch=config.minibatch,
        networks={"policy": Role(), "reference": Role(trained=False)},
        temperature=config.decoding.temperature,
        judge=config.judge,
    )
