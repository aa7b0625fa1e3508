"""Battles of a world whose ratings are known."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from scipy.special import expit

from trueup.ratings.battles import Battle

NAMES = "abcde"
BETA = np.array([1.0, 0.5, 0.0, -0.3, -1.2])
"Log-odds of the five models; they add up to 0."


def met(a: str, b: str, wins: int, losses: int, ties: int = 0) -> list[Battle]:
    """Battles of two models, by what came of them."""
    ends = [1.0] * wins + [0.0] * losses + [0.5] * ties
    return [Battle(a=a, b=b, win=win) for win in ends]


def drawn(
    rng: np.random.Generator, prompts: int, *, ties: float = 0.0, spread: float = 0.0, named: bool = True
) -> list[Battle]:
    """Every two of the five on each prompt; `spread` is how much a model differs from prompt to prompt."""
    effects = rng.normal(size=(prompts, len(NAMES))) * spread
    pairs = np.array(list(combinations(range(len(NAMES)), 2)))
    strength = BETA + effects
    odds = strength[:, pairs[:, 0]] - strength[:, pairs[:, 1]]
    won = (rng.random(odds.shape) < expit(odds)).astype(float)
    won[rng.random(odds.shape) < ties] = 0.5
    return [
        Battle(a=NAMES[i], b=NAMES[j], win=float(won[prompt, at]), prompt=str(prompt) if named else "")
        for prompt in range(prompts)
        for at, (i, j) in enumerate(pairs)
    ]
