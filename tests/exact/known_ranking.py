"""Hinge and ranking losses: the minimiser of the enumerated loss, found by solvers of another kind.

The solvers work on the log-probabilities L(y) of a prompt's completions: the hinge alone sees differences, so
its least value is a linear program's; with a likelihood the loss is convex in L, and Σ e^L ≤ 1 is convex too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations, product
from typing import Any

import numpy as np
import torch
from scipy.optimize import linprog, minimize
from scipy.special import logsumexp, softmax

from exact.solutions import solution
from exact.world import (
    EVEN,
    RAGGED,
    Drawn,
    Judge,
    Table,
    World,
    dyadic_table,
    kl,
    random_scores,
    random_table,
)
from hand_batches import FIRST_WINS, batch
from hand_batches import group as by_hand
from trueup.engine.batch import Outputs
from trueup.engine.groups import Comparison, Group, Score
from trueup.engine.loop import Step, fit
from trueup.engine.method import Handles, Parts
from trueup.methods import rrhf, seq2seq_hinge, slic_hf
from trueup.objectives.embedding import Triplet
from trueup.settings.blocks import LoopSettings
from trueup.update.adamw import AdamW

# ------------------------------------------------------------------------------------------ data and training


def contradicting(world: World, count: int, seed: int) -> list[Group]:
    """For each prompt a group of all its completions, `count` random pairs judged with random soft labels."""
    rng = np.random.default_rng(seed)
    n = len(world.completions)
    return [
        world.group(
            prompt,
            range(n),
            comparisons=tuple(
                Comparison(a=int(a), b=int(b), choice="a", probability=float(rng.uniform(0.1, 0.95)))
                for a, b in (rng.choice(n, 2, replace=False) for _ in range(count))
            ),
        )
        for prompt in range(len(world.prompts))
    ]


def scored(world: World, seed: int) -> list[Group]:
    """For every completion of every prompt a group in which it has the best score of three, for some several.

    The other two are mostly in the order of one true reward, so that much of the ranking can be satisfied.
    """
    rng = np.random.default_rng(seed)
    truth = random_scores(world, seed).numpy()
    found = []
    often = [*range(len(world.completions)), *range(4), 0, 0]
    for prompt, best in product(range(len(world.prompts)), often):
        others = rng.choice([i for i in range(len(world.completions)) if i != best], 2, replace=False)
        values = [9.0, *(truth[prompt, others] + 0.3 * rng.normal(size=2))]
        scores = tuple(Score(completion=i, value=float(v), judge="j") for i, v in enumerate(values))
        found.append(world.group(prompt, [best, *map(int, others)], scores=scores))
    return found


def trained(
    module: Any, world: World, groups: Sequence[Group], num_steps: int, lr: float = 0.2, **fields: Any
) -> Table:
    """The policy after that many steps on all groups; a rate that falls to 0 lets corners be found."""
    update = AdamW(lr=lr, warmup=0, final=0, schedule="linear", max_grad_norm=1000, betas=(0.9, 0.99))
    config = module.Config(update=update, loop=LoopSettings(batch=len(groups)), **fields)
    method = module.build(config, Parts(groups=groups, held_out=[], decode=str, stop_ids=()))
    policy = random_table(world, 3)
    handles = Handles(networks={"policy": policy}, dtype=torch.float64, microbatch_tokens=10**9)
    fit(method, handles, num_steps=num_steps, groups_per_step=len(groups))
    return policy


# ------------------------------------------------------------------------------------------ solvers


@dataclass(frozen=True, kw_only=True)
class Hinges:
    """Σ_i w_i max(0, δ − a_i · L) over one prompt's log-probabilities L, one row of `a` a term."""

    a: np.ndarray
    w: np.ndarray
    delta: float

    def __call__(self, log_probs: np.ndarray) -> float:
        return float(self.w @ np.maximum(0, self.delta - self.a @ log_probs))


