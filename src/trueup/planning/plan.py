"""A plan: what a run holds in memory and how long it takes on some devices, and what to change first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, final

from trueup.engine.packing import num_row_tokens
from trueup.planning import devices as devices_of
from trueup.planning.devices import Devices
from trueup.planning.memory import Held, held_by, memory_of
from trueup.planning.printed import Change, Plan, Spread
from trueup.planning.speed import MFU, time_of
from trueup.planning.work import Rows, Work, work_of
from trueup.settings.blocks import LoraSettings

MOST = 4096
"Devices that are tried for a run, at most."


@final
@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a plan is asked for beside the run's settings."""

    gpu: str = "cpu"
    "A device of `devices.GPUS` and how many: `H100x8`; `cpu` is this machine."
    mfu: float = MFU
    rows: Rows = Rows()
    runs: int | None = None
    "So many runs alike, side by side on the devices."


def plan_of(module: ModuleType, config: Any, asked: Asked = Asked()) -> Plan:
    """The plan of a run of these settings. Raises E863 to E865 for what cannot be planned."""
    name, count = devices_of.parse(asked.gpu)
    work = work_of(module, config, asked.rows)
    devices = Devices(device=devices_of.find(name, config.model.dtype), count=count)
    found = _Run(module=module, config=config, work=work, devices=devices, mfu=asked.mfu)
    if asked.runs is not None:
        return _many(found, asked.runs)
    made = found.plan
    return made if made.fits else replace(made, change=_first_change(found, asked.rows))


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class _Run:
    """Settings and devices; its plan is made when it is asked for."""

    module: ModuleType
    config: Any
    work: Work
    devices: Devices
    mfu: float

    @property
    def held(self) -> tuple[Held, ...]:
        return held_by(self.work.method, self.config.model, self.devices.device.kind)

    @property
    def plan(self) -> Plan:
        held, method = self.held, self.work.method
        output = next(one for one in held if one.network == method.output)
        return Plan(
            method=method.name,
            devices=self.devices,
            num_weights=output.size.num_base,
            memory=memory_of(self.config, self.work, self.devices.device.kind, self.devices.count, held),
            time=time_of(self.config, self.work, held, self.devices, self.mfu),
            mfu=self.mfu,
            work=self.work,
        )

    def hopeless(self) -> bool:
        """Whether weights and gradients alone are more than the devices have: nothing need be counted."""
        held = self.held
        trained = sum(one.size.trained for one in held if one.network in self.work.method.trains)
        stays = trained + sum(one.size.base for one in held if not one.shares)
        return stays / self.devices.count > self.devices.device.memory


# ------------------------------------------------------------------------------------------ what to change


@final
@dataclass(frozen=True, kw_only=True)
class _Step:
    """A change of one setting."""

    option: str
    words: str
    settings: Mapping[str, Any]


def _first_change(run: _Run, rows: Rows) -> Change | None:
    """The least change of settings with which a run fits; more devices where no setting is enough."""
    for steps in _tries(run):
        config = run.config
        for step in steps:
            config = _changed(config, step.settings)
        parts = run.work.parts if config.data == run.config.data else None
        other = replace(run, config=config, work=work_of(run.module, config, rows, parts))
        if other.hopeless():
            continue
        plan = other.plan
        if plan.fits:
            words = ", ".join(step.words for step in steps)
            options = tuple(step.option for step in steps)
            return Change(options=options, words=words, memory=plan.memory, time=plan.time)
    return _more_devices(run)


