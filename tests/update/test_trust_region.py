"""The trust region: its mathematics against dense matrices, its promises at every update."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from exact.world import RAGGED, Table, random_table
from tiny_models import gpt2, llama, ragged
from trueup.engine.batch import Batch, Outputs
from trueup.engine.method import Network
from trueup.engine.packing import pack
from trueup.errors import TrueupError
from trueup.models import LoraSettings, from_modules
from trueup.update.adamw import AdamW
from trueup.update.trust_region import Near, TrustRegion, Weights, conjugate_gradients, full_step

CRITIC = AdamW(lr=1e-3, schedule="constant", warmup=0.0)


def draw(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def batches() -> list[Batch]:
    """Two parts of one minibatch on the ragged world."""
    groups = [RAGGED.group(x, [i, i + 3]) for x in range(2) for i in range(0, 12, 4)]
    return [pack(groups[:4]).to("cpu", torch.float64), pack(groups[4:]).to("cpu", torch.float64)]


def table_of(network: Network, batch: Batch) -> Tensor:
    said = network(batch, ("distributions",)).distributions
    assert said is not None
    return said


def dense_fisher(network: Network, given: Sequence[Batch]) -> Tensor:
    """mean_t Σ_a p_a ∇log p_a ∇log p_aᵀ, one backward pass for every token and word."""
    weights = Weights(network)
    total, count = torch.zeros(()), 0
    for batch in given:
        table = table_of(network, batch)
        for row in table:
            for log_p in row:
                parts = torch.autograd.grad(log_p, weights.parameters, retain_graph=True, allow_unused=True)
                score = weights.flat(parts)
                total = total + log_p.detach().exp() * torch.outer(score, score)
        count += len(table)
    return total / count


def kl_gradient(network: Network, given: Sequence[Batch], vector: Tensor, length: float) -> Tensor:
    """[∇KL(here ‖ θ + length v) − ∇KL(here ‖ θ − length v)] / (2 length), by backward passes alone."""
    weights = Weights(network)
    here = weights.read()
    with torch.no_grad():
        held = [table_of(network, batch) for batch in given]
    sides = []
    for sign in (1, -1):
        weights.write(here + sign * length * vector)
        divergence = torch.stack(
            [(p.exp() * (p - table_of(network, b))).sum() for p, b in zip(held, given, strict=True)]
        ).sum() / sum(len(p) for p in held)
        sides.append(weights.flat(torch.autograd.grad(divergence, weights.parameters, allow_unused=True)))
    weights.write(here)
    return (sides[0] - sides[1]) / (2 * length)


def decoder(dtype: torch.dtype = torch.float64) -> Network:
    """A random decoder of two layers with packed attention, every part of it in that precision."""
    return from_modules(gpt2().to(dtype), None)  # pyright: ignore[reportArgumentType]


# ------------------------------------------------------------------------------------------ mathematics


def test_conjugate_gradients_solve_what_a_dense_solver_solves() -> None:
    square = draw(144).reshape(12, 12)
    matrix = square @ square.T + 0.5 * torch.eye(12, dtype=torch.float64)
    target = draw(12, 1)
    found, residual = conjugate_gradients(lambda v: matrix @ v, target, 40, 1e-14)
    torch.testing.assert_close(found, torch.linalg.solve(matrix, target), atol=1e-10, rtol=0)
    assert residual <= 1e-13
    few, larger = conjugate_gradients(lambda v: matrix @ v, target, 3, 1e-14)
    assert larger == pytest.approx(float((target - matrix @ few).norm() / target.norm()), rel=1e-9)
    assert larger > 1e-3


def test_conjugate_gradients_by_hand() -> None:
    """A = diag(1, 4), b = (1, 1): length 2 / 5 gives x = (.4, .4), r = (.6, −.6); then x = (1, .25)."""
    matrix = torch.diag(torch.tensor([1.0, 4.0], dtype=torch.float64))
    ones = torch.ones(2, dtype=torch.float64)
    one, residual = conjugate_gradients(lambda v: matrix @ v, ones, 1, 0.0)
    assert one.tolist() == pytest.approx([0.4, 0.4])
    assert residual == pytest.approx(0.6)
    both, _ = conjugate_gradients(lambda v: matrix @ v, ones, 2, 0.0)
    assert both.tolist() == pytest.approx([1.0, 0.25])
    nothing, residual = conjugate_gradients(lambda v: matrix @ v, 0 * ones, 5, 1e-10)
    assert not nothing.any()
    assert residual == 0


def test_the_product_is_the_dense_fisher_matrix_times_the_vector() -> None:
    policy, given = random_table(RAGGED, 3), batches()
    fisher = dense_fisher(policy, given)
    near = Near(policy, given)
    before = Weights(policy).read()
    for seed in range(4):
        vector = 10.0 ** (seed - 2) * draw(len(before), seed)
        found = near.product(vector)
        assert float((found - fisher @ vector).norm() / (fisher @ vector).norm()) < 1e-8
    assert torch.equal(Weights(policy).read(), before)
    assert not near.product(torch.zeros_like(before)).any()


def test_the_product_is_the_derivative_of_the_kls_gradient() -> None:
    """F v = d/dh ∇KL(here ‖ θ + h v) at 0, also where attention has no second derivative."""
    for network, given, tolerance in (
        (random_table(RAGGED, 3), batches(), 1e-8),
        (decoder(), [pack(ragged(2)).to("cpu", torch.float64)], 1e-5),
    ):
        vector = draw(len(Weights(network).read()), 5)
        vector = vector / vector.norm()
        expected = kl_gradient(network, given, vector, 1e-5)
        found = Near(network, given).product(vector)
        assert float((found - expected).norm() / expected.norm()) < tolerance


def test_single_precision_gives_the_product_to_a_thousandth() -> None:
    given = [pack(ragged(2))]
    wide, narrow = decoder(), decoder(torch.float32)
    single = [b.to("cpu", torch.float32) for b in given]
    expected = Near(wide, [b.to("cpu", torch.float64) for b in given])
    found = Near(narrow, single)
    weights = Weights(narrow)
    (loss,) = (table_of(narrow, b)[:, 3].sum() for b in single)
    gradient = weights.flat(torch.autograd.grad(loss, weights.parameters, allow_unused=True))
    for vector in (draw(len(gradient), 1), gradient.double(), 1e-6 * gradient.double()):
        right = expected.product(vector)
        gap = found.product(vector.float()).double() - right
        assert float(gap.norm() / right.norm()) < 2e-3


@dataclass(frozen=True, eq=False)
class Bandit:
    """One state: every token's distribution is softmax(logits)."""

    module: nn.Module

    def __call__(self, batch: Batch, want: Sequence[str]) -> Outputs:
        (logits,) = self.module.parameters()
        return Outputs(distributions=torch.log_softmax(logits, -1).expand(len(batch.targets), -1))


