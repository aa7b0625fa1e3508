"""Log-likelihoods of given completions, and what they say: accuracy, truthfulness, perplexity, calibration.

An item is a `Group`: a prompt (plain text or conversation) and K choices as its completions, which share one
computation of the prompt. A choice without an end token has `finished=False`. What is right stands in `meta`:
`answer` (index of the right choice) or `true` (one flag for each choice).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from trueup.annotate.logprobs import by_completion, refuse_empty, token_logprobs
from trueup.engine.groups import Completion, Group, Message, Role
from trueup.engine.method import Handles
from trueup.engine.packing import pack, split
from trueup.engine.prefixes import share_prefix
from trueup.engine.room import fitting
from trueup.evals.view import PolicyView, tokens_cut

Floats = NDArray[np.float64]
Reads = Literal["choices", "greedy", "documents", "verdicts"]
"""What is measured of an item: its choices' log-probabilities; whether greedy decoding gives them too; those
of every turn of a conversation; for each choice log π(first) − log π(second) of the `verdicts` after a
question about it, one of the `statements` (both in the item's meta)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """What a policy said about some items: one row for each item, one number for each choice."""

    logprobs: list[Floats]
    "Σ_t log π(y_t | x, y_<t), in nats."
    num_tokens: list[Floats]
    greedy: list[Floats]
    "1 where greedy decoding gives the choice; empty where that was not measured."
    cut: list[int]
    "So many tokens of each item did not fit the policy's context and were not read."


def gather(view: PolicyView, items: Sequence[Group], reads: Reads) -> Evidence:
    """The log-probabilities of the items' choices under a policy, with what else the score reads."""
    if reads == "verdicts":
        asked = [question for item in items for question in _questions(item)]
        found = gather(view, asked, "choices")
        sizes = np.cumsum([0, *(len(item.completions) for item in items)])
        gaps = np.array([row[0] - row[1] for row in found.logprobs])
        counts = np.array([row[0] for row in found.num_tokens])
        return Evidence(
            logprobs=[gaps[a:b] for a, b in pairwise(sizes)],
            num_tokens=[counts[a:b] for a, b in pairwise(sizes)],
            greedy=[],
            cut=[max(found.cut[a:b]) for a, b in pairwise(sizes)],
        )
    encoded = view.encode(items, score="all" if reads == "documents" else "last")
    tokens = token_logprobs(encoded, "policy", view.handles)
    return Evidence(
        logprobs=[np.array([choice.sum() for choice in choices]) for choices in tokens],
        num_tokens=[np.array([float(len(choice)) for choice in choices]) for choices in tokens],
        greedy=greedy_match(encoded, "policy", view.handles) if reads == "greedy" else [],
        cut=[tokens_cut(group) for group in encoded],
    )


def _questions(item: Group) -> list[Group]:
    """One group for each choice of an item: the question about it, and the two verdicts."""
    verdicts = tuple(Completion(text=text, finished=False) for text in item.meta["verdicts"])
    prompts = [(Message(Role.TEXT, text),) for text in item.meta["statements"]]
    return [replace(item, prompt=prompt, completions=verdicts) for prompt in prompts]


def greedy_match(groups: Sequence[Group], network: str, handles: Handles) -> list[Floats]:
    """Whether greedy decoding would write each completion: by group, float64 [K], 1 if all its tokens match.

    Π_t 1{y_t in argmax π(· | x, y_<t)} / (number of equals at the top): where several tokens share the
    largest probability, the chance that a fair choice among them gives this one.
    """
    refuse_empty(groups)

    def whole(budget: int) -> Floats:
        shares = []
        for micro in split(share_prefix(groups, budget), budget):
            batch = pack(micro).to(handles.device, handles.dtype)
            found = handles.networks[network](batch, ("distributions",)).distributions
            assert found is not None
            top = found.max(dim=1, keepdim=True).values
            said = found.gather(1, batch.targets[:, None])
            share = (said == top).squeeze(1).double() / (found == top).sum(1)
            shares.append(share.cpu().numpy())
        return np.concatenate(shares)

    with torch.no_grad():
        tokens = by_completion(groups, fitting(whole, groups, handles))
    return [np.array([choice.prod() for choice in choices]) for choices in tokens]


# ------------------------------------------------------------------------------------ what they say


def accuracy(values: Sequence[Floats], answers: Sequence[int]) -> Floats:
    """For each item 1 where the largest value is the answer's; 1/m where m choices share it."""
    out = np.zeros(len(values))
    for i, (row, answer) in enumerate(zip(values, answers, strict=True)):
        best = row == row.max()
        out[i] = float(best[answer]) / int(best.sum())
    return out


def per_character(groups: Sequence[Group], logprobs: Sequence[Floats]) -> list[Floats]:
    """Each choice's log-probability divided by its number of characters, one leading space not counted."""
    return [
        row / np.array([max(1, len(c.text.removeprefix(" "))) for c in group.completions])
        for group, row in zip(groups, logprobs, strict=True)
    ]


def per_byte(groups: Sequence[Group], logprobs: Sequence[Floats]) -> list[Floats]:
    """Each choice's log-probability divided by its bytes in UTF-8, one leading space not counted."""
    return [
        row / np.array([max(1, len(c.text.removeprefix(" ").encode())) for c in group.completions])
        for group, row in zip(groups, logprobs, strict=True)
    ]


def per_token(logprobs: Sequence[Floats], num_tokens: Sequence[Floats]) -> list[Floats]:
    """Each choice's mean log-probability over its tokens."""
    return [row / count for row, count in zip(logprobs, num_tokens, strict=True)]


def probabilities(logprobs: Sequence[Floats]) -> list[Floats]:
    """p_k = e^{L_k} / Σ_j e^{L_j}: the choices' probabilities among themselves."""
    return [np.exp(row - np.logaddexp.reduce(row)) for row in logprobs]


def true_mass(logprobs: Sequence[Floats], true: Sequence[Sequence[bool]]) -> Floats:
    """MC2 of each item: Σ_{true} e^L / Σ_{all} e^L (Lin et al. 2021)."""
    shares = zip(probabilities(logprobs), true, strict=True)
    return np.array([float(p[np.asarray(flags, bool)].sum()) for p, flags in shares])


def perplexity(found: Evidence) -> float:
    """exp(Σ NLL / Σ tokens) over all documents together, not the mean of their perplexities."""
    return math.exp(-_total(found.logprobs) / _total(found.num_tokens))


def bits_per_byte(items: Sequence[Group], found: Evidence) -> float:
    """Σ NLL / (ln 2 · bytes): comparable between tokenizers."""
    size = sum(len(c.text.encode()) for item in items for c in item.completions)
    return -_total(found.logprobs) / (math.log(2) * size)


def _total(rows: Sequence[Floats]) -> float:
    return sum(float(row.sum()) for row in rows)


def exact_match_by(values: Floats, keys: Sequence[str]) -> dict[str, float]:
    """For each key (a scenario of ETHICS) 1 if all its items are right, else 0 (Hendrycks et al. 2020)."""
    found: dict[str, float] = {}
    for key, value in zip(keys, values, strict=True):
        found[key] = min(found.get(key, 1.0), float(value == 1.0))
    return found