def hinges(pairs: Sequence[tuple[int, int, float]], lengths: np.ndarray, delta: float) -> Hinges:
    """The terms of (chosen, rejected, weight) triples; a log-probability counts divided by its length."""
    a = np.zeros((len(pairs), len(lengths)))
    for row, (chosen, rejected, _) in zip(a, pairs, strict=True):
        row[chosen] += 1 / lengths[chosen]
        row[rejected] -= 1 / lengths[rejected]
    return Hinges(a=a, w=np.array([w for *_, w in pairs]), delta=delta)


def least(terms: Hinges) -> float:
    """The least value over all L, as a linear program: one slack for each term."""
    count, n = terms.a.shape
    found = linprog(
        np.concatenate([np.zeros(n), terms.w]),
        A_ub=np.hstack([-terms.a, -np.eye(count)]),
        b_ub=np.full(count, -terms.delta),
        bounds=[(None, None)] * n + [(0, None)] * count,
    )
    assert found.success
    return float(found.fun)


def closest(terms: Hinges, targets: np.ndarray) -> np.ndarray:
    """log π at the minimum of the terms − Σ_y targets(y) log π(y), with slacks and Σ e^L ≤ 1 by SLSQP."""
    count, n = terms.a.shape

    def value(z: np.ndarray) -> float:
        return float(terms.w @ z[n:] - targets @ z[:n])

    gradient = np.concatenate([-targets, terms.w])
    rows = np.hstack([terms.a, np.eye(count)])
    start = np.full(n, -np.log(n))
    found = minimize(
        value,
        np.concatenate([start, np.maximum(0, terms.delta - terms.a @ start)]),
        jac=lambda z: gradient,
        method="SLSQP",
        bounds=[(None, None)] * n + [(0, None)] * count,
        constraints=[
            {"type": "ineq", "fun": lambda z: rows @ z - terms.delta, "jac": lambda z: rows},
            {
                "type": "ineq",
                "fun": lambda z: -logsumexp(z[:n]),
                "jac": lambda z: -np.concatenate([softmax(z[:n]), np.zeros(count)]),
            },
        ],
        options={"maxiter": 500, "ftol": 1e-11},
    )
    assert found.success, found.message
    assert abs(logsumexp(found.x[:n])) < 1e-6  # the constraint binds, so that it is a policy's minimum
    return found.x[:n]


def lengths(world: World) -> np.ndarray:
    return np.array([len(y) for y in world.completions], float)


def both_ways(group: Group) -> list[tuple[int, int, float]]:
    """Every pair with its label as weight, and its reverse with what is left."""
    return [
        triple
        for c in group.comparisons
        for p in [c.probability or 0.0]
        for triple in ((c.a, c.b, p), (c.b, c.a, 1 - p))
    ]


def strict_pairs(groups: Sequence[Group]) -> list[tuple[int, int, float]]:
    """(better, worse, 1) for every two completions of a group with different scores, by their numbers."""
    found = []
    for group in groups:
        number = [int(c.text) for c in group.completions]
        for a, b in permutations(group.scores, 2):
            if a.value > b.value:
                found.append((number[a.completion], number[b.completion], 1.0))
    return found


def of_prompt(groups: Sequence[Group], prompt: int) -> list[Group]:
    return [g for g in groups if g.meta["prompt"] == prompt]


def said_by(policy: Table, prompt: int) -> np.ndarray:
    return policy.log_probs(prompt).detach().numpy()


# ------------------------------------------------------------------------------------------ seq2seq hinge


def excess_of_hinge(world: World, *, per_token: bool = False, num_steps: int = 300) -> float:
    """How far above the linear program's minimum the trained policy's loss is, mean over pairs."""
    groups = contradicting(world, 40, seed=1)
    policy = trained(seq2seq_hinge, world, groups, num_steps, delta=1.0, per_token=per_token)
    size = lengths(world) if per_token else np.ones(len(world.completions))
    above = 0.0
    for x, group in enumerate(groups):
        terms = hinges(both_ways(group), size, 1.0)
        above += terms(said_by(policy, x)) - least(terms)
    return above / (40 * len(groups))


