"""One training run, or one stage of a recipe, as its folder shows it at a moment."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from trueup.engine.lines import METRICS, TIMINGS, from_words
from trueup.errors import TrueupError
from trueup.runs.failed import FILE as FAILED
from trueup.runs.hold import is_held
from trueup.watching.files import Files, Tail, row_of
from trueup.watching.remaining import RECENT, Remaining, remaining
from trueup.watching.series import Series

State = Literal["waiting", "running", "interrupted", "failed", "done", "gone", "unknown"]
MOST_NUMBERS = 200
"Names of numbers that are kept of a run; of a file with more the rest is counted."
LONGEST_NAME = 120
MOST_STEPS = 2**53
MOST_EVALUATIONS = 10_000
COSTS = ("tokens_trained", "tokens_sampled", "seconds", "peak_mib")
BEGUN = ("config.resolved.yaml", METRICS, "checkpoints", "data.json", ".lock")
"What stands in a folder that a run has begun in."
_STALLED = 2.0
"Times the longest of the recent steps."


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """One held-out prompt, and what the policy said to it at several evaluations, in order of step."""

    prompt: tuple[tuple[str, str], ...]
    said: tuple[tuple[int, str, float | None], ...]
    "Step, text, score."


@dataclass(frozen=True, kw_only=True)
class Look:
    """What is known of a stage at a moment; None or empty is what is not known."""

    name: str
    state: State
    why: str = ""
    "Of a run that failed, the error; of one whose state is unknown, the reason."
    step: int = 0
    steps: int | None = None
    "How many there are to be."
    sooner: bool = False
    "Whether a guard or a budget may end it before."
    since: float | None = None
    "Seconds since something was last written."
    remaining: Remaining | None = None
    stalled: float | None = None
    "The longest of the recent steps, where the present one has lasted twice as long."
    series: Mapping[tuple[str, str], Series] = field(default_factory=dict)
    "By name and phase: `train`, `eval` ..."
    left_out: int = 0
    age: int = 0
    "Changes with every line that came."
    folder_id: int = 0
    "Another one where another reader looked: the folder was made anew."
    damaged: int = 0
    unread: int = 0
    "Bytes of metrics.jsonl that the next looks will read."
    guard: Mapping[str, Any] = field(default_factory=dict)
    judged: Sequence[tuple[float, float]] = ()
    "What the guard saw: the watched judge's score and the run's own, at each evaluation."
    judged_at: Sequence[int] = ()
    held_out: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    samples: Sequence[Sampled] = ()
    cost: Mapping[str, float] = field(default_factory=dict)
    method: str = ""
    faults: Mapping[str, str] = field(default_factory=dict)

    def last(self, phase: str = "train") -> dict[str, float]:
        """The latest value of each number of a phase."""
        return {name: s.latest for (name, p), s in self.series.items() if p == phase}


class Stage:
    """The reader of one stage's folder; it remembers what it has read."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self._files = Files(folder)
        self._metrics, self._timings = Tail(self._files, METRICS), Tail(self._files, TIMINGS)
        self._age = 0
        self._forget_metrics()
        self._forget_timings()

    def _forget_metrics(self) -> None:
        self._series: dict[tuple[str, str], Series] = {}
        self._left_out: set[str] = set()
        self._judged: deque[tuple[int, float, float]] = deque(maxlen=MOST_EVALUATIONS)
        self._damaged = self._step = 0

    def _forget_timings(self) -> None:
        self._recent: deque[float] = deque(maxlen=RECENT)
        self._cost: dict[str, float] = {}
        self._timed = 0

    @property
    def settings(self) -> Mapping[str, Any]:
        """The method and its settings; empty where there are none."""
        return self._files.yaml("config.resolved.yaml")

    def look(self, now: Callable[[], float] = time.time) -> Look:
        """What the folder shows now."""
        state, why = self.state()
        self._read_metrics()
        self._read_timings()
        settings = self.settings
        loop = settings.get("loop")
        guard = loop.get("guard") if isinstance(loop, Mapping) else None
        data = self._files.json("data.json", dict) or {}
        steps = whole(data.get("steps"))
        ages = [a for n in (METRICS, TIMINGS) if (a := self._files.age(n, now())) is not None]
        since = min(ages, default=None)
        left = stalled = None
        if state == "running" and since is not None and not self._metrics.left:
            left = remaining(self._recent, (steps or 0) - self._step, since)
            longest = max(self._recent, default=math.inf)
            stalled = longest if since > max(_STALLED * longest, 5.0) else None
        return Look(
            name=self.name,
            state=state,
            why=why,
            step=self._step,
            steps=steps,
            sooner=isinstance(loop, Mapping) and bool(loop.get("guard") or loop.get("budget")),
            since=since,
            remaining=left,
            stalled=stalled,
            series=self._series,
            left_out=len(self._left_out),
            age=self._age,
            folder_id=id(self),
            damaged=self._damaged + self._metrics.dropped,
            unread=self._metrics.left if self._metrics.left > 1 << 20 else 0,
            guard=guard if isinstance(guard, Mapping) else {},
            judged=[(watched, proxy) for _, watched, proxy in self._judged],
            judged_at=[step for step, _, _ in self._judged],
            held_out=self._files.json("held_out.json", dict) or {},
            data=data,
            warnings=[str(text) for text in self._files.json("warnings.json", list) or ()],
            samples=_sampled(self._files.rows("samples.jsonl")),
            cost=self._cost,
            method=Path(str(settings.get("method", ""))).stem,
            faults=dict(self._files.faults),
        )

    def state(self) -> tuple[State, str]:
        """What the run does: from DONE.json, the lock, and what an error left; and why."""
        if not self.folder.is_dir():
            return "waiting", ""
        held = is_held(self.folder)
        if (self.folder / "DONE.json").is_file():
            return "done", ""
        if held:
            return "running", ""
        error = self._files.json(FAILED, dict)
        if error:
            parts = (str(error.get(part, "")) for part in ("code", "where", "reason", "remedy"))
            return "failed", " — ".join(part for part in parts if part)
        if not any((self.folder / name).exists() for name in BEGUN):
            return "waiting", ""
        if held is None:
            return "unknown", "its file system keeps no locks"
        return "interrupted", ""

    def _read_metrics(self) -> None:
        anew, lines = self._metrics.read()
        if anew:
            self._forget_metrics()
        self._age += len(lines) + anew
        for line in lines:
            row = row_of(line)
            step = whole(row.get("step")) if row else None
            if row is None or step is None:
                self._damaged += 1
                continue
            phase = str(row.get("phase") or "train")[:LONGEST_NAME]
            if phase == "train":
                self._step = step
            self._take(step, phase, from_words(row))

    def _take(self, step: int, phase: str, row: Mapping[str, Any]) -> None:
        known = self._series
        for name, value in row.items():
            number = value if type(value) is float else real(value)
            if number is None or name == "step":
                continue
            series = known.get((name, phase))
            if series is None:
                if len(known) >= MOST_NUMBERS or len(name) > LONGEST_NAME:
                    if len(self._left_out) < MOST_NUMBERS:
                        self._left_out.add(name[:LONGEST_NAME])
                    continue
                series = known[name, phase] = Series()
            series.add(step, number)
        watched, proxy = real(row.get("guard/score")), real(row.get("score"))
        if phase == "eval" and watched is not None and proxy is not None and math.isfinite(watched + proxy):
            self._judged.append((step, watched, proxy))

    def _read_timings(self) -> None:
        anew, lines = self._timings.read()
        if anew:
            self._forget_timings()
        for row in filter(None, map(row_of, lines)):
            step, seconds = whole(row.get("step")), real(row.get("step_seconds"))
            # A line of a step that has one already is of what came after the last step.
            if step is not None and seconds is not None and seconds >= 0 and step != self._timed:
                self._recent.append(seconds)
                self._timed = step
            self._cost.update({name: n for name in COSTS if (n := real(row.get(name))) is not None})


def whole(value: Any) -> int | None:
    """A whole number from 0 up that a float can hold; None for anything else."""
    return value if type(value) is int and 0 <= value <= MOST_STEPS else None


def real(value: Any) -> float | None:
    """A number as a float, finite or not; None for anything else."""
    if type(value) not in (int, float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _sampled(rows: Sequence[Mapping[str, Any]]) -> list[Sampled]:
    """The rows of samples.jsonl by prompt: what was said at each step."""
    found: dict[tuple[tuple[str, str], ...], list[tuple[int, str, float | None]]] = {}
    for row in rows:
        try:
            prompt = tuple((str(m["role"]), str(m["content"])) for m in row["prompt"])
            (completion, *_) = row["completions"]
            marks = completion.get("marks") or {}
            said = (int(row["meta"]["step"]), str(completion["text"]), real(marks.get("score")))
        except (KeyError, TypeError, ValueError, AttributeError, TrueupError, OverflowError):
            continue
        found.setdefault(prompt, []).append(said)
    return [Sampled(prompt=prompt, said=tuple(said)) for prompt, said in found.items()]
