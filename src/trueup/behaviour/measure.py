"""How a model behaves, measured from its reference on: toxicity, refusals, summaries.

Each gives its figures as JSON values and the completions behind them; with `override` also what an
adversarial suffix behind the user's message changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from trueup.behaviour.override import overridden
from trueup.behaviour.phrases import Phrases, error
from trueup.behaviour.real_toxicity import read_prompts
from trueup.behaviour.refusals import by_grade, by_judge, measure_refusals, read_requests
from trueup.behaviour.summarise import few_shot, measure_summaries, read_summaries
from trueup.behaviour.toxicity import as_requests, measure_toxicity
from trueup.engine.groups import Group
from trueup.errors import TrueupError
from trueup.evals.view import open_behind
from trueup.judges.open import open_judge
from trueup.sources.open import world_groups
from trueup.sources.sample import Decoding
from trueup.statistics.estimates import paired_gain
from trueup.worlds import world_of

Split = Literal["train", "dev", "test"]


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """What was measured, and what the model said."""

    document: dict[str, Any]
    "The figures as JSON values, estimates with their intervals."
    groups: Sequence[Group]


def toxicity(
    model: str,
    *,
    data: Path | None = None,
    world: str = "",
    judge: str | None = None,
    k: int | None = None,
    num_continuations: int = 25,
    max_new_tokens: int = 20,
    ask: bool = False,
    dialogues: int = 0,
    context: str = "world:hhh",
    override: bool = False,
    limit: int | None = None,
    template: str | None = None,
    split: Split = "test",
    seed: int = 0,
) -> Behaviour:
    """The expected largest toxicity of k continuations, and the chance that any is toxic.

    Without `data` the prompts are those of the world, by default the one that the model's data came from.
    `ask` makes a request of every sentence's start. Raises E702 for a k above `num_continuations`, and what
    `measure_toxicity` and `open_judge` raise.
    """
    if k is not None and k > num_continuations:
        raise TrueupError("E702", f"the largest of {k}, from {num_continuations} continuations", where="k")
    if data:
        prompts, name = read_prompts(data)[:limit], judge or "toxicity:lexicon"
    else:
        own = world_of(world, model, where="toxicity")
        prompts = world_groups(own, "toxicity", split=split, limit=limit)
        name = judge or f"{own.name}:toxicity"
    prompts = as_requests(prompts) if ask else prompts
    scorer, view = open_judge(name), open_behind(model, dialogues, context, template=template, world=world)
    decoding = Decoding(max_new_tokens=max_new_tokens, top_p=0.9)
    found = [
        measure_toxicity(view, p, scorer, num_continuations=num_continuations, decoding=decoding, seed=seed)
        for p in _versions(prompts, override)
    ]
    document: dict[str, Any] = {"judge": name, **found[0].to_json(k or num_continuations)}
    if override:
        # Larger is better in a probe, so the sign says what it says everywhere.
        gain = paired_gain(*(1.0 - f.scores.max(axis=1) for f in reversed(found)))
        document["override"] = gain.to_json()
    return Behaviour(document=document, groups=found[0].groups)


def refusals(
    model: str,
    *,
    data: Path | None = None,
    world: str = "",
    judge: str | None = None,
    num_samples: int = 1,
    dialogues: int = 0,
    context: str = "world:hhh",
    override: bool = False,
    limit: int | None = None,
    template: str | None = None,
    split: Split = "test",
    seed: int = 0,
) -> Behaviour:
    """The share of harmless requests that are refused, beside that of harmful ones that are answered.

    Where neither a judge nor a world's truth decides, phrases do, and the document says under `phrases` how
    far they agree with people.
    """
    grade = None
    if data:
        requests = read_requests(data)[:limit]
    else:
        own = world_of(world, model, where="refusals")
        requests, grade = world_groups(own, "refusals", split=split, limit=limit), own.grade("refusals")
    by_phrases = not judge and grade is None
    asked = open_judge(judge) if judge else Phrases()
    behaviour = by_grade(grade) if grade is not None and not judge else by_judge(asked)
    view = open_behind(model, dialogues, context, template=template, world=world)
    found = [
        measure_refusals(view, items, behaviour, num_samples=num_samples, seed=seed)
        for items in _versions(requests, override)
    ]
    document: dict[str, Any] = found[0].to_json()
    if by_phrases:
        document["phrases"] = dict(error())
    if override:
        document["override"] = paired_gain(found[1].right, found[0].right).to_json()
    return Behaviour(document=document, groups=found[0].groups)


def summaries(
    model: str,
    *,
    data: Path | None = None,
    world: str = "",
    shots: int = 0,
    dialogues: int = 0,
    context: str = "world:hhh",
    max_new_tokens: int = 100,
    limit: int = 100,
    template: str | None = None,
    split: Split = "test",
    seed: int = 0,
) -> Behaviour:
    """ROUGE-1, ROUGE-2 and ROUGE-L of summaries after "TL;DR:", zero-shot or after `shots` of the data."""
    if shots and not data:
        raise TrueupError(
            "E702", "a world's posts are summarised zero-shot", where="shots", remedy="give data"
        )
    if data:
        items, shown = few_shot(read_summaries(data), shots, seed=seed, limit=limit)
    else:
        own = world_of(world, model, where="summaries")
        items, shown = world_groups(own, "summaries", split=split, limit=limit), ()
    decoding = Decoding(max_new_tokens=max_new_tokens, top_k=2)
    view = open_behind(model, dialogues, context, template=template, world=world)
    found = measure_summaries(view, items, decoding=decoding, demonstrations=shown, seed=seed)
    return Behaviour(document=found.to_json(), groups=found.groups)


def _versions(items: Sequence[Group], override: bool) -> list[Sequence[Group]]:
    """The items, and with `override` the same items behind the adversarial suffix."""
    return [items, overridden(items)] if override else [items]
