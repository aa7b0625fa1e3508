"""Methods on a tree of 27 sequences: gradients and optima are those that enumeration gives.

J(π) = E_π[r] − β KL(π ‖ ρ) has its maximum β log Z at π* = ρ e^{r/β} / Z.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from small_tree import (
    Drawn,
    ExactValues,
    Tree,
    copy,
    dyadic_tree,
    group,
    kl,
    optimum,
    random_tree,
)
from trueup.annotate.advantages import Whiten
from trueup.groups import Group
from trueup.loop import Step, fit
from trueup.method import Handles, Method, Parts
from trueup.methods import ppo
from trueup.update.adamw import AdamW

SCORES = torch.randn(27, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
BETA = 0.7


def judge(groups: Sequence[Group]) -> list[list[float]]:
    return [[float(SCORES[int(c.text)]) for c in g.completions] for g in groups]


def objective_value(policy: Tree, reference: Tree) -> Tensor:
    """J by enumeration."""
    log_pi = policy.log_probs()
    return (log_pi.exp() * (SCORES - BETA * (log_pi - reference.log_probs().detach()))).sum()


def method_and_handles(
    policy: Tree, reference: Tree, count: int, algorithm: ppo.Algorithm, update: AdamW | None = None
) -> tuple[Method, Handles]:
    """PPO as it is built, on the tree: another source, and a critic that knows the truth."""
    parts = Parts(groups=[group([])], held_out=[], decode=str, stop_ids=())
    config = ppo.Config(algorithm=algorithm, epochs_per_step=1, minibatch=None, update=update or AdamW())
    method = replace(ppo.build(config, parts), source=Drawn(policy, count))
    networks = {
        "policy": policy,
        "reference": reference,
        "value": ExactValues(policy, reference, SCORES, BETA),
    }
    return method, Handles(networks=networks, dtype=torch.float64, judge=judge)


def annotated(method: Method, handles: Handles) -> list[Group]:
    groups = method.source(0, handles)
    for annotator in method.annotate:
        groups = annotator(groups, handles)
    return groups


@pytest.mark.parametrize("lam", [0.0, 0.95, 1.0])
def test_ppos_first_gradient_is_the_policy_gradient(lam: float) -> None:
    """64 sequences that hold π exactly: ∇L = −∇J / T with T = 3 tokens, for any λ since values are exact.

    J includes the KL penalty, which only enters as a reward: k1 there gives exactly ∇KL(π ‖ ρ).
    """
    policy, reference = dyadic_tree(1), random_tree(2)
    method, handles = method_and_handles(policy, reference, 64, ppo.Algorithm(beta=BETA, lam=lam))
    plain = replace(method, annotate=tuple(a for a in method.annotate if not isinstance(a, Whiten)))
    numbers = Step(plain, handles, annotated(plain, handles)).backward()
    (expected,) = torch.autograd.grad(objective_value(policy, reference), policy.logits)
    assert policy.logits.grad is not None
    torch.testing.assert_close(policy.logits.grad, -expected / 3, atol=1e-12, rtol=0)
    assert numbers["policy/ratio"] == pytest.approx(1, abs=1e-12)
    assert numbers["policy/clipfrac"] == 0


def test_whitening_only_scales_that_gradient() -> None:
    """(A − μ) / σ: on an exact batch the constant μ adds nothing, so ∇L = −∇J / (3 σ)."""
    policy, reference = dyadic_tree(1), random_tree(2)
    method, handles = method_and_handles(policy, reference, 64, ppo.Algorithm(beta=BETA))
    groups = annotated(method, handles)
    raw = annotated(replace(method, annotate=method.annotate[:-1]), handles)
    sigma = torch.cat([torch.from_numpy(c.columns["advantages"]) for g in raw for c in g.completions]).std(
        correction=0
    )
    Step(method, handles, groups).backward()
    (expected,) = torch.autograd.grad(objective_value(policy, reference), policy.logits)
    assert policy.logits.grad is not None
    torch.testing.assert_close(policy.logits.grad, -expected / (3 * sigma), atol=1e-9, rtol=0)


def test_the_sequence_level_estimate_is_the_enumerated_gradient_for_any_baseline() -> None:
    """Σ_y π(y) (R(y) − b) ∇log π(y) = ∇ Σ_y π(y) R(y): the identity beneath every card here."""
    policy = random_tree(3)
    (expected,) = torch.autograd.grad((policy.log_probs().exp() * SCORES).sum(), policy.logits)
    for baseline in (0.0, 1.7, -30.0):
        log_pi = policy.log_probs()
        surrogate = ((log_pi.exp().detach() * (SCORES - baseline)) * log_pi).sum()
        (found,) = torch.autograd.grad(surrogate, policy.logits)
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


def test_ppo_with_exact_values_converges_to_the_optimum() -> None:
    reference = random_tree(4)
    policy = copy(reference)
    best = optimum(reference, SCORES, BETA)
    assert kl(best, policy.log_probs()) > 0.1
    update = AdamW(lr=0.1, schedule="linear", warmup=0, final=0, max_grad_norm=10)
    method, handles = method_and_handles(policy, reference, 48, ppo.Algorithm(beta=BETA, lam=0.0), update)
    fit(method, handles, num_steps=100, groups_per_step=48)
    assert kl(policy.log_probs().detach(), best) < 1e-3
    log_z = torch.logsumexp(reference.log_probs().detach() + SCORES / BETA, 0)
    assert objective_value(policy, reference).item() == pytest.approx(BETA * log_z.item(), abs=1e-3)


def test_the_optimum_by_enumeration() -> None:
    """J(π*) = β log Z, and J(π*) − J(π) = β KL(π ‖ π*) for any π."""
    reference, policy = random_tree(4), random_tree(6)
    best = optimum(reference, SCORES, BETA)
    log_z = torch.logsumexp(reference.log_probs().detach() + SCORES / BETA, 0).item()
    gap = BETA * log_z - objective_value(policy, reference).item()
    assert gap == pytest.approx(BETA * kl(policy.log_probs().detach(), best), abs=1e-12)
    mean = float((best.exp() * SCORES).sum())
    assert kl(best, reference.log_probs().detach()) == pytest.approx((mean - BETA * log_z) / BETA, abs=1e-12)
    assert mean >= float((reference.log_probs().detach().exp() * SCORES).sum())


def test_the_strength_of_the_pull_has_its_limits() -> None:
    """β → ∞ keeps ρ; β → 0 puts all mass on the best sequence."""
    reference = random_tree(4)
    log_rho = reference.log_probs().detach()
    assert kl(optimum(reference, SCORES, 1e6), log_rho) < 1e-10
    assert optimum(reference, SCORES, 1e-3).exp()[SCORES.argmax()].item() == pytest.approx(1, abs=1e-9)
