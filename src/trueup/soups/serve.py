"""Several mixtures from one set of adapters: every request names its weights, the base is held once.

A preference then costs no model: N adapters of rank r serve every point of the simplex, and between two
requests Σ r_i numbers change. Requests of one mixture are sampled together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trueup.chat import Chat
from trueup.engine.groups import Group, Message
from trueup.engine.order import derive
from trueup.soups.mix import Soup
from trueup.soups.simplex import Weights
from trueup.sources.sample import Decoding, sample_groups


@dataclass(frozen=True, kw_only=True)
class Request:
    """A conversation to be answered, and the mixture that is to answer it."""

    prompt: tuple[Message, ...]
    weights: Weights


def answer(
    soup: Soup, chat: Chat, requests: Sequence[Request], *, decoding: Decoding | None = None, seed: int = 0
) -> list[str]:
    """One completion of each request, in order. Raises E736 for weights that the soup does not take.

    A sample depends on the seed, the weights, and the request's place among those of the same weights. The
    soup's one network takes on each mixture in turn, so two threads must not ask it at once.
    """
    places: dict[Weights, list[int]] = {}
    for place, request in enumerate(requests):
        # The seed is made of their text: 1 and 1.0 are one weight.
        places.setdefault(tuple(map(float, request.weights)), []).append(place)
    found = [""] * len(requests)
    for weights, here in places.items():
        drawn = sample_groups(
            [chat.encode(Group(prompt=requests[place].prompt)) for place in here],
            soup.at(weights),
            decode=chat.decode,
            stop_ids=chat.stop_ids,
            k=1,
            decoding=decoding or Decoding(),
            seed=derive(seed, *map(str, weights)),
            name="soup",
        )
        for place, group in zip(here, drawn, strict=True):
            found[place] = group.completions[0].text
    return found
