"""Corrections between sampler and trainer by enumeration: unbiased, or biased by exactly what is said.

μ samples and is dyadic: 64 draws hold it exactly, so a batch's gradient is an expectation under μ. π learns.
g(y) = Σ_t A(y) ∇ log π(y_t), and the gradient without mismatch is −E_π[g].
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from exact.world import EVEN, RAGGED, Table, World, dyadic_table, random_scores, random_table
from trueup.engine.batch import Batch
from trueup.engine.groups import Group
from trueup.engine.method import Objective
from trueup.engine.packing import pack
from trueup.objectives.group_relative import GroupRelative
from trueup.objectives.importance import CISPO, GSPO
from trueup.objectives.mismatch import Bound, Corrected, Correction, Level, levels
from trueup.objectives.mix import Sum
from trueup.objectives.policy_gradient import Clipped
from trueup.objectives.reinforce import ClippedSequence, Reinforce
from trueup.objectives.squared import APA
from trueup.objectives.surrogate import Surrogate
from trueup.objectives.value import ClippedValue

WORLDS = {"even": EVEN, "ragged": RAGGED}
NO_CAP = 1e30
CAP, FLOOR = 1.2, 0.6
"Both bind at some tokens and completions of these tables."
SUMS = {
    "reinforce": Reinforce(),
    "grpo": GroupRelative(beta=0.0, average="constant", longest=1),
    "cispo": CISPO(),
    "clipped": Clipped(),
    "surrogate": Surrogate(),
}
"Losses whose gradient at θ = old is −Σ_t A ∇ log π(y_t), up to what it is divided by."


def conditionals(table: Table, prompt: int) -> list[Tensor]:
    """log p(y_t | prompt, y_<t) of every completion [L]."""
    world, said = table.world, torch.log_softmax(table.logits, -1)
    x = world.prompts[prompt]
    return [
        torch.stack([said[world.state[x, y[:t]], y[t]] for t in range(len(y))]) for y in world.completions
    ]


def drawn(pi: Table, mu: Table, advantages: Tensor) -> Batch:
    """64 completions of every prompt, each as often as μ says, with what the stages would have written."""
    world, groups = mu.world, list[Group]()
    with torch.no_grad():
        for prompt in range(len(world.prompts)):
            counts = (64 * mu.log_probs(prompt).exp()).round().long()
            indices = torch.repeat_interleave(torch.arange(len(counts)), counts).tolist()
            assert len(indices) == 64
            ours, theirs = conditionals(pi, prompt), conditionals(mu, prompt)
            group = world.group(prompt, indices)
            made = []
            for c, i in zip(group.completions, indices, strict=True):
                said = {"sampled_logprobs": theirs[i].numpy(), "recomputed_logprobs": ours[i].numpy()}
                flat = np.full(len(ours[i]), float(advantages[prompt, i]))
                said |= {"old_logprobs": ours[i].numpy(), "ref_logprobs": ours[i].numpy(), "advantages": flat}
                made.append(c.with_columns(**said).with_marks(advantage=float(advantages[prompt, i])))
            groups.append(group.with_completions(made))
    return pack(groups)


def gradient(objective: Objective, pi: Table, batch: Batch) -> Tensor:
    """The gradient of the policy loss per completion, as the loop reduces it."""
    terms = objective(pi(batch, ("logprobs", "entropy")), batch)
    weight, entries = terms.losses["policy"]
    return torch.autograd.grad(weight * entries.values.sum() / batch.num_completions, pi.logits)[0]


def expected(pi: Table, advantages: Tensor, weigh: Callable[[int, int], Tensor]) -> Tensor:
    """−mean over prompts of Σ_y Σ_t weigh(prompt, y)[t] A(y) ∇ log π(y_t)."""
    total = torch.zeros((), dtype=torch.float64)
    for prompt in range(len(pi.world.prompts)):
        for i, said in enumerate(conditionals(pi, prompt)):
            total = total - (weigh(prompt, i).detach() * advantages[prompt, i] * said).sum()
    return torch.autograd.grad(total / len(pi.world.prompts), pi.logits)[0]


class Case:
    """The two policies and the advantages of a world, with every ratio."""

    def __init__(self, world: World) -> None:
        self.pi, self.mu = random_table(world, 3, 0.7), dyadic_table(world, 4)
        self.advantages = random_scores(world, 5)
        self.batch = drawn(self.pi, self.mu, self.advantages)

    def token(self, inside: Callable[[Tensor], Tensor]) -> Tensor:
        """Token t with y_t from π, before and behind it μ, each term times inside(ρ_t)."""

        def weigh(prompt: int, i: int) -> Tensor:
            ours, theirs = conditionals(self.pi, prompt)[i], conditionals(self.mu, prompt)[i]
            others = theirs.sum() - theirs
            return (others + ours).exp() * inside((ours - theirs).exp())

        return expected(self.pi, self.advantages, weigh)

    def sequence(self, inside: Callable[[Tensor], Tensor]) -> Tensor:
        """E_π[inside(ρ) g]."""

        def weigh(prompt: int, i: int) -> Tensor:
            ours, theirs = conditionals(self.pi, prompt)[i].sum(), conditionals(self.mu, prompt)[i].sum()
            return (ours.exp() * inside((ours - theirs).exp())).expand(len(self.pi.world.completions[i]))

        return expected(self.pi, self.advantages, weigh)


INSIDE: dict[Bound, Callable[[Tensor], Tensor]] = {
    "truncate": lambda ratio: (CAP / ratio).clamp(max=1),
    "mask": lambda ratio: ((ratio <= CAP) & (ratio >= FLOOR)).double(),
}
"What is left of an expectation under π."


@pytest.fixture(scope="module", params=WORLDS)
def case(request: pytest.FixtureRequest) -> Case:
    """A world with two policies."""
    return Case(WORLDS[request.param])


@pytest.mark.parametrize("name", SUMS)
def test_the_whole_ratio_is_unbiased(case: Case, name: str) -> None:
    """Without a cap the expectation under μ is the policy gradient of π, which is missed by far without."""
    exact = case.sequence(torch.ones_like)
    correction = Correction(level="sequence", bound="truncate", cap=NO_CAP)
    found = gradient(Corrected(inner=SUMS[name], correction=correction), case.pi, case.batch)
    assert torch.allclose(found, exact, atol=1e-12)
    assert float((gradient(SUMS[name], case.pi, case.batch) - exact).abs().max()) > 0.01


@pytest.mark.parametrize("bound", INSIDE)
@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("name", SUMS)
def test_the_bias_is_the_stated_one(case: Case, name: str, level: Level, bound: Bound) -> None:
    floor = FLOOR if bound == "mask" else 0.0
    correction = Correction(level=level, bound=bound, cap=CAP, floor=floor)
    said = getattr(case, level)(INSIDE[bound])
    found = gradient(Corrected(inner=SUMS[name], correction=correction), case.pi, case.batch)
    assert torch.allclose(found, said, atol=1e-12)
    assert float((said - case.sequence(torch.ones_like)).abs().max()) > 1e-3, "the cap binds"


def test_a_completions_loss_takes_a_completions_weight(case: Case) -> None:
    """At θ = old a whole completion's clip has the gradient of its tokens' sum, GSPO's that of their mean."""
    correction = Correction(level="sequence", bound="mask", cap=CAP, floor=FLOOR)
    found = gradient(Corrected(inner=ClippedSequence(), correction=correction), case.pi, case.batch)
    assert torch.allclose(found, case.sequence(INSIDE["mask"]), atol=1e-12)
    gspo = gradient(Corrected(inner=GSPO(), correction=correction), case.pi, case.batch)
    mean = gradient(
        Corrected(inner=GroupRelative(beta=0.0, average="completion"), correction=correction),
        case.pi,
        case.batch,
    )
    assert torch.allclose(gspo, mean, atol=1e-12)