def bandit(seed: int = 0, arms: int = 6) -> Bandit:
    return Bandit(nn.ParameterList([nn.Parameter(draw(arms, seed))]))


def test_one_state_by_algebra() -> None:
    """F = diag(p) − p pᵀ, and F⁺ g is the centred advantages for g = ∇E_p[A] = p ∘ (A − E_p A)."""
    policy, advantages = bandit(), draw(6, 1)
    (logits,) = policy.module.parameters()
    p = torch.softmax(logits.detach(), -1)
    near = Near(policy, batches())
    matrix = torch.diag(p) - torch.outer(p, p)
    for seed in range(3):
        vector = draw(6, seed)
        torch.testing.assert_close(near.product(vector), matrix @ vector, atol=1e-10, rtol=0)
    gradient = p * (advantages - p @ advantages)
    direction, _ = conjugate_gradients(near.product, gradient, 20, 1e-10)
    torch.testing.assert_close(direction, advantages - advantages.mean(), atol=1e-8, rtol=0)


def test_the_full_step_has_the_quadratic_kl_that_is_allowed() -> None:
    """½ sᵀ F s = δ to 1e-12, whatever the direction's length."""
    policy, given = random_table(RAGGED, 3), batches()
    near, fisher = Near(policy, given), dense_fisher(policy, given)
    for scale in (1e-3, 1.0, 1e4):
        direction = scale * draw(len(fisher), 2)
        step = full_step(near.product, direction, 0.01)
        assert float(step @ near.product(step)) / 2 == pytest.approx(0.01, abs=1e-12)
        assert float(step @ fisher @ step) / 2 == pytest.approx(0.01, abs=1e-10)
        assert float(full_step(lambda v: fisher @ v, direction, 0.01) @ (fisher @ step)) / 2 == pytest.approx(
            0.01
        )
    assert not full_step(lambda v: 0 * v, draw(5), 0.01).any()


