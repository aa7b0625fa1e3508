"""PPO, its first form and TRPO: their gradients, their limit, and a constraint that is never broken.

All three maximise J(π) = E_π[r] − β KL(π ‖ ρ), whose maximum is ρ e^{r/β} / Z; the KL enters as a reward.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

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
from trueup.engine.batch import Batch, Outputs
from trueup.engine.groups import Group
from trueup.engine.loop import Step, fit
from trueup.engine.method import Handles, Method, Parts
from trueup.engine.packing import pack
from trueup.methods import ppo, ppo_v1, trpo
from trueup.update.adamw import AdamW
from trueup.update.trust_region import TrustRegion

BETA = 0.7


@dataclass(frozen=True, eq=False)
class Truth:
    """A critic that is always right about the policy as it is; its one parameter changes nothing."""

    policy: Table
    reference: Table
    scores: Tensor
    module: nn.Module = field(default_factory=lambda: nn.Linear(1, 1, dtype=torch.float64))

    def __call__(self, batch: Batch, want: Sequence[str]) -> Outputs:
        """The value of the state before every token."""
        with torch.no_grad():
            values = exact_values(self.policy, self.reference, self.scores, BETA)
        (idle, _) = self.module.parameters()
        known = replace(self.policy, values=values)  # pyright: ignore
        said = known(batch, ("values",)).values
        assert said is not None
        return Outputs(values=said + 0 * idle.sum())


def on_table(method: Method, policy: Table, scores: Tensor, seed: int = 2) -> tuple[Method, Handles, Table]:
    """The method as built, completions drawn from the policy by strata, and a critic that knows the truth."""
    reference = random_table(policy.world, seed)
    networks = {"policy": policy, "reference": reference, "value": Truth(policy, reference, scores)}
    handles = Handles(networks=networks, dtype=torch.float64, judge=Judge(scores))
    return replace(method, source=Drawn(policy, 64)), handles, reference


def parts(world: World) -> Parts:
    """Data that the table's own source takes the place of."""
    return Parts(groups=[world.group(0, [0])], held_out=[], decode=str, stop_ids=())


def annotated(method: Method, handles: Handles) -> list[Group]:
    """The first step's groups."""
    groups = method.source(0, handles)
    for annotator in method.annotate:
        groups = annotator(groups, handles)
    return groups


ALGORITHMS = {
    "ppo": lambda world, lam: ppo.build(
        ppo.Config(algorithm=ppo.Algorithm(beta=BETA, lam=lam, missing_eos=None)), parts(world)
    ),
    "trpo": lambda world, lam: trpo.build(
        trpo.Config(algorithm=trpo.Algorithm(beta=BETA, lam=lam, missing_eos=None)), parts(world)
    ),
    "ppo_v1": lambda world, lam: ppo_v1.build(
        ppo_v1.Config(
            algorithm=ppo_v1.Algorithm(beta=BETA, lam=lam, missing_eos=None),
            trust=ppo_v1.Trust(estimator="k1"),
        ),
        parts(world),
    ),
}


def first_gradient_error(name: str, world: World) -> float:
    """How far the first gradient is from −∇J · (completions / tokens), over λ and without whitening.

    64 completions of each prompt hold a dyadic π exactly. The loss is a mean over tokens, J a mean over
    completions; with exact values any λ gives the same expectation, and whitening would only scale it.
    """
    worst = 0.0
    for lam in (0.0, 0.95, 1.0):
        policy, scores = dyadic_table(world, 1), random_scores(world, 5)
        method, handles, reference = on_table(ALGORITHMS[name](world, lam), policy, scores)
        plain = replace(method, annotate=tuple(a for a in method.annotate if not isinstance(a, Whiten)))
        groups = annotated(plain, handles)
        Step(plain, handles, groups).backward()
        (expected,) = torch.autograd.grad(objective_value(policy, reference, scores, BETA), policy.logits)
        tokens = sum(c.num_supervised for g in groups for c in g.completions)
        assert policy.logits.grad is not None
        gap = policy.logits.grad + expected * len(groups) / tokens
        worst = max(worst, float(gap.abs().max()))
    return worst


for _name in ALGORITHMS:
    for _world, _where in ((EVEN, "one prompt"), (RAGGED, "two prompts, completions of 1 to 3 tokens")):
        solution(
            _name,
            known=f"the first gradient is the enumerated ∇J for λ of 0, .95 and 1; {_where}",
            measured="largest difference of an entry",
            tolerance=1e-10,
        )(partial(first_gradient_error, _name, _world))


def sampled_gradient_error(name: str) -> float:
    """The largest |error| over its standard error, of the gradients of 256 groups of two independent draws.

    Every completion has 3 tokens, so a group's own gradient is −∇J / 3 in expectation.
    """
    policy, scores = dyadic_table(EVEN, 1), random_scores(EVEN, 5)
    method, handles, reference = on_table(ALGORITHMS[name](EVEN, 0.95), policy, scores)
    stages = tuple(a for a in method.annotate if not isinstance(a, Whiten))
    plain = replace(method, annotate=stages, source=Drawn(policy, 256, k=2))
    each = []
    for group in annotated(plain, handles):
        policy.logits.grad = None
        Step(plain, handles, [group]).backward()
        assert policy.logits.grad is not None
        each.append(policy.logits.grad.clone())
    (ascent,) = torch.autograd.grad(objective_value(policy, reference, scores, BETA), policy.logits)
    found = torch.stack(each)
    error = found.std(0) / len(found) ** 0.5
    return float(((found.mean(0) + ascent / 3).abs()[error > 0] / error[error > 0]).max())


