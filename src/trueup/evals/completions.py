"""Completions of prompts by a model from its reference on; with a judge, the best of each prompt's."""

from __future__ import annotations

from collections.abc import Sequence

from trueup.answerers import complete_groups
from trueup.answerers.open import open_local
from trueup.engine.groups import Group
from trueup.judges.open import open_judge
from trueup.settings.weights import model_folder
from trueup.sources.sample import Decoding


def generate(
    model: str,
    prompts: Sequence[Group],
    *,
    k: int = 1,
    judge: str | None = None,
    temperature: float = 1.0,
    max_new_tokens: int = 128,
    top_k: int | None = None,
    top_p: float | None = None,
    template: str | None = None,
    seed: int = 0,
) -> list[Group]:
    """The prompts, each with `k` completions in place of any it had; with a judge, its favourite of these.

    A temperature of 0 is greedy. A sample depends on the seed, its prompt's place and its own place alone.
    """
    answerer = open_local(model_folder(model), template=template)
    decoding = Decoding(
        temperature=temperature or 1.0,
        greedy=temperature == 0,
        max_new_tokens=max_new_tokens,
        top_k=top_k,
        top_p=top_p,
    )
    drawn = complete_groups(prompts, answerer, decoding=decoding, k=k, seed=seed)
    if judge is None:
        return drawn
    return [favourite(group, scores) for group, scores in zip(drawn, open_judge(judge)(drawn), strict=True)]


def favourite(group: Group, scores: Sequence[float]) -> Group:
    """The group with its completion of the highest score alone; the first of equals."""
    best = max(range(len(scores)), key=scores.__getitem__)
    return group.with_completions([group.completions[best]])