def test_the_kl_is_that_of_old_to_new_over_the_whole_vocabulary() -> None:
    """p = (1/2, 1/2) to q = (3/4, 1/4): ½ ln(2/3) + ½ ln 2 = ½ ln(4/3) = .143841; the reverse is .130812."""
    policy = Bandit(nn.ParameterList([nn.Parameter(torch.zeros(2, dtype=torch.float64))]))
    there = torch.tensor([math.log(3.0), 0.0], dtype=torch.float64)
    assert Near(policy, batches()).kl(there) == pytest.approx(0.5 * math.log(4 / 3), abs=1e-12)


# ------------------------------------------------------------------------------------------ the rule


@dataclass(frozen=True, eq=False)
class Loss:
    """A minibatch whose loss is a function of the networks' parameters."""

    value: Callable[[], Tensor]
    again: Callable[[], float] | None = None
    "What `evaluate` says instead, if anything."

    def batches(self) -> Iterator[Batch]:
        yield from batches()

    def backward(self) -> dict[str, float]:
        value = self.value()
        value.backward()
        return {"loss": float(value.detach())}

    def evaluate(self) -> dict[str, float]:
        with torch.no_grad():
            return {"loss": self.again() if self.again else float(self.value())}


def reward_of(policy: Bandit, scores: Tensor) -> Loss:
    """Minus the expected score, exactly."""
    return Loss(lambda: -(torch.softmax(next(policy.module.parameters()), -1) @ scores))


@pytest.mark.parametrize("max_kl", [1e-3, 0.05])
def test_a_bandit_improves_at_every_update_and_stays_in_its_region(max_kl: float) -> None:
    policy, scores = bandit(3), draw(6, 4)
    loss = reward_of(policy, scores)
    rule = TrustRegion(max_kl=max_kl, damping=1e-6).start({"policy": policy}, 60)
    rewards = [-loss.evaluate()["loss"]]
    for _ in range(60):
        before = Weights(policy).read()
        metrics = rule.step(loss)
        rewards.append(-loss.evaluate()["loss"])
        p, q = (torch.log_softmax(v, -1) for v in (before, Weights(policy).read()))
        moved = float((p.exp() * (p - q)).sum())
        assert moved == pytest.approx(metrics["trust/kl"], abs=1e-12)
        assert moved <= max_kl
        if metrics["trust/accepted"]:
            assert rewards[-1] - rewards[-2] == pytest.approx(metrics["trust/improvement"], abs=1e-15)
            assert metrics["trust/improvement"] > 0
        else:
            assert rewards[-1] == rewards[-2]
    assert rewards == sorted(rewards)
    assert rewards[-1] - rewards[0] > 0.5 * float(scores.max() - rewards[0])


