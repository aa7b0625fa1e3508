"""The judge that runs programs: 1 for a completion whose program passes the group's tests, else 0."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trueup.engine.groups import Completion, Group
from trueup.errors import TrueupError
from trueup.judges.code_blocks import called_in, program_in
from trueup.sandbox.cell import Limits
from trueup.sandbox.trust import named
from trueup.sandbox.verdicts import Verdict, check_all


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitTests:
    """Scores 1 where the completion's program passes the tests in the group's `meta[key]`, else 0.

    The tests are a text or a list of texts: assertions about the program's functions, or a
    `check(candidate)` with the function's name under `meta["entry_point"]`. `meta["before"]` is code that
    the completion goes on from. Program and tests run in sealed processes (docs/sandbox.md), of the back end
    that `sandbox` names; empty, of the strongest that works here.
    """

    key: str = "tests"
    seconds: float = 10.0
    memory_mib: int = 512
    sandbox: str = ""

    def __post_init__(self) -> None:
        self.limits()
        named(self.sandbox)

    def limits(self) -> Limits:
        """What one program may use."""
        return Limits(
            seconds=self.seconds, cpu_seconds=max(1, round(self.seconds)), memory_mib=self.memory_mib
        )

    def __call__(self, groups: Sequence[Group]) -> list[list[float]]:
        """1 or 0 for each completion.

        Raises E206 where a group has no tests, or tests that cannot be run across a border; E951 where this
        machine has no sandbox, E952 where a probe gets out of it.
        """
        return [[float(v.passed) for v in row] for row in self.verdicts(groups)]

    def verdicts(self, groups: Sequence[Group]) -> list[list[Verdict]]:
        """How each completion did, with the reason; errors as for the scores."""
        jobs = [
            (program_of(g, c, self.key), unit_tests_of(g, self.key), str(g.meta.get("entry_point", "")))
            for g in groups
            for c in g.completions
        ]
        found = iter(check_all(jobs, limits=self.limits(), backend=self.sandbox))
        rows = [[next(found) for _ in g.completions] for g in groups]
        for group, row in zip(groups, rows, strict=True):
            for verdict in row:
                if verdict.outcome == "unsupported":
                    raise TrueupError(
                        "E206",
                        f"the tests cannot judge a program: {verdict.detail}",
                        where=f"group {group.id}",
                        remedy="see docs/sandbox.md for what tests may do",
                    )
        return rows


def unit_tests_of(group: Group, key: str = "tests") -> str:
    """The group's tests as one source. Raises E206 where there are none."""
    found = group.meta.get(key)
    text = "\n".join(map(str, found)) if isinstance(found, list | tuple) else found
    if not isinstance(text, str) or not text.strip():
        raise TrueupError(
            "E206",
            f"no `{key}` in the row's meta, so no program can be checked",
            where=f"group {group.id}",
            remedy="add them to the data, or name the key that holds them",
        )
    return text


def program_of(group: Group, completion: Completion, key: str = "tests") -> str:
    """The program that a completion writes (`code_blocks.program_in`).

    It goes on from `meta["before"]`; the function that it must define is `meta["entry_point"]`, or else the
    first that the tests call.
    """
    before, entry = str(group.meta.get("before", "")), str(group.meta.get("entry_point", ""))
    return program_in(
        completion.text,
        before=before,
        entry=entry or called_in(unit_tests_of(group, key)),
        finished=completion.finished,
    )
