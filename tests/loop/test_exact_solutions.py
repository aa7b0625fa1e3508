"""Methods on a tree of 27 sequences: gradients and optima are those that enumeration gives.

J(π) = E_π[r] − β KL(π ‖ ρ) has its maximum β log Z at π* = ρ e^{r/β} / Z.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from small_tree import (
    Drawn,
    ExactValues,
    Tree,
    completion,
    copy,
    dyadic_tree,
    group,
    kl,
    optimum,
    random_tree,
)
from trueup.annotate.advantages import Whiten
from trueup.groups import Comparison, Group
from trueup.loop import Step, fit
from trueup.method import Handles, Method, Parts
from trueup.methods import dpo, ppo
from trueup.settings import LoopSettings
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


def labelled(shift: float = 0.0) -> Group:
    """All 351 pairs of the 27 sequences, each with its Bradley-Terry probability as a soft label."""
    scores = (SCORES + shift).tolist()
    pairs = [
        Comparison(a=i, b=j, choice="a", probability=1 / (1 + math.exp(scores[j] - scores[i])))
        for i in range(27)
        for j in range(i)
    ]
    return group([completion(i) for i in range(27)], comparisons=tuple(pairs))


def train_dpo(reference: Tree, data: Group, beta: float) -> tuple[Tree, float]:
    """The policy that DPO as built ends at, and its last loss."""
    policy = copy(reference)
    parts = Parts(groups=[data], held_out=[], decode=str, stop_ids=())
    update = AdamW(lr=0.2, schedule="cosine", warmup=0, final=0, max_grad_norm=10)
    config = dpo.Config(beta=beta, loop=LoopSettings(batch=1), update=update)
    handles = Handles(networks={"policy": policy, "reference": reference}, dtype=torch.float64)
    losses: list[float] = []
    fit(
        dpo.build(config, parts),
        handles,
        num_steps=80,
        groups_per_step=1,
        progressed=lambda _, metrics: losses.append(metrics["loss"]),
    )
    assert losses[0] == pytest.approx(math.log(2), abs=1e-12)
    return policy, losses[-1]


def test_dpo_converges_to_the_same_optimum() -> None:
    """Full support and Bradley-Terry labels: π = ρ e^{r/β} / Z, and the loss is the labels' mean entropy.

    Adding a constant to r leaves labels and optimum as they are.
    """
    reference = random_tree(4)
    policy, last = train_dpo(reference, labelled(), BETA)
    assert kl(optimum(reference, SCORES, BETA), policy.log_probs().detach()) < 1e-3
    p = torch.tensor([pair.label for pair in labelled().pairs()], dtype=torch.float64)
    entropy = -(p * p.log() + (1 - p) * (1 - p).log()).mean().item()
    assert last == pytest.approx(entropy, abs=1e-4)
    assert [q.label for q in labelled(3.5).pairs()] == pytest.approx(p.tolist(), abs=1e-12)


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


def test_the_optimum_is_where_dpos_gradient_vanishes_and_scaling_both_keeps_it() -> None:
    """(β, r) and (c β, c r) share π*: at it, the gradient of DPO with labels of c r and strength c β is 0."""
    reference = random_tree(4)
    for c in (0.5, 1.0, 4.0):
        at_best = policy_of(optimum(reference, SCORES, BETA))
        scores = (c * SCORES).tolist()
        pairs = tuple(
            Comparison(a=i, b=j, choice="a", probability=1 / (1 + math.exp(scores[j] - scores[i])))
            for i in range(27)
            for j in range(i)
        )
        data = group([completion(i) for i in range(27)], comparisons=pairs)
        parts = Parts(groups=[data], held_out=[], decode=str, stop_ids=())
        method = dpo.build(dpo.Config(beta=c * BETA, loop=LoopSettings(batch=1)), parts)
        handles = Handles(networks={"policy": at_best, "reference": reference}, dtype=torch.float64)
        Step(method, handles, annotated(method, handles)).backward()
        assert at_best.logits.grad is not None
        assert at_best.logits.grad.abs().max().item() < 1e-12


def policy_of(log_probs: Tensor) -> Tree:
    """The tree whose sequences have these probabilities: each state's row is its children's share."""
    mass = log_probs.exp().reshape(3, 3, 3)
    rows = [mass.sum((1, 2))[None], mass.sum(2), mass.reshape(9, 3)]
    return Tree(torch.nn.Parameter(torch.cat(rows).log()))


def test_the_strength_of_the_pull_has_its_limits() -> None:
    """β → ∞ keeps ρ; β → 0 puts all mass on the best sequence."""
    reference = random_tree(4)
    log_rho = reference.log_probs().detach()
    assert kl(optimum(reference, SCORES, 1e6), log_rho) < 1e-10
    assert optimum(reference, SCORES, 1e-3).exp()[SCORES.argmax()].item() == pytest.approx(1, abs=1e-9)
