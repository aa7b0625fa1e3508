"""How a token is picked: against the distribution function added up token by token in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trueup.models.generate import BLOCK, Choice, pick

SIZES = (1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 300, 1000)
CLOSE = 2e-6
"Sums in float32 move the distribution function by less."


def _plain(z: Tensor, u: np.ndarray, choice: Choice) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and log-probs row by row, nothing in blocks: the first v with P(token <= v) > u."""
    tokens, logprobs = [], []
    for row, uniform in zip(z.double().numpy(), u, strict=True):
        p = np.exp(row - row.max())
        p = kept = p / p.sum()
        if choice.top_k is not None and choice.top_k < len(p):
            best = torch.topk(torch.softmax(torch.from_numpy(row).float(), -1), choice.top_k).indices
            kept = np.zeros_like(p)
            kept[best] = p[best]
        if choice.top_p is not None and choice.top_p < 1:
            order = np.argsort(-kept, kind="stable")
            ordered = kept[order]
            order = order[ordered.cumsum() - ordered < choice.top_p * ordered.sum()]
            nucleus = np.zeros_like(p)
            nucleus[order] = kept[order]
            kept = nucleus
        cumulative = kept.cumsum()
        first = np.searchsorted(cumulative, np.clip(uniform, 0, 1) * cumulative[-1], side="right")
        token = min(first, np.flatnonzero(kept)[-1])
        tokens.append(token)
        logprobs.append(np.log(p[token]))
    return np.array(tokens), np.array(logprobs)


@settings(max_examples=40)
@given(
    size=st.sampled_from(SIZES),
    spread=st.sampled_from((0.0, 0.3, 3.0, 30.0)),
    seed=st.integers(0, 1 << 30),
    ties=st.booleans(),
    choice=st.sampled_from(
        (Choice(), Choice(top_k=1), Choice(top_k=7), Choice(top_p=0.61), Choice(top_k=200, top_p=0.83))
    ),
)
def test_tokens_are_those_of_the_plain_inverse(
    size: int, spread: float, seed: int, ties: bool, choice: Choice
) -> None:
    """Between those of u a little less and a little more; the ends of [0, 1) among the draws."""
    generator = np.random.default_rng(seed)
    row = generator.normal(0, spread, size)
    row = np.round(row) if ties else row
    z = torch.from_numpy(row).float().repeat(64, 1)
    u = np.concatenate([[0.0, 1 - 2.0**-53], generator.random(62)])
    tokens, logprobs = pick(z, torch.from_numpy(u), choice)
    exact, expected = _plain(z, u, choice)
    low, high = (_plain(z, u + by, choice)[0] for by in (-CLOSE, CLOSE))
    assert bool(np.all((low <= tokens.numpy()) & (tokens.numpy() <= high)))
    same = tokens.numpy() == exact
    # A thousand boundaries, each a millionth wide: hardly ever is one hit.
    assert same.mean() >= 0.95
    assert np.abs(logprobs.numpy() - expected)[same].max() <= 1e-5


@pytest.mark.parametrize("size", SIZES)
def test_every_token_of_a_flat_distribution_has_its_turn(size: int) -> None:
    u = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    tokens, logprobs = pick(torch.zeros(size, size), u, Choice())
    assert tokens.tolist() == list(range(size))
    assert torch.allclose(logprobs, torch.full((size,), -float(np.log(size))), atol=1e-6)


@pytest.mark.parametrize("where", (0, BLOCK - 1, BLOCK, 299))
def test_the_one_possible_token_is_picked(where: int) -> None:
    z = torch.full((3, 300), float("-inf"))
    z[:, where] = 0.0
    tokens, logprobs = pick(z, torch.tensor([0.0, 0.5, 1 - 2.0**-53], dtype=torch.float64), Choice())
    assert tokens.tolist() == [where] * 3 and logprobs.tolist() == [0.0] * 3


@pytest.mark.parametrize("choice", ({}, {"top_p": 0.9}, {"greedy": True}))
def test_unlikely_tokens_keep_their_logprob(choice: dict[str, Any]) -> None:
    """A log-prob is of the whole distribution, and as exact for float64 logits as these."""
    z = torch.linspace(0, 40, 200, dtype=torch.float64).repeat(50, 1)
    tokens, logprobs = pick(z, (torch.arange(50, dtype=torch.float64) + 0.5) / 50, Choice(**choice))
    expected = torch.log_softmax(z, -1).gather(1, tokens[:, None])[:, 0]
    assert (logprobs - expected).abs().max() <= 1e-12


@pytest.mark.parametrize("choice", ({}, {"top_p": 0.9}, {"top_k": 3}))
def test_logits_that_are_no_numbers_give_a_token_and_no_logprob(choice: dict[str, Any]) -> None:
    """Whoever reads the log-prob sees it: nothing breaks on the way there."""
    u = torch.tensor([0.0, 0.3, 0.99], dtype=torch.float64)
    tokens, logprobs = pick(torch.full((3, 300), float("nan")), u, Choice(**choice))
    assert tokens.min() >= 0 and tokens.max() < 300 and bool(logprobs.isnan().all())
