"""Policy gradients without a critic, PPO-ptx and APA: exact gradients and optima by enumeration.

The policy of the gradient rows is dyadic: 64 draws (or all pairs of them) hold it exactly, so the loop's own
gradient is the expectation. J = mean over prompts of E_π[r] − β KL(π ‖ ρ).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

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
    exact_values,
    objective_value,
    random_scores,
    random_table,
)
from trueup.annotate.advantages import Whiten
from trueup.annotate.baselines import AgainstGreedy
from trueup.engine.groups import Group, joined_column
from trueup.engine.loop import Step, fit
from trueup.engine.method import Handles, Method, Parts, Source
from trueup.methods import apa, cispo, grpo, gspo, ppo, ppo_ptx, reinforce, reinforce_pp, rloo, scst
from trueup.settings.blocks import LoopSettings
from trueup.sources.redrawn import Redrawn
from trueup.update.adamw import AdamW

BETA = 0.7
BANDIT = World(prompts=((0,),), stop=None, longest=1)
SHORT = World(prompts=((0,),), stop=0, longest=2)
"Seven completions of 1 or 2 tokens; 16 draws hold a dyadic policy."
GRADIENT = "largest |difference| of the loop's gradient from the enumerated one"
ERROR = "largest |error| over its standard error, of 256 groups"
KL = "KL(π ‖ π*)"


def texts(world: World) -> list[Group]:
    """Pretraining text: three of the world's sequences."""
    return [world.group(0, [i]) for i in (1, 4, 7)]


def greedy(groups: Sequence[Group], handles: Handles) -> list[Group]:
    """The likeliest token at each state, for each group's prompt."""
    policy = handles.networks["policy"]
    assert isinstance(policy, Table)
    world, found = policy.world, []
    for group in groups:
        prompt, prefix = int(group.meta["prompt"]), ()
        while prefix not in world.completions:
            prefix = (*prefix, int(policy.logits[world.state[world.prompts[prompt], prefix]].argmax()))
        (said,) = world.group(prompt, [world.completions.index(prefix)]).completions
        column = np.zeros(len(prefix))  # only the logged gap to the sampler reads it
        found.append(group.with_completions([said.with_columns(sampled_logprobs=column)]))
    return found


def opened(
    module: Any, config: Any, policy: Table, reference: Table, scores: Tensor, **drawn: Any
) -> tuple[Method, Handles]:
    """The method as it is built, on tables: its source draws from the table, its critic is exact."""
    world = policy.world
    parts = Parts(
        groups=[world.group(0, [0])], held_out=[], decode=str, stop_ids=(), more=lambda settings: texts(world)
    )
    method = module.build(config, parts)
    stages = tuple(replace(s, greedy=greedy) if isinstance(s, AgainstGreedy) else s for s in method.annotate)
    source: Source = Drawn(policy, **drawn)
    if isinstance(method.source, Redrawn):
        source = replace(method.source, judged=replace(method.source.judged, source=source))
    method = replace(method, source=source, annotate=stages)
    networks = {"policy": policy, "reference": reference}
    if "value" in method.networks:
        values = exact_values(policy, reference, scores, BETA if module is not apa else 0.0)
        networks["value"] = replace(policy.copy(), values=nn.Parameter(values))
    handles = Handles(networks=networks, dtype=torch.float64, judge=Judge(scores), microbatch_tokens=10**9)
    return method, handles


def annotated(method: Method, handles: Handles) -> list[Group]:
    with torch.no_grad():
        groups = method.source(0, handles)
        for stage in method.annotate:
            groups = stage(groups, handles)
    return groups


def gradient(method: Method, handles: Handles, groups: Sequence[Group]) -> Tensor:
    """The gradient of one minibatch with respect to the policy's logits."""
    policy = handles.networks["policy"]
    assert isinstance(policy, Table)
    policy.logits.grad = None
    Step(method, handles, groups, number=0).backward()
    assert policy.logits.grad is not None
    return policy.logits.grad.clone()


def case(world: World) -> tuple[Table, Table, Tensor]:
    return dyadic_table(world, 1), random_table(world, 2), random_scores(world, 3)


def ascent(policy: Table, reference: Table, scores: Tensor) -> Tensor:
    """∇J by enumeration."""
    return torch.autograd.grad(objective_value(policy, reference, scores, BETA), policy.logits)[0]


def gap(module: Any, config: Any, world: World, **drawn: Any) -> float:
    """How far the loop's gradient is from −∇J."""
    policy, reference, scores = case(world)
    method, handles = opened(module, config, policy, reference, scores, count=64, **drawn)
    found = gradient(method, handles, annotated(method, handles))
    return float((found + ascent(policy, reference, scores)).abs().max())


