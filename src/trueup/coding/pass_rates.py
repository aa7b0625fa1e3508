"""pass@k of a policy on program-writing problems: sample, run in the sandbox, count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trueup.coding.items import read_programs
from trueup.coding.samples import read_samples
from trueup.engine.groups import Group, Score, marked
from trueup.errors import TrueupError
from trueup.evals.tasks import Graded, Sampling, Task, sampling_task
from trueup.evals.view import PolicyView, open_view
from trueup.judges.unit_tests import UnitTests
from trueup.sandbox.trust import trusted
from trueup.sources.sample import Decoding
from trueup.statistics.estimates import Estimate, pass_at_k, pass_rate

Floats = NDArray[np.float64]
JUDGE = "rule:tests"


@dataclass(frozen=True, kw_only=True, eq=False)
class Solved:
    """Sampled programs and whether each is right."""

    groups: list[Group]
    "With a score by `rule:tests` for every completion."
    correct: list[Floats]
    "By problem and sample, 1 for right."
    outcomes: dict[str, int]
    "How many samples passed, failed, timed out, crashed or flooded."

    def at_each(self, k: Sequence[int] | None = None) -> dict[str, Estimate]:
        """pass@k by its name for each k: those given, or all up to the fewest programs of a problem."""
        most = min(map(len, self.correct))
        return {f"pass@{one}": self.at(one) for one in k or range(1, most + 1)}

    def at(self, k: int) -> Estimate:
        """pass@k over problems with its interval. Raises E702 for a k above the number of samples."""
        return pass_rate(self.correct, k)


def solve(
    view: PolicyView,
    items: Sequence[Group],
    *,
    num_samples: int,
    decoding: Decoding,
    seed: int = 0,
    judge: UnitTests | None = None,
) -> Solved:
    """`num_samples` programs of the policy for each item, run against the item's tests."""
    return judged(view.sample(items, k=num_samples, decoding=decoding, seed=seed), judge)


def judged(groups: Sequence[Group], judge: UnitTests | None = None) -> Solved:
    """Programs that somebody wrote, run against the tests of their problem.

    Raises E827 where a problem has none, and what the judge raises.
    """
    if not groups or not all(group.completions for group in groups):
        raise TrueupError("E827", "pass@k of no program", where="pass@k", remedy="give a program of each")
    verdicts = (judge or UnitTests()).verdicts(groups)
    outcomes: dict[str, int] = {}
    scored = []
    for group, row in zip(groups, verdicts, strict=True):
        for verdict in row:
            outcomes[verdict.outcome] = outcomes.get(verdict.outcome, 0) + 1
        scores = tuple(
            Score(completion=i, value=float(verdict.passed), judge=JUDGE) for i, verdict in enumerate(row)
        )
        scored.append(replace(group, scores=(*group.scores, *scores)))
    correct = [np.array([float(v.passed) for v in row]) for row in verdicts]
    return Solved(groups=scored, correct=correct, outcomes=outcomes)


def measure_programs(
    model: str,
    data: Path,
    *,
    k: Sequence[int] | None = None,
    num_samples: int = 10,
    limit: int | None = None,
    temperature: float = 0.8,
    max_new_tokens: int = 512,
    seconds: float = 10.0,
    sandbox: str = "",
    seed: int = 0,
) -> tuple[Solved, dict[str, Estimate]]:
    """A model's programs for the problems of a file, run against their tests, and pass@k for each k.

    Without `k` for every one up to `num_samples`. Raises E702 for a k above it, and what `trusted` raises
    where no sandbox holds.
    """
    for one in k or ():
        pass_at_k(num_samples, 0, one)
    items = read_programs(data)[:limit]
    trusted(sandbox)  # Before the model loads: without a sandbox its programs are never run.
    judge = UnitTests(seconds=seconds, sandbox=sandbox)
    greedy = temperature == 0
    decoding = Decoding(temperature=temperature or 1.0, greedy=greedy, max_new_tokens=max_new_tokens)
    solved = solve(
        open_view(model, model), items, num_samples=num_samples, decoding=decoding, seed=seed, judge=judge
    )
    return solved, solved.at_each(k)


def measure_samples(
    samples: Path,
    data: Path | None = None,
    *,
    k: Sequence[int] | None = None,
    limit: int | None = None,
    seconds: float = 10.0,
    sandbox: str = "",
) -> tuple[Solved, dict[str, Estimate]]:
    """The programs of a file, run against the tests of their problems, and pass@k for each k.

    `data` has the problems (`read_programs`), of which the first `limit` count; without it the file holds
    groups with tests. Without `k` for every one up to the fewest programs that a problem has. Raises what
    `read_samples` and `trusted` raise, E702 for a k above that number.
    """
    groups = read_samples(samples, None if data is None else read_programs(data), limit=limit)
    for one in k or ():
        pass_at_k(min((len(g.completions) for g in groups), default=0), 0, one)
    trusted(sandbox)
    solved = judged(groups, UnitTests(seconds=seconds, sandbox=sandbox))
    return solved, solved.at_each(k)


def pass_task(
    k: int,
    *,
    num_samples: int,
    decoding: Decoding | None = None,
    judge: UnitTests | None = None,
    at_once: int | None = None,
) -> Task:
    """The task `pass_at_K`: each problem's chance that one of `k` programs is right, from `num_samples`.

    Items are those of `trueup.coding.items`. Raises E702 for a `k` above `num_samples`.
    """
    pass_at_k(num_samples, 0, k)  # Refuses before anything is sampled.

    def grade(groups: list[Group]) -> Graded:
        solved = judged(groups, judge)
        return Graded(
            values=np.array([pass_at_k(num_samples, int(row.sum()), k) for row in solved.correct]),
            groups=marked(solved.groups, "passed", solved.correct),
            beside={outcome: float(count) for outcome, count in sorted(solved.outcomes.items())},
        )

    sampling = Sampling(
        metric=f"pass@{k}",
        grade=grade,
        k=num_samples,
        decoding=decoding or Decoding(max_new_tokens=512),
        at_once=at_once,
    )
    return sampling_task(f"pass_at_{k}", 2, sampling, chance=0.0)
