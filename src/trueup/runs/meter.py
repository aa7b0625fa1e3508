"""The meter: what a run measured (`metrics.jsonl`), what it cost (`timings.jsonl`), and a progress display.

The two files are apart so that the first is a pure function of the run's settings: a run that was killed and
resumed has the very bytes of one that was not. Whatever a clock or the machine decides is in the second.
`engine.lines` says what a line is.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from trueup.engine import disk
from trueup.engine.lines import METRICS, TIMINGS, as_words, from_words, parse, read
from trueup.errors import TrueupError, printable
from trueup.runs import trackers as adapters

__all__ = [
    "METRICS", "TIMINGS", "Cost", "Meter", "as_words", "from_words", "peak_mib", "progress", "read", "say",
]  # fmt: skip
_RESERVED = frozenset({"step", "phase"})


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a run has cost so far, over all its resumptions."""

    tokens_trained: int = 0
    tokens_sampled: int = 0
    seconds: float = 0.0
    peak_mib: float = 0.0


class Meter:
    """Writes a run's numbers; one meter for one run directory at a time."""

    def __init__(
        self, run_dir: Path, trackers: Sequence[str] = ("jsonl",), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.run_dir = run_dir
        disk.make_folder(run_dir)
        self._clock = clock
        self._trackers = [adapters.start(name, run_dir) for name in trackers if name != "jsonl"]
        self._cost = last_cost(run_dir / TIMINGS)
        self._since = clock()

    @property
    def cost(self) -> Cost:
        """What the run has cost up to the last `spend`."""
        return self._cost

    def write(self, step: int, metrics: Mapping[str, float], phase: str = "train") -> None:
        """Nothing; appends one line to metrics.jsonl and shows it to the trackers."""
        clash = sorted(_RESERVED & set(metrics))
        if clash:
            reason = f"a metric may not be called {clash[0]!r}"
            raise TrueupError("E942", reason, where=METRICS, remedy="give it another name")
        values = {name: float(metrics[name]) for name in sorted(metrics)}
        _append(self.run_dir / METRICS, {"step": step, "phase": phase, **as_words(values)})
        prefix = "" if phase == "train" else f"{phase}/"
        for tracker in self._trackers:
            tracker.log(step, {prefix + name: value for name, value in values.items()})

    def spend(self, step: int, *, tokens_trained: int, tokens_sampled: int) -> Cost:
        """The cost so far; appends one line to timings.jsonl. The token counts are the run's totals."""
        now = self._clock()
        passed, self._since = now - self._since, now
        gained = tokens_trained - self._cost.tokens_trained + tokens_sampled - self._cost.tokens_sampled
        self._cost = Cost(
            tokens_trained=tokens_trained,
            tokens_sampled=tokens_sampled,
            seconds=self._cost.seconds + passed,
            peak_mib=max(self._cost.peak_mib, peak_mib()),
        )
        rate = gained / passed if passed > 0 else 0.0
        line = {"step": step, "step_seconds": passed, "tokens_per_second": rate}
        _append(self.run_dir / TIMINGS, {**line, **vars(self._cost)})
        return self._cost

    def truncate_after(self, step: int) -> None:
        """Nothing; drops what was written for later steps, and a line that a kill cut short.

        Call it when a run resumes: the steps after its checkpoint will be written again. The seconds that the
        dropped steps took stay in the cost, since they were spent.
        """
        for name in (METRICS, TIMINGS):
            _truncate(self.run_dir / name, step)
        kept = last_cost(self.run_dir / TIMINGS)
        self._cost = replace(
            self._cost, tokens_trained=kept.tokens_trained, tokens_sampled=kept.tokens_sampled
        )
        self._since = self._clock()

    def sync(self) -> None:
        """Nothing; the lines written so far survive a power cut. Call it before a checkpoint is committed."""
        for name in (METRICS, TIMINGS):
            if (self.run_dir / name).exists():
                disk.sync(self.run_dir / name)

    def close(self) -> None:
        """Nothing; ends the trackers' runs."""
        for tracker in self._trackers:
            tracker.close()


def _append(path: Path, row: Mapping[str, Any]) -> None:
    # One write call for one line: a kill leaves whole lines, or at worst a last one without its end.
    disk.append(path, (json.dumps(row, allow_nan=False) + "\n").encode())


def _truncate(path: Path, step: int) -> None:
    """Nothing; cuts off the lines of later steps, which come after all others, and a line without its end."""
    if not path.exists():
        return
    kept = 0
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
        if parse(path, number, line)["step"] > step:
            break
        kept += len(line) + 1
    disk.cut(path, kept)


def last_cost(path: Path) -> Cost:
    """What the last line of a timings file says; E841 where it says none."""
    rows = read(path)
    if not rows:
        return Cost()
    said = {name: rows[-1].get(name) for name in Cost.__dataclass_fields__}
    odd = next((name for name, value in said.items() if type(value) not in (int, float)), "")
    if odd:
        remedy = "remove the file: only what the run has cost is lost"
        raise TrueupError("E841", f"damaged: its last line has no `{odd}`", where=str(path), remedy=remedy)
    return Cost(**{name: rows[-1][name] for name in said})


def peak_mib() -> float:
    """The most memory held at once so far, MiB: on the GPU where one was used, else in this process."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 2**20
    # Linux counts kilobytes here, macOS bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


# ------------------------------------------------------------------------------------------ progress


def say(*lines: str, stream: TextIO | None = None) -> None:
    """None; what a person should know before the progress display begins, where it will be, a line each."""
    console = Console(file=stream if stream is not None else sys.stderr, highlight=False, soft_wrap=True)
    for line in lines:
        console.print(f"note: {printable(line)}", markup=False)


@contextmanager
def progress(
    total: int,
    label: str,
    *,
    done: int = 0,
    stream: TextIO | None = None,
    every: float = 10.0,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Callable[..., None]]:
    """A function `advance(count=1, note="", before=0)` that moves a progress display while the context lasts.

    On a terminal it is a bar with rate and time left. Elsewhere it is plain lines: at most one in `every`
    seconds, and one at the end. `done` is where a resumed run starts; one that learns it only later says with
    `before` what was done earlier, which counts for no rate.
    """
    console = Console(file=stream if stream is not None else sys.stderr)
    if console.is_terminal:
        with _bar(console, total, label, done) as advance:
            yield advance
    else:
        lines = _Lines(console, total, label, done, every, clock)
        try:
            yield lines.advance
        finally:
            lines.end()


@contextmanager
def _bar(console: Console, total: int, label: str, done: int) -> Iterator[Callable[..., None]]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(label, total=total, completed=done, rate="", note="")

        def advance(count: int = 1, note: str = "", before: int = 0) -> None:
            # The speed leaves out the first advance, and with it what was done before.
            speed = bar.tasks[0].speed
            bar.update(task, advance=count + before, note=note, rate=f"{speed:.3g}/s" if speed else "")

        yield advance


class _Lines:
    """The progress display where no terminal is."""

    def __init__(
        self, console: Console, total: int, label: str, done: int, every: float, clock: Callable[[], float]
    ) -> None:
        self._console, self._total, self._label, self._every = console, total, label, every
        self._clock = clock
        self._done = self._first = done
        self._began = self._said = clock()
        self._note = ""

    def advance(self, count: int = 1, note: str = "", before: int = 0) -> None:
        self._done += count + before
        self._first += before
        self._note = note
        now = self._clock()
        if now - self._said >= self._every and self._done < self._total:
            self._said = now
            rate = (self._done - self._first) / (now - self._began)
            left = f", {(self._total - self._done) / rate:.0f} s left" if rate > 0 else ""
            self._say(f"{rate:.3g}/s{left}")

    def end(self) -> None:
        self._say(f"{self._clock() - self._began:.1f} s")

    def _say(self, facts: str) -> None:
        note = f"  {self._note}" if self._note else ""
        self._console.out(f"{self._label} {self._done}/{self._total}  {facts}{note}", highlight=False)
