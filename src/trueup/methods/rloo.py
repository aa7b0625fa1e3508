"""REINFORCE leave-one-out: several completions of a prompt are one another's baseline."""

from __future__ import annotations

from dataclasses import dataclass

from trueup.annotate.baselines import LeaveOneOut
from trueup.annotate.logprobs import Measure, OldLogprobs
from trueup.annotate.rewards import KLReward
from trueup.annotate.scores import MissingEos, Scores, masked
from trueup.engine.method import Method, Parts, Role
from trueup.objectives.reinforce import ClippedSequence, Reinforce
from trueup.settings.blocks import DataSettings, LoopSettings, ModelSettings, SamplerSettings
from trueup.sources.sample import Decoding, from_policy
from trueup.update.adamw import AdamW

SUMMARY = "REINFORCE whose baseline is the mean reward of a prompt's other completions."
REFERENCES = ("ahmadian2024", "kool2019")
FAMILY, UNIT, COPIES = "reinforcement", "completion", 2
NEEDS = ("prompts", "judge", "sampling", "reference")


@dataclass(frozen=True, kw_only=True)
class Config:
    """RLOO: −[R_i − mean of the others' R] Σ_t log π(y_t), K completions per prompt."""

    model: ModelSettings = ModelSettings()
    "The policy, and frozen as it starts, the reference."
    judge: str = "world:truth"
    "Who scores: a reward model's folder, `stage:NAME`, `world:truth`, or FILE.py:FUNCTION."
    data: DataSettings = DataSettings(path="world:prompts")
    decoding: Decoding = Decoding()
    sampler: SamplerSettings = SamplerSettings()
    num_completions: int = 4
    "K: completions per prompt, at least 2."
    beta: float = 0.05
    "Strength of the KL penalty in the reward, per nat."
    clip: float | None = None
    "None: plain REINFORCE. A number: clip the completions' ratios, for several epochs a step."
    epochs_per_step: int = 1
    "More than one needs `clip`."
    missing_eos: MissingEos = -1.0
    "Added to the score of a completion that hit the length limit; mask: it teaches nothing; null: no rule."
    loop: LoopSettings = LoopSettings(steps=40, batch=32)
    update: AdamW = AdamW(schedule="linear", warmup=0.05)
    seed: int = 0


def build(config: Config, parts: Parts) -> Method:
    """The method: sample K -> score, log-probs, KL reward, leave-one-out -> score-function loss."""
    source, held_out = from_policy(
        parts, batch=config.loop.batch, num_completions=config.num_completions, decoding=config.decoding
    )
    return Method(
        name="rloo",
        source=source,
        held_out=held_out,
        annotate=(
            Scores(missing_eos=config.missing_eos),
            OldLogprobs(),
            Measure(network="reference", want="logprobs", column="ref_logprobs"),
            KLReward(beta=config.beta),
            LeaveOneOut(),
            *masked(config.missing_eos),
        ),
        objective=Reinforce() if config.clip is None else ClippedSequence(clip=config.clip),
        update=config.update,
        epochs=config.epochs_per_step,
        networks={"policy": Role(), "reference": Role(trained=False)},
        temperature=config.decoding.temperature,
        judge=config.judge,
    )
