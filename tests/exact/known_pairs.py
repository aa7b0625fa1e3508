"""DPO and its family: exact minimisers under labels that are Bradley-Terry in a known reward.

Where a closed form is known it is the target; where none is, a generic optimiser finds the minimiser of the
loss as the paper writes it, over the probabilities of all completions, in a formula of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy.optimize import brentq, minimize
from torch import Tensor
from torch.nn.functional import softplus

from exact.solutions import solution
from exact.world import (
    EVEN,
    RAGGED,
    Drawn,
    Judge,
    Table,
    World,
    distance,
    dyadic_table,
    kl,
    random_scores,
    random_table,
)
from trueup.engine.groups import Comparison, Group, Score
from trueup.engine.loop import Step, fit
from trueup.engine.method import Handles, Method, Parts
from trueup.methods import dpo, ipo, kto, online_dpo, orpo, simpo
from trueup.settings.blocks import LoopSettings
from trueup.update.adamw import AdamW

BETA = 0.7


def labelled(world: World, scores: Tensor, flipped: float = 0.0) -> list[Group]:
    """For each prompt one group of all its completions, and all pairs with Bradley-Terry soft labels.

    With `flipped`, every label is the other way round with that probability.
    """
    count = len(world.completions)
    clean = torch.sigmoid(scores[:, :, None] - scores[:, None, :])
    labels = (clean + flipped * (1 - 2 * clean)).tolist()
    return [
        world.group(
            x,
            range(count),
            comparisons=tuple(
                Comparison(a=i, b=j, choice="a", probability=labels[x][i][j])
                for i in range(count)
                for j in range(i)
            ),
        )
        for x in range(len(world.prompts))
    ]


def parts_of(groups: Sequence[Group]) -> Parts:
    """A method's parts, with nothing held out."""
    return Parts(groups=groups, held_out=[], decode=str, stop_ids=())


def settings(groups: Sequence[Group], lr: float = 0.2) -> dict:
    """All groups in every step, and a learning rate that ends at 0."""
    update = AdamW(lr=lr, schedule="cosine", warmup=0, final=0, max_grad_norm=1000)
    return {"loop": LoopSettings(batch=len(groups)), "update": update}


def trained(
    method: Method, policy: Table, reference: Table, num_steps: int, judge: Judge | None = None
) -> Table:
    """The policy after that many steps of the method."""
    handles = Handles(networks={"policy": policy, "reference": reference}, dtype=torch.float64, judge=judge)
    fit(method, handles, num_steps=num_steps, groups_per_step=1)
    return policy


def lengths(world: World) -> Tensor:
    """How many tokens each completion has."""
    return torch.tensor([len(y) for y in world.completions], dtype=torch.float64)


def table_of(world: World, log_probs: Sequence[Tensor]) -> Table:
    """The policy that gives each prompt's completions these log-probabilities."""
    table = random_table(world, 0)
    with torch.no_grad():
        for (x, prefix), s in world.state.items():
            p = log_probs[world.prompts.index(x)].exp()
            for token in range(3):
                below = [y[: len(prefix) + 1] == (*prefix, token) for y in world.completions]
                table.logits[s, token] = p[torch.tensor(below)].sum().log()
    return table


def minimiser(loss: Callable[[Tensor], Tensor], start: Tensor) -> Tensor:
    """Log-probabilities that a generic optimiser ends at when it minimises a function of them."""

    def value_and_gradient(u: np.ndarray) -> tuple[float, np.ndarray]:
        logits = torch.tensor(u, dtype=torch.float64, requires_grad=True)
        value = loss(torch.log_softmax(logits, 0))
        (gradient,) = torch.autograd.grad(value, logits)
        return value.item(), gradient.numpy()

    options = {"maxiter": 5000, "maxfun": 10000, "ftol": 1e-15, "gtol": 1e-10}
    found = minimize(value_and_gradient, start.numpy(), jac=True, method="L-BFGS-B", options=options)
    return torch.log_softmax(torch.from_numpy(found.x), 0)


# ------------------------------------------------------------------------------------------ DPO


def reached_by_dpo(world: World, **fields: object) -> float:
    """KL to ρ e^{r/β} / Z of DPO on labels that are flipped as often as `label_smoothing` says."""
    reference, scores = random_table(world, 4), random_scores(world, 5)
    groups = labelled(world, scores + 3, flipped=float(fields.get("label_smoothing", 0.0)))  # pyright: ignore
    config = dpo.Config(beta=BETA, **settings(groups), **fields)  # pyright: ignore
    policy = trained(dpo.build(config, parts_of(groups)), reference.copy(), reference, 150)
    return distance(policy, reference, scores, BETA)


