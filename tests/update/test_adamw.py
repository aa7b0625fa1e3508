"""AdamW: the schedule by hand, equality with torch's optimiser, the gate for what is not finite."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from trueup.errors import TrueupError
from trueup.update.adamw import AdamW, schedule


@dataclass(frozen=True, eq=False)
class Bare:
    """A network that is its parameters."""

    module: nn.Module

    def __call__(self, batch: object, want: object) -> object:
        raise AssertionError("no update rule runs a network")


@dataclass(frozen=True, eq=False)
class Loss:
    """A minibatch whose loss is a function of nothing but the parameters."""

    value: Callable[[], Tensor]

    def backward(self) -> dict[str, float]:
        value = self.value()
        value.backward()
        return {"loss": float(value.detach())}

    def evaluate(self) -> dict[str, float]:
        return {"loss": float(self.value())}


def network(seed: int = 0) -> Bare:
    torch.manual_seed(seed)
    return Bare(nn.Linear(3, 2, dtype=torch.float64))


def squares(net: Bare, scale: float = 1.0) -> Loss:
    return Loss(lambda: scale * torch.stack([((p - 1) ** 2).sum() for p in net.module.parameters()]).sum())


def test_the_schedule_by_hand() -> None:
    """10 updates, warm-up .2: ceil(2) = 2 rising ones, 1/3 and 2/3; then 8 that fall from 1 to `final`."""
    linear = AdamW(lr=1e-4, schedule="linear", warmup=0.2, final=0.1)
    found = [schedule(linear, u, 10) for u in range(10)]
    assert found == pytest.approx([1 / 3, 2 / 3, *(0.1 + 0.9 * (1 - i / 8) for i in range(8))])
    assert found[-1] == pytest.approx(0.2125)  # .1 + .9 / 8
    cosine = AdamW(lr=1e-4, schedule="cosine", warmup=0.0, final=0.0)
    # (1 + cos(π i / 4)) / 2
    expected = [1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2]
    assert [schedule(cosine, u, 4) for u in range(4)] == pytest.approx(expected)
    constant = AdamW(lr=1e-4, schedule="constant", warmup=0.5)
    assert [schedule(constant, u, 4) for u in range(4)] == pytest.approx([1 / 3, 2 / 3, 1, 1])


@pytest.mark.parametrize("kind", ["constant", "linear", "cosine"])
@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.5, 1.0])
@pytest.mark.parametrize("num_updates", [1, 2, 17])
def test_the_schedule_stays_within_bounds(kind: str, warmup: float, num_updates: int) -> None:
    settings = AdamW(lr=1e-4, schedule=kind, warmup=warmup, final=0.1)  # pyright: ignore
    found = [schedule(settings, u, num_updates) for u in range(num_updates)]
    assert all(0 < f <= 1 for f in found)
    peak = found.index(max(found))
    assert found == sorted(found[: peak + 1]) + sorted(found[peak + 1 :], reverse=True)


def test_equals_torchs_adamw_step_by_step() -> None:
    ours, theirs = network(), network()
    settings = AdamW(lr=0.01, schedule="constant", warmup=0, weight_decay=0.1, max_grad_norm=1e9)
    rule = settings.start({"policy": ours}, 20)
    weight, bias = theirs.module.parameters()
    oracle = torch.optim.AdamW(
        [{"params": [weight], "weight_decay": 0.1}, {"params": [bias], "weight_decay": 0.0}],
        lr=0.01,
        betas=settings.betas,
        eps=settings.eps,
    )
    for _ in range(20):
        rule.step(squares(ours))
        oracle.zero_grad()
        squares(theirs).backward()
        oracle.step()
        for a, b in zip(ours.module.parameters(), theirs.module.parameters(), strict=True):
            assert torch.equal(a, b)


def test_the_first_step_by_hand() -> None:
    """m̂ = g, v̂ = g²: each weight moves by lr · sign(g) (to eps), times the network's own factor."""
    policy, value = network(), network()
    before = [p.detach().clone() for p in policy.module.parameters()]
    settings = AdamW(lr=0.01, schedule="constant", warmup=0, lr_scale={"value": 3.0}, max_grad_norm=1e9)
    both = {"policy": policy, "value": value}
    loss = Loss(lambda: squares(policy).value() + squares(value).value())
    metrics = settings.start(both, 1).step(loss)
    assert metrics["lr"] == 0.01
    for start, p, v in zip(before, policy.module.parameters(), value.module.parameters(), strict=True):
        step = -0.01 * torch.sign(start - 1)
        torch.testing.assert_close(p - start, step, atol=1e-8, rtol=0)
        torch.testing.assert_close(v - start, 3 * step, atol=3e-8, rtol=0)


