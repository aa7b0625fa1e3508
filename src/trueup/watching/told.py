"""What is said of a look: in words, from its numbers; what is not known is said so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trueup.errors import counted
from trueup.reports.numbers import between, duration, percent, plain
from trueup.watching.remaining import FEWEST
from trueup.watching.run import RunLook
from trueup.watching.stage import Look, real, whole

MEANS = {
    "waiting": "nothing has begun here; the page goes on by itself once something does",
    "running": "",
    "interrupted": "no process is at work here, and it has not ended: it was stopped or killed. "
    "The command that began it goes on from its last checkpoint",
    "failed": "",
    "done": "",
    "gone": "the folder was there, and is not any more",
    "unknown": "whether a process is at work here cannot be told",
}
"What each state means, where the word does not say it."
_ORDER = ("done", "running", "failed", "interrupted", "unknown", "waiting", "gone")
FATES = {"train": "to train on", "held_out": "held out", "quarantined": "bad", "overlong": "too long",
         "truncated": "shortened"}  # fmt: skip


def meaning_of(look: RunLook | Look) -> str:
    """The state of a run, explained; "" where the word says it all."""
    return " — ".join(text for text in (look.why, MEANS[look.state]) if text)


def steps(look: Look) -> str:
    """How far a run is: `step 40 of 200`."""
    if not look.series and look.state in ("waiting", "gone"):
        return ""
    if look.steps is None:
        return f"step {look.step:,}" if look.step else ""
    most = "at most " if look.sooner and look.state != "done" else ""
    return f"step {look.step:,} of {most}{look.steps:,}"


def time_left(look: Look) -> str:
    """How long a run may still take, with its range; why that is not known where it is not."""
    if look.state != "running":
        return ""
    if look.since is None:
        return "starting: no step has ended yet"
    if look.unread:
        return f"still reading its numbers: {look.unread >> 20:,} MiB to go"
    if look.steps is None:
        return "time left unknown: it does not say how many steps it has" if look.step else ""
    if look.step >= look.steps:
        return "all steps are made; the held-out numbers and the model come last"
    left = look.remaining
    if left is None:
        return f"time left unknown before {FEWEST} steps are timed"
    return (
        f"about {duration(left.seconds)} left, {duration(left.low)} to {duration(left.high)} "
        f"by the last {left.over} steps"
    )


def heartbeat(look: Look) -> str:
    """When a run last wrote a line, and whether that is long ago for it."""
    if look.since is None or look.state not in ("running", "unknown", "interrupted"):
        return ""
    said = f"last line {ago(look.since)} ago"
    if look.stalled is not None:
        said += f"; the longest of its last steps took {duration(look.stalled)}"
    return said


def ago(seconds: float) -> str:
    """A time that has passed, whole seconds below a minute."""
    return f"{seconds:.0f}\u202fs" if seconds < 60 else duration(seconds)


def headline(looks: Sequence[RunLook]) -> str:
    """The page's sentence: what is at work, how far it is, how long it takes."""
    if len(looks) > 1:
        states = [look.state for look in looks]
        said = [f"{states.count(state)} {state}" for state in dict.fromkeys(states)]
        return f"{counted(len(looks), 'run')}: {', '.join(said)}"
    (run,) = looks
    what = f"{run.name}: {run.state}"
    if run.are == "jobs":
        return f"{what}, {counts(run)}"
    for look in run.shown[:1] if run.state in ("running", "interrupted", "failed") else ():
        stage = f"{look.name}, " if run.are else ""
        return ", ".join(text for text in (what, f"{stage}{steps(look)}".rstrip(", "), _brief(look)) if text)
    return what


def _brief(look: Look) -> str:
    return f"about {duration(look.remaining.seconds)} left" if look.remaining is not None else ""


def status(looks: Sequence[RunLook]) -> str:
    """What is read out when it changes: the states alone."""
    stages = {
        run.name: next((f" {look.name}" for look in run.shown if run.are == "stages"), "") for run in looks
    }
    return "; ".join(f"{run.name}{stages[run.name]}: {run.state}" for run in looks)


def counts(run: RunLook) -> str:
    """How many of a run's parts are in which state: `3 done, 1 running`."""
    states = [part.state for part in run.parts]
    said = [f"{states.count(state)} {state}" for state in _ORDER if state in states]
    so_far = " so far" if run.are == "jobs" and run.state != "done" else ""
    return f"{counted(len(states), run.are.removesuffix('s'))}{so_far}: {', '.join(said)}" if said else ""


def rows(data: Mapping[str, object]) -> str:
    """What became of the rows that a run read; "" where it has not said."""
    total = whole(data.get("rows_in"))
    if total is None:
        return ""
    fates = [f"{n:,} {fate}" for key, fate in FATES.items() if (n := whole(data.get(key))) is not None]
    return f"{counted(total, 'row')}: {', '.join(fates)}"


def guard(look: Look) -> str:
    """What the guard against over-optimisation has seen; "" for a run without one."""
    judge = look.guard.get("judge")
    tolerance, patience = real(look.guard.get("tolerance")), whole(look.guard.get("patience"))
    if not isinstance(judge, str) or tolerance is None or not patience:
        return ""
    if not look.judged:
        return f"The guard {judge} waits for its first evaluation."
    from trueup.statistics.frontier import (  # scipy, which a run without a guard needs not
        first_fall,
        lost_share,
    )

    watched, proxy = zip(*look.judged, strict=True)
    fall = first_fall(watched, proxy, tolerance=tolerance, patience=patience)
    if fall is not None:
        return (
            f"Over-optimised: by step {look.judged_at[fall.at]} {judge} had lost {percent(fall.lost)} of its "
            f"peak of {plain(watched[fall.peak])} (step {look.judged_at[fall.peak]}) while its own judge "
            f"rose from {plain(proxy[fall.peak])} to {plain(proxy[fall.at])}."
        )
    peak = max(range(len(watched)), key=watched.__getitem__)
    lost = lost_share(watched[-1], watched[peak])
    return (
        f"The guard {judge} stands at {plain(watched[-1])}, {percent(lost)} below its peak "
        f"(step {look.judged_at[peak]}). More than {percent(tolerance)} at "
        f"{counted(patience, 'evaluation')} in a row, while the run's own judge is higher, is a fall."
    )


def notes(look: Look) -> list[str]:
    """What a person should know of a run's files: warnings, rows, what could not be read."""
    said = [*look.warnings[-20:]]
    if len(look.warnings) > 20:
        said.insert(0, f"{len(look.warnings) - 20} earlier warnings are in warnings.json")
    if look.damaged:
        said.append(f"{counted(look.damaged, 'line')} of metrics.jsonl cannot be read and are left out")
    if look.left_out:
        said.append(f"{look.left_out} or more names of numbers are left to metrics.jsonl")
    return [*said, *(f"{name} cannot be read: {reason}" for name, reason in look.faults.items())]


def estimate(row: object) -> str:
    """A mean with its interval, as held_out.json has it; "" for anything else."""
    if not isinstance(row, Mapping):
        return ""
    mean, ends = real(row.get("mean")), row.get("ci95")
    if mean is None:
        return ""
    low, high = (real(end) for end in ends) if isinstance(ends, list) and len(ends) == 2 else (None, None)
    return f"{plain(mean)} {between(low, high)}"
