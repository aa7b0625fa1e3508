"""Facts about gradients by enumeration: estimates of KL(π ‖ ρ) as losses and as rewards, and baselines.

On samples of π, with u = log ρ(y) − log π(y): k1 = −u, k2 = u² / 2, k3 = e^u − 1 − u.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from exact.known_policy_gradient import BANDIT, BETA, SHORT, annotated, gradient, opened
from exact.world import EVEN, RAGGED, Table, dyadic_table, kl, random_scores, random_table
from trueup.annotate.baselines import Baseline
from trueup.methods import grpo, reinforce, reinforce_pp
from trueup.objectives.group_relative import k3

WORLDS = [EVEN, RAGGED]
Estimate = Callable[[Tensor, Tensor], Tensor]


def k1(log_pi: Tensor, log_rho: Tensor) -> Tensor:
    return log_pi - log_rho


def k2(log_pi: Tensor, log_rho: Tensor) -> Tensor:
    return (log_pi - log_rho) ** 2 / 2


def ratio_k3(log_pi: Tensor, log_rho: Tensor) -> Tensor:
    return (log_pi - log_pi.detach()).exp() * k3(log_pi, log_rho)


def gradient_of(value: Tensor, policy: Table) -> Tensor:
    return torch.autograd.grad(value, policy.logits)[0]


def as_loss(estimate: Estimate, policy: Table, reference: Table) -> Tensor:
    """Σ_y sg[π(y)] ∇ estimate(y): what differentiating through sampled log-probabilities gives on average."""
    log_pi, log_rho = policy.log_probs(), reference.log_probs().detach()
    return gradient_of((log_pi.exp().detach() * estimate(log_pi, log_rho)).sum(), policy)


def as_reward(estimate: Estimate, policy: Table, reference: Table) -> Tensor:
    """Σ_y π(y) sg[estimate(y)] ∇ log π(y): what a penalty of that size in the reward gives on average."""
    log_pi, log_rho = policy.log_probs(), reference.log_probs().detach()
    weight = (log_pi.exp() * estimate(log_pi, log_rho)).detach()
    return gradient_of((weight * log_pi).sum(), policy)


def backward_kl(policy: Table, reference: Table) -> Tensor:
    """∇ KL(π ‖ ρ)."""
    log_pi, log_rho = policy.log_probs(), reference.log_probs().detach()
    return gradient_of((log_pi.exp() * (log_pi - log_rho)).sum(), policy)


def forward_kl(policy: Table, reference: Table) -> Tensor:
    """∇ KL(ρ ‖ π)."""
    log_pi, log_rho = policy.log_probs(), reference.log_probs().detach()
    return gradient_of((log_rho.exp() * (log_rho - log_pi)).sum(), policy)


def same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


@pytest.fixture(params=WORLDS, ids=["even", "ragged"])
def tables(request: pytest.FixtureRequest) -> tuple[Table, Table]:
    return random_table(request.param, 1), random_table(request.param, 2)


def test_as_losses(tables: tuple[Table, Table]) -> None:
    """k1 gives 0, k2 ∇KL(π ‖ ρ), k3 ∇KL(ρ ‖ π), ratio · k3 ∇KL(π ‖ ρ)."""
    backward, forward = backward_kl(*tables), forward_kl(*tables)
    assert (backward - forward).abs().max() > 0.01
    same(as_loss(k1, *tables), torch.zeros_like(backward))
    same(as_loss(k2, *tables), backward)
    same(as_loss(k3, *tables), forward)
    same(as_loss(ratio_k3, *tables), backward)


def test_as_rewards(tables: tuple[Table, Table]) -> None:
    """k1 gives exactly ∇KL(π ‖ ρ); k3 gives ∇KL(π ‖ ρ) − ∇KL(ρ ‖ π)."""
    same(as_reward(k1, *tables), backward_kl(*tables))
    same(as_reward(k3, *tables), backward_kl(*tables) - forward_kl(*tables))


def test_k1_and_k3_have_the_divergence_as_their_mean(tables: tuple[Table, Table]) -> None:
    policy, reference = tables
    log_pi, log_rho = policy.log_probs().detach(), reference.log_probs().detach()
    for estimate in (k1, k3):
        mean = float((log_pi.exp() * estimate(log_pi, log_rho)).sum())
        assert mean == pytest.approx(kl(log_pi, log_rho), abs=1e-12)
    assert bool((k3(log_pi, log_rho) >= 0).all())


@pytest.mark.parametrize(("penalty", "expected"), [("k3", forward_kl), ("ratio_k3", backward_kl)])
def test_grpos_loss_pulls_as_its_setting_says(
    penalty: str, expected: Callable[[Table, Table], Tensor]
) -> None:
    """One token a completion and equal scores: ∇L = β ∇KL, of the direction that the penalty names."""
    policy, reference = dyadic_table(BANDIT, 1), random_table(BANDIT, 2)
    algorithm = grpo.Algorithm(beta=0.5, penalty=penalty, missing_eos=None)  # pyright: ignore[reportArgumentType]
    config = grpo.Config(algorithm=algorithm)
    scores = torch.zeros_like(random_scores(BANDIT, 3))
    method, handles = opened(grpo, config, policy, reference, scores, count=4, k=2, products=True)
    same(gradient(method, handles, annotated(method, handles)), 0.5 * expected(policy, reference))


# ------------------------------------------------------------------------------------------ policy gradients


def loop_gradient(config: reinforce.Config, scores: Tensor, **drawn: object) -> Tensor:
    """The gradient of REINFORCE as built on the short world."""
    policy, reference = dyadic_table(SHORT, 1), random_table(SHORT, 2)
    method, handles = opened(reinforce, config, policy, reference, scores, count=16, **drawn)
    return gradient(method, handles, annotated(method, handles))


def test_a_constant_in_the_reward_changes_nothing() -> None:
    scores = random_scores(SHORT, 3)
    plain = reinforce.Config(beta=BETA, baseline="none", missing_eos=None)
    same(loop_gradient(plain, scores + 10), loop_gradient(plain, scores))


def test_a_constant_reward_alone_gives_no_gradient() -> None:
    scores = torch.full_like(random_scores(SHORT, 3), 2.5)
    plain = reinforce.Config(beta=0.0, baseline="none", missing_eos=None)
    same(loop_gradient(plain, scores), torch.zeros_like(dyadic_table(SHORT, 1).logits))


def test_a_positive_reward_raises_the_probability() -> None:
    """Reward 1 for completion 3 alone: a small step against ∇L raises π(y_3) and no other as much."""
    scores = torch.zeros_like(random_scores(SHORT, 3))
    scores[0, 3] = 1
    policy = dyadic_table(SHORT, 1)
    before = policy.log_probs().detach()
    slope = loop_gradient(reinforce.Config(beta=0.0, baseline="none", missing_eos=None), scores)
    with torch.no_grad():
        policy.logits.sub_(0.01 * slope)
    rise = policy.log_probs().detach().exp() - before.exp()
    assert rise[3] > 0
    assert rise.argmax() == 3


def test_a_baseline_that_contains_the_sample_shrinks_the_gradient_by_k_minus_1_over_k() -> None:
    """Over all triples of draws, the step's mean of each triple as baseline gives 2/3 of the gradient."""
    policy, reference, scores = dyadic_table(SHORT, 1), random_table(SHORT, 2), random_scores(SHORT, 3)
    plain = reinforce.Config(beta=BETA, baseline="none", missing_eos=None)
    method, handles = opened(reinforce, plain, policy, reference, scores, count=16, k=3, products=True)
    mean = Baseline(kind="step")
    shrunk = [mean([group], handles)[0] for group in annotated(method, handles)]
    same(gradient(method, handles, shrunk), 2 / 3 * loop_gradient(plain, scores))


def test_reinforce_pp_is_reinforce_with_a_batch_baseline_up_to_the_scale() -> None:
    """On any batch of completions of 3 tokens, β = 0: the gradient over 3 σ, σ the scores' spread."""
    policy, reference, scores = dyadic_table(EVEN, 1), random_table(EVEN, 2), random_scores(EVEN, 3)
    whitened = reinforce_pp.Config(algorithm=reinforce_pp.Algorithm(beta=0.0, missing_eos=None))
    plain = reinforce.Config(beta=0.0, baseline="step", missing_eos=None)
    found = {}
    for module, config in ((reinforce_pp, whitened), (reinforce, plain)):
        method, handles = opened(module, config, policy, reference, scores, count=5, k=2)
        groups = annotated(method, handles)
        found[module] = gradient(method, handles, groups)
    sigma = torch.tensor([c.marks["score"] for g in groups for c in g.completions]).std(correction=0).item()
    torch.testing.assert_close(found[reinforce_pp], found[reinforce] / (3 * sigma), atol=1e-8, rtol=0)
    assert found[reinforce].abs().max() > 0.05
