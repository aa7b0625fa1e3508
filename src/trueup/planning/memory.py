"""Memory of a run by network and part: what stays, from configurations, and what a pass holds besides."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from trueup.engine.batch import Batch
from trueup.engine.loop import Step
from trueup.engine.method import Handles, Method, Role
from trueup.errors import TrueupError
from trueup.models.forward import LanguageModel
from trueup.models.lora import base_of, is_adapter
from trueup.models.opening import model_path
from trueup.planning.counting import Live, counting
from trueup.planning.networks import (
    Size,
    cache_bytes,
    config_of,
    line_of,
    num_bytes,
    num_layers,
    open_planned,
    sized,
    unknown,
)
from trueup.planning.work import Work, tables
from trueup.settings.blocks import ModelSettings
from trueup.settings.weights import model_folder

SAMPLED_AT_ONCE = 1 << 15
"Tokens that the sampler holds at once: rows times prompt and new tokens (`models.generate`)."
GATHERED = 2
"Layers that are whole on a device at once where weights are sharded: the one at work and the next."


@final
@dataclass(frozen=True, kw_only=True)
class Part:
    """Some bytes of a run, on each device."""

    network: str
    part: str
    bytes: int
    note: str = ""
    stays: bool = True
    "False of what comes and goes: of these the largest counts."


@final
@dataclass(frozen=True, kw_only=True)
class Memory:
    """A run's memory on each device."""

    parts: tuple[Part, ...]

    @property
    def total(self) -> int:
        """The most bytes at once: what stays, and the largest of what comes and goes."""
        passing = [part.bytes for part in self.parts if not part.stays]
        return sum(part.bytes for part in self.parts if part.stays) + max(passing, default=0)


@final
@dataclass(frozen=True, kw_only=True)
class Held:
    """What one network is made of, beside those that share its weights."""

    network: str
    size: Size
    shares: bool = False
    "Its weights are another network's."
    note: str = ""


