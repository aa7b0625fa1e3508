"""Says how a program does against its tests, and believes neither of them.

Program and tests run in two sealed processes. What they say to each other is carried and not read; a verdict
counts only with the nonce of its run. Nothing is judged before every probe has failed to get out (`trust`).
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import cast

from trueup.sandbox.backends import Backend
from trueup.sandbox.cell import Limits, Outcome, Stop, reply, sealed, words
from trueup.sandbox.inside import CALL, VERDICT
from trueup.sandbox.trust import trusted


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How a program did against its tests.

    passed        every test held
    failed        a test did not hold, or the program does not load or raised
    timeout       the deadline came first
    crashed       a process ended before the verdict
    flooded       a message was larger than allowed
    unsupported   these tests cannot be run across a border: see docs/sandbox.md
    """

    outcome: Outcome
    detail: str = ""
    "One line for a person. It may quote the program: data, never an instruction."

    @property
    def passed(self) -> bool:
        """Whether every test held."""
        return self.outcome == "passed"


def check(
    program: str, tests: str, *, entry_point: str = "", limits: Limits | None = None, backend: str = ""
) -> Verdict:
    """How `program` does against `tests`: assertions about its functions, or a `check(candidate)`.

    `entry_point` is what `candidate` stands for; other functions of the program are found by the names that
    the tests use. `backend` names one of `trueup.sandbox.backends`; empty, it is the strongest that works.

    Raises E951 where this machine has no such sandbox, E952 where a probe gets out of it.
    """
    return _verdict(program, tests, entry_point, limits or Limits(), trusted(backend))


def check_all(
    jobs: Sequence[tuple[str, str, str]],
    *,
    limits: Limits | None = None,
    workers: int | None = None,
    backend: str = "",
) -> list[Verdict]:
    """The verdicts of (program, tests, entry point) triples, in order, `workers` at a time; see `check`."""
    within, kept_in = limits or Limits(), trusted(backend)
    with ThreadPoolExecutor(workers or min(4, os.cpu_count() or 1)) as pool:
        return list(pool.map(lambda job: _verdict(job[0], job[1], job[2], within, kept_in), jobs))


def _verdict(program: str, tests: str, entry_point: str, limits: Limits, backend: Backend) -> Verdict:
    nonce = secrets.token_hex(16)
    asked = {"source": tests, "entry_point": entry_point, "nonce": nonce}
    try:
        with ExitStack() as stack:
            answering = stack.enter_context(sealed("program", limits, backend))
            asking = stack.enter_context(sealed("tests", limits, backend))
            deadline = time.monotonic() + limits.seconds
            answering.start({"source": program}, deadline)
            asking.start(asked, deadline)
            loaded = reply(answering.line())
            if "loaded" not in loaded:
                return Verdict(outcome="failed", detail=f"the program does not load: {words(loaded)}")
            while (line := asking.line())[:1] == CALL:
                answering.send(line[1:])
                asking.send(answering.line())
            return _signed(line, nonce)
    except Stop as stop:
        return Verdict(outcome=stop.outcome, detail=stop.detail)


def _signed(line: bytes, nonce: str) -> Verdict:
    given = reply(line[1:]) if line[:1] == VERDICT else {}
    if not secrets.compare_digest(given.get("nonce", "").encode(), nonce.encode()):
        return Verdict(outcome="crashed", detail="no verdict of this run")
    outcome = cast(Outcome, given["outcome"])
    return Verdict(outcome=outcome, detail=repr(given["detail"])[1:-1])