@solution(
    "dpo",
    known="ρ e^{r/β} / Z under Bradley-Terry labels, whatever the prompt's constant in r",
    measured="KL(π ‖ π*)",
    tolerance=1e-5,
)
def dpo_even() -> float:
    return reached_by_dpo(EVEN)


@solution(
    "dpo",
    known="the same for two prompts and completions of 1 to 3 tokens",
    measured="KL(π ‖ π*)",
    tolerance=1e-5,
)
def dpo_ragged() -> float:
    return reached_by_dpo(RAGGED)


@solution(
    "dpo",
    known="robust: the same from labels of which a fifth is flipped",
    measured="KL(π ‖ π*)",
    tolerance=1e-5,
)
def dpo_robust() -> float:
    return reached_by_dpo(EVEN, loss="robust", label_smoothing=0.2)


def optimum_of(divergence: str, log_rho: Tensor, scores: Tensor, alpha: float) -> Tensor:
    """log π* = log ρ + log (f')⁻¹((r − λ)/β), λ found by bisection so that the probabilities sum to 1.

    With x = (r − λ)/β: −1/u = x gives u = −1/x; log 2u/(1+u) = x gives u = e^x / (2 − e^x); (1 − u^−α)/α = x
    gives u = (1 − αx)^(−1/α).
    """
    r, rho = scores.numpy() / BETA, log_rho.exp().numpy()
    inverse: dict[str, tuple[Callable[[np.ndarray], np.ndarray], float]] = {
        "forward_kl": (lambda x: -1 / x, 0.0),
        "jensen_shannon": (lambda x: np.exp(x) / (2 - np.exp(x)), np.log(2)),
        "alpha": (lambda x: (1 - alpha * x) ** (-1 / alpha), 1 / alpha),
    }
    of, highest = inverse[divergence]
    least = r.max() - highest
    level = brentq(lambda shift: rho @ of(r - shift) - 1, least + 1e-12, least + 1e4, xtol=1e-15)
    return torch.from_numpy(np.log(rho * of(r - level)))


def distance_of_f(divergence: str) -> float:
    """The largest KL to the closed form of f-DPO on Bradley-Terry labels of r, over two prompts."""
    reference, scores = random_table(RAGGED, 4), random_scores(RAGGED, 5)
    groups = labelled(RAGGED, scores + 3)
    config = dpo.Config(beta=BETA, divergence=divergence, alpha=0.5, **settings(groups))  # pyright: ignore
    policy = trained(dpo.build(config, parts_of(groups)), reference.copy(), reference, 200)
    best = [optimum_of(divergence, reference.log_probs(x).detach(), scores[x], 0.5) for x in range(2)]
    return max(kl(policy.log_probs(x), log_p) for x, log_p in enumerate(best))


@solution(
    "dpo",
    known="divergence forward_kl: ρ β / (λ − r)",
    measured="KL(π ‖ π*)",
    tolerance=1e-4,
)
def dpo_forward_kl() -> float:
    return distance_of_f("forward_kl")


@solution(
    "dpo",
    known="divergence jensen_shannon: ρ e^x / (2 − e^x), x = (r − λ)/β",
    measured="KL(π ‖ π*)",
    tolerance=1e-4,
)
def dpo_jensen_shannon() -> float:
    return distance_of_f("jensen_shannon")


@solution(
    "dpo",
    known="divergence alpha, α = .5: ρ / (1 − αx)^2, x = (r − λ)/β",
    measured="KL(π ‖ π*)",
    tolerance=1e-4,
)
def dpo_alpha() -> float:
    return distance_of_f("alpha")


