"""Every random choice as a pure function of a seed and of counters, so that nothing hidden needs saving."""

from __future__ import annotations

import hashlib
import math

import numpy as np


def derive(seed: int, *names: str | int) -> int:
    """A 63-bit seed for one purpose: SHA-256 over the run's seed and the names, the same on any machine."""
    text = "\x1f".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def permutation(size: int, seed: int, *names: str | int) -> np.ndarray:
    """A permutation of range(size) that depends on the seed and the names alone."""
    return np.random.Generator(np.random.Philox(derive(seed, *names))).permutation(size)


def span(size: int, batch: int, step: int, epochs: float | None = None) -> range:
    """The places of step `step` in an endless walk over range(size), one epoch behind the other.

    Without `epochs` every step has `batch` places, and one may begin in an epoch and end in the next. With
    `epochs` a step ends where its epoch ends, so that the last one of an epoch has what is left, and the walk
    ends after round(epochs · size) places, at least one: of 10 items in batches of 4 an epoch is 4, 4, 2.
    """
    if epochs is None:
        return range(step * batch, (step + 1) * batch)
    epoch, turn = divmod(step, math.ceil(size / batch))
    start, end = epoch * size + turn * batch, max(1, round(epochs * size))
    return range(min(start, end), min(start + batch, (epoch + 1) * size, end))


def spans(size: int, batch: int, epochs: float) -> list[int]:
    """How many places each step of so many epochs has."""
    whole, part = divmod(max(1, round(epochs * size)), size)
    num_steps = whole * math.ceil(size / batch) + math.ceil(part / batch)
    return [len(span(size, batch, step, epochs)) for step in range(num_steps)]


def draw(size: int, batch: int, step: int, seed: int, epochs: float | None = None) -> list[int]:
    """The indices of step `step` of a walk over fresh permutations of range(size), one for each epoch.

    Its places are those of `span`: every epoch visits every item once, and any step can be asked for without
    the earlier ones.
    """
    places = [divmod(place, size) for place in span(size, batch, step, epochs)]
    orders = {epoch: permutation(size, seed, "epoch", epoch) for epoch in {e for e, _ in places}}
    return [int(orders[epoch][place]) for epoch, place in places]
