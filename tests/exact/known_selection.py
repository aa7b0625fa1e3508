"""Imitation and selection: the laws that a policy ends at when what was kept is all it learns.

A table that learns by likelihood ends at the frequencies of what it is shown: every answer here is the law of
what a selection keeps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from exact.solutions import solution
from exact.world import (
    EVEN,
    RAGGED,
    VOCABULARY,
    Drawn,
    Judge,
    Table,
    World,
    dyadic_table,
    kl,
    random_scores,
    random_table,
)
from trueup.engine.batch import Batch, Outputs
from trueup.engine.groups import Comparison, Group, Message, Role
from trueup.engine.loop import Step, fit
from trueup.engine.method import Handles, Method, Parts
from trueup.methods import best_of_n_sft, hir, imitation, raft, sft
from trueup.settings.blocks import LoopSettings
from trueup.update.adamw import AdamW

NEVER = -60.0
"A logit whose token is never drawn."
FAST = AdamW(lr=0.5, warmup=0, final=0, betas=(0.9, 0.99), max_grad_norm=10)
STAGED = replace(FAST, schedule="constant")
"For rows of several steps: each has to end at what it kept."


def law_of(table: Table, prompt: int = 0) -> Tensor:
    """π(y | prompt) of every completion."""
    return table.log_probs(prompt).detach().exp()


def table_of(world: World, laws: Sequence[Tensor]) -> Table:
    """The table whose completions have these probabilities; what has none gets next to none."""
    logits = torch.full((len(world.state), VOCABULARY), NEVER, dtype=torch.float64)
    for (x, prefix), s in world.state.items():
        law = laws[world.prompts.index(x)]
        for a in range(VOCABULARY):
            begins = (*prefix, a)
            mass = sum(
                float(p) for p, y in zip(law, world.completions, strict=True) if y[: len(begins)] == begins
            )
            logits[s, a] = math.log(mass) if mass > 0 else NEVER
    return replace(random_table(world, 0), logits=nn.Parameter(logits))


def few(*masses: float) -> Table:
    """One prompt with a few possible completions of 3 tokens, spread over the tree."""
    law = torch.zeros(len(EVEN.completions), dtype=torch.float64)
    law[torch.arange(len(masses)) * 5 % len(law)] = torch.tensor(masses, dtype=torch.float64)
    return table_of(EVEN, [law])


def best_of(law: Tensor, scores: Tensor, n: int) -> Tensor:
    """P_n(y) = F(y)^n − F⁻(y)^n in the order of scores."""
    order = scores.argsort()
    below = torch.cat([law.new_zeros(1), law[order].cumsum(0)])
    found = torch.zeros_like(law)
    found[order] = below[1:] ** n - below[:-1] ** n
    return found


def top_share(law: Tensor, scores: Tensor, share: float) -> Tensor:
    """The law cut to its `share` of best-scored mass; the completion on the edge keeps the part inside."""
    order = scores.argsort(descending=True)
    before = law[order].cumsum(0) - law[order]
    found = torch.zeros_like(law)
    found[order] = torch.minimum(law[order], (share - before).clamp(min=0)) / share
    return found


def built(module: object, source: object, **config: object) -> Method:
    """A method with another source, all of a step at once."""
    parts = Parts(groups=[EVEN.group(0, [0])], held_out=[], decode=str, stop_ids=())
    method: Method = module.build(module.Config(minibatch=None, missing_eos=None, **config), parts)  # pyright: ignore
    return replace(method, source=source)  # pyright: ignore[reportArgumentType]


def run(method: Method, networks: dict[str, Table], scores: Tensor, num_steps: int = 1) -> None:
    """Nothing; trains on every group of each step at once."""
    handles = Handles(networks=networks, dtype=torch.float64, judge=Judge(scores), microbatch_tokens=10**6)
    fit(method, handles, num_steps=num_steps, groups_per_step=1)


def steepest(method: Method, policy: Table, reference: Table, scores: Tensor) -> float:
    """The largest entry of the loss's gradient at a policy, over one step's annotated groups."""
    networks = {"policy": policy, "reference": reference}
    handles = Handles(networks=networks, dtype=torch.float64, judge=Judge(scores), microbatch_tokens=10**6)
    groups = method.source(0, handles)
    for annotator in method.annotate:
        groups = annotator(groups, handles)
    Step(method, handles, groups).backward()
    assert policy.logits.grad is not None
    return float(policy.logits.grad.abs().max())


# ------------------------------------------------------------------------------------------ likelihood


@solution("sft", known="the law of the demonstrations", measured="KL(data ‖ π)", tolerance=1e-3)
def sft_ragged() -> float:
    truth = dyadic_table(RAGGED, 1)
    shown = Drawn(truth, 64)(0, Handles(networks={}))
    parts = Parts(groups=shown, held_out=[], decode=str, stop_ids=())
    config = sft.Config(loop=LoopSettings(batch=len(shown)), update=FAST)
    policy = random_table(RAGGED, 2)
    run(sft.build(config, parts), {"policy": policy}, torch.zeros(2, 15), num_steps=80)
    return max(kl(truth.log_probs(x), policy.log_probs(x)) for x in range(2))


@solution(
    "imitation",
    known="the law of what wins a pair of different draws: (P_2 − ρ²) / (1 − Σ ρ²)",
    measured="KL(winners ‖ π)",
    tolerance=1e-3,
)
def imitation_even() -> float:
    reference, scores = few(1 / 2, 1 / 4, 1 / 8, 1 / 8), random_scores(EVEN, 3)
    pairs = Drawn(reference, 8, k=2, products=True)(0, Handles(networks={}))
    values = Judge(scores)(pairs)
    shown = [
        replace(g, comparisons=(Comparison(a=0, b=1, choice="a" if a > b else "b" if b > a else "tie"),))
        for g, (a, b) in zip(pairs, values, strict=True)
    ]
    parts = Parts(groups=shown, held_out=[], decode=str, stop_ids=())
    config = imitation.Config(loop=LoopSettings(batch=len(shown)), update=FAST)
    policy = random_table(EVEN, 2)
    run(imitation.build(config, parts), {"policy": policy}, scores, num_steps=100)
    law = law_of(reference)
    won = best_of(law, scores[0], 2) - law**2
    return kl((won / won.sum()).log(), policy.log_probs())


# ------------------------------------------------------------------------------------------ best of n


@solution(
    "best_of_n_sft",
    known="F^n − F⁻^n is where the loss is least (n = 2, two prompts, uneven lengths)",
    measured="largest gradient there",
    tolerance=1e-10,
)
def best_of_n_sft_gradient() -> float:
    reference, scores = dyadic_table(RAGGED, 1), random_scores(RAGGED, 2)
    laws = [best_of(law_of(reference, x), scores[x], 2) for x in range(2)]
    method = built(best_of_n_sft, Drawn(reference, 64, k=2, products=True), n=2)
    return steepest(method, table_of(RAGGED, laws), reference, scores)


@solution("best_of_n_sft", known="F^n − F⁻^n (n = 3)", measured="KL(P_n ‖ π)", tolerance=1e-3)
def best_of_n_sft_law() -> float:
    reference, scores = few(1 / 2, 1 / 4, 1 / 8, 1 / 8), random_scores(EVEN, 3)
    source = Drawn(reference, 8, k=3, products=True)
    method = built(best_of_n_sft, source, n=3, epochs_per_step=80, update=FAST)
    policy = random_table(EVEN, 2)
    run(method, {"policy": policy, "reference": reference}, scores)
    return kl(best_of(law_of(reference), scores[0], 3).log(), policy.log_probs())


# ------------------------------------------------------------------------------------------ RAFT


@solution(
    "raft",
    known="select global: after t steps ρ cut to its top 1/k^t by reward, at KL log k^t (k = 2, t = 3)",
    measured="KL(cut ‖ π), |KL(π ‖ ρ) − log 8|",
    tolerance=1e-3,
)
def raft_global() -> float:
    reference, scores = dyadic_table(EVEN, 1), random_scores(EVEN, CUT_BETWEEN)
    policy = reference.copy()
    config = {"k": 2, "epochs_per_step": 100, "loop": LoopSettings(batch=64), "update": STAGED}
    method = built(raft, Drawn(policy, 64, products=True), **config)
    run(method, {"policy": policy}, scores, num_steps=3)
    cut = top_share(law_of(reference), scores[0], 1 / 8)
    moved = kl(policy.log_probs(), reference.log_probs())
    return max(kl(cut.log(), policy.log_probs()), abs(moved - math.log(8)))


CUT_BETWEEN = 5
"Scores under which the top eighth of that ρ ends between two completions."


@solution(
    "raft",
    known="select per_prompt: after t steps the best-of-n law with n = k^t (k = 2, t = 2)",
    measured="KL(P_4 ‖ π)",
    tolerance=1e-3,
)
def raft_per_prompt() -> float:
    reference, scores = few(1 / 4, 1 / 4, 1 / 4, 1 / 4), random_scores(EVEN, 3)
    policy = reference.copy()
    source = Drawn(policy, 16, k=2, products=True)
    config = {"k": 2, "select": "per_prompt", "epochs_per_step": 50, "update": STAGED}
    run(built(raft, source, **config), {"policy": policy}, scores, num_steps=2)
    return kl(best_of(law_of(reference), scores[0], 4).log(), policy.log_probs())


@solution(
    "raft",
    known="k = 1 keeps everything: self-training changes nothing in expectation",
    measured="largest gradient",
    tolerance=1e-10,
)
def raft_keeps_all() -> float:
    policy = dyadic_table(RAGGED, 1)
    method = built(raft, Drawn(policy, 64), k=1)
    return steepest(method, policy, policy, random_scores(RAGGED, 2))


@solution(
    "raft",
    known="β > 0: ρ cut by r − β log(π / ρ) in place of r",
    measured="KL(cut ‖ π)",
    tolerance=1e-3,
)
def raft_penalised() -> float:
    start, reference, scores = dyadic_table(EVEN, 1), random_table(EVEN, 4), random_scores(EVEN, 2)
    policy, beta = start.copy(), 0.5
    config = {"k": 2, "beta": beta, "epochs_per_step": 80, "loop": LoopSettings(batch=64), "update": FAST}
    method = built(raft, Drawn(policy, 64, products=True), **config)
    run(method, {"policy": policy, "reference": reference}, scores)
    shaped = scores[0] - beta * (start.log_probs() - reference.log_probs()).detach()
    return kl(top_share(law_of(start), shaped, 1 / 2).log(), policy.log_probs())


# ------------------------------------------------------------------------------------------ HIR

TOLD = World(prompts=((0, 1), (0, 2)), stop=None)
"Two instructions after one question: prompt 0 asks for good, prompt 1 for bad."


@dataclass(frozen=True, eq=False)
class Instructed:
    """A table asked where the instruction stands before each completion, not in the group's prompt."""

    table: Table
    module: nn.Module

    def __call__(self, batch: Batch, want: Sequence[str]) -> Outputs:
        """Log-probabilities and distributions, by looking up."""
        tokens = batch.tokens.tolist()
        states: dict[int, int] = {}
        for span in batch.spans:
            for first, size in span.completions:
                prompt = (tokens[span.prompt[0]], tokens[first])
                for t in range(1, size):
                    states[first + t - 1] = self.table.world.state[
                        prompt, tuple(tokens[first + 1 : first + t])
                    ]
        table = torch.log_softmax(self.table.logits, -1)[[states[i] for i in batch.at.tolist()]]
        said = {"logprobs": table.gather(1, batch.targets[:, None]).squeeze(1), "distributions": table}
        return Outputs(**{name: said[name] for name in want})