def standard_errors(method: Method, handles: Handles, expected: Tensor) -> float:
    """The largest |error| / standard error over the logits, of the mean of one gradient a group."""
    each = torch.stack([gradient(method, handles, [g]) for g in annotated(method, handles)])
    error = each.std(0) / len(each) ** 0.5
    return float(((each.mean(0) - expected).abs()[error > 0] / error[error > 0]).max())


def monte_carlo(module: Any, config: Any) -> float:
    """`standard_errors` against −∇J, of 256 groups of two independent completions."""
    policy, reference, scores = case(EVEN)
    method, handles = opened(module, config, policy, reference, scores, count=256, k=2)
    return standard_errors(method, handles, -ascent(policy, reference, scores))


def reached(module: Any, config: Any, world: World, steps: int, **drawn: Any) -> float:
    """KL to ρ e^{r/β} / Z after training from ρ."""
    reference, scores = random_table(world, 4), random_scores(world, 5)
    policy = reference.copy()
    update = AdamW(lr=0.1, schedule="linear", warmup=0, final=0, max_grad_norm=10)
    method, handles = opened(module, replace(config, update=update), policy, reference, scores, **drawn)
    fit(method, handles, num_steps=steps, groups_per_step=drawn["count"])
    return distance(policy, reference, scores, BETA)


# ------------------------------------------------------------------------------------------ REINFORCE

PLAIN = reinforce.Config(beta=BETA, baseline="none", missing_eos=None)


@solution("reinforce", known="∇L = −∇J, every baseline, both worlds", measured=GRADIENT, tolerance=1e-10)
def reinforce_gradient() -> float:
    kinds = ("none", "step", "moving")
    return max(gap(reinforce, replace(PLAIN, baseline=b), w) for b in kinds for w in (EVEN, RAGGED))


@solution("reinforce", known="∇L = −∇J on average", measured=ERROR, tolerance=4)
def reinforce_samples() -> float:
    return monte_carlo(reinforce, PLAIN)


@solution("reinforce", known="ρ e^{r/β} / Z, even world", measured=KL, tolerance=1e-3)
def reinforce_optimum() -> float:
    return reached(reinforce, replace(PLAIN, baseline="step"), EVEN, 120, count=64)


@solution("reinforce", known="ρ e^{r/β} / Z, ragged world", measured=KL, tolerance=1e-3)
def reinforce_optimum_ragged() -> float:
    return reached(reinforce, replace(PLAIN, baseline="step"), RAGGED, 120, count=64)


# ------------------------------------------------------------------------------------------ SCST

CRITICAL = scst.Config(beta=BETA, missing_eos=None)


@solution("scst", known="∇L = −∇J, both worlds", measured=GRADIENT, tolerance=1e-10)
def scst_gradient() -> float:
    return max(gap(scst, CRITICAL, w) for w in (EVEN, RAGGED))


@solution("scst", known="∇L = −∇J on average", measured=ERROR, tolerance=4)
def scst_samples() -> float:
    return monte_carlo(scst, CRITICAL)


@solution("scst", known="ρ e^{r/β} / Z, even world", measured=KL, tolerance=1e-3)
def scst_optimum() -> float:
    return reached(scst, CRITICAL, EVEN, 120, count=64)


@solution("scst", known="ρ e^{r/β} / Z, ragged world", measured=KL, tolerance=1e-3)
def scst_optimum_ragged() -> float:
    return reached(scst, CRITICAL, RAGGED, 120, count=64)


# ------------------------------------------------------------------------------------------ RLOO

OTHERS = rloo.Config(beta=BETA, missing_eos=None)


@solution("rloo", known="∇L = −∇J over all pairs of draws, even world", measured=GRADIENT, tolerance=1e-10)
def rloo_gradient() -> float:
    return gap(rloo, OTHERS, EVEN, k=2, products=True)


@solution("rloo", known="∇L = −∇J over all pairs of draws, ragged world", measured=GRADIENT, tolerance=1e-10)
def rloo_gradient_ragged() -> float:
    return gap(rloo, OTHERS, RAGGED, k=2, products=True)


@solution("rloo", known="∇L = −∇J on average", measured=ERROR, tolerance=4)
def rloo_samples() -> float:
    return monte_carlo(rloo, OTHERS)


@solution("rloo", known="ρ e^{r/β} / Z, even world", measured=KL, tolerance=1e-3)
def rloo_optimum() -> float:
    return reached(rloo, OTHERS, EVEN, 120, count=16, k=4)


