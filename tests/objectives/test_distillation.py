"""Distillation by hand: divergences, their gradients, the bucket, and what is left out of the sequence KL."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from exact.known_distillation import on_policy, sequence_kl
from exact.world import EVEN, Table
from hand_batches import batch, group, loss, mean_loss
from trueup.engine.batch import Outputs
from trueup.models.logprob import with_rest
from trueup.objectives.distillation import Distillation, Kind, jsd, kl
from trueup.testing import check_objective

P, Q = [0.5, 0.25, 0.25], [0.25, 0.25, 0.5]


def logs(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64).log()


def of(p: Tensor, q: Tensor, divergence: Kind, beta: float = 0.5) -> float:
    """The objective's loss on one completion whose tokens have these full distributions."""
    packed = batch(group({"teacher_distributions": p.tolist()}))
    objective = Distillation(divergence=divergence, beta=beta, listed=False)
    return loss(objective, packed, distributions=q).item()


def test_numbers_by_hand() -> None:
    """p = (1/2, 1/4, 1/4), q = (1/4, 1/4, 1/2).

    forward: ½ log 2 + 0 + ¼ log ½ = ¼ log 2; reverse: ¼ log ½ + 0 + ½ log 2 = ¼ log 2.
    jsd at ½: m = (3/8, 1/4, 3/8); both halves are ½ log(4/3) + ¼ log(2/3), so D = ½ log(4/3) + ¼ log(2/3).
    """
    assert of(logs(P), logs(Q), "forward") == pytest.approx(math.log(2) / 4, abs=1e-12)
    assert of(logs(P), logs(Q), "reverse") == pytest.approx(math.log(2) / 4, abs=1e-12)
    expected = math.log(4 / 3) / 2 + math.log(2 / 3) / 4
    assert of(logs(P), logs(Q), "jsd") == pytest.approx(expected, abs=1e-12)


def test_the_directions_differ() -> None:
    """p = (1/2, 1/2), q = (3/4, 1/4): KL(p‖q) = ½ log(2/3) + ½ log 2, KL(q‖p) = ¾ log(3/2) + ¼ log(1/2)."""
    p, q = logs([0.5, 0.5]), logs([0.75, 0.25])
    forward, reverse = math.log(4 / 3) / 2, 0.75 * math.log(1.5) - 0.25 * math.log(2)
    assert of(p, q, "forward") == pytest.approx(forward, abs=1e-12)
    assert of(p, q, "reverse") == pytest.approx(reverse, abs=1e-12)
    assert forward != pytest.approx(reverse, abs=1e-2)
    packed = batch(group({"teacher_distributions": p.tolist()}))
    said = Distillation(divergence="jsd", listed=False)(Outputs(distributions=q), packed).metrics
    assert said["distill/forward_kl"].values.item() == pytest.approx(forward, abs=1e-12)
    assert said["distill/reverse_kl"].values.item() == pytest.approx(reverse, abs=1e-12)
    assert said["distill/rest"].values.item() == 0.0


def test_the_mean_is_over_tokens() -> None:
    """Two tokens, one agreed on and one with ¼ log 2: ⅛ log 2."""
    assert of(logs(P, P), logs(P, Q), "forward") == pytest.approx(math.log(2) / 8, abs=1e-12)


