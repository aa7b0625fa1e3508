"""Preference data of the lab: replies in different manners, compared by simulated labelers."""

from __future__ import annotations

from dataclasses import replace

from trueup.engine.groups import Completion, Group
from trueup.lab.datasets import prompts
from trueup.lab.labelers import label
from trueup.lab.replies import reply
from trueup.lab.requests import Request
from trueup.lab.world import generator

REGISTERS = ("good", "careless", "rude", "chatty")
"Who writes a prompt's four replies; their order is shuffled."


def comparisons(n: int, seed: int = 0, *, num_comparisons: int = 2) -> list[Group]:
    """`n` train prompts with four replies each, of people of different registers, compared by labelers.

    For preferences on a policy's own samples, use the procedure `label`.
    """
    groups = []
    for number, group in enumerate(prompts("train", n, seed)):
        rng = generator("comparisons", seed, number)
        request = Request(messages=group.prompt, record=group.meta["request"])
        writers = sorted(REGISTERS, key=lambda _: rng.random())
        replies = [Completion(text=reply(rng, request, writer), source=writer) for writer in writers]
        groups.append(replace(group, completions=tuple(replies)))
    return label(groups, seed, num_comparisons=num_comparisons)
