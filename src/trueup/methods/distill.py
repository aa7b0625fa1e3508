"""Distillation: move a student's next-token distributions to those of a teacher."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from annotated_types import Ge, Le

from trueup.annotate.distributions import Distributions, NamedBy
from trueup.engine.method import Method, Parts, Role, Source
from trueup.objectives.distillation import Distillation, Kind
from trueup.settings.blocks import DataSettings, LoopSettings, ModelSettings, SamplerSettings
from trueup.sources.files import Everything, Files, demonstrations
from trueup.sources.mixed import Mixed
from trueup.sources.sample import Decoding, from_policy
from trueup.update.adamw import AdamW

SUMMARY = "Match a teacher's next-token distributions, on the student's own completions or on given ones."
REFERENCES = ("hinton2015", "kim2016", "agarwal2024", "gu2024")
FAMILY, UNIT, COPIES = "distillation", "token", 2
NEEDS = ("prompts", "sampling", "teacher")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Distillation: a divergence between teacher and student at every token, no gradient through sampling."""

    model: ModelSettings = ModelSettings()
    "The student."
    teacher: str = "world:base"
    "A model with the same tokenizer: a folder, an id, or `stage:NAME`."
    completions: Literal["policy", "teacher", "files"] = "policy"
    "Who writes the text that both are asked about: the student, the teacher, or the data's authors."
    data_share: Annotated[float, Ge(0), Le(1)] = 0.0
    "With `policy`: the share of prompts that keep the data's completions."
    divergence: Kind = "jsd"
    beta: Annotated[float, Ge(0), Le(1)] = 0.5
    "β of jsd: 0 is the forward divergence, 1 the reverse one."
    top_k: Annotated[int, Ge(1)] | None = 50
    "Ids that are listed at each token, one bucket for the others beside them; None is all ids."
    named_by: NamedBy = "teacher"
    "Whose likeliest ids are listed: the teacher's, or the student's own."
    data: DataSettings = DataSettings(path="world:prompts")
    decoding: Decoding = Decoding()
    sampler: SamplerSettings = SamplerSettings()
    loop: LoopSettings = LoopSettings(steps=40, batch=32)
    update: AdamW = AdamW()
    seed: int = 0


def build(config: Config, parts: Parts) -> Method:
    """The method: files | sample(teacher) | sample(policy) -> teacher's distributions -> divergence."""
    if config.completions == "files":
        source: Source = Files(groups=demonstrations(parts.groups), batch=config.loop.batch)
        held_out: Source | None = Everything(groups=demonstrations(parts.held_out))
    else:
        source, held_out = from_policy(
            parts,
            batch=config.loop.batch,
            num_completions=1,
            decoding=config.decoding,
            network=config.completions,
        )
        if config.completions == "policy" and config.data_share:
            stored = replace(source, prompts=demonstrations(parts.groups) or parts.groups)
            source = Mixed(sample=stored, data_share=config.data_share)
    return Method(
        name="distill",
        source=source,
        held_out=held_out,
        annotate=(Distributions(top_k=config.top_k, named_by=config.named_by),),
        objective=Distillation(
            divergence=config.divergence, beta=config.beta, listed=config.top_k is not None
        ),
        update=config.update,
        networks={"policy": Role(), "teacher": Role(trained=False, start=config.teacher)},
        temperature=config.decoding.temperature,
    )
