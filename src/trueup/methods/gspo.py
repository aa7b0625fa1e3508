"""Group sequence policy optimisation: GRPO whose clipped ratio is that of a whole completion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trueup.annotate.baselines import GroupNormalised
from trueup.annotate.logprobs import Measure, OldLogprobs
from trueup.annotate.scores import MissingEos, Scores, masked
from trueup.engine.method import Method, Parts, Role
from trueup.objectives.importance import GSPO
from trueup.settings.blocks import DataSettings, LoopSettings, ModelSettings, SamplerSettings
from trueup.sources.sample import Decoding, from_policy
from trueup.update.adamw import AdamW

SUMMARY = "GRPO with one clipped ratio a completion: the geometric mean of its tokens' ratios."
REFERENCES = ("zheng2025", "shao2024", "schulman2020")
FAMILY, UNIT, COPIES = "reinforcement", "completion", 2
NEEDS = ("prompts", "judge", "sampling", "reference")


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """The numbers of GSPO itself."""

    clip: float = 3e-4
    "How far below 1 a completion's ratio may move before it stops pushing."
    clip_high: float = 4e-4
    "The same above 1."
    beta: float = 0.0
    "Weight of the divergence from the reference, k3 in the loss."
    std: Literal["sample", "population", "none"] = "sample"
    "What divides a group's centred scores."
    entropy: float = 0.0
    "Weight of the entropy bonus."
    missing_eos: MissingEos = -1.0
    "Added to the score of a completion that hit the length limit; mask: it teaches nothing; null: no rule."


@dataclass(frozen=True, kw_only=True)
class Config:
    """GSPO: K completions per prompt, advantage (score − mean) / std, one clipped ratio a completion."""

    model: ModelSettings = ModelSettings()
    "The policy, and frozen as it starts, the reference."
    judge: str = "world:truth"
    "Who scores: a reward model's folder, `stage:NAME`, `world:truth`, or FILE.py:FUNCTION."
    data: DataSettings = DataSettings(path="world:prompts")
    decoding: Decoding = Decoding()
    sampler: SamplerSettings = SamplerSettings()
    num_completions: int = 8
    "K: completions per prompt, at least 2."
    algorithm: Algorithm = Algorithm()
    epochs_per_step: int = 1
    minibatch: int | None = 4
    "Groups per update; at one update a step every ratio is 1, and the method is GRPO."
    loop: LoopSettings = LoopSettings(steps=40, batch=16)
    update: AdamW = AdamW(schedule="linear", warmup=0.05)
    seed: int = 0


def build(config: Config, parts: Parts) -> Method:
    """The method: sample K -> score, log-probs, normalise within the group -> clipped completions."""
    a = config.algorithm
    source, held_out = from_policy(
        parts, batch=config.loop.batch, num_completions=config.num_completions, decoding=config.decoding
    )
    return Method(
        name="gspo",
        source=source,
        held_out=held_out,
        annotate=(
            Scores(missing_eos=a.missing_eos),
            OldLogprobs(),
            Measure(network="reference", want="logprobs", column="ref_logprobs"),
            GroupNormalised(std=a.std),
            *masked(a.missing_eos),
        ),
        objective=GSPO(clip=a.clip, clip_high=a.clip_high, beta=a.beta, entropy=a.entropy),
        update=config.update,
        epochs=config.epochs_per_step,
        minibatch=config.minibatch,
        networks={"policy": Role(), "reference": Role(trained=False)},
        temperature=config.decoding.temperature,
        judge=config.judge,
    )
