"""Supervised finetuning: imitate demonstrations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
from annotated_types import Ge

from trueup.engine.groups import Completion, Group
from trueup.engine.method import Beside, Handles, Method, Parts
from trueup.objectives.likelihood import NLL, TextNLL
from trueup.objectives.mix import Sum
from trueup.settings.blocks import DataSettings, LoopSettings, ModelSettings
from trueup.sources.files import Everything, Files, demonstrations
from trueup.update.adamw import AdamW

SUMMARY = "Imitate demonstrations by maximum likelihood."
REFERENCES = ("ouyang2022", "radford2018")
FAMILY, UNIT, COPIES = "supervised", "token", 1
NEEDS = ("demonstrations",)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Supervised finetuning: minimise −log π(y_t) over the completions' tokens, end token included.

    L = task_weight · L_task + lm_weight · L_LM. Of groups with judgements, only the completions that were
    preferred are imitated.
    """

    model: ModelSettings = ModelSettings()
    data: DataSettings = DataSettings(path="world:demonstrations")
    loop: LoopSettings = LoopSettings(epochs=3)
    update: AdamW = AdamW()
    task_weight: Annotated[float, Ge(0)] = 1.0
    "Weight of the completions' loss."
    lm_weight: Annotated[float, Ge(0)] = 0.0
    "Weight of a language-modelling loss on the same texts, prompts included; GPT-1 used 0.5."
    seed: int = 0


def build(config: Config, parts: Parts) -> Method:
    """The method: files -> NLL, and beside it the loss of the whole texts."""
    text = Beside(groups=texts, objective=TextNLL(), weight=config.lm_weight)
    return Method(
        name="sft",
        source=Files(groups=demonstrations(parts.groups), batch=config.loop.batch),
        held_out=Everything(groups=demonstrations(parts.held_out)),
        objective=Sum(((config.task_weight, NLL()),)),
        update=config.update,
        beside=(text,) if config.lm_weight else (),
    )


def texts(groups: Sequence[Group], update: int, handles: Handles) -> list[Group]:
    """Every prompt with every completion as one text, all of whose tokens after the first are supervised."""
    return [as_text(group, completion) for group in groups for completion in group.completions]


def as_text(group: Group, completion: Completion) -> Group:
    """Prompt and completion as one text: its first token the prompt, the rest one supervised completion."""
    assert group.prompt_tokens is not None and completion.tokens is not None, "encode the group first"
    first, rest = group.prompt_tokens[:1], group.prompt_tokens[1:]
    whole = Completion(
        text=completion.text,
        tokens=np.concatenate([rest, completion.tokens]).astype(np.int32),
        finished=completion.finished,
    )
    return replace(group, prompt_tokens=first, completions=(whole,), comparisons=(), rankings=(), scores=())