@solution(
    "dpo",
    known="nll_weight: the minimiser of the enumerated loss, by L-BFGS over 15 probabilities",
    measured="KL(π ‖ π*)",
    tolerance=1e-6,
)
def dpo_nll() -> float:
    reference, scores = random_table(RAGGED, 4), random_scores(RAGGED, 5)
    groups = labelled(RAGGED, scores)
    config = dpo.Config(beta=BETA, nll_weight=0.5, **settings(groups))
    policy = trained(dpo.build(config, parts_of(groups)), reference.copy(), reference, 300)
    worst = 0.0
    for x, group in enumerate(groups):
        log_rho = reference.log_probs(x).detach()
        first, second = (torch.tensor([getattr(c, side) for c in group.comparisons]) for side in ("a", "b"))
        p = torch.tensor([c.probability for c in group.comparisons], dtype=torch.float64)

        def loss(
            log_pi: Tensor, log_rho: Tensor = log_rho, p: Tensor = p, a: Any = first, b: Any = second
        ) -> Tensor:
            h, mean = log_pi - log_rho, log_pi / lengths(RAGGED)
            z = BETA * (h[a] - h[b])
            preferred = p * softplus(-z) + (1 - p) * softplus(z)
            return (preferred - 0.5 * (p * mean[a] + (1 - p) * mean[b])).mean()

        worst = max(worst, kl(policy.log_probs(x), minimiser(loss, log_rho)))
    return worst


@solution(
    "dpo",
    known="least loss: the mean binary entropy of the labels, where the gradient is 0; (cβ, cr) too",
    measured="|L − H| and gradient at π*",
    tolerance=1e-10,
)
def dpo_at_its_optimum() -> float:
    worst = 0.0
    for world in (EVEN, RAGGED):
        reference, scores = random_table(world, 4), random_scores(world, 5)
        log_rho = [reference.log_probs(x).detach() for x in range(len(world.prompts))]
        best = [torch.log_softmax(rho + scores[x] / BETA, 0) for x, rho in enumerate(log_rho)]
        for c in (0.5, 1.0, 4.0):
            policy, groups = table_of(world, best), labelled(world, c * scores)
            method = dpo.build(dpo.Config(beta=c * BETA, **settings(groups)), parts_of(groups))
            numbers = backward(method, {"policy": policy, "reference": reference})
            p = torch.tensor([pair.label for g in groups for pair in g.pairs()], dtype=torch.float64)
            entropy = -(p * p.log() + (1 - p) * (1 - p).log()).mean().item()
            assert policy.logits.grad is not None
            worst = max(worst, policy.logits.grad.abs().max().item(), abs(numbers["loss"] - entropy))
    return worst


def backward(method: Method, networks: dict[str, Table], judge: Judge | None = None) -> dict[str, float]:
    """The numbers of one minibatch of everything that the method's source gives, gradients added up."""
    handles = Handles(networks=networks, dtype=torch.float64, judge=judge, microbatch_tokens=10**6)
    groups = method.source(0, handles)
    with torch.no_grad():
        for annotator in method.annotate:
            groups = annotator(groups, handles)
    return Step(method, handles, groups).backward()


# ------------------------------------------------------------------------------------------ online DPO


def online(policy: Table, **drawn: object) -> Method:
    """Online DPO as it is built, on draws from a table."""
    update = AdamW(lr=0.15, schedule="cosine", warmup=0, final=0, betas=(0.9, 0.99), max_grad_norm=1000)
    config = online_dpo.Config(beta=BETA, label="bradley_terry", missing_eos=None, update=update)
    method = online_dpo.build(config, parts_of([policy.world.group(0, [])]))
    return replace(method, source=Drawn(policy, **drawn))  # pyright: ignore


@solution(
    "online_dpo",
    known="ρ e^{r/β} / Z from the policy's own pairs, labelled by Bradley-Terry",
    measured="KL(π ‖ π*)",
    tolerance=1e-3,
)
def online_dpo_even() -> float:
    """The labels fit π* pair by pair: at π* the gradient is 0 whatever is drawn, and noise ends there."""
    reference, scores = random_table(EVEN, 4), random_scores(EVEN, 5)
    policy = reference.copy()
    method = online(policy, count=6, k=9)
    return distance(trained(method, policy, reference, 200, Judge(scores)), reference, scores, BETA)


def enumerated(policy: Table, reference: Table, scores: Tensor) -> Tensor:
    """The gradient of the mean loss over all pairs of completions, each as often as π draws it."""
    log_pi = policy.log_probs()
    weight = log_pi.detach().exp()[:, None] * log_pi.detach().exp()[None]
    h = log_pi - reference.log_probs().detach()
    z = BETA * (h[:, None] - h[None])
    r = scores[0][:, None] - scores[0][None]
    loss = (weight * (softplus(z) - torch.sigmoid(r) * z)).sum()
    return torch.autograd.grad(loss, policy.logits)[0]


