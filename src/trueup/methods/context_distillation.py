"""Context distillation: the model without a prompt learns what it says with one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from annotated_types import Ge, Le

from trueup.annotate.distributions import Distributions
from trueup.engine.method import Method, Parts, Role, Source
from trueup.objectives.distillation import Distillation, Kind
from trueup.settings.blocks import DataSettings, LoopSettings, ModelSettings, SamplerSettings
from trueup.sources.context import HHH, open_context, under_context
from trueup.sources.files import Everything, Files, demonstrations
from trueup.sources.sample import Decoding, from_policy
from trueup.update.adamw import AdamW

SUMMARY = "Train a model to answer without a written context as it answers with it."
REFERENCES = ("askell2021", "snell2022", "bai2022a")
FAMILY, UNIT, COPIES = "distillation", "token", 2
NEEDS = ("prompts", "sampling", "teacher")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Context distillation: KL(p₀(· | C, x, y_<t) ‖ π(· | x, y_<t)) at every token of a completion."""

    model: ModelSettings = ModelSettings()
    "The student, and with the context before every prompt, frozen as it starts, the teacher."
    context: str = HHH
    "Dialogues to put before the teacher's prompts: `world:hhh`, `hhh` (the real world), or a file."
    num_dialogues: Annotated[int, Ge(0)] = 14
    "How many of them; with 0 the teacher is the student as it starts."
    completions: Literal["teacher", "policy", "files"] = "teacher"
    "Who writes the text: the teacher under its context, the student, or the data's authors."
    divergence: Kind = "forward"
    beta: Annotated[float, Ge(0), Le(1)] = 0.5
    "β of jsd."
    top_k: Annotated[int, Ge(1)] | None = 50
    "Ids that the teacher names at each token, one bucket for the others beside them; None is all ids."
    data: DataSettings = DataSettings(path="world:prompts", max_tokens=128)
    decoding: Decoding = Decoding()
    sampler: SamplerSettings = SamplerSettings()
    loop: LoopSettings = LoopSettings(steps=40, batch=32)
    update: AdamW = AdamW()
    seed: int = 0


def build(config: Config, parts: Parts) -> Method:
    """The method: sample(prompted teacher) -> the prompted teacher's distributions -> divergence."""
    under = under_context(open_context(config.context, config.num_dialogues), parts.prompt_ids)
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
        if config.completions == "teacher":
            source, held_out = replace(source, under=under), held_out and replace(held_out, under=under)
    return Method(
        name="context_distillation",
        source=source,
        held_out=held_out,
        annotate=(Distributions(top_k=config.top_k, under=under),),
        objective=Distillation(
            divergence=config.divergence, beta=config.beta, listed=config.top_k is not None
        ),
        update=config.update,
        networks={"policy": Role(), "teacher": Role(trained=False)},
        temperature=config.decoding.temperature,
    )
