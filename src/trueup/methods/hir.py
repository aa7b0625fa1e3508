"""HIR: hindsight instruction relabelling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated

import numpy as np
from annotated_types import Ge, Lt

from trueup.annotate.relabel import Relabel
from trueup.annotate.scores import Scores
from trueup.errors import TrueupError
from trueup.groups import Group, Message, Role
from trueup.method import Method, Parts
from trueup.objectives.hindsight import Hindsight
from trueup.settings import DataSettings, LoopSettings, ModelSettings
from trueup.sources.sample import Decoding, Sample
from trueup.update.adamw import AdamW

SUMMARY = "Sample, tell each completion as the answer to the instruction it did satisfy, learn from all."
REFERENCES = ("zhang2023",)
FAMILY, UNIT, COPIES = "supervised", "pair", 1
NEEDS = ("prompts", "judge", "sampling")


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """The numbers of HIR itself."""

    instruction: str = "Answer quality: good"
    "Stands after every question while sampling and in use; what good completions are told to satisfy."
    opposite: str = "Answer quality: poor"
    "What the other completions are told to satisfy."
    threshold: float | None = None
    "The score from which a completion is good; None is the mean of the step's scores."
    smoothing: Annotated[float, Ge(0), Lt(1)] = 0.0
    "Share of the likelihood's target spread over the vocabulary, and of the contrast's over the opposite: ε."
    contrastive: Annotated[float, Ge(0)] = 1.0
    "Weight of the contrast between the two instructions."
    entropy: Annotated[float, Ge(0)] = 0.001
    "Weight of the entropy bonus."
    missing_eos: float | None = -1.0
    "Score of a completion that hit the length limit; None leaves the judge's."


@dataclass(frozen=True, kw_only=True)
class Config:
    """HIR: supervised learning of completions under the instruction that each satisfied."""

    model: ModelSettings = ModelSettings()
    judge: str = "lab:gold"
    "Who scores: a reward model's folder, `stage:NAME`, `lab:gold`, or FILE.py:FUNCTION."
    data: DataSettings = DataSettings(path="lab:prompts")
    decoding: Decoding = Decoding()
    num_completions: Annotated[int, Ge(1)] = 4
    "Completions per prompt."
    epochs_per_step: int = 2
    minibatch: int | None = 16
    "Groups per update."
    algorithm: Algorithm = Algorithm()
    loop: LoopSettings = LoopSettings(steps=40, batch=32)
    update: AdamW = AdamW(lr=3e-4, schedule="constant")
    seed: int = 0


def build(config: Config, parts: Parts) -> Method:
    """The method: sample under the instruction -> score, relabel -> likelihood, contrast, entropy."""
    a = config.algorithm
    if a.instruction == a.opposite:
        raise TrueupError(
            "E734", "both instructions are the same", where="algorithm.opposite", remedy="word it otherwise"
        )
    good, bad = (partial(instructed, parts, text) for text in (a.instruction, a.opposite))

    def sampler(groups: Sequence[Group], batch: int) -> Sample:
        return Sample(
            prompts=[replace(group, prompt_tokens=good(group)) for group in groups],
            batch=batch,
            decode=parts.decode,
            stop_ids=parts.stop_ids,
            num_completions=config.num_completions,
            decoding=config.decoding,
        )

    return Method(
        name="hir",
        source=sampler(parts.groups, config.loop.batch),
        held_out=sampler(parts.held_out, len(parts.held_out)) if parts.held_out else None,
        annotate=(
            Scores(missing_eos=a.missing_eos),
            Relabel(good=good, bad=bad, threshold=a.threshold),
        ),
        objective=Hindsight(smoothing=a.smoothing, contrastive=a.contrastive, entropy=a.entropy),
        update=config.update,
        epochs=config.epochs_per_step,
        minibatch=config.minibatch,
        temperature=config.decoding.temperature,
        judge=config.judge,
    )


def instructed(parts: Parts, instruction: str, group: Group) -> np.ndarray:
    """The prompt's token ids with an instruction on a line of its own after what the user said last.

    The judge goes on seeing the prompt without it.
    """
    asked = [i for i, m in enumerate(group.prompt) if m.role in (Role.USER, Role.TEXT)]
    messages = list(group.prompt)
    if asked:
        last = messages[asked[-1]]
        messages[asked[-1]] = Message(last.role, f"{last.content}\n{instruction}")
    else:
        messages.append(Message(Role.USER, instruction))
    return parts.prompt_ids(messages)