def memory_of(config: Any, work: Work, kind: str, count: int, held: Sequence[Held]) -> Memory:
    """The memory of a run on each of `count` devices; `kind` is torch's name of them."""
    method, settings = work.method, config.model
    found = counted(method, settings, work, kind)
    parts = list(_weights(held, settings, count))
    trained = {one.network: one.size for one in held if one.network in method.trains}
    shares = sum(size.trained for size in trained.values()) or 1
    for name, size in trained.items():
        parts.append(Part(network=name, part="gradients", bytes=size.trained // count))
        state = round(found.state * size.trained / shares)
        parts.append(Part(network=name, part="optimiser", bytes=state // count, note=found.optimiser))
    if count > 1:
        parts.append(_gathered(held, settings))
    parts.append(
        Part(
            network="",
            part="activations",
            bytes=_passing(found, work, kind, sum(size.trained for size in trained.values()), settings, held),
            note=f"counted: {work.pass_tokens:,} tokens",
            stays=False,
        )
    )
    if work.samples:
        parts.append(_cache(config, work, count))
    return Memory(parts=tuple(parts))


def _passing(
    found: Counted, work: Work, kind: str, trained: int, settings: ModelSettings, held: Sequence[Held]
) -> int:
    """Bytes beside weights, gradients and optimiser state when most is held."""
    quantised = settings.lora is not None and settings.lora.quantise == "nf4"
    unpacked = max((one.size.largest_linear for one in held), default=0) if quantised else 0
    step = max(found.step, trained if kind != "cpu" else 0)  # on a GPU a root of every second moment at once
    early = found.early + unpacked + tables(work, found.vocabulary, 8 if settings.dtype == "float64" else 4)
    # In an update of one pass, the gradients come as the activations go.
    return max(early - (trained if work.passes == 1 else 0), found.late, step)


# ------------------------------------------------------------------------------------------ weights


def held_by(method: Method, settings: ModelSettings, kind: str) -> tuple[Held, ...]:
    """The networks of a run, in the order in which they are opened, and its judge where it is a model."""
    nf4 = settings.lora is not None and settings.lora.quantise == "nf4"
    found: list[Held] = []
    sizes: dict[tuple[str, bool, tuple[str, ...]], Size] = {}
    shared = settings.roles == "shared"
    for name, role in method.networks.items():
        own = not role.trained and not role.start and any(one.network == "policy" for one in found)
        key = (role.start or settings.path, role.trained, role.heads)
        if key not in sizes:
            sizes[key] = sized(role, settings, kind, nf4=nf4 and (role.trained or shared))
        if own and settings.lora is not None:
            found.append(Held(network=name, size=sizes[key], shares=True, note="the policy, its adapter off"))
        else:
            same = shared and bool(found) and _on_base(role.start, settings.path)
            found.append(Held(network=name, size=sizes[key], shares=same, note="one base" if same else ""))
    return (*found, *_judge(method.judge, settings, kind))


def _on_base(start: str, path: str) -> bool:
    """Whether a role starts from the run's base, or from an adapter on it."""
    if not start:
        return True
    folder = Path(model_folder(model_path(start)))
    return is_adapter(folder) and base_of(folder) in (path, model_path(path))


def _judge(reference: str, settings: ModelSettings, kind: str) -> Iterator[Held]:
    """The judge, where it is a model's folder: it is loaded in float32."""
    folder = model_folder(reference.partition("?")[0]) if reference else ""
    if not folder or not Path(folder).is_dir():
        return
    role = Role(heads=("rewards",), start=folder, trained=False)
    if settings.roles == "shared" and _on_base(folder, settings.path):
        size = sized(role, settings, kind, nf4=False)
        yield Held(network="judge", size=size, shares=True, note="one base")
        return
    size = sized(role, replace(settings, dtype="float32", lora=None), kind, nf4=False)
    yield Held(network="judge", size=size, note="float32")


def _weights(held: Sequence[Held], settings: ModelSettings, count: int) -> Iterator[Part]:
    nf4 = settings.lora is not None and settings.lora.quantise == "nf4"
    for one in held:
        note = one.note or ("4 bits" if nf4 and one.network != "judge" else settings.dtype)
        size = 0 if one.shares else one.size.base
        yield Part(network=one.network, part="weights", bytes=size // count, note=note)
        if one.size.adapter:
            yield Part(network=one.network, part="adapter", bytes=one.size.adapter // count)


def _gathered(held: Sequence[Held], settings: ModelSettings) -> Part:
    """What of sharded weights is whole at once: two layers, and what lies outside layers."""
    largest = max(held, key=lambda one: one.size.base)
    layers = num_layers(config_of(settings.path))
    outside = largest.size.outside_layers
    size = outside + GATHERED * (largest.size.base - outside) // layers
    return Part(network="", part="gathered", bytes=size, note=f"{GATHERED} layers, embeddings, head")


# ------------------------------------------------------------------------------------------ sampling


def rows_at_once(work: Work, count: int) -> tuple[int, int, int]:
    """(rows in all on a device, rows at once, longest prompt) of a step's sampling."""
    longest = max(len(g.prompt_tokens) for g in work.groups if g.prompt_tokens is not None)
    rows = max(1, -(-round(work.groups_per_step * work.samples) // count))
    return rows, min(rows, max(1, SAMPLED_AT_ONCE // (longest + work.new_tokens))), longest


def _cache(config: Any, work: Work, count: int) -> Part:
    """rows x (prompt + new tokens) x layers x key heads x their width x bytes, keys and values."""
    name = getattr(work.method.source, "network", "policy")
    role = replace(work.method.networks.get(name, Role()), trained=False)
    network = open_planned(role, config.model, "cpu", layers=1)
    each = cache_bytes(network) * num_layers(config_of(role.start or config.model.path))
    _, rows, longest = rows_at_once(work, count)
    slots = longest + work.new_tokens
    return Part(
        network=name,
        part="sampler's cache",
        bytes=rows * slots * each,
        note=f"{rows} rows of {slots:,} tokens",
        stays=False,
    )


# ------------------------------------------------------------------------------------------ a pass


@final
@dataclass(frozen=True, kw_only=True)
class Counted:
    """Bytes that an update holds beside weights, counted with the run's own code."""

    state: int
    "The optimiser's."
    early: int
    "The most beside gradients and state from the first layer's forward to the first layer's backward."
    late: int
    "The most from there on: the embeddings' gradient."
    step: int
    "The most while the optimiser moves the weights."
    flops: int
    vocabulary: int
    optimiser: str


def counted(method: Method, settings: ModelSettings, work: Work, kind: str) -> Counted:
    """What the largest pass and a step of the optimiser hold.

    Everything grows along a line with the number of layers, of one kind or in a repeating pattern: of deep
    models two shallow ones are counted, and the line goes on. Raises E864 where the code does not run so.
    """
    starts = {method.networks[name].start or settings.path for name in _at_work(method)}
    line = line_of(next(iter(starts))) if len(starts) == 1 else None
    try:
        if line is None:
            return _counted(method, settings, work, kind, None)
        one, two = (_counted(method, settings, work, kind, n) for n in (line.few, line.more))
    except TrueupError:
        raise
    except Exception as error:  # of an operation that has no shape without numbers
        raise unknown(settings.path, error) from error
    return line.at_end(one, two)


def _at_work(method: Method) -> list[str]:
    return list(dict.fromkeys((*method.trains, *method.objective.wants)))


def _counted(method: Method, settings: ModelSettings, work: Work, kind: str, layers: int | None) -> Counted:
    networks = {
        name: open_planned(method.networks[name], settings, kind, layers=layers).with_temperature(
            method.temperature
        )
        for name in _at_work(method)
    }
    trained = {name: networks[name] for name in method.trains}
    handles = Handles(
        networks=networks,
        dtype=torch.float64 if settings.dtype == "float64" else torch.float32,
        microbatch_tokens=work.pass_tokens,
    )
    before = [t for n in networks.values() for t in (*n.module.parameters(), *n.module.buffers())]
    step = Step(method, handles, list(work.largest), 0)
    with counting(kind, before) as live:
        rule = method.update.start(trained, 10)
        rule.step(_Filled(step, trained))
        live.mark()
        rule.step(_Filled(step, trained))
        state = _state(rule.state()[0])
        gradients = sum(num_bytes(p.grad) for p in _parameters(trained) if p.grad is not None)
        moving = live.peak - state - gradients
        early, late = _pass(step, trained, live)
    return Counted(
        state=state,
        early=early - state - gradients,
        late=late - state - gradients,
        step=moving,
        flops=live.flops,
        vocabulary=max(n.config.get_text_config().vocab_size for n in networks.values()),
        optimiser=type(method.update).__name__,
    )


def _pass(step: Step, trained: Mapping[str, LanguageModel], live: Live) -> tuple[int, int]:
    """The most that a pass holds beside gradients that are there: before the first layer's backward, then."""
    seen: list[int] = []

    def first(_: Tensor) -> None:
        if not seen:
            seen.append(live.peak)
            live.peak = live.now

    hooks = [
        p.register_post_accumulate_grad_hook(first)
        for network in trained.values()
        for name, p in network.module.named_parameters()
        if p.requires_grad and re.search(r"\.0\.", name)
    ]
    live.mark()
    # Below `room.fits`, which would set the gradients aside.
    inspect.unwrap(Step.backward)(step)
    for hook in hooks:
        hook.remove()
    return (seen[0], live.peak) if seen else (live.peak, live.now)


@final
class _Filled:
    """A minibatch whose gradients are there without a pass: for what the optimiser holds."""

    def __init__(self, step: Step, trained: Mapping[str, LanguageModel]) -> None:
        self._step, self._trained = step, trained

    def batches(self) -> Iterator[Batch]:
        return self._step.batches()

    def backward(self) -> dict[str, float]:
        for parameter in _parameters(self._trained):
            parameter.grad = torch.empty_like(parameter)
        return {"loss": 1.0}

    def evaluate(self) -> dict[str, float]:
        return self._step.evaluate()


def _parameters(trained: Mapping[str, LanguageModel]) -> Iterator[Tensor]:
    for network in trained.values():
        yield from (p for p in network.module.parameters() if p.requires_grad)


def _state(tensors: Mapping[str, Tensor]) -> int:
    """Bytes of the optimiser's tensors, each storage once."""
    storages = {t.untyped_storage(): t for t in tensors.values() if t.is_meta}
    return sum(storage.nbytes() for storage in storages)
