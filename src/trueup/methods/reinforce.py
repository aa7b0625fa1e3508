"""REINFORCE: raise the log-probability of completions in proportion to their reward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trueup.annotate.baselines import Baseline
from trueup.annotate.logprobs import Measure, OldLogprobs
from trueup.annotate.rewards import KLReward
from trueup.annotate.scores import MissingEos, Scores, masked
from trueup.engine.method import Method, Parts, Role
from trueup.objectives.reinforce import Reinforce
from trueup.settings.blocks import DataSettings, LoopSettings, ModelSettings, SamplerSettings
from trueup.sources.sample import Decoding, from_policy
from trueup.update.adamw import AdamW

SUMMARY = "Raise the log-probability of whole completions in proportion to their reward."
REFERENCES = ("williams1992", "ziegler2019")
FAMILY, UNIT, COPIES = "reinforcement", "completion", 2
NEEDS = ("prompts", "judge", "sampling", "reference")


@dataclass(frozen=True, kw_only=True)
class Config:
    """REINFORCE: −(R − b) Σ_t log π(y_t), R the score minus β times the log-ratio to the reference."""

    model: ModelSettings = ModelSettings()
    "The policy, and frozen as it starts, the reference."
    judge: str = "world:truth"
    "Who scores: a reward model's folder, `stage:NAME`, `world:truth`, or FILE.py:FUNCTION."
    data: DataSettings = DataSettings(path="world:prompts")
    decoding: Decoding = Decoding()
    sampler: SamplerSettings = SamplerSettings()
    num_completions: int = 1
    "Completions per prompt."
    baseline: Literal["none", "step", "moving"] = "step"
    "What is subtracted from rewards: nothing, the step's mean, or the moving mean of earlier steps."
    baseline_decay: float = 0.9
    "Share of the moving mean that a step keeps."
    beta: float = 0.05
    "Strength of the KL penalty in the reward, per nat."
    missing_eos: MissingEos = -1.0
    "Added to the score of a completion that hit the length limit; mask: it teaches nothing; null: no rule."
    loop: LoopSettings = LoopSettings(steps=40, batch=128)
    update: AdamW = AdamW(schedule="linear", warmup=0.05)
    seed: int = 0


def build(config: Config, parts: Parts) -> Method:
    """The method: sample -> score, log-probs, KL reward, baseline -> score-function loss."""
    source, held_out = from_policy(
        parts, batch=config.loop.batch, num_completions=config.num_completions, decoding=config.decoding
    )
    return Method(
        name="reinforce",
        source=source,
        held_out=held_out,
        annotate=(
            Scores(missing_eos=config.missing_eos),
            OldLogprobs(),
            Measure(network="reference", want="logprobs", column="ref_logprobs"),
            KLReward(beta=config.beta),
            Baseline(kind=config.baseline, decay=config.baseline_decay),
            *masked(config.missing_eos),
        ),
        objective=Reinforce(),
        update=config.update,
        networks={"policy": Role(), "reference": Role(trained=False)},
        temperature=config.decoding.temperature,
        judge=config.judge,
    )