def random_rows(seed: int, outcomes: int = 9, scale: float = 2.0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.log_softmax(scale * torch.randn(40, outcomes, generator=draw, dtype=torch.float64), -1)


def test_beta_0_and_1_are_the_scaled_limits() -> None:
    """D_β / β → KL(p ‖ q) and D_β / (1 − β) → KL(q ‖ p), and 0 and 1 give exactly those."""
    p, q = random_rows(0), random_rows(1)
    assert torch.equal(jsd(p, q, 0.0), kl(p, q))
    assert torch.equal(jsd(p, q, 1.0), kl(q, p))
    small = 1e-5
    assert torch.allclose(jsd(p, q, small) / small, kl(p, q), rtol=2e-2)
    assert torch.allclose(jsd(p, q, 1 - small) / small, kl(q, p), rtol=2e-2)
    assert torch.allclose(jsd(p, q, 0.3), jsd(q, p, 0.7), rtol=0, atol=1e-14), "β ↔ 1 − β swaps p and q"
    assert (jsd(p, q, 0.5) <= math.log(2)).all()


@pytest.mark.parametrize("beta", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_least_0_exactly_where_both_agree(beta: float) -> None:
    p, q = random_rows(0), random_rows(1)
    assert jsd(p, p, beta).abs().max() < 1e-14
    assert (jsd(p, q, beta) > 1e-3).all()


def test_gradients_by_logits() -> None:
    """∂KL(p ‖ q)/∂logits = q − p and ∂KL(q ‖ p)/∂logits = q ∘ (log q − log p − KL(q ‖ p))."""
    p = random_rows(0)
    z = random_rows(1).requires_grad_()
    q = torch.log_softmax(z, -1)
    forward, reverse = (torch.autograd.grad(jsd(p, q, b).sum(), z, retain_graph=True)[0] for b in (0.0, 1.0))
    log_q = q.detach()
    assert torch.allclose(forward, log_q.exp() - p.exp(), rtol=0, atol=1e-13)
    by_hand = log_q.exp() * (log_q - p - kl(log_q, p)[:, None])
    assert torch.allclose(reverse, by_hand, rtol=0, atol=1e-13)


@pytest.mark.parametrize("divergence", ["forward", "reverse", "jsd"])
def test_a_bucket_never_says_more_than_all_ids(divergence: Kind) -> None:
    """Merging outcomes cannot raise a divergence; with V − 1 ids the bucket holds one, nothing is lost."""
    p, q = random_rows(0), random_rows(1)
    whole = [of(p[i : i + 1], q[i : i + 1], divergence) for i in range(40)]
    for k in (1, 3, 8):
        ids = p.topk(k, -1).indices
        short, other = with_rest(p, ids), with_rest(q, ids)
        objective = Distillation(divergence=divergence)
        for i in range(40):
            columns = {"teacher_listed": short[i : i + 1].tolist(), "listed_ids": ids[i : i + 1].tolist()}
            found = loss(objective, batch(group(columns)), listed=other[i : i + 1]).item()
            assert found <= whole[i] + 1e-14
            if k == 8:
                assert found == pytest.approx(whole[i], abs=1e-13)


def test_a_list_scaled_up_to_one_says_more_than_there_is_and_forgets_the_rest() -> None:
    """p = (.6, .3, .1), q = (.3, .6, .1) listed to two, against q' = (.06, .03, .91).

    Scaled to sum to 1 the first pair gives (⅔ log 2 + ⅓ log ½) = ⅓ log 2 = .231, more than the whole
    .6 log 2 + .3 log ½ = .3 log 2 = .208. And q', with nine tenths where p has one, gives 0.
    """
    p, q, far = logs([0.6, 0.3, 0.1]), logs([0.3, 0.6, 0.1]), logs([0.06, 0.03, 0.91])
    ids = torch.tensor([[0, 1]])

    def scaled(z: Tensor) -> Tensor:
        return torch.log_softmax(z.gather(1, ids), -1)

    whole = kl(p, q).item()
    assert whole == pytest.approx(0.3 * math.log(2), abs=1e-12)
    assert kl(scaled(p), scaled(q)).item() == pytest.approx(math.log(2) / 3, abs=1e-12) and whole < 0.23
    assert kl(scaled(p), scaled(far)).item() == pytest.approx(0.0, abs=1e-12)
    kept = kl(with_rest(p, ids), with_rest(far, ids)).item()
    assert kept == pytest.approx(kl(p, far).item(), abs=1e-12) and kept > 1


def listed_reverse(p: Tensor, q: Tensor, ids: Tensor) -> Tensor:
    """The objective's reverse divergence over these ids and a bucket."""
    columns = {"teacher_listed": with_rest(p, ids).tolist(), "listed_ids": ids.tolist()}
    return loss(Distillation(divergence="reverse"), batch(group(columns)), listed=with_rest(q, ids))


def test_the_buckets_gradient_keeps_reverse_kl_from_collapsing_onto_the_list() -> None:
    """Teacher (.4, .3, .2, .1); the student has left 1e-3 outside the two listed ids, the teacher .3.

    With the bucket a tail logit's slope is q_v (log(q_rest / p_rest) − L), which raises it, and descent ends
    at .3. Over the list alone, scaled up to 1, the tail gets no gradient at all and stays where it is.
    """
    p, ids = logs([0.4, 0.3, 0.2, 0.1]), torch.tensor([[0, 1]])
    start = logs([0.6, 0.399, 0.0005, 0.0005])
    z = start.clone().requires_grad_()
    value = listed_reverse(p, torch.log_softmax(z, -1), ids)
    (slope,) = torch.autograd.grad(value, z)
    rest = math.log(0.001 / 0.3) - value.item()
    assert slope[0, 2:].tolist() == pytest.approx([0.0005 * rest] * 2, abs=1e-12) and rest < -5
    for _ in range(400):
        q = with_rest(torch.log_softmax(z, -1), ids)
        (slope,) = torch.autograd.grad(kl(q, with_rest(p, ids)).sum(), z)
        z = (z - 3 * slope).detach().requires_grad_()
    found = torch.softmax(z, -1)[0].tolist()
    assert found[:2] == pytest.approx([0.4, 0.3], abs=1e-6) and sum(found[2:]) == pytest.approx(0.3, abs=1e-6)

    alone = start.clone().requires_grad_()
    scaled = torch.log_softmax(torch.log_softmax(alone, -1).gather(1, ids), -1)
    (slope,) = torch.autograd.grad(kl(scaled, torch.log_softmax(p.gather(1, ids), -1)).sum(), alone)
    assert slope[0, 2:].abs().max() < 1e-18 and slope[0, :2].abs().min() > 1e-3


def test_on_policy_the_value_is_the_sequence_kl_and_the_gradient_is_not() -> None:
    """Equal at the last position, apart at the others: what a token does to later ones is left out.

    What is left out is Σ_t (Σ_{t' > t} KL_t') ∇log q(y_t), with the later divergences constant.
    """
    policy, teacher, value, found = on_policy()
    policy.logits.grad = None
    whole = sequence_kl(policy, teacher)
    whole.backward()
    assert policy.logits.grad is not None
    gap = policy.logits.grad - 3 * found
    assert 3 * value == pytest.approx(float(whole.detach()), abs=1e-12)
    last = torch.tensor([len(prefix) == 2 for _, prefix in EVEN.state])
    assert gap[last].abs().max() < 1e-12 and gap[~last].abs().max() > 1e-2
    assert torch.allclose(gap, later(policy, teacher), rtol=0, atol=1e-12)


def later(policy: Table, teacher: Table) -> Tensor:
    """∇ of E_y[Σ_t (Σ_{t' > t} sg KL_t') log q(y_t)] by enumeration."""
    log_q, log_p = (torch.log_softmax(table.logits, -1) for table in (policy, teacher))
    each = kl(log_q, log_p).detach()
    total = torch.zeros((), dtype=torch.float64)
    for y, mass in zip(EVEN.completions, policy.log_probs().detach().exp(), strict=True):
        states = [EVEN.state[EVEN.prompts[0], y[:t]] for t in range(3)]
        for t, state in enumerate(states):
            total = total + mass * each[states[t + 1 :]].sum() * log_q[state, y[t]]
    return torch.autograd.grad(total, policy.logits)[0]


def test_the_whole_gradient_is_that_of_a_reward() -> None:
    """∇KL(q ‖ P) = −E_q[(log P(y) − log q(y)) ∇log q(y)]: REINFORCE with the reward log P − log q."""
    policy, teacher, _, _ = on_policy()
    policy.logits.grad = None
    expected = torch.autograd.grad(sequence_kl(policy, teacher), policy.logits)[0]
    log_q, log_p = policy.log_probs(), teacher.log_probs().detach()
    reward = (log_p - log_q).detach()
    surrogate = -(log_q.detach().exp() * reward * log_q).sum()
    assert torch.allclose(torch.autograd.grad(surrogate, policy.logits)[0], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("divergence", ["forward", "reverse", "jsd"])
def test_what_one_side_excludes_stays_finite(divergence: Kind) -> None:
    """The teacher never says the first id and the student does, and the other way round, in float32."""
    p = torch.tensor([[-1e4, 0.0], [0.0, -1e4]])
    packed = batch(group({"teacher_distributions": p.tolist()})).to("cpu", torch.float32)
    q = torch.tensor([[math.log(0.5)] * 2, [-math.inf, 0.0]], requires_grad=True)
    value = mean_loss(
        Distillation(divergence=divergence, listed=False)(Outputs(distributions=q), packed), packed
    )
    value.backward()
    assert q.grad is not None
    assert value.isfinite() and q.grad.isfinite().all()


@pytest.mark.parametrize("divergence", ["forward", "reverse", "jsd"])
@pytest.mark.parametrize("listed", [True, False])
def test_sound(divergence: Kind, listed: bool) -> None:
    check_objective(Distillation(divergence=divergence, beta=0.3, listed=listed), at_reference=0.0)