@solution("rloo", known="ρ e^{r/β} / Z, ragged world", measured=KL, tolerance=1e-3)
def rloo_optimum_ragged() -> float:
    return reached(rloo, OTHERS, RAGGED, 160, count=16, k=4)


# ------------------------------------------------------------------------------------------ GRPO

RELATIVE = grpo.Config(algorithm=grpo.Algorithm(beta=0.0, missing_eos=None))


def lengths(world: World) -> Tensor:
    """How many tokens each completion has."""
    return torch.tensor([len(y) for y in world.completions], dtype=torch.float64)


def normalised_ascent(policy: Table, scores: Tensor, divided_by: Tensor) -> Tensor:
    """E over pairs of ½ Σ_i A_i ∇log π(y_i) / d_i, A = (r − mean) / (sample std + 1e-4), by enumeration."""
    total = torch.zeros((), dtype=torch.float64)
    for x, r in enumerate(scores):
        apart = r[:, None] - r[None, :]
        advantage = apart / 2 / (apart.abs() / 2**0.5 + 1e-4)  # of the first; the second's is its opposite
        log_pi = policy.log_probs(x)
        weight = (log_pi[:, None] + log_pi[None, :]).exp().detach() * advantage
        total = total + (weight * (log_pi / divided_by)[:, None]).sum()
    return torch.autograd.grad(total / len(scores), policy.logits)[0]


def relative_gap(module: Any, config: Any, world: World, *, count: int = 64, tokens: bool = False) -> float:
    """How far the first gradient is from the enumerated one, over all pairs of so many draws.

    A completion's gradient is divided by its own length, or with `tokens` by the mean one.
    """
    policy, reference, scores = case(world)
    method, handles = opened(module, config, policy, reference, scores, count=count, k=2, products=True)
    groups = annotated(method, handles)
    found = gradient(method, handles, groups)
    mean = float(np.mean([c.num_tokens for g in groups for c in g.completions]))
    divided_by = torch.full_like(lengths(world), mean) if tokens else lengths(world)
    return float((found + normalised_ascent(policy, scores, divided_by)).abs().max())


@solution(
    "grpo",
    known="first ∇L = REINFORCE with group-normalised advantages and weights 1/T, even world",
    measured=GRADIENT,
    tolerance=1e-10,
)
def grpo_gradient() -> float:
    return relative_gap(grpo, RELATIVE, EVEN)


@solution(
    "grpo",
    known="first ∇L = REINFORCE with group-normalised advantages and weights 1/T, ragged world",
    measured=GRADIENT,
    tolerance=1e-10,
)
def grpo_gradient_ragged() -> float:
    return relative_gap(grpo, RELATIVE, RAGGED)


@solution("grpo", known="the same on average", measured=ERROR, tolerance=4)
def grpo_samples() -> float:
    policy, reference, scores = case(EVEN)
    method, handles = opened(grpo, RELATIVE, policy, reference, scores, count=256, k=2)
    return standard_errors(method, handles, -normalised_ascent(policy, scores, lengths(EVEN)))


def alike(world: World) -> Tensor:
    """Scores of 0 or 1: for the second prompt, one completion alone has a 1."""
    scores = (random_scores(world, 3) > 0).double()
    scores[1:] = 0
    scores[1, 4] = 1
    return scores


@solution(
    "grpo",
    known="max_batches: P(kept = x) ∝ P(the scores of x are not all equal), over all pairs of draws",
    measured="largest difference",
    tolerance=1e-12,
)
def grpo_kept() -> float:
    policy, reference = dyadic_table(RAGGED, 1), random_table(RAGGED, 2)
    scores = alike(RAGGED)
    algorithm = replace(RELATIVE.algorithm, max_batches=2)
    config = replace(RELATIVE, algorithm=algorithm, loop=LoopSettings(batch=10**6))
    method, handles = opened(grpo, config, policy, reference, scores, count=64, k=2, products=True)
    kept = [g.meta["prompt"] for g in annotated(method, handles)]
    won = torch.stack([(policy.log_probs(x).exp() * scores[x]).sum() for x in range(2)]).detach()
    mixed = 2 * won * (1 - won)
    expected = mixed / mixed.sum()
    return max(abs(kept.count(x) / len(kept) - float(expected[x])) for x in range(2))