def told_ids(messages: Sequence[Message]) -> np.ndarray:
    """The question, and the instruction after it."""
    return np.array([0, 1 if messages[-1].content.endswith("good") else 2], np.int32)


@dataclass(frozen=True, eq=False)
class Asked:
    """Draws under the first instruction alone, with the question's text on them."""

    policy: Table
    writes: frozenset[str] = frozenset({"sampled_logprobs"})

    def __call__(self, step: int, handles: Handles) -> list[Group]:
        """The groups of prompt 0."""
        groups = Drawn(self.policy, 64, products=True)(step, handles)
        return [replace(g, prompt=(Message(Role.TEXT, "q"),)) for g in groups if g.meta["prompt"] == 0]


@solution(
    "hir",
    known="ε = c = e = 0: under each instruction the sampling law cut to what satisfies it",
    measured="KL(cut ‖ π) under either",
    tolerance=1e-3,
)
def hir_likelihood() -> float:
    start, scores = dyadic_table(TOLD, 1), random_scores(TOLD, 2)
    policy = start.copy()
    algorithm = hir.Algorithm(smoothing=0.0, contrastive=0.0, entropy=0.0, threshold=0.0, missing_eos=None)
    config = hir.Config(algorithm=algorithm, minibatch=None, epochs_per_step=80, update=FAST)
    parts = Parts(groups=[TOLD.group(0, [0])], held_out=[], decode=str, stop_ids=(), prompt_ids=told_ids)
    method = replace(hir.build(config, parts), source=Asked(start))
    network = Instructed(policy, policy.module)
    run(method, {"policy": network}, scores)  # pyright: ignore[reportArgumentType]
    good = torch.where(scores[0] >= 0, law_of(start), 0)
    bad = law_of(start) - good
    laws = (good / good.sum()).log(), (bad / bad.sum()).log()
    return max(kl(law, policy.log_probs(x)) for x, law in enumerate(laws))
