"""How a person's answers change over their work: agreement with what is known and with others, by quarter."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trueup.collecting import kinds
from trueup.statistics.estimates import Estimate, mean_ci

QUARTERS, LEAST = 4, 3
"Parts of the work, and the answers in the first and the last without which no change is spoken of."
RESAMPLES = 2000
Votes = Mapping[int, Mapping[str, str]]


def drift(name: str, done: Sequence[Mapping[str, Any]], votes: Votes) -> dict[str, Any]:
    """A person's agreement with known answers and with others by quarter of their work, in its order.

    `known_change` and `others_change` are the last quarter less the first, with a 95 % bootstrap interval;
    None where either has few answers. An agreement with several others is their mean.
    """
    known: list[list[float]] = [[] for _ in range(QUARTERS)]
    others: list[list[float]] = [[] for _ in range(QUARTERS)]
    for place, row in enumerate(done):
        quarter = place * QUARTERS // len(done)
        if row["gold"]:
            known[quarter].append(float(kinds.agrees(row["kind"], row["body"], json.loads(row["gold"]))))
        by = votes.get(row["id"], {}) if row["kind"] == "compare" and row["purpose"] == "work" else {}
        same = [by[name] == choice for who, choice in by.items() if who != name and name in by]
        if same:
            others[quarter].append(float(np.mean(same)))
    return {
        "known": [mean_ci(part, interval="bootstrap") if part else None for part in known],
        "others": [mean_ci(part, interval="bootstrap") if part else None for part in others],
        "known_change": _change(known[0], known[-1]),
        "others_change": _change(others[0], others[-1]),
    }


def _change(first: Sequence[float], last: Sequence[float]) -> Estimate | None:
    """The mean of the last values less that of the first, each resampled (Efron 1979)."""
    if min(len(first), len(last)) < LEAST:
        return None
    rng = np.random.default_rng(0)
    before, after = (
        np.asarray(part)[rng.integers(len(part), size=(RESAMPLES, len(part)))].mean(axis=1)
        for part in (first, last)
    )
    low, high = np.quantile(after - before, [0.025, 0.975])
    return Estimate(
        mean=float(np.mean(last) - np.mean(first)),
        low=float(low),
        high=float(high),
        n=len(first) + len(last),
        standard_error=float((after - before).std(ddof=1)),
    )
