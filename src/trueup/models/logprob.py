"""Log-probabilities of given next tokens, with the logits alive at once held to a fixed budget.

    log π(y | h) = z_y - log Σ_v exp z_v,   z = cap·tanh(scale·(h Wᵀ + b) / cap) / temperature

Only the rows asked for go through the LM head. Their logits are kept for the backward pass when all of them
fit the budget, and recomputed there a chunk at a time when not: peak memory does not grow with tokens times
vocabulary. The softmax is in float32, or in float64 for a float64 model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from trueup.engine.picks import Picks, picks_of

CHUNK_ELEMENTS = 1 << 21
"Logits worked on at once when the budget allows: small enough to stay near the processor."
MIN_ROWS = 256
"Fewer rows than this make the matrix product wait for the head's weights."


@dataclass(frozen=True, eq=False)
class Head:
    """An LM head's weights and what the model does to its logits."""

    weight: Float[Tensor, "V d"]
    bias: Float[Tensor, " V"] | None = None
    scale: float = 1.0
    cap: float | None = None
    layer: nn.Module | None = None
    "The head itself where it is to be called: an adapter beside its weight, or the weight laid out anew."


class Scored(NamedTuple):
    """Log-probabilities of the targets, and their distributions' entropies in nats when asked for."""

    logprobs: Float[Tensor, " T"]
    entropy: Float[Tensor, " T"] | None


def logits(hidden: Float[Tensor, "R d"], head: Head, temperature: float) -> Float[Tensor, "R V"]:
    """z, in float32 or wider; plain autograd, all rows at once."""
    layer = head.layer
    z = nn.functional.linear(hidden, head.weight, head.bias) if layer is None else layer(hidden)
    z = z.to(_wide(z.dtype))
    # A factor of 1 changes no bit, and costs a pass over all of them.
    z = z if head.scale == 1 else z * head.scale
    if head.cap is not None:
        z = torch.tanh(z / head.cap) * head.cap
    return z if temperature == 1 else z / temperature


def token_logprobs(
    hidden: Float[Tensor, "S d"],
    at: Int[Tensor, " T"],
    targets: Int[Tensor, " T"],
    head: Head,
    *,
    temperature: float = 1.0,
    budget_mib: float = 256,
    entropy: bool = False,
    picks: Picks | None = None,
) -> Scored:
    """The log-probability of each target after the row it follows, and on request the entropies.

    Rows that several targets follow (a prompt's last, for K completions) are computed once. Both have
    gradients; an entropy that no loss uses costs none in the backward pass. With a batch's `picks`, which
    says of `at` what is otherwise found out here, the host need not wait for the device.
    """
    picks = picks_of(at.cpu().numpy()).to(at.device) if picks is None else picks
    picked = hidden.index_select(0, picks.rows)
    plan = _Plan(head, temperature, int(budget_mib * (1 << 20)), entropy)
    if head.layer is not None:
        return _by_autograd(picked, picks, targets, plan)
    # torch declares that apply returns anything, None included.
    found, bits = _TokenLogprobs.apply(picked, head.weight, head.bias, picks, targets, plan)  # pyright: ignore[reportGeneralTypeIssues]
    return Scored(found, bits.index_select(0, picks.owner) if entropy else None)