@solution(
    "online_dpo",
    known="first gradient: of the mean loss over all pairs as often as π draws them",
    measured="largest difference",
    tolerance=1e-10,
)
def online_dpo_gradient() -> float:
    policy, reference, scores = dyadic_table(EVEN, 1), random_table(EVEN, 2), random_scores(EVEN, 3)
    method = online(policy, count=64, k=2, products=True)
    backward(method, {"policy": policy, "reference": reference}, Judge(scores))
    assert policy.logits.grad is not None
    return (policy.logits.grad - enumerated(policy, reference, scores)).abs().max().item()


@solution(
    "online_dpo",
    known="the same on average",
    measured="largest |error| over its standard error, of 256 pairs",
    tolerance=4,
)
def online_dpo_samples() -> float:
    policy, reference, scores = dyadic_table(EVEN, 1), random_table(EVEN, 2), random_scores(EVEN, 3)
    method = online(policy, count=256, k=2)
    handles = Handles(networks={"policy": policy, "reference": reference}, dtype=torch.float64)
    handles = replace(handles, judge=Judge(scores))
    groups = method.source(0, handles)
    for stage in method.annotate:
        groups = stage(groups, handles)
    each = []
    for group in groups:
        policy.logits.grad = None
        Step(method, handles, [group]).backward()
        assert policy.logits.grad is not None
        each.append(policy.logits.grad.clone())
    found = torch.stack(each)
    error = found.std(0) / len(found) ** 0.5
    gap = (found.mean(0) - enumerated(policy, reference, scores)).abs()
    return float((gap[error > 0] / error[error > 0]).max())


# ------------------------------------------------------------------------------------------ IPO


def mean_win_rate(scores: Tensor) -> Tensor:
    """E over y' drawn evenly of p(y ≻ y'), a completion against itself counted as a half."""
    return torch.sigmoid(scores[:, None] - scores[None]).mean(1)


@solution(
    "ipo",
    known="sum: ∝ ρ(y) exp(E_{y'}[p(y ≻ y')] / β)",
    measured="KL(π ‖ π*)",
    tolerance=1e-6,
)
def ipo_sum() -> float:
    reference, scores = random_table(RAGGED, 4), random_scores(RAGGED, 5)
    groups = labelled(RAGGED, scores)
    config = ipo.Config(beta=0.3, log_ratio="sum", **settings(groups))
    policy = trained(ipo.build(config, parts_of(groups)), reference.copy(), reference, 150)
    return max(
        kl(
            policy.log_probs(x),
            torch.log_softmax(reference.log_probs(x).detach() + mean_win_rate(scores[x]) / 0.3, 0),
        )
        for x in range(2)
    )


@solution(
    "ipo",
    known="mean: ρ(y) exp(T_y (E_{y'}[p(y ≻ y')] / β + c)), c such that the sum is 1",
    measured="KL(π ‖ π*)",
    tolerance=1e-6,
)
def ipo_mean() -> float:
    reference, scores, size = random_table(RAGGED, 4), random_scores(RAGGED, 5), lengths(RAGGED)
    groups = labelled(RAGGED, scores)
    config = ipo.Config(beta=0.5, **settings(groups))
    policy = trained(ipo.build(config, parts_of(groups)), reference.copy(), reference, 150)
    reached = []
    for x in range(2):
        log_rho, rate = reference.log_probs(x).detach(), mean_win_rate(scores[x]) / 0.5

        def law(c: float, log_rho: Tensor = log_rho, rate: Tensor = rate) -> Tensor:
            return log_rho + size * (rate + c)

        c = brentq(lambda c: torch.logsumexp(law(c), 0).item(), -20, 20, xtol=1e-14)
        reached.append(kl(policy.log_probs(x), law(c)))
    return max(reached)


# ------------------------------------------------------------------------------------------ no reference


def reached_without_reference(
    method: Method, scores: Tensor, pair_loss: Callable[[Tensor], Tensor], num_steps: int
) -> float:
    """KL to the minimiser of Σ_{i≠j} p(i ≻ j) · pair_loss(mean log-probs)[i, j], found independently."""
    start = random_table(RAGGED, 4)
    policy = trained(method, start.copy(), start, num_steps)
    reached = []
    for x in range(len(RAGGED.prompts)):
        weight = torch.sigmoid(scores[x][:, None] - scores[x][None]).fill_diagonal_(0)

        def loss(log_p: Tensor, weight: Tensor = weight) -> Tensor:
            return (weight * pair_loss(log_p / lengths(RAGGED))).sum() / weight.sum()

        best = minimiser(loss, start.log_probs(x).detach())
        reached.append(kl(policy.log_probs(x), best))
    return max(reached)


