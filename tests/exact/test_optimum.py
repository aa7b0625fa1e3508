"""J(π) = E_π[r] − β KL(π ‖ ρ) by enumeration: its maximum, what is lost short of it, and the limits of β."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from exact.known_trust_region import ALGORITHMS, BETA, annotated, on_table
from exact.world import (
    EVEN,
    RAGGED,
    World,
    dyadic_table,
    kl,
    objective_value,
    optimum,
    random_scores,
    random_table,
)
from trueup.annotate.advantages import Whiten
from trueup.engine.loop import Step

WORLDS = pytest.mark.parametrize("world", [EVEN, RAGGED], ids=["even", "ragged"])


@WORLDS
def test_the_maximum_and_what_is_lost_short_of_it(world: World) -> None:
    """J(π*) = β log Z and J(π*) − J(π) = β KL(π ‖ π*) for any π, means over prompts.

    KL(π* ‖ ρ) = (E_π*[r] − β log Z) / β, and E_π*[r] is never below E_ρ[r].
    """
    reference, policy, scores = random_table(world, 4), random_table(world, 6), random_scores(world, 5)
    best, lost = 0.0, 0.0
    for x in range(len(world.prompts)):
        log_rho = reference.log_probs(x).detach()
        log_z = torch.logsumexp(log_rho + scores[x] / BETA, 0).item()
        top = optimum(reference, scores, BETA, x)
        mean = float((top.exp() * scores[x]).sum())
        assert kl(top, log_rho) == pytest.approx((mean - BETA * log_z) / BETA, abs=1e-12)
        assert mean >= float((log_rho.exp() * scores[x]).sum())
        best += BETA * log_z / len(world.prompts)
        lost += BETA * kl(policy.log_probs(x), top) / len(world.prompts)
    gap = best - objective_value(policy, reference, scores, BETA).item()
    assert gap == pytest.approx(lost, abs=1e-12)
    assert gap > 0.1


@WORLDS
def test_the_strength_of_the_pull_has_its_limits(world: World) -> None:
    """β → ∞ keeps ρ; β → 0 puts all mass on the best completion."""
    reference, scores = random_table(world, 4), random_scores(world, 5)
    for x in range(len(world.prompts)):
        assert kl(optimum(reference, scores, 1e6, x), reference.log_probs(x)) < 1e-10
        all_mass = optimum(reference, scores, 1e-3, x).exp()[scores[x].argmax()].item()
        assert all_mass == pytest.approx(1, abs=1e-9)


@WORLDS
def test_the_sequence_level_estimate_is_the_enumerated_gradient_for_any_baseline(world: World) -> None:
    """Σ_y π(y) (R(y) − b) ∇log π(y) = ∇ Σ_y π(y) R(y), for each prompt."""
    policy, scores = random_table(world, 3), random_scores(world, 5)
    for x in range(len(world.prompts)):
        (expected,) = torch.autograd.grad((policy.log_probs(x).exp() * scores[x]).sum(), policy.logits)
        for baseline in (0.0, 1.7, -30.0):
            log_pi = policy.log_probs(x)
            surrogate = (log_pi.exp().detach() * (scores[x] - baseline) * log_pi).sum()
            (found,) = torch.autograd.grad(surrogate, policy.logits)
            torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_whitening_only_scales_the_first_gradient(name: str) -> None:
    """(A − μ) / σ: on a batch that holds π exactly μ adds nothing, so the gradient is −∇J / (3 σ).

    At θ = old every ratio is 1, and nothing is clipped where there is a clip.
    """
    policy, scores = dyadic_table(EVEN, 1), random_scores(EVEN, 5)
    method, handles, reference = on_table(ALGORITHMS[name](EVEN, 0.95), policy, scores)
    plain = replace(method, annotate=tuple(a for a in method.annotate if not isinstance(a, Whiten)))
    unscaled = annotated(plain, handles)
    raw = [torch.from_numpy(c.columns["advantages"]) for g in unscaled for c in g.completions]
    handles.state.clear()
    numbers = Step(method, handles, annotated(method, handles)).backward()
    (expected,) = torch.autograd.grad(objective_value(policy, reference, scores, BETA), policy.logits)
    sigma = torch.cat(raw).std(correction=0)
    assert policy.logits.grad is not None
    torch.testing.assert_close(policy.logits.grad, -expected / (3 * sigma), atol=1e-8, rtol=0)
    assert numbers["policy/ratio"] == pytest.approx(1, abs=1e-12)
    assert numbers.get("policy/clipfrac", 0.0) == 0
    assert numbers["policy/approxkl"] == pytest.approx(0, abs=1e-20)
