"""Online DPO: the policy writes the pairs it learns from, and a judge says which is better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge

from trueup.annotate.logprobs import Measure
from trueup.annotate.ranks import Preferences
from trueup.annotate.scores import MissingEos, scored
from trueup.engine.method import Method, Parts, Role
from trueup.objectives.pairwise import DPO
from trueup.settings.blocks import DataSettings, LoopSettings, ModelSettings, SamplerSettings
from trueup.sources.sample import Decoding, from_policy
from trueup.update.adamw import AdamW

SUMMARY = "Sample from the policy, let a judge prefer, and learn from those pairs by DPO."
REFERENCES = ("guo2024", "rafailov2023")
FAMILY, UNIT, COPIES = "contrastive", "pair", 2
NEEDS = ("prompts", "judge", "sampling", "reference")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Online DPO: sample K, score, prefer, then −log σ(β [h(chosen) − h(rejected)])."""

    model: ModelSettings = ModelSettings()
    "The policy, and frozen as it starts, the reference."
    judge: str = "world:truth"
    "Who scores: a reward model's folder, `stage:NAME`, `world:truth`, or FILE.py:FUNCTION."
    data: DataSettings = DataSettings(path="world:prompts")
    decoding: Decoding = Decoding()
    sampler: SamplerSettings = SamplerSettings()
    num_completions: Annotated[int, Ge(2)] = 2
    "Completions per prompt."
    label: Literal["hard", "bradley_terry"] = "hard"
    "Best over worst, or every two with the probability σ(score_a − score_b)."
    missing_eos: MissingEos = -1.0
    "Added to the score of a completion that hit the length limit; mask: it teaches nothing; null: no rule."
    beta: float = 0.1
    "Strength of the pull to the reference."
    loop: LoopSettings = LoopSettings(steps=40, batch=64)
    update: AdamW = AdamW()
    seed: int = 0


def build(config: Config, parts: Parts) -> Method:
    """The method: sample -> score, prefer, reference log-probs -> DPO."""
    source, held_out = from_policy(
        parts, batch=config.loop.batch, num_completions=config.num_completions, decoding=config.decoding
    )
    return Method(
        name="online_dpo",
        source=source,
        held_out=held_out,
        annotate=(
            *scored(config.missing_eos),
            Preferences(label=config.label),
            Measure(network="reference", want="logprobs", column="ref_logprobs"),
        ),
        objective=DPO(beta=config.beta),
        update=config.update,
        networks={"policy": Role(), "reference": Role(trained=False)},
        temperature=config.decoding.temperature,
        judge=config.judge,
    )
