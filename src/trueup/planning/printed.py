"""A plan: its numbers, as a table of 80 columns and as plain values."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, final

from trueup.errors import counted
from trueup.planning.devices import Devices
from trueup.planning.memory import GATHERED, Memory, Part
from trueup.planning.speed import Time
from trueup.planning.work import Work
from trueup.runs.rates import in_words

WIDTH = 80


@final
@dataclass(frozen=True, kw_only=True)
class Spread:
    """Many runs over many devices."""

    runs: int
    devices_each: int
    at_once: int
    hours: float | None


@final
@dataclass(frozen=True, kw_only=True)
class Change:
    """Settings to change first, as typed, and the plan with them."""

    options: tuple[str, ...]
    words: str
    memory: Memory
    time: Time

    def __str__(self) -> str:
        return " ".join(self.options)


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """What a run needs on some devices."""

    method: str
    devices: Devices
    num_weights: int
    "Of the network that is handed on, adapters left out."
    memory: Memory
    "Of each device."
    time: Time
    mfu: float
    work: Work
    spread: Spread | None = None
    change: Change | None = None
    "What makes it fit, where it does not; None where it does, or where nothing that is tried is enough."

    @property
    def fits(self) -> bool:
        """Whether the most that is held at once is within a device's memory."""
        return self.memory.total <= self.devices.device.memory

    def __str__(self) -> str:
        return "\n".join(lines(self))

    def to_json(self) -> dict[str, Any]:
        """The plan as plain values: bytes, seconds, tokens."""
        return as_json(self)


def lines(plan: Plan) -> Iterator[str]:
    """What a person reads of a plan, none longer than 80 columns."""
    memory, device = plan.memory, plan.devices.device
    has = "fits" if plan.fits else "DOES NOT FIT"
    on = f"each of {plan.devices}" if plan.devices.count > 1 else str(plan.devices)
    yield from _wrapped(
        f"{plan.method}, {in_words(plan.num_weights)} weights: {_gb(memory.total)} GB "
        f"of {_gb(device.memory)} GB on {on}: {has}"
    )
    yield ""
    yield f"{'network':<12}{'part':<18}{'GB':>9}"
    yield from (_row(part) for part in memory.parts)
    yield f"{'most at once':<30}{_gb(memory.total):>9}"
    yield ""
    yield from _time(plan.time)
    if plan.spread is not None:
        all_hours = "" if plan.spread.hours is None else f": {plan.spread.hours:,.1f} hours"
        each = counted(plan.spread.devices_each, "device")
        yield from _wrapped(
            f"{plan.spread.runs:,} runs, each on {each}, {plan.spread.at_once:,} at once{all_hours}"
        )
    if plan.change is not None:
        yield ""
        yield f"to make it fit: {plan.change}"
        yield from _wrapped(
            f"({plan.change.words}: {_gb(plan.change.memory.total)} GB, "
            f"{plan.change.time.tokens_per_second:,.0f} tokens a second)",
            "  ",
        )
    elif not plan.fits:
        yield from _wrapped("nothing that was tried makes it fit: a smaller model, or a larger device")
    yield ""
    yield "assumed, not measured:"
    for said in assumptions(plan):
        yield from _wrapped(f"- {said}", "  ")


def _row(part: Part) -> str:
    size = _gb(part.bytes) if part.bytes else "-"
    return f"{part.network:<12}{part.part:<18}{size:>9}  {part.note}"[:WIDTH].rstrip()


def _time(time: Time) -> Iterator[str]:
    parts = ", ".join(f"{name} {_digits(value)}" for name, value in time.seconds.items())
    yield from _wrapped(f"{'a step':<18}{_digits(time.step)} s: {parts}", " " * 18)
    yield f"{'tokens a second':<18}{time.tokens_per_second:,.0f}, prompts included"
    if time.hours is None:
        yield from _wrapped(
            f"{'hours':<18}unknown: --rows N says how many rows there are, --loop.steps N how many steps",
            " " * 18,
        )
    else:
        unit, value = ("hours", time.hours) if time.hours >= 0.1 else ("minutes", time.hours * 60)
        yield f"{unit:<18}{value:,.2f} for {time.steps:,} steps"


def assumptions(plan: Plan) -> list[str]:
    """What a plan rests on that nobody has measured."""
    device = plan.devices.device
    found = [
        f"matrix products reach {plan.mfu:g} of the device's rate (--mfu); sampling moves weights and cache "
        "at its bandwidth",
        f"{device.name}: {device.source}",
        *plan.work.assumptions,
        "optimiser and gradients as the update keeps them, in the precision of what is trained",
    ]
    if plan.devices.count > 1:
        found.append(
            f"on {plan.devices.count} devices weights, gradients and optimiser are divided evenly, "
            f"{GATHERED} layers are whole at a time, and what goes between devices takes no time"
        )
    if device.kind == "cpu":
        found.append("the allocator gives freed memory back: MALLOC_MMAP_THRESHOLD_=65536 in the environment")
    found.append(
        "loading, saving, evaluation and what Python does between products take no time and no memory"
    )
    return found


def as_json(plan: Plan) -> dict[str, Any]:
    """A plan as plain values: bytes, seconds, tokens."""
    device, time = plan.devices.device, plan.time
    return {
        "method": plan.method,
        "weights": plan.num_weights,
        "device": device.name,
        "devices": plan.devices.count,
        "memory": device.memory,
        "needs": plan.memory.total,
        "fits": plan.fits,
        "parts": [
            {"network": p.network, "part": p.part, "bytes": p.bytes, "note": p.note, "stays": p.stays}
            for p in plan.memory.parts
        ],
        "step_seconds": dict(time.seconds),
        "tokens_per_second": time.tokens_per_second,
        "tokens_per_step": time.tokens,
        "sampled_per_step": time.sampled,
        "steps": time.steps,
        "hours": time.hours,
        "change": None
        if plan.change is None
        else {
            "options": list(plan.change.options),
            "words": plan.change.words,
            "needs": plan.change.memory.total,
            "tokens_per_second": plan.change.time.tokens_per_second,
        },
        "runs": None if plan.spread is None else vars(plan.spread),
        "assumed": assumptions(plan),
    }


def _gb(num: float) -> str:
    """GB of 10^9 bytes, small ones with more digits."""
    return f"{num / 1e9:,.2f}" if num >= 1e7 else f"{num / 1e9:.4f}"


def _digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(
        text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
