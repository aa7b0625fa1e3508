"""How a model behaves, measured from its reference on: toxicity, refusals, summaries.

Each gives its figures as JSON values and the completions behind them; with `override` also what an
adversarial suffix behind the user's message changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from trueup.behaviour import summarise
from trueup.behaviour.override import overridden
from trueup.behaviour.phrases import Phrases, error
from trueup.behaviour.real_toxicity import read_prompts
from trueup.behaviour.refusals import DECODING, by_grade, by_judge, checked, judged_refusals, read_requests
from trueup.behaviour.toxicity import as_requests, judged_toxicity
from trueup.engine.groups import Group
from trueup.errors import TrueupError, counted
from trueup.evals.view import open_behind
from trueup.judges.open import open_judge
from trueup.sources.open import world_groups
from trueup.sources.sample import Decoding
from trueup.statistics.estimates import paired_gain
from trueup.worlds import World, world_of

Split = Literal["train", "dev", "test"]


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """What was measured, and what the model said."""

    document: dict[str, Any]
    "The figures as JSON values, estimates with their intervals."
    groups: Sequence[Group]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a model is asked: the rows of a file, or what a world has, behind dialogues of a context."""

    model: str
    data: Path | None
    world: str
    "Empty is the one that the model's data came from."
    dialogues: int
    context: str
    limit: int | None
    template: str | None
    split: Split
    seed: int

    def of_world(self, name: str) -> tuple[World, list[Group]]:
        """The world, and what it has under a name."""
        own = world_of(self.world, self.model, where=name)
        return own, world_groups(own, name, split=self.split, limit=self.limit)

    def said(
        self, items: Sequence[Group], *, k: int, decoding: Decoding, override: bool = False
    ) -> list[list[Group]]:
        """What the model says to the items, and with `override` to the same behind the adversarial suffix."""
        view = open_behind(self.model, self.dialogues, self.context, template=self.template, world=self.world)
        versions = [items, overridden(items)] if override else [items]
        return [view.sample(one, k=k, decoding=decoding, seed=self.seed) for one in versions]


def toxicity(
    asked: Asked,
    *,
    judge: str | None,
    k: int | None,
    num_continuations: int,
    max_new_tokens: int,
    ask: bool,
    override: bool,
) -> Behaviour:
    """The expected largest toxicity of k continuations, and the chance that any is toxic.

    `ask` makes a request of every sentence's start. Raises E702 for a k above `num_continuations`, and what
    `judged_toxicity` and `open_judge` raise.
    """
    if k is not None and k > num_continuations:
        reason = f"the largest of {k}, from {counted(num_continuations, 'continuation')}"
        raise TrueupError("E702", reason, where="k", remedy="a smaller k, or more `--num-continuations`")
    if asked.data:
        prompts, name = read_prompts(asked.data)[: asked.limit], judge or "toxicity:lexicon"
    else:
        own, prompts = asked.of_world("toxicity")
        name = judge or f"{own.name}:toxicity"
    prompts = as_requests(prompts) if ask else prompts
    scorer, decoding = open_judge(name), Decoding(max_new_tokens=max_new_tokens, top_p=0.9)
    drawn = asked.said(prompts, k=num_continuations, decoding=decoding, override=override)
    found = [judged_toxicity(said, scorer) for said in drawn]
    document: dict[str, Any] = {"judge": name, **found[0].to_json(k or num_continuations)}
    if override:
        # Larger is better in a probe, so the sign says what it says everywhere.
        gain = paired_gain(*(1.0 - f.scores.max(axis=1) for f in reversed(found)))
        document["override"] = gain.to_json()
    return Behaviour(document=document, groups=found[0].groups)


def refusals(asked: Asked, *, judge: str | None, num_samples: int, override: bool) -> Behaviour:
    """The share of harmless requests that are refused, beside that of harmful ones that are answered.

    Where neither a judge nor a world's truth decides, phrases do, and the document says under `phrases` how
    far they agree with people.
    """
    if asked.data:
        requests, grade = read_requests(asked.data)[: asked.limit], None
    else:
        own, requests = asked.of_world("refusals")
        grade = own.grade("refusals")
    by_phrases = not judge and grade is None
    scorer = open_judge(judge) if judge else Phrases()
    behaviour = by_grade(grade) if grade is not None and not judge else by_judge(scorer)
    drawn = asked.said(checked(requests), k=num_samples, decoding=DECODING, override=override)
    found = [judged_refusals(said, behaviour) for said in drawn]
    document: dict[str, Any] = found[0].to_json()
    if by_phrases:
        document["phrases"] = dict(error())
    if override:
        document["override"] = paired_gain(found[1].right, found[0].right).to_json()
    return Behaviour(document=document, groups=found[0].groups)


def summaries(asked: Asked, *, shots: int, max_new_tokens: int) -> Behaviour:
    """ROUGE-1, ROUGE-2 and ROUGE-L of summaries after "TL;DR:", zero-shot or after `shots` of the data."""
    if shots and not asked.data:
        raise TrueupError(
            "E702", "a world's posts are summarised zero-shot", where="shots", remedy="give data"
        )
    shown: Sequence[summarise.Demonstration] = ()
    if asked.data:
        rows = summarise.read_summaries(asked.data)
        items, shown = summarise.few_shot(rows, shots, seed=asked.seed, limit=asked.limit)
    else:
        _, items = asked.of_world("summaries")
    decoding = Decoding(max_new_tokens=max_new_tokens, top_k=2)
    (written,) = asked.said(summarise.checked(items), k=1, decoding=decoding)
    found = replace(summarise.judged_summaries(written), demonstrations=shown)
    return Behaviour(document=found.to_json(), groups=found.groups)
