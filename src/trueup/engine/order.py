"""Every random choice as a pure function of a seed and of counters, so that nothing hidden needs saving."""

from __future__ import annotations

import hashlib

import numpy as np


def derive(seed: int, *names: str | int) -> int:
    """A 63-bit seed for one purpose: SHA-256 over the run's seed and the names, the same on any machine."""
    text = "\x1f".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def permutation(size: int, seed: int, *names: str | int) -> np.ndarray:
    """A permutation of range(size) that depends on the seed and the names alone."""
    return np.random.Generator(np.random.Philox(derive(seed, *names))).permutation(size)


def draw(size: int, batch: int, step: int, seed: int) -> list[int]:
    """The indices of step `step`: `batch` items of an endless walk over fresh permutations of range(size).

    Items step·batch .. step·batch + batch − 1 of the concatenated epochs, so that every epoch visits every
    item once, epochs need not divide into batches, and any step can be asked for without the earlier ones.
    """
    places = [divmod(place, size) for place in range(step * batch, (step + 1) * batch)]
    orders = {epoch: permutation(size, seed, "epoch", epoch) for epoch in {e for e, _ in places}}
    return [int(orders[epoch][place]) for epoch, place in places]