@solution(
    "seq2seq_hinge",
    known="the least loss on contradicting soft labels, which is a linear program's",
    measured="loss − minimum",
    tolerance=1e-3,
)
def hinge_even() -> float:
    return excess_of_hinge(EVEN)


@solution(
    "seq2seq_hinge",
    known="the same for two prompts and completions of 1 to 3 tokens",
    measured="loss − minimum",
    tolerance=1e-3,
)
def hinge_ragged() -> float:
    return excess_of_hinge(RAGGED)


@solution(
    "seq2seq_hinge",
    known="per token: the least loss, again a linear program's",
    measured="loss − minimum",
    tolerance=1e-3,
)
def hinge_per_token() -> float:
    return excess_of_hinge(RAGGED, per_token=True)


# ------------------------------------------------------------------------------------------ SLiC-HF


@solution(
    "slic_hf",
    known="target chosen: the one minimiser of hinge + λ NLL, by sequential quadratic programming",
    measured="KL(π* ‖ π)",
    tolerance=1e-3,
)
def slic_chosen() -> float:
    groups = contradicting(RAGGED, 40, seed=2)
    policy = trained(slic_hf, RAGGED, groups, 150, delta=1.0, nll_weight=0.5)
    worst = 0.0
    for x, group in enumerate(groups):
        targets = np.zeros(len(RAGGED.completions))
        for chosen, _, weight in both_ways(group):
            targets[chosen] += 0.5 * weight
        best = closest(hinges(both_ways(group), np.ones(len(targets)), 1.0), targets)
        worst = max(worst, kl(torch.tensor(best), policy.log_probs(x)))
    return worst


@solution(
    "slic_hf",
    known="target best: the one minimiser, where every completion is some group's best",
    measured="KL(π* ‖ π)",
    tolerance=1e-3,
)
def slic_best() -> float:
    groups = scored(RAGGED, seed=3)
    policy = trained(slic_hf, RAGGED, groups, 100, delta=1.0, nll_weight=0.5, target="best")
    worst = 0.0
    for x in range(len(RAGGED.prompts)):
        mine = of_prompt(groups, x)
        targets = np.zeros(len(RAGGED.completions))
        for group in mine:  # each pair of a group brings its group's best, which comes first
            targets[int(group.completions[0].text)] += 0.5 * len(strict_pairs([group]))
        best = closest(hinges(strict_pairs(mine), np.ones(len(targets)), 1.0), targets)
        worst = max(worst, kl(torch.tensor(best), policy.log_probs(x)))
    return worst


@solution(
    "slic_hf",
    known="sample_rank: the gradient enumerated over all pairs of samples",
    measured="largest error",
    tolerance=1e-10,
)
def slic_samples() -> float:
    policy, scores = dyadic_table(EVEN, 6), random_scores(EVEN, 7)
    config = slic_hf.Config(pairs="sample_rank", target="best", judge="given", delta=3.0, nll_weight=0.5)
    parts = Parts(groups=contradicting(EVEN, 1, 0), held_out=[], decode=str, stop_ids=())
    source = Drawn(policy.copy(), 64, k=2, products=True)
    method = replace(slic_hf.build(config, parts), source=source)
    handles = Handles(networks={"policy": policy}, dtype=torch.float64, judge=Judge(scores))
    groups = source(0, handles)
    with torch.no_grad():
        for annotator in method.annotate:
            groups = annotator(groups, handles)
    Step(method, handles, groups).backward()
    log_p, r = policy.log_probs(), scores[0]
    p = log_p.detach().exp()
    weight = p[:, None] * p[None, :] * (r[:, None] > r[None, :])  # of every winner and loser
    hinge = torch.relu(3.0 - log_p[:, None] + log_p[None, :])
    total = (weight * (hinge - 0.5 * log_p[:, None])).sum()
    (expected,) = torch.autograd.grad(total / weight.sum(), policy.logits)
    assert policy.logits.grad is not None
    return float((policy.logits.grad - expected).abs().max())


