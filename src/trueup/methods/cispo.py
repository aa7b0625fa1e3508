"""CISPO: policy gradients whose clipped ratio is a weight, so that no token stops teaching."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trueup.annotate.baselines import GroupNormalised
from trueup.annotate.logprobs import Measure, OldLogprobs
from trueup.annotate.scores import MissingEos, Scores, masked
from trueup.engine.method import Method, Parts, Role
from trueup.objectives.importance import CISPO
from trueup.settings.blocks import DataSettings, LoopSettings, ModelSettings, SamplerSettings
from trueup.sources.sample import Decoding, from_policy
from trueup.update.adamw import AdamW

SUMMARY = "Group-normalised policy gradients weighted by a clipped ratio; no token loses its gradient."
REFERENCES = ("minimax2025", "shao2024", "schulman2020")
FAMILY, UNIT, COPIES = "reinforcement", "token", 2
NEEDS = ("prompts", "judge", "sampling", "reference")


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """The numbers of CISPO itself."""

    clip_low: float | None = None
    "A token's weight is at least 1 − clip_low; None sets no lower bound."
    clip_high: float = 4.0
    "A token's weight is at most 1 + clip_high."
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
    """CISPO: K completions per prompt, advantage (score − mean) / std, clipped ratios as weights."""

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
    "Groups per update; at one update a step every weight is 1."
    loop: LoopSettings = LoopSettings(steps=40, batch=16)
    update: AdamW = AdamW(schedule="linear", warmup=0.05)
    seed: int = 0


def build(config: Config, parts: Parts) -> Method:
    """The method: sample K -> score, log-probs, normalise within the group -> weighted log-probs."""
    a = config.algorithm
    source, held_out = from_policy(
        parts, batch=config.loop.batch, num_completions=config.num_completions, decoding=config.decoding
    )
    return Method(
        name="cispo",
        source=source,
        held_out=held_out,
        annotate=(
            Scores(missing_eos=a.missing_eos),
            OldLogprobs(),
            Measure(network="reference", want="logprobs", column="ref_logprobs"),
            GroupNormalised(std=a.std),
            *masked(a.missing_eos),
        ),
        objective=CISPO(clip_low=a.clip_low, clip_high=a.clip_high, beta=a.beta, entropy=a.entropy),
        update=config.update,
        epochs=config.epochs_per_step,
        minibatch=config.minibatch,
        networks={"policy": Role(), "reference": Role(trained=False)},
        temperature=config.decoding.temperature,
        judge=config.judge,
    )