@solution(
    "simpo",
    known="the minimiser of the enumerated loss, by L-BFGS over 15 probabilities",
    measured="KL(π ‖ π*)",
    tolerance=1e-6,
)
def simpo_ragged() -> float:
    scores = random_scores(RAGGED, 5)
    groups = labelled(RAGGED, scores)
    config = simpo.Config(beta=2.0, gamma=0.8, **settings(groups))
    return reached_without_reference(
        simpo.build(config, parts_of(groups)),
        scores,
        lambda m: torch.log(1 + torch.exp(0.8 - 2.0 * (m[:, None] - m[None]))),
        200,
    )


@solution(
    "orpo",
    known="the minimiser of the enumerated loss, by L-BFGS over 15 probabilities",
    measured="KL(π ‖ π*)",
    tolerance=1e-6,
)
def orpo_ragged() -> float:
    scores = random_scores(RAGGED, 5)
    groups = labelled(RAGGED, scores)
    config = orpo.Config(odds_weight=0.6, **settings(groups))

    def pair_loss(m: Tensor) -> Tensor:
        odds = m.exp() / (1 - m.exp())
        return -m[:, None] - 0.6 * torch.log(odds[:, None] / (odds[:, None] + odds[None]))

    return reached_without_reference(orpo.build(config, parts_of(groups)), scores, pair_loss, 200)


# ------------------------------------------------------------------------------------------ KTO


@solution(
    "kto",
    known="the minimiser of the enumerated loss, by L-BFGS over 27 probabilities, with z0 = 0 there",
    measured="total variation",
    tolerance=1e-3,
)
def kto_even() -> float:
    """Every completion is called good n_y times of 3. Its value is monotone in h, so all mass goes to those
    called good more often than bad; how it is shared among them is what the optimum says.
    """
    reference, beta = random_table(EVEN, 4), 0.5
    num_good = torch.from_numpy(np.random.default_rng(0).integers(0, 4, 27)).double()
    groups = [
        EVEN.group(
            0,
            range(27),
            scores=tuple(Score(completion=y, value=float(i < num_good[y]), judge="label") for y in range(27)),
        )
        for i in range(3)
    ]
    config = kto.Config(beta=beta, desirable_weight=1.05, **settings(groups))
    policy = trained(kto.build(config, parts_of(groups)), reference.copy(), reference, 250)
    log_rho = reference.log_probs().detach()

    def loss(log_p: Tensor) -> Tensor:
        value = 1 / (1 + torch.exp(-beta * (log_p - log_rho)))
        return (1.05 * num_good * (1 - value) + (3 - num_good) * value).mean()

    best = minimiser(loss, log_rho)
    assert (best - log_rho).mean() < 0  # so that z0 = max(0, mean of h) is 0
    return (policy.log_probs().exp() - best.exp()).abs().sum().item() / 2


@solution(
    "kto",
    known="first gradient: of the enumerated loss with z0 = mean h over mismatched pairs held constant",
    measured="largest difference",
    tolerance=1e-10,
)
def kto_gradient() -> float:
    """Every prompt with every completion, and the other prompt's completions are the same 15: z0 is the mean
    of all h. The reference is the policy with unlikely completions made unlikelier still, so that it is > 0.
    """
    policy = random_table(RAGGED, 1)
    log_p = [policy.log_probs(x).detach() for x in range(2)]
    reference = table_of(RAGGED, [torch.log_softmax(2 * log_pi, 0) for log_pi in log_p])
    good = torch.from_numpy(np.random.default_rng(3).integers(0, 2, (2, 15))).bool()
    groups = [
        RAGGED.group(
            x,
            range(15),
            scores=tuple(Score(completion=y, value=float(good[x, y]), judge="label") for y in range(15)),
        )
        for x in range(2)
    ]
    config = kto.Config(beta=0.5, desirable_weight=1.2, **settings(groups))
    backward(kto.build(config, parts_of(groups)), {"policy": policy, "reference": reference})
    h = torch.stack([policy.log_probs(x) - reference.log_probs(x).detach() for x in range(2)])
    z0 = h.detach().mean()
    assert z0 > 0.1
    value = 1 / (1 + torch.exp(-0.5 * (h - z0)))
    (expected,) = torch.autograd.grad(torch.where(good, 1.2 * (1 - value), value).mean(), policy.logits)
    assert policy.logits.grad is not None
    return (policy.logits.grad - expected).abs().max().item()
