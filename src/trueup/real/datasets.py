"""Data sets of the world: prompts by split, demonstrations and comparisons on those for training."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from trueup.engine.groups import Comparison, Completion, Group, Message, Role
from trueup.real.judges import grade
from trueup.real.material import Split, generator
from trueup.real.requests import Request, draw
from trueup.real.writing import good, worse


def prompts(split: Split, num: int, seed: int = 0) -> list[Group]:
    """`num` different prompts of a split; fewer are the first of more.

    `meta["request"]` holds what the judges need.
    """
    return [group for _, group in _distinct(split, num, "prompts", seed)]


def demonstrations(num: int, seed: int = 0) -> list[Group]:
    """`num` prompts for training, each with an answer that is right and does all that it is told."""
    found = []
    for number, (request, group) in enumerate(_distinct("train", num, "demonstrations", seed)):
        text = good(request, generator("demonstration", seed, number))
        found.append(group.with_completions([Completion(text=text, source="demonstrator")]))
    return found


def comparisons(num: int, seed: int = 0) -> list[Group]:
    """`num` prompts for training, each with a good answer and a worse one, in random order, compared."""
    return [
        _compared(request, group, seed, number)
        for number, (request, group) in enumerate(_distinct("train", num, "comparisons", seed))
    ]


def _compared(request: Request, group: Group, seed: int, number: int) -> Group:
    rng = generator("comparison", seed, number)
    better, other = good(request, rng), worse(request, rng)
    while grade(group, other)["gold"] == 1:  # what was to miss the subject happens to meet it
        other = worse(request, rng)
    first = rng.random() < 0.5
    texts = (better, other) if first else (other, better)
    chosen = Comparison(a=0, b=1, choice="a" if first else "b", labeler="rules")
    found = group.with_completions([Completion(text=text, source="writer") for text in texts])
    return Group(
        prompt=found.prompt,
        completions=found.completions,
        comparisons=(chosen,),
        id=found.id,
        source=found.source,
        meta=found.meta,
    )


def _distinct(split: Split, num: int, purpose: str, seed: int) -> Iterator[tuple[Request, Group]]:
    rng = generator(purpose, split, seed)
    seen: set[str] = set()
    while len(seen) < num:
        request = draw(split, rng)
        if request.text in seen:
            continue
        seen.add(request.text)
        yield request, as_group(request, split)


def as_group(request: Request, split: Split) -> Group:
    """A request as a prompt."""
    digest = hashlib.sha256(request.text.encode()).hexdigest()[:10]
    prompt = (Message(Role.USER, request.text),)
    return Group(
        prompt=prompt, id=f"real-{split}-{digest}", source="real", meta={"request": dict(request.record)}
    )
