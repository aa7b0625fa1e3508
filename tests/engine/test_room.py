"""Memory that runs out in any pass: nothing has changed, and smaller passes give the same gradient."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from runs.resume.made_runs import METHODS, UPDATES_PER_STEP, Noted, Run, groups, make, network
from trueup.annotate.logprobs import token_logprobs
from trueup.engine.batch import Batch, Outputs
from trueup.engine.loop import Step, annotated
from trueup.engine.method import Handles, Network
from trueup.engine.packing import num_row_tokens
from trueup.engine.room import budget, ran_out
from trueup.errors import TrueupError
from trueup.models.generate import generate
from trueup.runs.signals import Interrupted

CPU = RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory")
KINDS = [torch.OutOfMemoryError("CUDA out of memory"), CPU, MemoryError()]


@dataclass(eq=False)
class Scarce:
    """A network over an allocator that holds `capacity` row tokens, or fails at the calls that are named."""

    inner: Any
    capacity: float = float("inf")
    fail_at: frozenset[int] = frozenset()
    "Passes by number, forward and backward counted together."
    error: BaseException = field(default_factory=lambda: KINDS[0])
    calls: int = 0
    asked: list[int] = field(default_factory=list)
    "Row tokens of each forward pass."

    def __call__(self, batch: Batch, want: Sequence[str]) -> Outputs:
        self.asked.append(len(batch.positions))
        self._pass(len(batch.positions))
        out = self.inner(batch, want)
        first = next(v for n in want if (v := getattr(out, n, None)) is not None)
        if first.requires_grad:
            first.register_hook(lambda gradient: self._pass(0))
        return out

    def _pass(self, num_tokens: int) -> None:
        self.calls += 1
        if self.calls in self.fail_at or num_tokens > self.capacity:
            raise self.error

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def exact(method: str) -> tuple[Run, dict[str, Network], list[Any]]:
    """A run, its networks in float64, and the step's annotated groups."""
    run = make(method, Path("unused"))
    nets = {name: network(r.heads, r.trained) for name, r in run.method.networks.items()}
    for net in nets.values():
        net.module.double()
    handles = replace(run.handles, networks=nets, dtype=torch.float64, microbatch_tokens=10_000)
    source = run.method.source
    assert isinstance(source, Noted)
    batch = annotated(source.inner(0, handles), run.method, handles)
    return run, nets, batch


def step(run: Run, nets: dict[str, Any], batch: list[Any], tokens: int = 10_000) -> Step:
    handles = Handles(networks=nets, dtype=torch.float64, microbatch_tokens=tokens, judge=run.handles.judge)
    handles.state.update(beta=0.05)
    return Step(run.method, handles, batch)