# ------------------------------------------------------------------------------------------ RRHF


def distance_of_rrhf(world: World, **fields: Any) -> float:
    """The largest KL to the minimiser of Σ max(0, p_j − p_i) + NLL of the best."""
    groups = scored(world, seed=4)
    policy = trained(rrhf, world, groups, 120, **fields)
    worst = 0.0
    for x in range(len(world.prompts)):
        mine = of_prompt(groups, x)
        targets = np.zeros(len(world.completions))
        for group in mine:
            number = int(group.completions[0].text)
            targets[number] += 1 / lengths(world)[number] if fields.get("nll") == "mean" else 1.0
        terms = hinges(strict_pairs(mine), lengths(world), 0.0)
        weighted = Hinges(a=terms.a, w=terms.w * fields.get("rank_weight", 1.0), delta=0.0)
        worst = max(worst, kl(torch.tensor(closest(weighted, targets)), policy.log_probs(x)))
    return worst


@solution(
    "rrhf",
    known="the one minimiser of rank hinge + NLL of the best, by sequential quadratic programming",
    measured="KL(π* ‖ π)",
    tolerance=1e-4,
)
def rrhf_even() -> float:
    return distance_of_rrhf(EVEN, rank_weight=0.3)


@solution(
    "rrhf",
    known="the same for completions of 1 to 3 tokens, whose log-probabilities are means",
    measured="KL(π* ‖ π)",
    tolerance=1e-4,
)
def rrhf_ragged() -> float:
    return distance_of_rrhf(RAGGED)


@solution(
    "rrhf",
    known="the same with a tenth of the ranking and the mean NLL",
    measured="KL(π* ‖ π)",
    tolerance=1e-4,
)
def rrhf_weighted() -> float:
    return distance_of_rrhf(RAGGED, rank_weight=0.1, nll="mean")


# ------------------------------------------------------------------------------------------ triplet


def random_embeddings(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """One prompt's and two completions' embeddings [1, 5] and [2, 5]."""
    draw = torch.Generator().manual_seed(seed)
    anchor, others = (torch.randn(n, 5, generator=draw, dtype=torch.float64) for n in (1, 2))
    return anchor.requires_grad_(), others


def triplet_loss(objective: Triplet, anchor: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    packed = batch(by_hand(1, 1, comparisons=FIRST_WINS))
    terms = objective(Outputs(prompt_embeddings=anchor, embeddings=others), packed)
    return terms.losses["triplet"][1].values.sum()


@solution(
    "triplet",
    known="α where all embeddings are the same, normalised or not",
    measured="largest error",
    tolerance=1e-12,
)
def triplet_collapsed() -> float:
    anchor, _ = random_embeddings(0)
    forms = (Triplet(margin=0.7), Triplet(margin=0.7, normalise=False))
    losses = [triplet_loss(form, anchor, anchor.expand(2, 5)).item() for form in forms]
    return max(abs(found - 0.7) for found in losses)


@solution(
    "triplet",
    known="2 (f(n) − f(p)) is the gradient at the anchor while a triplet is active, wherever the anchor lies",
    measured="largest error",
    tolerance=1e-12,
)
def triplet_gradient() -> float:
    errors = []
    for seed in range(5):
        anchor, others = random_embeddings(seed)
        triplet_loss(Triplet(margin=50.0, normalise=False), anchor, others).backward()
        assert anchor.grad is not None
        errors.append(float((anchor.grad - 2 * (others[1:] - others[:1])).abs().max()))
    return max(errors)


@solution(
    "triplet",
    known="a common translation of unnormalised embeddings changes nothing",
    measured="largest error",
    tolerance=1e-12,
)
def triplet_translation() -> float:
    anchor, others = random_embeddings(1)
    objective = Triplet(margin=50.0, normalise=False)
    moved = triplet_loss(objective, anchor + 3, others + 3)
    return abs((moved - triplet_loss(objective, anchor, others)).item())
