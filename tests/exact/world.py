"""Two worlds small enough to enumerate: every completion of every prompt, with its exact probability.

Vocabulary 3, at most 3 tokens. `even`: one prompt, no end token, 27 completions of 3 tokens. `ragged`: two
prompts of 1 and 2 tokens, token 0 ends a completion, 15 completions of 1 to 3 tokens for each prompt.

A policy is a table of logits, one row for each prompt and prefix; everything is float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product

import numpy as np
import torch
from torch import Tensor, nn

from trueup.engine.batch import Batch, Outputs
from trueup.engine.groups import Completion, Group
from trueup.engine.method import Handles
from trueup.testing.toys import listed_in, plain

VOCABULARY, LONGEST = 3, 3
Tokens = tuple[int, ...]


@dataclass(frozen=True)
class World:
    """Prompts, and which token ends a completion (None: all are `longest`)."""

    prompts: tuple[Tokens, ...]
    stop: int | None
    longest: int = LONGEST

    @cached_property
    def completions(self) -> tuple[Tokens, ...]:
        """Every completion, in one fixed order; the same for each prompt."""
        found: dict[Tokens, None] = {}
        for tokens in product(range(VOCABULARY), repeat=self.longest):
            end = tokens.index(self.stop) + 1 if self.stop in tokens else self.longest
            found[tokens[:end]] = None
        return tuple(found)

    @cached_property
    def state(self) -> dict[tuple[Tokens, Tokens], int]:
        """The number of each (prompt, prefix)."""
        prefixes = dict.fromkeys(y[:t] for y in self.completions for t in range(len(y)))
        return {key: i for i, key in enumerate(product(self.prompts, prefixes))}

    def group(self, prompt: int, indices: Sequence[int], **parts: object) -> Group:
        """A group of the completions of those numbers; a completion's text is its number."""
        completions = tuple(
            Completion(
                text=str(i),
                tokens=np.array(self.completions[i], np.int32),
                finished=self.stop is None or self.completions[i][-1] == self.stop,
            )
            for i in indices
        )
        tokens = np.array(self.prompts[prompt], np.int32)
        return Group(
            prompt=(), prompt_tokens=tokens, completions=completions, meta={"prompt": prompt}, **parts
        )  # pyright: ignore


EVEN = World(prompts=((0,),), stop=None)
RAGGED = World(prompts=((1,), (2, 1)), stop=0)