def gradients(nets: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {
        f"{name}/{key}": p.grad.clone()
        for name, net in nets.items()
        for key, p in net.module.named_parameters()
        if p.grad is not None
    }


def clear(nets: dict[str, Any]) -> None:
    for net in nets.values():
        net.module.zero_grad(set_to_none=True)


def gap(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> float:
    assert ours.keys() == theirs.keys() and ours
    return max(float((ours[key] - theirs[key]).abs().max()) for key in ours)


@pytest.mark.parametrize("method", METHODS)
def test_the_gradient_is_the_same_wherever_memory_runs_out(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every forward and every backward pass in turn, and again at the next one."""
    monkeypatch.chdir(tmp_path)
    run, nets, batch = exact(method)
    whole = step(run, nets, batch).backward()
    expected = gradients(nets)
    counted = {name: Scarce(net) for name, net in nets.items()}
    clear(nets)
    step(run, counted, batch, tokens=40).backward()
    fails_at = next(iter(nets))
    passes = counted[fails_at].calls
    assert passes >= 4, "several forward and backward passes"
    for k in range(1, passes + 1):
        for tokens, fails in ((40, {k}), (10_000, {1, k})):
            clear(nets)
            error = KINDS[k % len(KINDS)]
            scarce = Scarce(nets[fails_at], fail_at=frozenset(fails), error=error)
            at = step(run, {**nets, fails_at: scarce}, batch, tokens=tokens)
            said = at.backward()
            assert gap(gradients(nets), expected) <= 1e-12
            assert all(abs(said[name] - value) <= 1e-12 for name, value in whole.items())
            assert budget(at.handles) < tokens


@pytest.mark.parametrize("method", METHODS)
def test_passes_shrink_until_they_fit_and_stay_so(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run, nets, batch = exact(method)
    step(run, nets, batch).backward()
    expected = gradients(nets)
    largest = max(map(num_row_tokens, batch))
    everything = sum(map(num_row_tokens, batch))
    for capacity in range(largest, everything + 1, 7):
        clear(nets)
        scarce = {name: Scarce(net, capacity=capacity) for name, net in nets.items()}
        at = step(run, scarce, batch)
        at.backward()
        assert gap(gradients(nets), expected) <= 1e-12
        first = next(iter(scarce.values()))
        tried = len(first.asked)
        at.evaluate()
        assert all(size <= capacity for size in first.asked[tried:]), "what did not fit is not tried again"


def test_what_was_there_before_is_kept() -> None:
    """A gradient that other work has left is added to, once."""
    run, nets, batch = exact("dpo")
    step(run, nets, batch).backward()
    once = gradients(nets)
    scarce = {name: Scarce(net, fail_at=frozenset({3})) for name, net in nets.items()}
    step(run, scarce, batch, tokens=40).backward()
    assert gap(gradients(nets), {key: 2 * value for key, value in once.items()}) <= 1e-12


def test_a_single_group_that_does_not_fit_ends_with_a_remedy() -> None:
    run, nets, batch = exact("sft")
    before = {key: value.clone() for key, value in nets["policy"].module.state_dict().items()}
    scarce = {name: Scarce(net, capacity=4) for name, net in nets.items()}
    with pytest.raises(TrueupError, match=r"E904 — memory ran out on a single piece of \d+ tokens") as caught:
        step(run, scarce, batch).backward()
    assert caught.value.exit_code == 69 and "--data.max_tokens" in caught.value.remedy
    assert all(torch.equal(before[k], v) for k, v in nets["policy"].module.state_dict().items())


def test_log_probs_of_choices_are_the_same_in_smaller_passes() -> None:
    nets = {"policy": network(("logprobs",), False)}
    asked = groups(10, 3)
    handles = Handles(networks=nets, microbatch_tokens=10_000)
    expected = token_logprobs(asked, "policy", handles)
    scarce = Scarce(nets["policy"], capacity=40)
    halved: list[float] = []
    small = Handles(networks={"policy": scarce}, record=lambda m: halved.append(m["microbatch_tokens"]))
    found = token_logprobs(asked, "policy", small)
    for ours, theirs in zip(chain(*found), chain(*expected), strict=True):
        assert np.abs(ours - theirs).max() < 1e-6
    assert halved == sorted(halved, reverse=True) and len(halved) > 1 and budget(small) == halved[-1]


def test_samples_are_those_of_a_machine_with_more_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sampler takes half of its rows at a time; a row's sample does not depend on its neighbours."""
    module = importlib.import_module("trueup.models.generate")
    net = network(("logprobs",), False)
    prompts = [np.arange(2, 5 + i, dtype=np.int32) for i in range(6)]
    expected = generate(net, prompts, k=3, max_new_tokens=6, stop_ids=(1,), seed=4)
    sample, sizes = module._sample, []

    def scarce(network: Any, prompts: Any, rows: Any, *rest: Any) -> Any:
        sizes.append(len(rows))
        if len(rows) > 4:
            raise KINDS[len(sizes) % 3]
        return sample(network, prompts, rows, *rest)

    monkeypatch.setattr(module, "_sample", scarce)
    found = generate(net, prompts, k=3, max_new_tokens=6, stop_ids=(1,), seed=4)
    assert max(sizes) == 18 and sizes[-1] <= 4
    for ours, theirs in zip(found, expected, strict=True):
        assert [s.tokens.tolist() for s in ours] == [s.tokens.tolist() for s in theirs]


@pytest.mark.parametrize("method", ["dpo", "ppo"])
def test_a_run_whose_passes_shrank_resumes_to_the_same_bits(method: str, tmp_path: Path) -> None:
    """The smaller budget is part of the checkpoint, so sums are added up in the same order."""

    def run(folder: Path) -> Run:
        made = make(method, folder, save_every=1)
        made.handles.networks = {n: Scarce(net, capacity=39) for n, net in made.handles.networks.items()}
        made.handles.microbatch_tokens = 500
        return made

    whole = run(tmp_path / "whole").go()
    half = UPDATES_PER_STEP[method] * 2
    first = run(tmp_path / "cut")
    with pytest.raises(Interrupted):
        first.go(stop_after=half)
    rest = run(tmp_path / "cut").go()
    assert {**first.watched.digests, **rest} == whole
    assert '"microbatch_tokens":' in (tmp_path / "whole" / "metrics.jsonl").read_text()


def test_other_errors_are_not_taken_for_it() -> None:
    assert all(map(ran_out, KINDS))
    assert not ran_out(RuntimeError("size mismatch")) and not ran_out(ValueError("out of memory"))