def mean_entropy(policy: Table) -> Tensor:
    """Σ_s P(s) H(π(· | s)) over the states that π visits, P held constant and summing to 1."""
    table, world = torch.log_softmax(policy.logits, -1), policy.world
    visits = torch.zeros(len(world.state), dtype=torch.float64)
    for x, prompt in enumerate(world.prompts):
        for y, mass in zip(world.completions, policy.log_probs(x).detach().exp(), strict=True):
            for t in range(len(y)):
                visits[world.state[prompt, y[:t]]] += mass
    entropy = -(table.exp() * table).sum(-1)
    return (visits / visits.sum() * entropy).sum()


@solution(
    "grpo",
    known="entropy η: first ∇L = the same − η Σ_s P(s) ∇H(s), P the states' shares, 1 or 2 tokens",
    measured=GRADIENT,
    tolerance=1e-10,
)
def grpo_entropy() -> float:
    policy, reference, scores = case(SHORT)
    config = replace(RELATIVE, algorithm=replace(RELATIVE.algorithm, entropy=0.5))
    method, handles = opened(grpo, config, policy, reference, scores, count=16, k=2, products=True)
    (bonus,) = torch.autograd.grad(mean_entropy(policy), policy.logits)
    expected = -normalised_ascent(policy, scores, lengths(SHORT)) - 0.5 * bonus
    return float((gradient(method, handles, annotated(method, handles)) - expected).abs().max())


# ------------------------------------------------------------------------------------------ GSPO, CISPO

WHOLE = gspo.Config(algorithm=gspo.Algorithm(missing_eos=None), minibatch=None)
WEIGHTED = cispo.Config(algorithm=cispo.Algorithm(missing_eos=None), minibatch=None)


@solution(
    "gspo",
    known="first ∇L = GRPO's: group-normalised advantages and weights 1/T, 1 or 2 tokens",
    measured=GRADIENT,
    tolerance=1e-10,
)
def gspo_gradient() -> float:
    return relative_gap(gspo, WHOLE, SHORT, count=16)


@solution(
    "cispo",
    known="first ∇L = REINFORCE with group-normalised advantages over the mean length, 1 or 2 tokens",
    measured=GRADIENT,
    tolerance=1e-10,
)
def cispo_gradient() -> float:
    return relative_gap(cispo, WEIGHTED, SHORT, count=16, tokens=True)


# ------------------------------------------------------------------------------------------ REINFORCE++

WHITENED = reinforce_pp.Config(
    algorithm=reinforce_pp.Algorithm(beta=BETA, missing_eos=None), epochs_per_step=1, minibatch=None
)


def whitened_gap(config: Any, world: World, factor: float, beta: float, **drawn: Any) -> float:
    """How far the first gradient is from −factor · ∇J_β / (σ · mean tokens a completion)."""
    policy, reference, scores = case(world)
    method, handles = opened(reinforce_pp, config, policy, reference, scores, **drawn)
    plain = replace(method, annotate=tuple(s for s in method.annotate if not isinstance(s, Whiten)))
    sigma = joined_column(annotated(plain, handles), "advantages").std()
    groups = annotated(method, handles)
    mean = float(np.mean([c.num_tokens for g in groups for c in g.completions]))
    (up,) = torch.autograd.grad(objective_value(policy, reference, scores, beta), policy.logits)
    return float((gradient(method, handles, groups) + factor * up / (sigma * mean)).abs().max())


@solution(
    "reinforce_pp",
    known="first ∇L = −∇J / (σ · mean tokens a completion), σ the spread of the returns, both worlds",
    measured=GRADIENT,
    tolerance=1e-8,
)
def reinforce_pp_gradient() -> float:
    return max(whitened_gap(WHITENED, world, 1.0, BETA, count=64) for world in (EVEN, RAGGED))


@solution(
    "reinforce_pp",
    known="with a group's mean off first, β = 0, K = 2: half of ∇E[r], over σ · mean tokens, 1 or 2 tokens",
    measured=GRADIENT,
    tolerance=1e-8,
)
def reinforce_pp_group() -> float:
    algorithm = replace(WHITENED.algorithm, beta=0.0, baseline="group")
    config = replace(WHITENED, algorithm=algorithm, num_completions=2)
    return whitened_gap(config, SHORT, 0.5, 0.0, count=16, k=2, products=True)


# ------------------------------------------------------------------------------------------ PPO-ptx

MIXED = ppo_ptx.Config(
    algorithm=ppo.Algorithm(beta=BETA, missing_eos=None),
    pretraining=ppo_ptx.Pretraining(coefficient=3.0, batch=3),
    epochs_per_step=1,
    minibatch=None,
)