def test_a_step_that_does_not_improve_is_halved_and_at_last_given_up() -> None:
    """A loss that rises everywhere but at a sixteenth of the step, then one that rises everywhere."""
    policy = bandit(3)
    loss = reward_of(policy, draw(6, 4))
    told = iter([9.0, 9.0, 9.0, 9.0, -9.0])
    settings = TrustRegion(max_kl=0.01, damping=1e-6)
    start = Weights(policy).read()
    metrics = settings.start({"policy": policy}, 1).step(Loss(loss.value, lambda: next(told)))
    fractions = [0.5**n for n in range(10)]
    assert metrics["trust/fraction"] in fractions[4:6], "the full step may have been too long already"
    assert metrics["trust/kl"] < 0.01 / 100
    Weights(policy).write(start)
    asked: list[float] = []
    metrics = settings.start({"policy": policy}, 1).step(Loss(loss.value, lambda: asked.append(1.0) or 9.0))
    assert torch.equal(Weights(policy).read(), start)
    assert metrics["trust/accepted"] == metrics["trust/kl"] == metrics["trust/fraction"] == 0
    assert 9 <= len(asked) <= 10


def test_the_direction_is_the_natural_gradient_and_damping_turns_it_to_the_plain_one() -> None:
    scores = draw(6, 4)
    for damping, along in ((1e-8, "advantages"), (1e6, "gradient")):
        policy = bandit(3)
        start = Weights(policy).read()
        p = torch.softmax(start, -1)
        rule = TrustRegion(max_kl=1e-4, damping=damping, cg_iterations=30).start({"policy": policy}, 1)
        rule.step(reward_of(policy, scores))
        moved = Weights(policy).read() - start
        expected = {"advantages": scores - scores.mean(), "gradient": p * (scores - p @ scores)}[along]
        assert float(torch.cosine_similarity(moved, expected, 0)) == pytest.approx(1, abs=1e-5)


def with_critic(seed: int = 0) -> tuple[Bandit, Bandit, Loss]:
    policy, critic = bandit(seed), bandit(seed + 1)
    surrogate = reward_of(policy, draw(6, 4))
    values = next(critic.module.parameters())
    return policy, critic, Loss(lambda: surrogate.value() + ((values - 1) ** 2).sum())


def test_the_critic_is_fitted_by_adamw_alone() -> None:
    """Five passes an update, and the same bits as AdamW on the critic's own loss."""
    policy, critic, loss = with_critic()
    alone = bandit(1)
    fit = AdamW(lr=0.02, schedule="constant", warmup=0)
    rule = TrustRegion(critic=fit).start({"policy": policy, "value": critic}, 3)
    oracle = fit.start({"value": alone}, 15)
    values = next(alone.module.parameters())
    for _ in range(3):
        metrics = rule.step(loss)
        assert metrics["lr"] == 0.02
        for _ in range(5):
            oracle.step(Loss(lambda: ((values - 1) ** 2).sum()))
    assert torch.equal(Weights(critic).read(), Weights(alone).read())


def test_the_state_restores_the_same_path() -> None:
    paths = []
    for stopped in (False, True):
        policy, critic, loss = with_critic()
        networks = {"policy": policy, "value": critic}
        rule = TrustRegion(critic=CRITIC).start(networks, 6)
        for number in range(6):
            if stopped and number == 3:
                tensors, values = rule.state()
                rule = TrustRegion(critic=CRITIC).start(networks, 6)
                rule.load({n: t.clone() for n, t in tensors.items()}, values)
            rule.step(loss)
        paths.append((Weights(policy).read(), Weights(critic).read(), rule.state()[1]))
    assert torch.equal(paths[0][0], paths[1][0])
    assert torch.equal(paths[0][1], paths[1][1])
    assert paths[0][2] == paths[1][2]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nothing_that_is_not_finite_changes_a_weight(bad: float) -> None:
    policy, critic, loss = with_critic()
    networks = {"policy": policy, "value": critic}
    rule = TrustRegion(critic=CRITIC).start(networks, 10)
    rule.step(loss)
    before = [Weights(n).read() for n in networks.values()]
    with pytest.raises(TrueupError, match="E901") as raised:
        rule.step(Loss(lambda: loss.value() * bad))
    assert "update 1" in str(raised.value)
    assert all(torch.equal(a, Weights(n).read()) for a, n in zip(before, networks.values(), strict=True))
    skipping = TrustRegion(critic=CRITIC, nonfinite="skip", max_skips=1).start(networks, 10)
    for _ in range(2):
        assert skipping.step(Loss(lambda: loss.value() * bad))["skipped"] == 1
        assert all(torch.equal(a, Weights(n).read()) for a, n in zip(before, networks.values(), strict=True))
        assert "skipped" not in skipping.step(loss)
        before = [Weights(n).read() for n in networks.values()]
    skipping.step(Loss(lambda: loss.value() * bad))
    with pytest.raises(TrueupError, match="E901"):
        skipping.step(Loss(lambda: loss.value() * bad))


