"""pass@k of a policy on program-writing problems: sample, run in the sandbox, count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trueup.engine.groups import Group, Score, marked
from trueup.errors import TrueupError
from trueup.evals.tasks import Graded, Sampling, Task, sampling_task
from trueup.evals.view import PolicyView, open_view
from trueup.judges.unit_tests import UnitTests
from trueup.programs.items import read_programs
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
    correct: Floats
    "[num_problems, num_samples], 1 for right."
    outcomes: dict[str, int]
    "How many samples passed, failed, timed out, crashed or flooded."

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
    """Programs that somebody wrote, every group with as many completions, run against its tests.

    Raises E601 where there are none or their numbers differ, and what the judge raises.
    """
    counts = {len(group.completions) for group in groups}
    if len(counts) != 1 or 0 in counts:
        raise TrueupError(
            "E601", f"{sorted(counts)} samples a problem; pass@k needs as many of each", where="pass@k"
        )
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
    correct = np.array([[float(v.passed) for v in row] for row in verdicts])
    return Solved(groups=scored, correct=correct, outcomes=outcomes)


def measure_programs(
    model: str,
    data: Path,
    *,
    k: Sequence[int] = (1,),
    num_samples: int = 10,
    limit: int | None = None,
    temperature: float = 0.8,
    max_new_tokens: int = 512,
    seconds: float = 10.0,
    sandbox: str = "",
    seed: int = 0,
) -> tuple[Solved, dict[str, Estimate]]:
    """A model's programs for the problems of a file, run against their tests, and pass@k for each k.

    Raises E702 for a k above `num_samples`, and what `trusted` raises where no sandbox holds.
    """
    for one in k:
        pass_at_k(num_samples, 0, one)
    items = read_programs(data)[:limit]
    trusted(sandbox)  # Before the model loads: without a sandbox its programs are never run.
    judge = UnitTests(seconds=seconds, sandbox=sandbox)
    greedy = temperature == 0
    decoding = Decoding(temperature=temperature or 1.0, greedy=greedy, max_new_tokens=max_new_tokens)
    solved = solve(
        open_view(model, model), items, num_samples=num_samples, decoding=decoding, seed=seed, judge=judge
    )
    return solved, {f"pass@{one}": solved.at(one) for one in k}


def pass_task(
    k: int,
    *,
    num_samples: int,
    decoding: Decoding | None = None,
    judge: UnitTests | None = None,
    at_once: int | None = None,
) -> Task:
    """The task `pass_at_K`: each problem's chance that one of `k` programs is right, from `num_samples`.

    Items are those of `trueup.programs.items`. Raises E702 for a `k` above `num_samples`.
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
