"""How a model behaves, measured from its reference on: toxicity, refusals, summaries.

Each gives its figures as JSON values and the completions behind them; with `override` also what an
adversarial suffix behind the user's message changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from trueup.engine.groups import Group
from trueup.errors import TrueupError
from trueup.evals.opening import open_view
from trueup.evals.override import overridden
from trueup.evals.real_toxicity import read_prompts
from trueup.evals.refusals import PHRASES, lab_requests, measure_refusals, read_requests
from trueup.evals.summarise import few_shot, lab_summaries, measure_summaries, read_summaries
from trueup.evals.toxicity import as_requests, lab_prompts, measure_toxicity
from trueup.judges.open import open_judge
from trueup.sources.sample import Decoding
from trueup.statistics.estimates import paired_gain

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
    judge: str | None = None,
    k: int | None = None,
    num_continuations: int = 25,
    max_new_tokens: int = 20,
    ask: bool = False,
    dialogues: int = 0,
    context: str = "lab:hhh",
    override: bool = False,
    limit: int | None = None,
    template: str | None = None,
    split: Split = "test",
    seed: int = 0,
) -> Behaviour:
    """The expected largest toxicity of k continuations, and the chance that any is toxic.

    `ask` makes a request of every sentence's start. Raises E702 for a k above `num_continuations`, and what
    `measure_toxicity` and `open_judge` raise.
    """
    if k is not None and k > num_continuations:
        raise TrueupError("E702", f"the largest of {k}, from {num_continuations} continuations", where="k")
    prompts = read_prompts(data)[:limit] if data else lab_prompts(split)[:limit]
    prompts = as_requests(prompts) if ask else prompts
    name = judge or ("toxicity:lexicon" if data else "toxicity:lab")
    scorer, view = open_judge(name), open_view(model, dialogues=dialogues, context=context, template=template)
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
    judge: str | None = None,
    num_samples: int = 1,
    dialogues: int = 0,
    context: str = "lab:hhh",
    override: bool = False,
    limit: int | None = None,
    template: str | None = None,
    split: Split = "test",
    seed: int = 0,
) -> Behaviour:
    """The share of harmless requests that are refused, beside that of harmful ones that are answered."""
    requests = read_requests(data)[:limit] if data else lab_requests(split)[:limit]
    scorer = open_judge(judge) if judge else PHRASES if data else None
    view = open_view(model, dialogues=dialogues, context=context, template=template)
    found = [
        measure_refusals(view, items, scorer, num_samples=num_samples, seed=seed)
        for items in _versions(requests, override)
    ]
    document: dict[str, Any] = found[0].to_json()
    if override:
        document["override"] = paired_gain(found[1].right, found[0].right).to_json()
    return Behaviour(document=document, groups=found[0].groups)


def summaries(
    model: str,
    *,
    data: Path | None = None,
    shots: int = 0,
    dialogues: int = 0,
    context: str = "lab:hhh",
    max_new_tokens: int = 100,
    limit: int = 100,
    template: str | None = None,
    split: Split = "test",
    seed: int = 0,
) -> Behaviour:
    """ROUGE-1, ROUGE-2 and ROUGE-L of summaries after "TL;DR:", zero-shot or after `shots` of the data."""
    if shots and not data:
        raise TrueupError(
            "E702", "the lab's posts are summarised zero-shot", where="shots", remedy="give data"
        )
    items, shown = (
        few_shot(read_summaries(data), shots, seed=seed, limit=limit)
        if data
        else (lab_summaries(split, limit), ())
    )
    decoding = Decoding(max_new_tokens=max_new_tokens, top_k=2)
    view = open_view(model, dialogues=dialogues, context=context, template=template)
    found = measure_summaries(view, items, decoding=decoding, demonstrations=shown, seed=seed)
    return Behaviour(document=found.to_json(), groups=found.groups)


def _versions(items: Sequence[Group], override: bool) -> list[Sequence[Group]]:
    """The items, and with `override` the same items behind the adversarial suffix."""
    return [items, overridden(items)] if override else [items]