def test_the_norm_is_over_all_networks_and_reported_before_clipping() -> None:
    a, b = network(0), network(1)
    loss = Loss(lambda: squares(a).value() + squares(b).value())
    gradients = [2 * (p.detach() - 1) for net in (a, b) for p in net.module.parameters()]
    norm = torch.stack([(g**2).sum() for g in gradients]).sum().sqrt()
    metrics = AdamW(lr=1e-4, max_grad_norm=0.5).start({"a": a, "b": b}, 1).step(loss)
    assert metrics["grad_norm"] == pytest.approx(float(norm))
    clipped = [p.grad for net in (a, b) for p in net.module.parameters()]
    for expected, found in zip(gradients, clipped, strict=True):
        assert found is not None
        torch.testing.assert_close(found, expected * 0.5 / norm, rtol=1e-5, atol=0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nothing_that_is_not_finite_changes_a_weight(bad: float) -> None:
    net = network()
    rule = AdamW(lr=1e-4).start({"policy": net}, 10)
    rule.step(squares(net))
    before = [p.detach().clone() for p in net.module.parameters()]
    moments, _ = rule.state()
    kept = {name: t.clone() for name, t in moments.items()}
    with pytest.raises(TrueupError, match="E901") as raised:
        rule.step(squares(net, bad))
    assert "update 1" in str(raised.value)
    assert all(torch.equal(a, b) for a, b in zip(before, net.module.parameters(), strict=True))
    assert all(torch.equal(t, kept[name]) for name, t in rule.state()[0].items())


def test_skipping_goes_on_up_to_its_limit_and_a_good_update_forgives() -> None:
    net = network()
    rule = AdamW(lr=1e-4, nonfinite="skip", max_skips=2).start({"policy": net}, 20)
    bad, good = squares(net, math.nan), squares(net)
    for _ in range(3):
        assert [rule.step(bad)["skipped"] for _ in range(2)] == [1.0, 1.0]
        assert "skipped" not in rule.step(good)
    rule.step(bad)
    rule.step(bad)
    with pytest.raises(TrueupError, match="E901"):
        rule.step(bad)


def test_the_state_restores_the_same_path() -> None:
    whole, part = network(), network()
    settings = AdamW(lr=0.05, weight_decay=0.1)
    rule, first = settings.start({"p": whole}, 6), settings.start({"p": part}, 6)
    for _ in range(3):
        rule.step(squares(whole))
        first.step(squares(part))
    second = settings.start({"p": part}, 6)
    second.load(*first.state())
    for _ in range(3):
        rule.step(squares(whole))
        second.step(squares(part))
    for a, b in zip(whole.module.parameters(), part.module.parameters(), strict=True):
        assert torch.equal(a, b)


def test_frozen_and_shared_parameters_are_taken_once_or_not_at_all() -> None:
    net = network()
    net.module.get_parameter("bias").requires_grad_(False)
    frozen = net.module.get_parameter("bias").clone()
    rule = AdamW(lr=0.1).start({"policy": net, "value": net}, 1)
    rule.step(Loss(lambda: (net.module.get_parameter("weight") ** 2).sum()))
    assert {name.rpartition(":")[0] for name in rule.state()[0]} == {"policy/weight"}
    assert torch.equal(net.module.get_parameter("bias"), frozen)