def likelihood(network: Network, given: Batch) -> Loss:
    """Minus the mean log-probability of the batch's tokens."""

    @dataclass(frozen=True, eq=False)
    class Of(Loss):
        def batches(self) -> Iterator[Batch]:
            yield given

    return Of(lambda: -table_of(network, given).gather(1, given.targets[:, None]).mean())


def test_an_adapter_moves_and_its_base_does_not() -> None:
    """LoRA starts with B = 0, so the first step is in B alone; the base keeps its bits, the KL its bound."""
    network = from_modules(llama(), None, lora=LoraSettings(rank=4, alpha=8))
    frozen = {n: p.detach().clone() for n, p in network.module.named_parameters() if not p.requires_grad}
    given = pack(ragged(2)).to("cpu", torch.float32)
    loss = likelihood(network, given)
    rule = TrustRegion(max_kl=0.01, cg_iterations=3).start({"policy": network}, 3)
    with torch.no_grad():
        here = table_of(network, given)
    for _ in range(3):
        metrics = rule.step(loss)
        with torch.no_grad():
            here, before = table_of(network, given), here
        assert metrics["trust/accepted"] == 1
        moved = float((before.exp() * (before - here)).sum(-1).mean())
        assert 0 < moved <= 0.01 + 1e-6
        assert moved == pytest.approx(metrics["trust/kl"], abs=1e-6)
    after = dict(network.module.named_parameters())
    assert all(torch.equal(value, after[name]) for name, value in frozen.items())
    assert any(p.requires_grad and "lora_B" in n and p.any() for n, p in after.items())


def test_dropout_is_off_inside_and_as_it_was_afterwards() -> None:
    seen: list[bool] = []
    network = from_modules(llama(), None)
    network.module.train()
    network.module["model"].get_submodule("lm_head").eval()
    modes = [m.training for m in network.module.modules()]
    loss = likelihood(network, pack(ragged(1)).to("cpu", torch.float32))

    def watched() -> Tensor:
        seen.extend(m.training for m in network.module.modules())
        return loss.value()

    rule = TrustRegion(cg_iterations=1, tries=1).start({"policy": network}, 1)
    rule.step(type(loss)(watched))
    assert seen
    assert not any(seen)
    assert [m.training for m in network.module.modules()] == modes
    assert any(modes)


def test_half_precision_is_refused() -> None:
    network = from_modules(llama().to(torch.bfloat16), None)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TrueupError, match="E902"):
        TrustRegion().start({"policy": network}, 1)


def test_a_table_without_gradient_stays() -> None:
    """A loss that does not depend on the policy gives no direction, and no step."""
    policy: Table = random_table(RAGGED, 1)
    start = policy.logits.detach().clone()
    metrics = TrustRegion().start({"policy": policy}, 1).step(Loss(lambda: 0 * policy.logits.sum() + 3))
    assert metrics["trust/accepted"] == metrics["trust/cg_residual"] == 0
    assert torch.equal(policy.logits, start)
