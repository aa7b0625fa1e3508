"""A policy small enough to enumerate: 3 tokens, sequences of 3, so 27 of them and 13 states.

State 0 is the empty prefix, 1 + a the prefix a, 4 + 3a + b the prefix ab.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np
import torch
from torch import Tensor, nn

from trueup.batch import Batch, Outputs
from trueup.groups import Completion, Group
from trueup.method import Handles

SEQUENCES = torch.tensor(list(product(range(3), repeat=3)))
STATES = torch.stack(
    [torch.zeros(27).long(), 1 + SEQUENCES[:, 0], 4 + SEQUENCES[:, :2] @ torch.tensor([3, 1])], 1
)


@dataclass(frozen=True, eq=False)
class Tree:
    """A network whose logits are a table, one row for each prefix."""

    logits: nn.Parameter

    @property
    def module(self) -> nn.Module:
        """The table."""
        return nn.ParameterList([self.logits])

    def __call__(self, batch: Batch, want: Sequence[str]) -> Outputs:
        """Log-probabilities and entropy at every token; every completion has 3."""
        states, targets = states_of(batch), batch.targets.reshape(-1, 3)
        table = torch.log_softmax(self.logits, -1)
        return Outputs(
            logprobs=table[states, targets].flatten(),
            entropy=-(table.exp() * table).sum(-1)[states].flatten().detach() if "entropy" in want else None,
        )

    def log_probs(self) -> Tensor:
        """log π(y) of all 27 sequences."""
        return torch.log_softmax(self.logits, -1)[STATES, SEQUENCES].sum(1)


def states_of(batch: Batch) -> Tensor:
    """The state before every token, [N, 3]."""
    y = batch.targets.reshape(-1, 3)
    return torch.stack([torch.zeros_like(y[:, 0]), 1 + y[:, 0], 4 + 3 * y[:, 0] + y[:, 1]], 1)


@dataclass(frozen=True, eq=False)
class ExactValues:
    """A critic that is always right about the policy as it is: V(s) by backward recursion.

    V(s) = Σ_a π(a|s) [V(sa) − β (log π(a|s) − log ρ(a|s))], V(y) = r(y) at the leaves.
    """

    policy: Tree
    reference: Tree
    scores: Tensor
    beta: float
    unused: nn.Parameter = field(default_factory=lambda: nn.Parameter(torch.zeros(1, dtype=torch.float64)))

    @property
    def module(self) -> nn.Module:
        """A parameter that changes nothing."""
        return nn.ParameterList([self.unused])

    def __call__(self, batch: Batch, want: Sequence[str]) -> Outputs:
        """The value of the state before every token."""
        return Outputs(values=self.table()[states_of(batch)].flatten() + 0 * self.unused)

    def table(self) -> Tensor:
        """V of the 13 states."""
        with torch.no_grad():
            log_pi, log_rho = (torch.log_softmax(n.logits, -1) for n in (self.policy, self.reference))
            penalty = self.beta * (log_pi - log_rho)
            leaves = self.scores.reshape(9, 3)
            low = (log_pi[4:].exp() * (leaves - penalty[4:])).sum(1)
            middle = (log_pi[1:4].exp() * (low.reshape(3, 3) - penalty[1:4])).sum(1)
            top = (log_pi[:1].exp() * (middle[None] - penalty[:1])).sum(1)
            return torch.cat([top, middle, low])


def random_tree(seed: int, scale: float = 1.0) -> Tree:
    """Random logits in float64."""
    draw = torch.Generator().manual_seed(seed)
    return Tree(nn.Parameter(scale * torch.randn(13, 3, generator=draw, dtype=torch.float64)))


def copy(tree: Tree) -> Tree:
    """The same table, apart."""
    return Tree(nn.Parameter(tree.logits.detach().clone()))


def dyadic_tree(seed: int) -> Tree:
    """Next-token probabilities 1/2, 1/4, 1/4 in some order at each state: 64 sequences hold π exactly."""
    rng = np.random.default_rng(seed)
    rows = [rng.permutation([0.5, 0.25, 0.25]) for _ in range(13)]
    return Tree(nn.Parameter(torch.tensor(np.array(rows)).log()))


def completion(index: int) -> Completion:
    """The sequence of that number; its text is the number."""
    return Completion(text=str(index), tokens=SEQUENCES[index].numpy().astype(np.int32))


def group(completions: Sequence[Completion], **parts: object) -> Group:
    """A group of sequences under one prompt of one token."""
    tokens = np.zeros(1, np.int32)
    return Group(prompt=(), prompt_tokens=tokens, completions=tuple(completions), **parts)  # pyright: ignore


@dataclass(frozen=True, eq=False)
class Drawn:
    """A source that yields `count` sequences a step, each as often as π says (stratified sampling).

    Where count · π(y) is whole for every y, the groups hold π exactly.
    """

    policy: Tree
    count: int

    @property
    def writes(self) -> frozenset[str]:
        """What a sampler records."""
        return frozenset({"sampled_logprobs"})

    def __call__(self, step: int, handles: Handles) -> list[Group]:
        """One group of one completion for each draw."""
        with torch.no_grad():
            table = torch.log_softmax(self.policy.logits, -1)[STATES, SEQUENCES]
        edges = np.cumsum(table.sum(1).exp().numpy()) + 1e-12  # rounding must not move a tooth
        offset = np.random.default_rng([step, 1]).random() * (1 - 1e-9)
        teeth = (np.arange(self.count) + offset) / self.count * edges[-1]
        drawn = np.searchsorted(edges, teeth, side="right")
        made = [completion(i).with_columns(sampled_logprobs=row.numpy()) for i, row in enumerate(table)]
        return [group([made[i]]) for i in drawn]


def optimum(reference: Tree, scores: Tensor, beta: float) -> Tensor:
    """log π* of the 27 sequences: log ρ + r / β − log Z."""
    return torch.log_softmax(reference.log_probs().detach() + scores / beta, -1)


def kl(log_p: Tensor, log_q: Tensor) -> float:
    """KL(p ‖ q) in nats."""
    return float((log_p.exp() * (log_p - log_q)).sum().detach())