for _name in ALGORITHMS:
    solution(
        _name,
        known="the first gradient is ∇J on average",
        measured="largest |error| over its standard error, of 256 groups",
        tolerance=4,
    )(partial(sampled_gradient_error, _name))


# ------------------------------------------------------------------------------------------ the limit


def limit(method: Method, policy: Table, num_steps: int) -> float:
    """KL(π ‖ π*) after so many steps, the largest over prompts; ρ is where a fresh policy starts."""
    world = policy.world
    method, handles, reference = on_table(method, policy, random_scores(world, 5))
    fit(method, handles, num_steps=num_steps, groups_per_step=64 * len(world.prompts))
    return distance(policy, reference, random_scores(world, 5), BETA)


FALLING = AdamW(lr=0.1, schedule="linear", warmup=0, final=0, max_grad_norm=10)


def limit_of_ppo(world: World) -> float:
    algorithm = ppo.Algorithm(beta=BETA, lam=0.0, missing_eos=None)
    config = ppo.Config(algorithm=algorithm, epochs_per_step=1, minibatch=None, update=FALLING)
    return limit(ppo.build(config, parts(world)), random_table(world, 2), 100)


def limit_of_ppo_v1(form: str, world: World) -> float:
    config = ppo_v1.Config(
        algorithm=ppo_v1.Algorithm(beta=BETA, lam=0.0, missing_eos=None),
        trust=ppo_v1.Trust(form=form),  # pyright: ignore[reportArgumentType]
        epochs_per_step=2,
        minibatch=None,
        update=FALLING,
    )
    return limit(ppo_v1.build(config, parts(world)), random_table(world, 2), 60)


def limit_of_trpo(world: World) -> float:
    """Steps have the length that δ gives them however near the limit is, so δ falls after 18 of them."""
    policy = random_table(world, 2)
    for max_kl, num_steps in ((2e-3, 18), (2e-4, 20)):
        update = TrustRegion(max_kl=max_kl, damping=1e-4, cg_iterations=3, critic_passes=0)
        config = trpo.Config(algorithm=trpo.Algorithm(beta=BETA, lam=0.0, missing_eos=None), update=update)
        reached = limit(trpo.build(config, parts(world)), policy, num_steps)
    return reached


LIMITS = {
    ("ppo", "clipped"): limit_of_ppo,
    ("ppo_v1", "fixed penalty"): partial(limit_of_ppo_v1, "fixed"),
    ("ppo_v1", "adaptive penalty"): partial(limit_of_ppo_v1, "adaptive"),
    ("ppo_v1", "dual penalty"): partial(limit_of_ppo_v1, "dual"),
    ("trpo", "trust region"): limit_of_trpo,
}
for (_name, _form), _reach in LIMITS.items():
    for _world, _where in ((EVEN, "one prompt"), (RAGGED, "two prompts, completions of 1 to 3 tokens")):
        solution(_name, known=f"{_form}: ρ e^{{r/β}} / Z; {_where}", measured="KL(π ‖ π*)", tolerance=1e-3)(
            partial(_reach, _world)
        )


# ------------------------------------------------------------------------------------------ the constraint


@dataclass(frozen=True, eq=False)
class Remembered:
    """A source that keeps each step's groups and the policy they were drawn from."""

    inner: Drawn
    seen: list[tuple[list[Group], Table]] = field(default_factory=list)

    @property
    def writes(self) -> frozenset[str]:
        """What the source within writes."""
        return self.inner.writes

    def __call__(self, step: int, handles: Handles) -> list[Group]:
        """The groups of the source within."""
        groups = self.inner(step, handles)
        self.seen.append((groups, self.inner.policy.copy()))
        return groups


@solution(
    "trpo",
    known="no update breaks its constraint: KL(old ‖ new) ≤ δ over the tokens of each step",
    measured="largest KL / δ of 15 steps from a random policy, whole vocabulary",
    tolerance=1.0,
)
def never_beyond_delta() -> float:
    delta, policy, scores = 0.05, random_table(RAGGED, 2), random_scores(RAGGED, 5)
    update = TrustRegion(max_kl=delta, damping=1e-3, cg_iterations=4, critic_passes=0)
    config = trpo.Config(algorithm=trpo.Algorithm(beta=BETA, missing_eos=None), update=update)
    method, handles, _ = on_table(trpo.build(config, parts(RAGGED)), policy, scores)
    source = Remembered(Drawn(policy, 24))
    shares: list[float] = []

    def compare(*_: object) -> None:
        groups, old = source.seen[-1]
        batch = pack(groups)
        with torch.no_grad():
            here, there = (table(batch, ("distributions",)).distributions for table in (old, policy))
        assert here is not None and there is not None
        shares.append(float((here.exp() * (here - there)).sum(-1).mean()) / delta)

    fit(replace(method, source=source), handles, num_steps=15, groups_per_step=48, progressed=compare)
    assert sum(share > 0.1 for share in shares) > 7, "most steps go a good part of the way"
    return max(shares)