def mixed(world: World, **drawn: Any) -> tuple[Method, Handles, list[Group], Tensor]:
    """PPO-ptx without whitening, its groups, and −∇J / T̄ + γ ∇NLL(text), T̄ the tokens a completion."""
    policy, reference, scores = case(world)
    method, handles = opened(ppo_ptx, MIXED, policy, reference, scores, **drawn)
    method = replace(method, annotate=tuple(s for s in method.annotate if not isinstance(s, Whiten)))
    groups = annotated(method, handles)
    lengths = [c.num_tokens for g in groups for c in g.completions]
    said = [world.completions.index(tuple(g.completions[0].tokens.tolist())) for g in texts(world)]
    nll = -policy.log_probs(0)[said].sum() / sum(len(world.completions[i]) for i in said)
    (text,) = torch.autograd.grad(nll, policy.logits)
    expected = 3.0 * text - ascent(policy, reference, scores) * len(lengths) / sum(lengths)
    return method, handles, groups, expected


@solution(
    "ppo_ptx",
    known="first ∇L = −∇J / (mean tokens a completion) + γ ∇NLL(text), both worlds",
    measured=GRADIENT,
    tolerance=1e-10,
)
def ppo_ptx_gradient() -> float:
    gaps = []
    for world in (EVEN, RAGGED):
        method, handles, groups, expected = mixed(world, count=64)
        gaps.append(float((gradient(method, handles, groups) - expected).abs().max()))
    return max(gaps)


@solution("ppo_ptx", known="the same on average", measured=ERROR, tolerance=4)
def ppo_ptx_samples() -> float:
    method, handles, _, expected = mixed(EVEN, count=256, k=2)
    return standard_errors(method, handles, expected)


# ------------------------------------------------------------------------------------------ APA


def apa_reached(world: World, values: Tensor, reference: Table, scores: Tensor) -> float:
    """KL to ρ e^{r/β} / Z after training from ρ with these values for good: A = r or V' minus V."""
    policy = reference.copy()
    update = AdamW(lr=0.1, schedule="linear", warmup=0, final=0, max_grad_norm=100)
    algorithm = apa.Algorithm(beta=BETA, value_coefficient=0.0, lam=0.0, whiten=False, missing_eos=None)
    config = apa.Config(algorithm=algorithm, epochs_per_step=1, minibatch=None, update=update)
    method, handles = opened(apa, config, policy, reference, scores, count=48)
    fixed = replace(policy.copy(), values=nn.Parameter(values))
    handles = replace(handles, networks={**handles.networks, "value": fixed})
    fit(method, handles, num_steps=150, groups_per_step=48)
    return distance(policy, reference, scores, BETA)


def soft_values(reference: Table, scores: Tensor) -> Tensor:
    """V(s) = β log Σ_a ρ(a|s) e^{V(sa)/β}: with A = V(sa) − V(s), Σ_a ρ e^{A/β} = 1 at every state."""
    world = reference.world
    values = torch.zeros(len(world.state), dtype=torch.float64)
    log_rho = torch.log_softmax(reference.logits.detach(), -1)
    for (x, prefix), s in sorted(world.state.items(), key=lambda item: -len(item[0][1])):
        after = []
        for a in range(log_rho.shape[1]):
            y = (*prefix, a)
            whole = y in world.completions
            after.append(
                scores[world.prompts.index(x), world.completions.index(y)]
                if whole
                else values[world.state[x, y]]
            )
        values[s] = BETA * torch.logsumexp(log_rho[s] + torch.stack(after) / BETA, 0)
    return values


@solution("apa", known="ρ e^{A/β} on a bandit where Σ ρ e^{A/β} = 1", measured=KL, tolerance=1e-6)
def apa_bandit() -> float:
    reference, scores = random_table(BANDIT, 4), random_scores(BANDIT, 5)
    return apa_reached(BANDIT, soft_values(reference, scores), reference, scores)


@solution("apa", known="ρ e^{r/β} / Z on a tree with soft values", measured=KL, tolerance=1e-3)
def apa_tree_soft() -> float:
    reference, scores = random_table(EVEN, 4), random_scores(EVEN, 5)
    return apa_reached(EVEN, soft_values(reference, scores), reference, scores)


@solution(
    "apa",
    known="not ρ e^{r/β} / Z on a tree with ρ's own values, whose Z(s) is not 1: a stated distance",
    measured=KL,
    tolerance=0.06,
)
def apa_tree() -> float:
    reference, scores = random_table(EVEN, 4), random_scores(EVEN, 5)
    return apa_reached(EVEN, exact_values(reference, reference, scores, 0.0), reference, scores)
