"""Divergences between a teacher's next-token distributions and the student's."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from trueup.engine.batch import Batch, Outputs
from trueup.engine.method import Entries, Terms, Wants

Kind = Literal["forward", "reverse", "jsd"]
LOWEST = -1e4
"Stands for log 0."


def kl(p: Float[Tensor, "T C"], q: Float[Tensor, "T C"]) -> Float[Tensor, " T"]:
    """KL(p ‖ q) = Σ_c p_c (log p_c − log q_c) of log-probabilities, in nats."""
    return (p.exp() * (p - q)).sum(-1)


def jsd(p: Float[Tensor, "T C"], q: Float[Tensor, "T C"], beta: float) -> Float[Tensor, " T"]:
    """D_β = β KL(p ‖ m) + (1 − β) KL(q ‖ m), m = β p + (1 − β) q; its scaled limits at β = 0 and β = 1.

    D_β / β → KL(p ‖ q) as β → 0 and D_β / (1 − β) → KL(q ‖ p) as β → 1; those are what 0 and 1 give.
    """
    if beta == 0:
        return kl(p, q)
    if beta == 1:
        return kl(q, p)
    m = torch.logaddexp(p + math.log(beta), q + math.log1p(-beta))
    return beta * kl(p, m) + (1 - beta) * kl(q, m)


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """The divergence of every next-token distribution of the student q from its teacher's p.

    forward  L_t = KL(p_t ‖ q_t) = Σ_v p (log p − log q),        ∂L/∂logits = q − p
    reverse  L_t = KL(q_t ‖ p_t) = Σ_v q (log q − log p),        ∂L/∂logits = q ∘ (log q − log p − L_t)
    jsd      L_t = β KL(p ‖ m) + (1 − β) KL(q ‖ m),  m = β p + (1 − β) q

    The teacher and the tokens it is asked after are held constant: no gradient goes through the sampling. 0
    exactly where both agree. With `listed` the outcomes are k ids and one bucket for all others: never more
    than the whole divergence, as merging outcomes cannot raise one. References: Hinton et al. 2015 (forward);
    Gu et al. 2024 (reverse); Agarwal et al. 2024, equation 1 (generalised Jensen-Shannon).
    """

    divergence: Kind = "jsd"
    beta: float = 0.5
    "β of jsd: the teacher's share of the mixture; 0 is forward, 1 is reverse."
    listed: bool = True
    "Whether the teacher gave some ids and a bucket, or everything."

    @property
    def reads(self) -> frozenset[str]:
        """What the teacher said."""
        return frozenset({"listed_ids", "teacher_listed"} if self.listed else {"teacher_distributions"})

    @property
    def wants(self) -> Wants:
        """The policy's log-probabilities of the same outcomes."""
        return {"policy": ("listed",) if self.listed else ("distributions",)}

    def __call__(self, outputs: Outputs, batch: Batch) -> Terms:
        """Entries [T]: one divergence a token."""
        q = outputs.listed if self.listed else outputs.distributions
        assert q is not None
        q = q.clamp(min=LOWEST)
        p = batch.columns["teacher_listed" if self.listed else "teacher_distributions"]
        beta = {"forward": 0.0, "reverse": 1.0, "jsd": self.beta}[self.divergence]
        now = q.detach()
        rest = p[:, -1].exp() if self.listed else p.new_zeros(p.shape[0])
        return Terms(
            {"distill": (1.0, Entries(jsd(p, q, beta), "token"))},
            {
                "distill/forward_kl": Entries(kl(p, now), "token"),
                "distill/reverse_kl": Entries(kl(now, p), "token"),
                "distill/rest": Entries(rest, "token"),
            },
        )