def _by_autograd(hidden: Tensor, picks: Picks, targets: Tensor, plan: _Plan) -> Scored:
    """The same through the LM head's own forward, a chunk at a time, each made again in the backward pass."""

    def of(states: Tensor, rows: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        z = plan.logits(states)
        lse = torch.logsumexp(z, -1)
        with torch.no_grad():
            p = (z - lse[:, None]).exp_() if plan.entropy else z.new_zeros(0, 1)
            bits = lse - p.mul_(z).sum(-1) if plan.entropy else p.sum(-1)
        return z[rows, wanted] - lse.index_select(0, rows), bits

    owner, order, bounds = picks.owner, picks.order, picks.bounds
    found, bits = [], []
    for rows in plan.chunks(hidden):
        mine = order[bounds[rows.start] : bounds[rows.stop]]
        given = hidden[rows], owner[mine] - rows.start, targets[mine]
        one, other = checkpoint(of, *given, use_reentrant=False) if torch.is_grad_enabled() else of(*given)
        found.append(one)
        bits.append(other)
    back = torch.argsort(order)
    entropy = torch.cat(bits).index_select(0, owner) if plan.entropy else None
    return Scored(torch.cat(found).index_select(0, back), entropy)


class Listed(NamedTuple):
    """Log-probabilities of listed ids and, in the last column, of all other ids together."""

    logprobs: Float[Tensor, "T C"]
    ids: Int[Tensor, "T k"]


def with_rest(z: Float[Tensor, "R V"], ids: Int[Tensor, "R k"]) -> Float[Tensor, "R C"]:
    """Log-probabilities [R, k + 1] from logits: of the listed ids, then of all the others together.

    The last column sums over the others themselves. 1 − Σ over the listed would leave nothing but rounding
    where they hold almost everything.
    """
    others = z.scatter(1, ids, -torch.inf)
    found = torch.cat([z.gather(1, ids), torch.logsumexp(others, -1, keepdim=True)], 1)
    return found - torch.logsumexp(z, -1, keepdim=True)


def top_of(z: Float[Tensor, "R V"], k: int) -> Listed:
    """The k likeliest ids of each row of logits, V − 1 at most: those and the rest are everything."""
    ids = z.topk(min(k, z.shape[1] - 1), -1).indices
    return Listed(with_rest(z, ids), ids)


def listed_logprobs(
    hidden: Float[Tensor, "S d"],
    at: Int[Tensor, " T"],
    wanted: Int[Tensor, "T k"] | int,
    head: Head,
    *,
    temperature: float = 1.0,
    budget_mib: float = 256,
) -> Listed:
    """Log-probabilities at the ids `wanted` after each row, or at its so many likeliest ids.

    Logits that do not fit the budget are made again in the backward pass, a chunk at a time.
    """

    def of(states: Tensor, part: Tensor | int) -> Listed:
        z = logits(states, head, temperature)
        return top_of(z, part) if isinstance(part, int) else Listed(with_rest(z, part), part)

    # Logits, the others' logits, and both of their gradients, with exponentials beside them.
    within = _rows_within(int(budget_mib * (1 << 20)), head, hidden.dtype, tables=6)
    if at.shape[0] <= within or at.shape[0] == 0:
        return of(hidden.index_select(0, at), wanted)
    found = []
    for rows in _chunks(at.shape[0], within, head):
        part = wanted if isinstance(wanted, int) else wanted[rows]
        states = hidden.index_select(0, at[rows])
        found.append(
            checkpoint(of, states, part, use_reentrant=False, preserve_rng_state=head.layer is not None)
            if torch.is_grad_enabled()
            else of(states, part)
        )
    return Listed(torch.cat([f.logprobs for f in found]), torch.cat([f.ids for f in found]))


@dataclass(frozen=True, eq=False)
class _Plan:
    head: Head
    temperature: float
    budget: int
    entropy: bool

    def chunks(self, hidden: Tensor) -> Iterator[slice]:
        """Row ranges whose logits, with the temporaries beside them, stay within the budget."""
        # Logits, their exponentials and, for narrow models, the head's own output: three at once.
        within = _rows_within(self.budget, self.head, hidden.dtype, tables=3)
        return _chunks(hidden.shape[0], within, self.head)

    def keeps(self, hidden: Tensor) -> bool:
        """Whether all logits fit, leaving a quarter of the budget for temporaries."""
        return hidden.shape[0] <= _rows_within(3 * self.budget // 4, self.head, hidden.dtype, tables=1)

    def logits(self, hidden: Tensor) -> Tensor:
        return logits(hidden, self.head, self.temperature)


class _TokenLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        picks: Picks,
        targets: Tensor,
        plan: _Plan,
    ) -> tuple[Tensor, Tensor]:
        owner, order, bounds = picks.owner, picks.order, picks.bounds
        wide = _wide(hidden.dtype)
        keeps = any(ctx.needs_input_grad[:3]) and plan.keeps(hidden)
        lse = torch.empty(hidden.shape[0], dtype=wide, device=hidden.device)
        entropy = torch.empty_like(lse) if plan.entropy else lse.new_empty(0)
        picked = torch.empty(targets.shape[0], dtype=wide, device=hidden.device)
        kept: list[Tensor] = []
        for rows in plan.chunks(hidden):
            z = plan.logits(hidden[rows])
            lse[rows] = torch.logsumexp(z, -1)
            mine = order[bounds[rows.start] : bounds[rows.stop]]
            picked[mine] = z[owner[mine] - rows.start, targets[mine]]
            if plan.entropy:
                p = (z - lse[rows, None]).exp_()
                entropy[rows] = lse[rows] - p.mul_(z).sum(-1)
            if keeps:
                kept.append(z)
        ctx.plan, ctx.picks = plan, picks
        ctx.save_for_backward(hidden, weight, bias, targets, lse, entropy, *kept)
        ctx.set_materialize_grads(False)
        return picked - lse.index_select(0, owner), entropy

    @staticmethod
    @once_differentiable
    # torch declares the parameters of every Function's backward as *grad_outputs.
    def backward(ctx: Any, given: Tensor | None, spread: Tensor | None) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        hidden, weight, bias, targets, lse, entropy, *kept = ctx.saved_tensors
        plan: _Plan = ctx.plan
        owner, order, bounds = ctx.picks.owner, ctx.picks.order, ctx.picks.bounds
        head = plan.head
        grad = torch.zeros_like(targets, dtype=lse.dtype) if given is None else given
        total = torch.zeros_like(lse).index_add_(0, owner, grad.to(lse.dtype))
        dhidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        dweight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        dbias = torch.zeros_like(bias) if bias is not None and ctx.needs_input_grad[2] else None
        for number, rows in enumerate(plan.chunks(hidden)):
            z = kept[number] if kept else plan.logits(hidden[rows])
            dz = (z - lse[rows, None]).exp_().mul_(-total[rows, None])
            if spread is not None:  # ∂H/∂z = −p (log p + H)
                log_p = z - lse[rows, None]
                dz.sub_(log_p.exp().mul_(log_p.add_(entropy[rows, None])).mul_(spread[rows, None]))
            mine = order[bounds[rows.start] : bounds[rows.stop]]
            flat = (owner[mine] - rows.start) * z.shape[1] + targets[mine]
            dz.view(-1).index_add_(0, flat, grad[mine].to(dz.dtype))
            if head.cap is not None:
                dz.mul_(1 - (z * (plan.temperature / head.cap)).square_())
            dz = dz.mul_(head.scale / plan.temperature).to(hidden.dtype)
            if dhidden is not None:
                torch.mm(dz, weight, out=dhidden[rows])
            if dweight is not None:
                dweight.addmm_(dz.t(), hidden[rows])
            if dbias is not None:
                dbias.add_(dz.sum(0))
        return dhidden, dweight, dbias, None, None, None


def _rows_within(budget: int, head: Head, dtype: torch.dtype, *, tables: int) -> int:
    """So many rows have `tables` tables of logits within the budget of bytes."""
    return budget // (tables * head.weight.shape[0] * _wide(dtype).itemsize)


def _chunks(num_rows: int, within: int, head: Head) -> Iterator[slice]:
    """Runs of at most `within` rows, and no longer than is fast."""
    size = max(1, min(within, max(MIN_ROWS, CHUNK_ELEMENTS // head.weight.shape[0])))
    for start in range(0, num_rows, size):
        yield slice(start, min(num_rows, start + size))


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)
