"""Log-probs at given rows: the right numbers, within a budget, whatever the batch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tiny_models import gradients, largest_gap, llama, ragged
from trueup.engine.groups import Completion, Group
from trueup.engine.packing import pack, spread
from trueup.errors import TrueupError
from trueup.models import copy_of, from_modules
from trueup.models.logprob import Head, listed_logprobs, logits, token_logprobs, top_of, with_rest


def _case(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Head]:
    """Twelve states, 300 targets on them with repeats, a head with a bias, a factor and a soft cap."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(12, 5, generator=generator, dtype=dtype, requires_grad=True)
    weight = torch.randn(7, 5, generator=generator, dtype=dtype, requires_grad=True)
    bias = torch.randn(7, generator=generator, dtype=dtype, requires_grad=True)
    at = torch.randint(0, 12, (300,), generator=generator)
    targets = torch.randint(0, 7, (300,), generator=generator)
    return hidden, at, targets, Head(weight, bias, scale=0.7, cap=2.0)


@pytest.mark.parametrize("budget_bytes", (1, 3 * 7 * 8 * 5, 1 << 20))
@pytest.mark.parametrize("temperature", (1.0, 0.6))
def test_values_and_gradients_by_plain_autograd(budget_bytes: int, temperature: float) -> None:
    """One row at a time, five, or all kept: the same numbers as a full log-softmax, 1e-12 in float64."""
    hidden, at, targets, head = _case()
    weights = torch.randn(300, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    leaves = [hidden, head.weight, head.bias]
    scored = token_logprobs(
        hidden, at, targets, head, temperature=temperature, budget_mib=budget_bytes / 2**20, entropy=True
    )
    table = torch.log_softmax(torch.tanh((hidden @ head.weight.T + head.bias) * 0.35) * 2 / temperature, -1)  # pyright: ignore
    expected = table[at, targets]
    assert torch.allclose(scored.logprobs, expected, rtol=0, atol=1e-12)
    entropy = -(table.exp() * table).sum(-1)[at]
    assert scored.entropy is not None
    assert torch.allclose(scored.entropy, entropy, rtol=0, atol=1e-12)
    others = weights.flip(0)
    for logprob, bonus in ((weights, None), (None, others), (weights, others)):
        sums = [
            sum((p * w).sum() for p, w in zip(parts, (logprob, bonus), strict=True) if w is not None)
            for parts in ((scored.logprobs, scored.entropy), (expected, entropy))
        ]
        found, wanted = (torch.autograd.grad(s, leaves, retain_graph=True) for s in sums)  # pyright: ignore
        for a, b in zip(found, wanted, strict=True):
            assert torch.allclose(a, b, rtol=0, atol=1e-12)


def test_numerical_gradient() -> None:
    hidden, at, targets, head = _case()
    assert torch.autograd.gradcheck(
        lambda h: token_logprobs(h, at[:20], targets[:20], head, budget_mib=1e-4).logprobs, (hidden,)
    )


def test_gradient_twice_through_kept_logits() -> None:
    """The logits kept for the backward pass are not spoilt by it."""
    hidden, at, targets, head = _case()
    out = token_logprobs(hidden, at, targets, head).logprobs.sum()
    first = torch.autograd.grad(out, hidden, retain_graph=True)[0]
    assert torch.equal(first, torch.autograd.grad(out, hidden)[0])


def test_temperature_is_everywhere() -> None:
    """Log-probs, entropies and distributions are all those of logits / temperature."""
    network = from_modules(llama(), None).with_temperature(0.5)
    batch = pack(ragged(2))
    out = network(batch, ("logprobs", "entropy", "distributions"))
    warm = from_modules(llama(), None)(batch, ("distributions",)).distributions
    assert out.distributions is not None and out.logprobs is not None and out.entropy is not None
    assert warm is not None
    expected = torch.log_softmax(warm / 0.5, -1)
    assert torch.allclose(out.distributions, expected, atol=1e-5)
    assert torch.allclose(out.logprobs, expected.gather(1, batch.targets[:, None])[:, 0], atol=1e-5)
    assert torch.allclose(out.entropy, -(expected.exp() * expected).sum(-1), atol=1e-5)
    with pytest.raises(TrueupError, match="E702"):
        network.with_temperature(0.0)


def test_budget_does_not_change_a_model_s_gradient() -> None:
    batch = pack(ragged(4))
    found = []
    for budget in (256, 1e-3):
        network = from_modules(llama(tie_word_embeddings=True), None, logits_budget_mib=budget)
        logprobs = network(batch, ("logprobs",)).logprobs
        assert logprobs is not None
        found.append(gradients(network.module, logprobs.mean()))
    assert largest_gap(*found) <= 1e-6


def _dpo_peak(num_pairs: int, budget_mib: float) -> float:
    """Peak MiB that torch's allocator held above its start during one DPO step, V = 50,257."""
    model = llama(vocab_size=50_257, hidden_size=16, num_hidden_layers=1)
    policy = from_modules(model, None, logits_budget_mib=budget_mib)
    reference = copy_of(policy)
    generator = np.random.default_rng(0)

    def draw(n: int) -> np.ndarray:
        return generator.integers(0, 50_257, n).astype(np.int32)

    groups = [
        Group(
            prompt=(),
            prompt_tokens=draw(4),
            completions=(Completion(text="", tokens=draw(30)), Completion(text="", tokens=draw(30))),
        )
        for _ in range(num_pairs)
    ]
    batch = pack(groups)
    with torch.autograd.profiler.profile(profile_memory=True) as profile:
        with torch.no_grad():
            before = reference(batch, ("logprobs",)).logprobs
        now = policy(batch, ("logprobs",)).logprobs
        assert now is not None and before is not None
        ratio = batch.per_completion(now - before).view(-1, 2)
        (-torch.nn.functional.logsigmoid(0.1 * (ratio[:, 0] - ratio[:, 1]))).sum().backward()
    return _peak(profile) / 2**20


def _peak(profile: Any) -> int:
    """The most bytes held at once, from every allocation and release that torch's allocator reported."""
    events = [e for e in profile.kineto_results.events() if e.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def test_peak_memory_of_a_dpo_step_does_not_grow_with_the_vocabulary() -> None:
    """Twice the tokens cost no second table of logits: 240 more tokens would be 46 MiB of them."""
    small, large = _dpo_peak(4, 24), _dpo_peak(8, 24)
    table = 4 * 60 * 50_257 * 4 / 2**20
    assert small > 10, "the profiler saw the step's allocations"
    assert large - small <= table / 8
    assert _dpo_peak(8, 256) > large + table / 2, "and with room for them, the logits are kept"


@pytest.mark.parametrize("budget_bytes", (1, 6 * 7 * 8 * 5, 1 << 20))
def test_listed_ids_and_the_rest_by_plain_autograd(budget_bytes: int) -> None:
    """One token at a time, five, or all at once: the same columns and gradients as a full log-softmax."""
    hidden, at, _, head = _case()
    generator = torch.Generator().manual_seed(2)
    ids = torch.stack([torch.randperm(7, generator=generator)[:3] for _ in range(300)])
    weights = torch.randn(300, 4, generator=generator, dtype=torch.float64)
    leaves = [hidden, head.weight, head.bias]
    found = listed_logprobs(hidden, at, ids, head, temperature=0.6, budget_mib=budget_bytes / 2**20).logprobs
    table = torch.log_softmax(torch.tanh((hidden @ head.weight.T + head.bias) * 0.35) * 2 / 0.6, -1)[at]  # pyright: ignore
    kept = table.gather(1, ids)
    expected = torch.cat([kept, torch.log1p(-kept.exp().sum(1, keepdim=True))], 1)
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)
    mine = torch.autograd.grad((found * weights).sum(), leaves)  # pyright: ignore
    for a, b in zip(mine, torch.autograd.grad((expected * weights).sum(), leaves), strict=True):  # pyright: ignore
        assert torch.allclose(a, b, rtol=0, atol=1e-11)
    top = listed_logprobs(hidden, at, 3, head, budget_mib=budget_bytes / 2**20)
    plain = torch.log_softmax(torch.tanh((hidden @ head.weight.T + head.bias) * 0.35) * 2, -1)[at]  # pyright: ignore
    assert torch.equal(top.ids, plain.topk(3, -1).indices)
    assert torch.allclose(top.logprobs[:, :3], plain.topk(3, -1).values, atol=1e-12)


def test_what_the_others_hold_survives_where_one_minus_the_sum_does_not() -> None:
    """Logits (20, 0, 0): the others hold 2 e^-20 = 4e-9, below what float32 sees beside 1."""
    z = torch.tensor([[20.0, 0.0, 0.0]])
    found = with_rest(z, torch.tensor([[0]]))
    assert found[0, 1].item() == pytest.approx(math.log(2) - 20, abs=1e-5)
    assert 1 - found[0, 0].exp().item() == 0.0
    assert top_of(z, 50).ids.shape == (1, 2)


def _listed_peak(num_tokens: int, budget_mib: float) -> float:
    """Peak MiB above the start of a teacher's top 50 and a student's step towards it, V = 50,257."""
    model = llama(vocab_size=50_257, hidden_size=16, num_hidden_layers=1)
    student = from_modules(model, None, logits_budget_mib=budget_mib)
    teacher = copy_of(student)
    tokens = np.random.default_rng(0).integers(0, 50_257, num_tokens).astype(np.int32)
    group = Group(prompt=(), prompt_tokens=tokens[:4], completions=(Completion(text="", tokens=tokens),))
    with torch.autograd.profiler.profile(profile_memory=True) as profile:
        with torch.no_grad():
            said = teacher(pack([group]), ("top:50",))
        assert said.listed is not None and said.listed_ids is not None
        batch = pack(spread([group], listed_ids=said.listed_ids))
        now = student(batch, ("listed",)).listed
        assert now is not None
        (said.listed.exp() * (said.listed - now)).sum().backward()
    return _peak(profile) / 2**20


def test_peak_memory_of_a_distillation_step_does_not_grow_with_the_vocabulary() -> None:
    """240 more tokens would be 46 MiB of logits in each network, and as much again of their gradients."""
    small, large = _listed_peak(240, 24), _listed_peak(480, 24)
    assert small > 10, "the profiler saw the step's allocations"
    assert large - small <= 240 * 50_257 * 4 / 2**20 / 8
    assert _listed_peak(480, 2048) > large + 240 * 50_257 * 4 / 2**20, "and with room for them, they are kept"


def test_huge_logits_stay_finite() -> None:
    head = Head(torch.tensor([[1e4], [-1e4]]))
    found = token_logprobs(torch.ones(1, 1), torch.zeros(2).long(), torch.tensor([0, 1]), head)
    assert found.logprobs.tolist() == [0.0, -2e4]
    assert math.isclose(logits(torch.ones(1, 1), head, 2.0)[0, 0].item(), 5e3)


def test_nothing_supervised_costs_nothing() -> None:
    """A batch whose completions have no supervised token gives empty outputs and zero gradients."""
    network = from_modules(llama(), None)
    group = Group(
        prompt=(),
        prompt_tokens=np.array([3, 4], np.int32),
        completions=(Completion(text="", tokens=np.array([5, 6], np.int32), supervised=np.zeros(2, bool)),),
    )
    out = network(pack([group]), ("logprobs", "entropy"))
    assert out.logprobs is not None and out.entropy is not None
    assert out.logprobs.shape == out.entropy.shape == (0,)
    found = gradients(network.module, out.logprobs.sum())
    assert all(g.abs().sum() == 0 for g in found.values())
