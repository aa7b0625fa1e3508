"""Several ranks compute what one process does: shares, sums, every method's gradient (to 1e-10, float64)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch

from several import on_ranks
from trueup.engine.groups import Group
from trueup.engine.loop import Step, annotated
from trueup.engine.method import Handles, Method
from trueup.engine.ranks import Ranks, is_sharded, whole
from trueup.models.forward import LanguageModel
from trueup.models.sharding import shard
from trueup.settings.blocks import LoraSettings
from trueup.settings.discover import find, names
from trueup.testing.methods import open_toy, tiny_config
from trueup.testing.toys import share_of_even_tokens

SHORT = (
    ("sft", None, False),
    ("reward_model", None, False),
    ("ppo", None, False),
    ("kto", None, False),
    ("dpo", LoraSettings(rank=2), False),
    ("ppo", None, True),
    ("dpo", LoraSettings(rank=2), True),
)
"""What `make test` looks at: a method, its adapter, whether weights are sharded. Every unit is there, and
annotators that need the whole step, a critic, a reference that is the base, a head read below its module."""


def test_shares_are_runs_with_the_smallest_largest() -> None:
    assert Ranks(count=2).shares([5, 1, 1, 1, 1, 1]) == [range(0, 1), range(1, 6)]
    assert Ranks(count=3).shares([100, 10, 10]) == [range(0, 1), range(1, 3), range(3, 3)]
    assert Ranks(count=2).shares([]) == [range(0, 0), range(0, 0)]
    assert Ranks(count=3).shares([0, 0, 4]) == [range(0, 3), range(3, 3), range(3, 3)]
    assert Ranks().shares([1, 2]) == [range(0, 2)]


def test_what_ranks_tell_one_another() -> None:
    def work(ranks: Ranks) -> list[Any]:
        i = ranks.index
        half = torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
        lone = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
        never = torch.nn.Parameter(torch.zeros(1))
        half.grad = torch.full_like(half, 1 + i)
        lone.grad = torch.tensor([0.1, 0.2], dtype=torch.float64) if i == 1 else None
        ranks.sum_gradients([half, lone, never])
        assert lone.grad is not None
        rows = torch.arange(3.0)[:, None] if i == 1 else torch.empty(0)
        return [
            ranks.gather(b"ab"[: 2 * i]),
            ranks.first({"x": 0.1, "i": i}),
            ranks.anyone("SIGTERM" if i == 2 else ""),
            ranks.summed({"a": 0.1, **({"b": 1.0} if i else {})}),
            ranks.chained({"m": [float(i)] * i}),
            ranks.joined(rows).tolist(),
            {n: t.tolist() for n, t in ranks.first_tensors({} if i else {"w": torch.tensor([1.5])}).items()},
            [half.grad.tolist(), lone.grad.tolist(), never.grad],
        ]

    for said in on_ranks(3, work):
        assert said == [
            [b"", b"ab", b"ab"],
            {"x": 0.1, "i": 0},
            "SIGTERM",
            {"a": 0.1 + 0.1 + 0.1, "b": 2.0},
            {"m": [1.0, 2.0, 2.0]},
            [[0.0], [1.0], [2.0]],
            {"w": [1.5]},
            [[6.0, 6.0, 6.0], [0.1, 0.2], None],
        ]


def opened(name: str, lora: LoraSettings | None) -> tuple[Method, Handles]:
    """A method on toy groups in float64, with small passes, so that every rank makes several."""
    module = find(name)
    method, handles = open_toy(module, tiny_config(module), share_of_even_tokens, lora)
    for network in handles.networks.values():
        network.module.double()
    return method, replace(handles, dtype=torch.float64, microbatch_tokens=24)


def learned(
    name: str, lora: LoraSettings | None, ranks: Ranks
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """A step's gradient by parameter, and every number noted on the way to it, held-out means among them."""
    method, handles = opened(name, lora)
    noted: dict[str, float] = {}
    if ranks.sharded:
        shard(cast(list[LanguageModel], list(handles.networks.values())), ranks, torch.device("cpu"))
        parts = [p for network in handles.networks.values() for p in network.module.parameters()]
        assert all(is_sharded(p) for p in parts)
        held = sum(cast(Any, p).to_local().numel() for p in parts)
        assert held <= (1 / ranks.count + 0.1) * sum(p.numel() for p in parts)
    handles = replace(handles, ranks=ranks, record=noted.update)
    with torch.no_grad():
        groups: Sequence[Group] = annotated(method.source(0, handles), method, handles)
    step = Step(method, handles, groups, 0)
    noted |= {f"evaluated/{key}": value for key, value in step.evaluate().items()}
    noted |= {f"mean/{key}": float(np.sum(value)) for key, value in step.by_group().items()}
    noted |= step.backward()
    found: dict[str, np.ndarray] = {}
    for network in method.trains:
        for key, p in handles.networks[network].module.named_parameters():
            if p.grad is not None:
                found[f"{network}.{key}"] = whole(p.grad).numpy()
    return found, noted


def compared(name: str, lora: LoraSettings | None, ranks: Ranks) -> str:
    """What differs between several ranks and one process, or among the ranks; "" where nothing does."""
    found, said = learned(name, lora, ranks)
    bits = b"".join(found[key].tobytes() for key in sorted(found)) + repr(sorted(said.items())).encode()
    if len(set(ranks.values(hashlib.sha256(bits).hexdigest()))) > 1:
        return f"{name}: the ranks have other bits"
    if not ranks.leads:
        return ""
    alone, said_alone = learned(name, lora, Ranks())
    if alone.keys() != found.keys() or not any(np.abs(g).max() > 1e-6 for g in alone.values()):
        return f"{name}: gradients of {sorted(alone.keys() ^ found.keys())}, or none at all"
    if said_alone.keys() != said.keys():
        return f"{name}: numbers {sorted(said_alone.keys() ^ said.keys())}"
    worst = max(float(np.abs(alone[key] - found[key]).max()) for key in alone)
    other = max(abs(said_alone[key] - said[key]) for key in said_alone)
    return f"{name}: gradient {worst:.1e}, numbers {other:.1e}" if max(worst, other) > 1e-10 else ""


def all_compared(cases: Iterable[tuple[str, LoraSettings | None, bool]], count: int) -> list[str]:
    """What differs in any of the cases, on any rank."""

    def work(ranks: Ranks) -> list[str]:
        return [
            found
            for name, lora, sharded in cases
            if (found := compared(name, lora, replace(ranks, sharded=sharded)))
        ]

    return [found for said in on_ranks(count, work) for found in said]


def test_two_processes_are_one() -> None:
    assert not all_compared(SHORT, 2)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("lora", [None, LoraSettings(rank=2)])
def test_any_number_of_processes_is_one_for_every_method(
    count: int, sharded: bool, lora: LoraSettings | None
) -> None:
    found = [name for name in names() if hasattr(find(name), "build") and name != "trpo"]
    assert len(found) > 25
    assert not all_compared([(name, lora, sharded) for name in found], count)
