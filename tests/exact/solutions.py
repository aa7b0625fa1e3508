"""What is known exactly of a method, and how near it comes: one function a row of docs/exact.md.

    @solution("dpo", known="ρ e^{r/β} / Z from Bradley-Terry labels", tolerance=1e-3)
    def dpo() -> float:
        ...train...
        return distance

The function returns what was reached (a distance, an error); the test asks that it be at most the tolerance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Solution:
    """One row: a method, what is known of it, how the distance is measured and how small it must be."""

    method: str
    known: str
    measured: str
    tolerance: float
    reach: Callable[[], float]


SOLUTIONS: list[Solution] = []


def solution(
    method: str, *, known: str, measured: str, tolerance: float
) -> Callable[[Callable[[], float]], Callable[[], float]]:
    """Adds the decorated function to the table."""

    def add(reach: Callable[[], float]) -> Callable[[], float]:
        SOLUTIONS.append(Solution(method, known, measured, tolerance, reach))
        return reach

    return add
