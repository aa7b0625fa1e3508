"""Time of a run, from the multiplications that it takes and the bytes that it moves.

    forward          2 P s + 4 A Σ seen + 2 V d r     P weights that a token meets, s tokens, A heads x width
    backward         twice that; 5/2 of attention's, which is made again; half for weights that stay
    made again       2 P s + 4 A Σ seen more, with model.activation_checkpointing block
    a token sampled  max(bytes of weights and cache / bandwidth, 2 P rows / rate)

over all layers, r the rows with a supervised token behind them. What share of a device's rate is reached is
one assumption, `mfu` (Chowdhery et al. 2022).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, final

from trueup.engine.groups import Group
from trueup.engine.packing import num_row_tokens
from trueup.planning.devices import Devices
from trueup.planning.memory import Held, rows_at_once
from trueup.planning.networks import Size, cache_bytes, config_of, num_layers, open_planned
from trueup.planning.work import Work

MFU = 0.4
"Share of a device's rate that matrix products reach."
THROUGH_HEAD = frozenset({"logprobs", "entropy", "distributions", "listed"})
"Outputs for which states go through the LM head."


@final
@dataclass(frozen=True, kw_only=True)
class Time:
    """How long a run takes."""

    seconds: Mapping[str, float]
    "Of a step, by what is done."
    tokens: float
    "Row tokens that a step learns from, once."
    sampled: float
    steps: int | None

    @property
    def step(self) -> float:
        """Seconds of a step."""
        return sum(self.seconds.values())

    @property
    def tokens_per_second(self) -> float:
        """Row tokens of a step, prompts included, over its seconds."""
        return self.tokens / self.step

    @property
    def hours(self) -> float | None:
        """Hours of the run; None where nobody says how many steps it has."""
        return None if self.steps is None else self.steps * self.step / 3600


@final
@dataclass(frozen=True, kw_only=True)
class Load:
    """What groups ask of a network: tokens, pairs of tokens that see each other, rows through the LM head."""

    tokens: int
    pairs: int
    rows: int


def load_of(groups: Sequence[Group]) -> Load:
    """The load of groups whose prompt is laid out once: a completion sees it and itself."""
    tokens = sum(map(num_row_tokens, groups))
    pairs = rows = 0
    for group in groups:
        assert group.prompt_tokens is not None
        n = len(group.prompt_tokens)
        lengths = [c.num_tokens for c in group.completions]
        pairs += n * (n + 1) // 2 + sum(n * m + m * (m + 1) // 2 for m in lengths)
        rows += sum(c.num_supervised for c in group.completions) - max(0, len(lengths) - 1)
    return Load(tokens=tokens, pairs=pairs, rows=max(0, rows))


def forward(size: Size, load: Load, *, head: bool) -> float:
    """Operations of a forward pass, a multiplication and an addition two."""
    through = 2 * size.head * load.rows if head else 0
    return 2 * (size.body + size.num_adapter) * load.tokens + 4 * size.attention * load.pairs + through


def backward(size: Size, load: Load, *, head: bool, remade: bool) -> float:
    """Operations of a backward pass; `remade` where logits are not kept and are made again."""
    adapter = size.num_adapter > 0
    through = 2 * size.head * load.rows * ((1 if adapter else 2) + remade) if head else 0
    body = 2 * size.body * load.tokens * (1 if adapter else 2) + 4 * size.num_adapter * load.tokens
    return body + 10 * size.attention * load.pairs + through


def time_of(config: Any, work: Work, held: Sequence[Held], devices: Devices, mfu: float) -> Time:
    """How long a run takes on some devices that each do a share of a step's groups."""
    rate = devices.device.rate(config.model.dtype) * mfu * devices.count
    times = work.groups_per_step / max(1, len(work.groups))
    load, sizes = load_of(work.groups), {one.network: one.size for one in held}
    learning = 0.0
    for name, wanted in work.method.objective.wants.items():
        head = bool(THROUGH_HEAD & {want.partition(":")[0] for want in wanted})
        remade = _remade(config, work, sizes[name])
        learning += forward(sizes[name], load, head=head) + backward(
            sizes[name], load, head=head, remade=remade
        )
        if config.model.activation_checkpointing == "block":
            learning += forward(sizes[name], load, head=False)
    seconds = {"learn": work.method.epochs * times * learning / rate}
    for name, head in _asked(work, sizes):
        took = times * forward(sizes[name], load, head=head) / rate
        seconds[f"ask {name}"] = seconds.get(f"ask {name}", 0.0) + took
    if work.samples:
        seconds["sample"] = _sampling(config, work, sizes, devices, mfu)
    return Time(
        seconds=seconds,
        tokens=times * load.tokens,
        sampled=work.groups_per_step * work.samples * work.new_tokens,
        steps=work.steps,
    )


def _remade(config: Any, work: Work, size: Size) -> bool:
    """Whether a pass's logits do not fit the part of the budget that keeps them."""
    vocabulary = config_of(config.model.path).get_text_config().vocab_size
    return load_of(work.largest).rows * vocabulary * 4 > 0.75 * config.model.logits_budget_mib * 2**20


def _asked(work: Work, sizes: Mapping[str, Size]) -> Iterator[tuple[str, bool]]:
    """The networks that annotators ask without gradient, once for each, and whether for log-probabilities."""
    for annotator in work.method.annotate:
        named = getattr(annotator, "network", "")
        if getattr(annotator, "by", "") == "trainer":
            named = "policy"
        if any(name.startswith(("teacher", "listed")) for name in annotator.writes):
            named = "teacher"
        if named in sizes:
            yield named, getattr(annotator, "want", "logprobs") in THROUGH_HEAD
    if work.method.judge and "judge" in sizes:
        yield "judge", False


def _sampling(config: Any, work: Work, sizes: Mapping[str, Size], devices: Devices, mfu: float) -> float:
    """Seconds of writing a step's completions, prompts read first, then a token at a time over some rows."""
    name = getattr(work.method.source, "network", "policy")
    size, device = sizes.get(name, sizes["policy"]), devices.device
    rate = device.rate(config.model.dtype) * mfu
    rows, at_once, longest = rows_at_once(work, devices.count)
    role = work.method.networks[name if name in sizes else "policy"]
    reference = role.start or config.model.path
    shallow = open_planned(type(role)(trained=False, start=role.start), config.model, "cpu", layers=1)
    cache = cache_bytes(shallow) * num_layers(config_of(reference))
    seconds = rows / work.samples * 2 * size.body * longest / rate
    starts = [*range(0, rows, at_once), rows]
    for begin, end in pairwise(starts):
        count = end - begin
        moved = size.base + count * (longest + work.new_tokens / 2) * cache
        worked = 2 * (size.body + size.head) * count
        seconds += work.new_tokens * max(moved / device.bandwidth, worked / rate)
    return seconds