def _tries(run: _Run) -> Iterator[tuple[_Step, ...]]:
    """Changes in the order in which they are tried: first what alters no result, then what alters least."""
    config = run.config
    small, again = list(_smaller_passes(run)), _recomputed(config)
    yield from ((step,) for step in small)
    yield from ((*again, *smaller) for smaller in ((), small[-1:]) if again)
    first: tuple[_Step, ...] = ()
    for step in _of_model(config):
        first = (*first, step)
        yield first
        yield from ((*first, smaller) for smaller in small)
        if again:
            yield (*first, *again, *small[-1:])
    whole = longest = config.data.max_tokens
    least = small[-1].settings["loop"]["microbatch_tokens"] if small else config.loop.microbatch_tokens
    while longest > 256:
        longest //= 2
        shorter = _Step(
            option=f"--data.max_tokens {longest}",
            words=f"rows of at most {longest:,} tokens",
            settings={"data": {"max_tokens": longest}},
        )
        yield (*first, *again, shorter, _passes_of(least * longest // whole))


def _smaller_passes(run: _Run) -> Iterator[_Step]:
    """Halved passes, down to the longest row."""
    longest = max(map(num_row_tokens, run.work.groups))
    tokens = run.config.loop.microbatch_tokens
    while tokens // 2 >= longest:
        tokens //= 2
        yield _passes_of(tokens)


def _passes_of(tokens: int) -> _Step:
    return _Step(
        option=f"--loop.microbatch_tokens {tokens}",
        words=f"passes of {tokens:,} tokens, which changes no result",
        settings={"loop": {"microbatch_tokens": tokens}},
    )


def _recomputed(config: Any) -> tuple[_Step, ...]:
    """Each block run again in the backward pass, where that is not set already."""
    if config.model.activation_checkpointing == "block":
        return ()
    return (
        _Step(
            option="--model.activation_checkpointing block",
            words="activations made again rather than kept, which changes no result",
            settings={"model": {"activation_checkpointing": "block"}},
        ),
    )


def _of_model(config: Any) -> Iterator[_Step]:
    """An adapter, half the precision, a frozen base in 4 bits: each beside those before."""
    lora = config.model.lora
    if lora is None:
        yield _Step(
            option="--model.lora.rank 16",
            words="an adapter in place of all weights",
            settings={"model": {"lora": LoraSettings(rank=16)}},
        )
    if config.model.dtype != "bfloat16":
        yield _Step(
            option="--model.dtype bfloat16",
            words="weights in bfloat16",
            settings={"model": {"dtype": "bfloat16"}},
        )
    if lora is None or lora.quantise == "none":
        yield _Step(
            option="--model.lora.quantise nf4",
            words="the frozen base in 4 bits",
            settings={"model": {"lora": replace(lora or LoraSettings(rank=16), quantise="nf4")}},
        )


def _changed(config: Any, settings: Mapping[str, Any]) -> Any:
    """The settings with those of some blocks changed."""
    return replace(config, **{key: replace(getattr(config, key), **value) for key, value in settings.items()})


def _more_devices(run: _Run) -> Change | None:
    """Twice as many devices, and twice as many again, until the run fits."""
    count = run.devices.count
    while run.devices.device.kind != "cpu" and count < MOST:
        count *= 2
        other = replace(run, devices=replace(run.devices, count=count))
        if not other.hopeless() and (plan := other.plan).fits:
            option = f"--gpu {other.devices}"
            words = f"{count} devices, weights and optimiser divided among them"
            return Change(options=(option,), words=words, memory=plan.memory, time=plan.time)
    return None


# ------------------------------------------------------------------------------------------ many runs


def _many(run: _Run, runs: int) -> Plan:
    """The plan of one of many runs on as few of the devices as it fits on, and of all of them."""
    total, count = run.devices.count, 1
    while True:
        one = replace(run, devices=replace(run.devices, count=count))
        last = count * 2 > total
        if not one.hopeless() or last:
            plan = one.plan
            if plan.fits or last:
                break
        count *= 2
    at_once = total // count
    hours = plan.time.hours
    spread = Spread(
        runs=runs,
        devices_each=count,
        at_once=min(runs, at_once),
        hours=None if hours is None else -(-runs // at_once) * hours,
    )
    return replace(plan, spread=spread)