def test_the_bias_is_bounded_by_what_the_cap_cuts(case: Case) -> None:
    """|bias| ≤ max|g| P_π(ρ > C): at the largest ratio there is none."""
    largest = max(
        float((a.sum() - b.sum()).exp().detach())
        for prompt in range(len(case.pi.world.prompts))
        for a, b in zip(conditionals(case.pi, prompt), conditionals(case.mu, prompt), strict=True)
    )
    for bound in INSIDE:
        correction = Correction(level="sequence", bound=bound, cap=largest * (1 + 1e-9))
        found = gradient(Corrected(inner=Reinforce(), correction=correction), case.pi, case.batch)
        assert torch.allclose(found, case.sequence(torch.ones_like), atol=1e-12)


def test_what_is_logged(case: Case) -> None:
    """The mean weight under μ is E_μ[ρ] = 1 without a cap, and the share that the cap binds is μ's."""
    for level, cap in (("token", NO_CAP), ("sequence", NO_CAP), ("sequence", CAP)):
        correction = Correction(level=level, bound="truncate", cap=cap)
        objective = Corrected(inner=Reinforce(), correction=correction)
        metrics = objective(case.pi(case.batch, ("logprobs", "entropy")), case.batch).metrics
        weight, bounded = metrics["sampler/weight"], metrics["sampler/bounded"]
        assert weight.unit == bounded.unit == ("token" if level == "token" else "completion")
        if cap == NO_CAP and level == "sequence":
            assert float(weight.values.mean()) == pytest.approx(1, abs=1e-12)
        log_ratio = case.batch.columns["recomputed_logprobs"] - case.batch.columns["sampled_logprobs"]
        whole = log_ratio if level == "token" else case.batch.per_completion(log_ratio)
        assert float(bounded.values.sum()) == float((whole > math.log(cap)).sum())


def test_which_losses_take_weights() -> None:
    assert levels(Sum(((1.0, Clipped()), (1.0, APA(beta=1.0))))) == frozenset()
    assert levels(Sum(((1.0, Clipped()), (0.5, ClippedValue())))) == {"token", "sequence"}
    assert levels(GSPO()) == levels(ClippedSequence()) == {"sequence"}
    assert levels(APA(beta=1.0)) == frozenset()
