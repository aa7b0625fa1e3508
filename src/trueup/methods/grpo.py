"""Group relative policy optimisation: advantages from a prompt's own completions, no critic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt

from trueup.annotate.baselines import GroupNormalised
from trueup.annotate.logprobs import Measure, OldLogprobs
from trueup.annotate.scores import MissingEos, Scores, masked
from trueup.engine.method import Method, Parts, Role
from trueup.objectives.group_relative import GroupRelative
from trueup.settings.blocks import DataSettings, LoopSettings, ModelSettings, SamplerSettings
from trueup.sources.redrawn import from_judged_policy
from trueup.sources.sample import Decoding
from trueup.update.adamw import AdamW

SUMMARY = "Clipped steps on scores normalised within each prompt's completions; no critic."
REFERENCES = ("shao2024", "liu2025", "yu2025", "schulman2020", "ye2020")
FAMILY, UNIT, COPIES = "reinforcement", "completion", 2
NEEDS = ("prompts", "judge", "sampling", "reference")


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """The numbers of GRPO itself."""

    beta: float = 0.04
    "Weight of the divergence from the reference, in the loss."
    penalty: Literal["k3", "ratio_k3"] = "k3"
    "Its estimate: k3 pulls like KL(reference ‖ policy), ratio_k3 like KL(policy ‖ reference)."
    std: Literal["sample", "population", "none"] = "sample"
    "What divides a group's centred scores; none is Dr. GRPO's."
    average: Literal["completion", "token", "constant"] = "completion"
    "Mean over each completion first (GRPO), over all tokens (DAPO), or sums over the longest (Dr. GRPO)."
    clip: float = 0.2
    "How far a token's probability ratio may move before it stops pushing."
    clip_high: float | None = None
    "The same above 1, where it differs (DAPO: .28)."
    dual_clip: Annotated[float, Gt(1)] | None = None
    "The ratio beyond which a token of negative advantage stops pushing too; the paper's is 3."
    entropy: float = 0.0
    "Weight of the entropy bonus."
    max_batches: Annotated[int, Ge(1)] = 1
    "Batches drawn a step, at most, until there are enough prompts whose scores differ (DAPO: 10)."
    overlong_cache: Annotated[int, Ge(0)] = 0
    "So many tokens before the limit the score begins to fall, by 1 at the limit (DAPO); 0 is no penalty."
    missing_eos: MissingEos = -1.0
    "Added to the score of a completion that hit the length limit; mask: it teaches nothing; null: no rule."


@dataclass(frozen=True, kw_only=True)
class Config:
    """GRPO: K completions per prompt, advantage (score − mean) / std, clipped ratios, k3 in the loss."""

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
    minibatch: int | None = None
    "Groups per update; None is all of the step's."
    loop: LoopSettings = LoopSettings(steps=40, batch=16)
    update: AdamW = AdamW(schedule="linear", warmup=0.05)
    seed: int = 0


def build(config: Config, parts: Parts) -> Method:
    """The method: sample K -> score, log-probs, normalise within the group -> clipped loss with k3."""
    a = config.algorithm
    scores = Scores(missing_eos=a.missing_eos)
    source, held_out, scored = from_judged_policy(
        parts, config, scores, max_batches=a.max_batches, overlong_cache=a.overlong_cache
    )
    return Method(
        name="grpo",
        source=source,
        held_out=held_out,
        annotate=(
            *scored,
            OldLogprobs(),
            Measure(network="reference", want="logprobs", column="ref_logprobs"),
            GroupNormalised(std=a.std),
            *masked(a.missing_eos),
        ),
        objective=GroupRelative(
            beta=a.beta,
            penalty=a.penalty,
            clip=a.clip,
            clip_high=a.clip_high,
            dual_clip=a.dual_clip,
            entropy=a.entropy,
            average=a.average,
            longest=config.decoding.max_new_tokens,
        ),
        update=config.update,
        epochs=config.epochs_per_step,
        minibatch=config.minibatch,
        networks={"policy": Role(), "reference": Role(trained=False)},
        temperature=config.decoding.temperature,
        judge=config.judge,
    )
