"""Losses that place a prompt's embedding near its good completions' and far from its bad ones'."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, relu
from torch.nn.functional import normalize

from trueup.engine.batch import Batch, Outputs
from trueup.engine.method import Entries, Terms


class Triplets(NamedTuple):
    """f of each pair's prompt, chosen and rejected completion."""

    anchor: Float[Tensor, "P d"]
    positive: Float[Tensor, "P d"]
    negative: Float[Tensor, "P d"]


def triplets(outputs: Outputs, batch: Batch, *, unit: bool) -> Triplets:
    """The pairs' embeddings; the completion that the label favours is the positive; `unit` gives length 1."""
    assert outputs.embeddings is not None and outputs.prompt_embeddings is not None
    of_completion, of_prompt = outputs.embeddings, outputs.prompt_embeddings
    if unit:
        of_completion, of_prompt = normalize(of_completion, dim=-1), normalize(of_prompt, dim=-1)
    ordered = torch.where(batch.labels[:, None] < 0.5, batch.pairs.flip(1), batch.pairs)
    return Triplets(of_prompt[batch.pair_group], *(of_completion[i] for i in ordered.unbind(1)))


@dataclass(frozen=True, kw_only=True)
class Triplet:
    """How much nearer than the margin asks a prompt lies to the rejected completion than to the chosen one.

    L = max(0, ‖f(a) − f(p)‖² − ‖f(a) − f(n)‖² + α)

    a is the prompt, p the chosen completion, n the rejected one. 0 once the margin is kept; α where all
    embeddings are the same; while it is not 0 the gradient at f(a) is 2 (f(n) − f(p)) where f is not
    normalised, and a common translation of all three changes nothing. With `semi_hard`, triplets whose
    negative is nearer than the positive, or further than the margin, give 0. Reference: Schroff et al. 2015,
    sections 3.1 and 3.2.
    """

    margin: float = 0.2
    "α."
    normalise: bool = True
    "Divide embeddings by their length."
    semi_hard: bool = False
    "Learn only from triplets in the right order whose gap is short of the margin."

    reads = frozenset[str]()
    wants = {"embedder": ("embeddings",)}

    def __call__(self, outputs: Outputs, batch: Batch) -> Terms:
        """Entries [P]: one loss a pair."""
        f = triplets(outputs, batch, unit=self.normalise)
        near = ((f.anchor - f.positive) ** 2).sum(-1)
        far = ((f.anchor - f.negative) ** 2).sum(-1)
        loss = relu(near - far + self.margin)
        if self.semi_hard:
            loss = loss * (near < far).detach()
        return Terms(
            {"triplet": (1.0, Entries(loss, "pair"))},
            {
                "distance/chosen": Entries(near.detach(), "pair"),
                "distance/rejected": Entries(far.detach(), "pair"),
                "accuracy": Entries(in_order(near, far), "pair"),
            },
        )


@dataclass(frozen=True, kw_only=True)
class DSSM:
    """The negative log-likelihood of the chosen completion among its own group's rejected ones.

    L_w = −log [ e^{γ cos(x, y_w)} / (e^{γ cos(x, y_w)} + Σ_{l: w over l} e^{γ cos(x, y_l)}) ]
    L_group = the mean of L_w over the group's chosen completions w

    log(1 + number of negatives) where all cosines are equal. Negatives are those that the group's preferences
    put below w, none is borrowed from other prompts. Reference: Huang et al. 2013.
    """

    gamma: float = 10.0
    "γ: sharpness of the softmax over cosines; at most 40 in float32."

    reads = frozenset[str]()
    wants = {"embedder": ("embeddings",)}

    def __call__(self, outputs: Outputs, batch: Batch) -> Terms:
        """Entries [G]: one loss a group; groups without a pair give 0."""
        f = triplets(outputs, batch, unit=True)
        cosine, other = (f.anchor * f.positive).sum(-1), (f.anchor * f.negative).sum(-1)
        chosen = torch.where(batch.labels < 0.5, batch.pairs[:, 1], batch.pairs[:, 0])
        zeros = cosine.new_zeros(batch.num_completions)
        odds = zeros.index_add(0, chosen, (self.gamma * (other - cosine)).exp())
        wins = (odds > 0).to(odds.dtype)
        total = batch.per_group(odds.log1p(), "completion")
        loss = total / batch.per_group(wins, "completion").clamp(min=1)
        near, far = 2 - 2 * cosine.detach(), 2 - 2 * other.detach()
        return Terms(
            {"dssm": (1.0, Entries(loss, "group"))},
            {
                "distance/chosen": Entries(near, "pair"),
                "distance/rejected": Entries(far, "pair"),
                "accuracy": Entries(in_order(near, far), "pair"),
            },
        )


def in_order(near: Float[Tensor, " P"], far: Float[Tensor, " P"]) -> Float[Tensor, " P"]:
    """1 where the chosen completion is the nearer one, ½ where both are equally near; no gradient."""
    gap = (far - near).detach()
    return (gap > 0).to(gap.dtype) + 0.5 * (gap == 0).to(gap.dtype)