@dataclass(frozen=True, eq=False)
class Table:
    """A network that is a table: logits, a value for every state, and a score for every completion."""

    world: World
    logits: nn.Parameter
    values: nn.Parameter
    rewards: nn.Parameter

    @property
    def module(self) -> nn.Module:
        """The tables."""
        held = nn.Module()
        held.logits, held.value_table, held.reward_table = self.logits, self.values, self.rewards
        return held

    def __call__(self, batch: Batch, want: Sequence[str]) -> Outputs:
        """Whatever is wanted, by looking up."""
        states, whole = self._states(batch)
        table = torch.log_softmax(self.logits, -1)[states]
        said = {
            "logprobs": lambda: table.gather(1, batch.targets[:, None]).squeeze(1),
            "entropy": lambda: -(table.exp() * table).sum(-1),
            "distributions": lambda: table,
            "values": lambda: self.values[states],
            "rewards": lambda: self.rewards.flatten()[whole],
        }
        return Outputs(**{n: said[n]() for n in plain(want)}, **listed_in(table, batch, want))

    def _states(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The number of the state before every token [T], and of every (prompt, completion) [N]."""
        tokens = batch.tokens.tolist()
        states, whole = [], []
        for span in batch.spans:
            start, length = span.prompt
            prompt = tuple(tokens[start : start + length])
            for first, size in span.completions:
                said = tuple(tokens[first : first + size])
                states += [self.world.state[prompt, said[:t]] for t in range(size)]
                place = self.world.prompts.index(prompt) * len(self.world.completions)
                whole.append(place + self.world.completions.index(said))
        return torch.tensor(states), torch.tensor(whole)

    def log_probs(self, prompt: int = 0) -> Tensor:
        """log π(y | prompt) of every completion."""
        table = torch.log_softmax(self.logits, -1)
        x = self.world.prompts[prompt]
        return torch.stack(
            [
                torch.stack([table[self.world.state[x, y[:t]], y[t]] for t in range(len(y))]).sum()
                for y in self.world.completions
            ]
        )

    def copy(self) -> Table:
        """The same tables, apart."""
        parts = {n: nn.Parameter(getattr(self, n).detach().clone()) for n in ("logits", "values", "rewards")}
        return replace(self, **parts)


def random_table(world: World, seed: int, scale: float = 1.0) -> Table:
    """Random logits; values and scores zero."""
    draw = torch.Generator().manual_seed(seed)
    return _table(
        world, scale * torch.randn(len(world.state), VOCABULARY, generator=draw, dtype=torch.float64)
    )


def dyadic_table(world: World, seed: int) -> Table:
    """Next-token probabilities 1/2, 1/4, 1/4 in some order at each state: 64 draws hold π exactly."""
    rng = np.random.default_rng(seed)
    rows = [rng.permutation([0.5, 0.25, 0.25]) for _ in world.state]
    return _table(world, torch.tensor(np.array(rows)).log())


def _table(world: World, logits: Tensor) -> Table:
    zeros = torch.zeros(len(world.prompts), len(world.completions), dtype=torch.float64)
    values = torch.zeros(len(world.state), dtype=torch.float64)
    return Table(world, nn.Parameter(logits), nn.Parameter(values), nn.Parameter(zeros))


def random_scores(world: World, seed: int) -> Tensor:
    """A true reward for every prompt and completion, [prompts, completions]."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(len(world.prompts), len(world.completions), generator=draw, dtype=torch.float64)


@dataclass(frozen=True)
class Judge:
    """Reads the true reward off a table by the number that is the completion's text."""

    scores: Tensor

    def __call__(self, groups: Sequence[Group]) -> list[list[float]]:
        """One score for each completion of each group."""
        return [[float(self.scores[g.meta["prompt"], int(c.text)]) for c in g.completions] for g in groups]


@dataclass(frozen=True, eq=False)
class Drawn:
    """A source: for every prompt `count` groups of K completions, each as often as π says.

    K = 1 is stratified sampling: where count · π(y) is whole for every y, as for a dyadic table with 64, the
    groups hold π exactly. For K > 1, `count` groups of K independent draws; `products` instead gives every
    K-tuple of the 64 draws that hold a dyadic π, so that sums over groups are expectations.
    """

    policy: Table
    count: int
    k: int = 1
    products: bool = False
    writes: frozenset[str] = field(default=frozenset({"sampled_logprobs"}))

    def __call__(self, step: int, handles: Handles) -> list[Group]:
        """Groups with `sampled_logprobs`, a pure function of the step."""
        rng = np.random.default_rng([step, 1])
        groups = []
        for prompt in range(len(self.policy.world.prompts)):
            with torch.no_grad():
                p = self.policy.log_probs(prompt).exp().numpy()
            if self.products:
                drawn = list(product(_stratified(p, self.count, 0.5), repeat=self.k))
            elif self.k == 1:
                drawn = [(i,) for i in _stratified(p, self.count, rng.random() * (1 - 1e-9))]
            else:
                drawn = rng.choice(len(p), (self.count, self.k), p=p / p.sum()).tolist()
            groups += [self.policy.world.group(prompt, indices) for indices in drawn]
        return _with_sampled(groups, self.policy)


def _stratified(p: np.ndarray, count: int, offset: float) -> list[int]:
    edges = np.cumsum(p) + 1e-12  # rounding must not move a tooth
    teeth = (np.arange(count) + offset) / count * edges[-1]
    return np.searchsorted(edges, teeth, side="right").tolist()


def _with_sampled(groups: Sequence[Group], policy: Table) -> list[Group]:
    with torch.no_grad():
        table = torch.log_softmax(policy.logits, -1).numpy()
    out = []
    for group in groups:
        x = policy.world.prompts[group.meta["prompt"]]
        made = []
        for c in group.completions:
            y = policy.world.completions[int(c.text)]
            said = [table[policy.world.state[x, y[:t]], y[t]] for t in range(len(y))]
            made.append(c.with_columns(sampled_logprobs=np.array(said)))
        out.append(group.with_completions(made))
    return out


def exact_values(policy: Table, reference: Table, scores: Tensor, beta: float) -> Tensor:
    """V of every state by backward recursion: V(s) = Σ_a π(a|s) [V(sa) − β log(π(a|s) / ρ(a|s))]."""
    world = policy.world
    values = torch.zeros(len(world.state), dtype=torch.float64)
    with torch.no_grad():
        log_pi, log_rho = (torch.log_softmax(n.logits, -1) for n in (policy, reference))
        for (x, prefix), s in sorted(world.state.items(), key=lambda item: -len(item[0][1])):
            for a in range(VOCABULARY):
                y = (*prefix, a)
                after = (
                    scores[world.prompts.index(x), world.completions.index(y)]
                    if y in world.completions
                    else values[world.state[x, y]]
                )
                values[s] += log_pi[s, a].exp() * (after - beta * (log_pi[s, a] - log_rho[s, a]))
    return values


def objective_value(policy: Table, reference: Table, scores: Tensor, beta: float) -> Tensor:
    """J = mean over prompts of E_π[r] − β KL(π ‖ ρ), by enumeration, with its gradient."""
    total = torch.zeros((), dtype=torch.float64)
    for prompt in range(len(policy.world.prompts)):
        log_pi = policy.log_probs(prompt)
        log_rho = reference.log_probs(prompt).detach()
        total = total + (log_pi.exp() * (scores[prompt] - beta * (log_pi - log_rho))).sum()
    return total / len(policy.world.prompts)


def optimum(reference: Table, scores: Tensor, beta: float, prompt: int = 0) -> Tensor:
    """log π* of every completion: log ρ + r / β − log Z."""
    return torch.log_softmax(reference.log_probs(prompt).detach() + scores[prompt] / beta, -1)


def kl(log_p: Tensor, log_q: Tensor) -> float:
    """KL(p ‖ q) in nats; 0 · log 0 = 0."""
    p = log_p.detach().exp()
    return float(torch.where(p > 0, p * (log_p.detach() - log_q.detach()), 0).sum())


def distance(policy: Table, reference: Table, scores: Tensor, beta: float) -> float:
    """The largest KL(π ‖ π*) over the prompts."""
    world = policy.world
    return max(
        kl(policy.log_probs(x), optimum(reference, scores, beta, x)) for x in range(len(world.prompts))
    )
