"""The checks themselves: each notices the fault it is there for, and says so."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from trueup.engine.batch import Batch, Outputs
from trueup.engine.groups import Group
from trueup.engine.method import Entries, Handles, Method, Parts, Terms
from trueup.settings import discover
from trueup.testing import check_method, check_objective
from trueup.testing.toys import StandIn
from trueup.update.adamw import AdamW


@dataclass(frozen=True)
class Faulty:
    """A likelihood with one thing wrong.

    ℓ_t = −log π(y_t), one entry for each of T tokens [T]. Reference: nobody 2020.
    """

    fault: str

    @property
    def reads(self) -> frozenset[str]:
        return frozenset()

    @property
    def wants(self) -> Mapping[str, tuple[str, ...]]:
        return {"policy": ("logprobs",)}

    def __call__(self, outputs: Outputs, batch: Batch) -> Terms:
        assert outputs.logprobs is not None
        entries = -outputs.logprobs
        place = torch.arange(len(entries), dtype=torch.float64)
        changed = {
            "none": entries,
            "mean": entries / len(entries),
            "order": entries * (1 + place / 10),
            "nan": entries * math.nan,
            "upward": -(entries.detach() - entries).exp() * entries.detach(),
            "shift": entries + 1,
            "constant": entries.detach() + 0 * entries,
        }
        return Terms({"nll": (1.0, Entries(changed[self.fault], "token"))})


@dataclass(frozen=True)
class Undocumented:
    """Says nothing."""

    def __call__(self) -> None: ...


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("mean", "with one group a microbatch"),
        ("order", "with"),
        ("nan", "nll is nan"),
        ("upward", "along the gradient the loss falls by"),
        ("shift", "where the policy is its reference the loss is"),
        ("constant", "the gradient is zero everywhere"),
    ],
)
def test_a_fault_is_noticed_and_named(fault: str, message: str) -> None:
    def mean_nll(batch: Batch) -> float:
        said = StandIn()(batch, ("logprobs",)).logprobs
        assert said is not None
        return -float(said.detach().mean())

    check_objective(Faulty("none"), at_reference=mean_nll)
    with pytest.raises(AssertionError, match=message) as raised:
        check_objective(Faulty(fault), at_reference=mean_nll)
    assert str(raised.value).startswith("Faulty: ")


def test_a_number_that_must_rise() -> None:
    check_objective(Faulty("none"), rises=lambda outputs, _: outputs.logprobs.mean())
    with pytest.raises(AssertionError, match="a step lowers rises"):
        check_objective(Faulty("none"), rises=lambda outputs, _: -outputs.logprobs.mean())


def test_documentation_is_asked_for() -> None:
    with pytest.raises(AssertionError, match="Undocumented: the docstring has no equation"):
        check_objective(Undocumented())  # pyright: ignore


def changed(**parts: Any) -> ModuleType:
    """The SFT module with parts of its method replaced."""
    sft = discover.find("sft")

    def build(config: Any, given: Parts) -> Method:
        method: Method = sft.build(config, given)
        return replace(method, **{name: part(method) for name, part in parts.items()})

    return SimpleNamespace(__name__="mine", Config=sft.Config, build=build)  # pyright: ignore


class Drifting:
    """An annotator with a memory that no checkpoint holds."""

    reads = writes = frozenset()

    def __init__(self, *, shared: dict[str, int] | None = None) -> None:
        self._calls = shared if shared is not None else {"n": 0}

    def __call__(self, groups: list[Group], handles: Handles) -> list[Group]:
        self._calls["n"] += 1
        return groups[: min(self._calls["n"], 4)]


def test_hidden_state_is_noticed(tmp_path: Path) -> None:
    """Memory of an instance breaks resuming; memory of the process breaks repetition."""
    with pytest.raises(AssertionError, match=r"mine: stopped after every update .* differs in .*weights"):
        check_method(changed(annotate=lambda _: (Drifting(),)), tmp_path / "a")
    shared = {"n": 0}
    with pytest.raises(AssertionError, match=r"mine: two runs with one seed differ in .*metrics"):
        check_method(changed(annotate=lambda _: (Drifting(shared=shared),)), tmp_path / "b")


def test_improvement_is_measured(tmp_path: Path) -> None:
    """Imitating what the judge prefers raises its score; learning nothing is noticed."""
    check_method(discover.find("sft"), tmp_path / "a", improves=8)

    def fades(_: Method) -> Any:
        return AdamW(lr=0.0)

    with pytest.raises(AssertionError, match=r"mine: 8 steps move the judge.s score from"):
        check_method(changed(update=fades), tmp_path / "b", improves=8)


@pytest.mark.slow  # forty steps of sampling and two networks
@pytest.mark.parametrize(("name", "steps"), [("dpo", 20), ("ppo", 40), ("ppo_v1", 40), ("trpo", 20)])
def test_the_score_of_a_policy_rises(name: str, steps: int, tmp_path: Path) -> None:
    check_method(discover.find(name), tmp_path, improves=steps)
