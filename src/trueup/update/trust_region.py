"""A trust-region update: the natural gradient, as long as the KL allows, checked before it is kept.

    maximise the surrogate  subject to  mean_t KL(π_old(·|s_t) ‖ π_θ(·|s_t)) ≤ δ

The direction solves (F + damping) s = g by conjugate gradients, where F is the Fisher matrix of the
next-token distributions, never formed: only products F v are (see `Near.product`). Other networks, such as a
critic, are fitted by AdamW in the same update.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal, final

import torch
from annotated_types import Ge, Gt
from jaxtyping import Float
from torch import Tensor, nn

from trueup.engine.batch import Batch
from trueup.engine.method import Minibatch, Network, Rule
from trueup.errors import TrueupError
from trueup.update.adamw import AdamW, Gate


@dataclass(frozen=True, kw_only=True)
class TrustRegion:
    """The settings of a trust-region update (Schulman et al. 2015, appendix C)."""

    max_kl: Annotated[float, Gt(0)] = 0.01
    "δ: the most that KL(old ‖ new) may be, nats a token; no update goes beyond."
    damping: Annotated[float, Ge(0)] = 0.1
    "Added to the Fisher matrix's diagonal while solving for the direction."
    cg_iterations: Annotated[int, Ge(1)] = 10
    "Conjugate-gradient iterations, each with one Fisher-vector product."
    cg_tolerance: Annotated[float, Ge(0)] = 1e-10
    "Residual, as a share of the gradient's norm, at which they end early."
    tries: Annotated[int, Ge(1)] = 10
    "Step lengths tried, each half the one before; after the last the policy stays."
    critic: AdamW = AdamW(schedule="constant", warmup=0.0)
    "How all networks but the policy are fitted."
    critic_passes: Annotated[int, Ge(0)] = 5
    "AdamW updates of theirs in each update of the policy."
    nonfinite: Literal["abort", "skip"] = "abort"
    "What a non-finite loss or gradient does: end the run, or skip the update."
    max_skips: int = 3
    "With `skip`: how many updates in a row may be skipped before the run ends."

    @property
    def shared_out(self) -> bool:
        """Whether several devices can make an update together: these products are over a whole minibatch."""
        return False

    def start(self, networks: Mapping[str, Network], num_updates: int) -> Rule:
        """The rule at work: a trust region for `policy`, AdamW for the others."""
        return TrustRegionRule(self, networks, num_updates)


# ------------------------------------------------------------------------------------------ the mathematics


def conjugate_gradients(
    product: Callable[[Tensor], Tensor], target: Float[Tensor, " D"], iterations: int, tolerance: float
) -> tuple[Float[Tensor, " D"], float]:
    """The solution x of A x = target for positive A given as a product, and ‖target − A x‖ / ‖target‖.

    Exact after as many iterations as A has different eigenvalues. Reference: Hestenes and Stiefel 1952.
    """
    x = torch.zeros_like(target)
    residual, direction = target.clone(), target.clone()
    square = float(residual @ residual)
    start = square
    for _ in range(iterations):
        if square <= tolerance**2 * start:
            break
        image = product(direction)
        curvature = float(direction @ image)
        if not curvature > 0:  # rounding has left the matrix's range: what there is, is the best there is
            break
        length = square / curvature
        x = x + length * direction
        residual = residual - length * image
        before, square = square, float(residual @ residual)
        direction = residual + square / before * direction
    return x, math.sqrt(square / start) if start > 0 else 0.0


@final
class Weights:
    """A network's trainable parameters as one vector [D]: all of them, or a LoRA adapter's alone."""

    def __init__(self, network: Network) -> None:
        self.parameters = [p for p in network.module.parameters() if p.requires_grad]

    def read(self) -> Float[Tensor, " D"]:
        """A copy of the values."""
        return torch.cat([p.detach().flatten() for p in self.parameters])

    def write(self, vector: Float[Tensor, " D"]) -> None:
        """Sets the values."""
        parts = vector.split([p.numel() for p in self.parameters])
        with torch.no_grad():
            for parameter, part in zip(self.parameters, parts, strict=True):
                parameter.copy_(part.view_as(parameter))

    def flat(self, parts: Sequence[Tensor | None]) -> Float[Tensor, " D"]:
        """One tensor for each parameter as a vector, zeros where there is none."""
        pairs = zip(self.parameters, parts, strict=True)
        return torch.cat([(torch.zeros_like(p) if part is None else part).flatten() for p, part in pairs])


@final
class Near:
    """The policies near a network as it is: how far from it they are, exactly and to second order.

    Distances are means over the batches' tokens of KL(p ‖ q) over the whole vocabulary, p being the network
    as it is. Peak memory is a few tables [T, V] of one batch, whatever their number. Every method leaves the
    weights as they were.
    """

    def __init__(self, network: Network, batches: Sequence[Batch]) -> None:
        self._network, self._batches = network, batches
        self._weights = Weights(network)
        self._center = self._weights.read()
        self._num_tokens = max(1, sum(batch.count("token") for batch in batches))
        # Decoders take norms and rotations in single precision whatever their weights are.
        self._change = torch.finfo(torch.float32).eps ** (1 / 3)
        self._longest = self._change * (1 + float(self._center.norm()))
        self._length = self._longest
        self._first = self._log_probs(batches[0], self._center).exp()

    def kl(self, point: Float[Tensor, " D"]) -> float:
        """KL(here ‖ there), the mean over tokens, nats."""
        total = 0.0
        for batch in self._batches:
            here, there = self._log_probs(batch, self._center), self._log_probs(batch, point)
            total += float((here.exp() * (here - there)).sum(dtype=torch.float64))
        self._weights.write(self._center)
        return total / self._num_tokens

    def product(self, vector: Float[Tensor, " D"]) -> Float[Tensor, " D"]:
        """F v, where ½ vᵀ F v is the KL to second order.

        F = mean_t J_tᵀ (diag p_t − p_t p_tᵀ) J_t with J_t the derivative of the logits. J v is a central
        finite difference of the log-probabilities along v; Jᵀ is one ordinary backward pass. So no kernel
        needs a second derivative. Errors are about 1e-4 in single precision, 1e-9 in double.
        """
        norm = vector.norm()
        if not norm > 0:
            return torch.zeros_like(vector)
        unit = vector / norm
        first = self._choose_length(unit)
        total = torch.zeros_like(vector)
        for number, batch in enumerate(self._batches):
            slope = (self._difference(batch, unit) if number else first) / self._length
            with torch.enable_grad():
                table = self._network(batch, ("distributions",)).distributions
                assert table is not None
                weighted = (table * (table.detach().exp() * slope)).sum() / self._num_tokens
            # Through log-softmax the gradient is p ∘ (J v − E_p[J v]): the bracket diag p − p pᵀ.
            parts = torch.autograd.grad(weighted, self._weights.parameters, allow_unused=True)
            total += self._weights.flat(parts)
        return total * norm

    def _choose_length(self, unit: Float[Tensor, " D"]) -> Float[Tensor, "T V"]:
        """The first batch's difference, at a length that changes log-probabilities by about .005.

        That is precision^(1/3), as a root mean square: less would drown in rounding, more would leave the
        tangent. Never longer than that share of the weights' own norm. Begins at the last product's length.
        """
        batch = self._batches[0]
        for _ in range(6):
            moved = self._difference(batch, unit)
            change = float((self._first * moved**2).sum(-1).mean().sqrt())
            wanted = self._length * (self._change / change if change > 0 else math.inf)
            wanted = min(wanted, self._longest) if math.isfinite(change) else self._length / 1000
            if 0.1 < wanted / self._length < 10:
                return moved
            self._length = wanted
        return self._difference(batch, unit)

    def _difference(self, batch: Batch, unit: Float[Tensor, " D"]) -> Float[Tensor, "T V"]:
        """Length times the slope of the log-probabilities along a direction; the weights stay.

        Double precision takes a second difference of twice the length, whose error cancels the first one's.
        """
        near = self._half(batch, self._length * unit)
        if self._center.dtype is not torch.float64:
            return near
        return 4 / 3 * near - self._half(batch, 2 * self._length * unit) / 6

    def _half(self, batch: Batch, way: Float[Tensor, " D"]) -> Float[Tensor, "T V"]:
        """Half of what log-probabilities change from behind to ahead."""
        ahead = self._log_probs(batch, self._center + way)
        behind = self._log_probs(batch, self._center - way)
        self._weights.write(self._center)
        return (ahead - behind) / 2

    def _log_probs(self, batch: Batch, point: Float[Tensor, " D"]) -> Float[Tensor, "T V"]:
        self._weights.write(point)
        with torch.no_grad():
            table = self._network(batch, ("distributions",)).distributions
        assert table is not None
        return table


# ------------------------------------------------------------------------------------------ the rule


@final
class TrustRegionRule:
    """A trust-region update at work; see `TrustRegion`."""

    def __init__(self, settings: TrustRegion, networks: Mapping[str, Network], num_updates: int) -> None:
        self._settings = settings
        self._policy = networks["policy"]
        self._modules = [network.module for network in networks.values()]
        if any(p.dtype in (torch.float16, torch.bfloat16) for p in self._policy.module.parameters()):
            raise TrueupError(
                "E902",
                "a trust region measures differences that half precision cannot hold",
                where="model.dtype",
                remedy="use float32",
            )
        others = {name: network for name, network in networks.items() if name != "policy"}
        passes = num_updates * settings.critic_passes
        self._critic = settings.critic.start(others, passes) if others and passes else None
        self._gate = Gate(nonfinite=settings.nonfinite, max_skips=settings.max_skips, lower="update.max_kl")

    def step(self, minibatch: Minibatch) -> dict[str, float]:
        """One update, or none where a loss or gradient is not finite; then the critic's."""
        with _without_dropout(self._modules):
            weights = Weights(self._policy)
            self._clear()
            metrics = minibatch.backward()
            gradient = weights.flat([p.grad for p in weights.parameters])
            trained = [p.grad for module in self._modules for p in module.parameters() if p.grad is not None]
            metrics["grad_norm"] = float(nn.utils.get_total_norm(trained))
            self._clear()
            if not self._gate.passes(metrics):
                return {**metrics, "skipped": 1.0}
            metrics.update(self._move(weights, minibatch, metrics["loss"], gradient))
            for _ in range(self._settings.critic_passes if self._critic else 0):
                assert self._critic is not None
                metrics["lr"] = self._critic.step(minibatch)["lr"]
            self._clear()
        return metrics

    def _move(
        self, weights: Weights, minibatch: Minibatch, loss: float, gradient: Float[Tensor, " D"]
    ) -> dict[str, float]:
        """Moves the policy as far as it may go; says how far it went."""
        settings, old = self._settings, weights.read()
        near = Near(self._policy, list(minibatch.batches()))
        direction, residual = conjugate_gradients(
            lambda v: near.product(v) + settings.damping * v,
            -gradient,
            settings.cg_iterations,
            settings.cg_tolerance,
        )
        metrics: dict[str, float] = {}
        metrics["trust/cg_residual"] = residual
        metrics["trust/accepted"] = 0.0
        metrics["trust/kl"] = 0.0
        metrics["trust/fraction"] = 0.0
        metrics["trust/improvement"] = 0.0
        step = full_step(near.product, direction, settings.max_kl)
        for tried in range(settings.tries if step.any() else 0):
            fraction = 0.5**tried
            point = old + fraction * step
            kl = near.kl(point)
            if not kl <= settings.max_kl:
                continue
            weights.write(point)
            improvement = loss - minibatch.evaluate()["loss"]
            if improvement > 0:
                metrics["trust/accepted"] = 1.0
                metrics["trust/kl"] = kl
                metrics["trust/fraction"] = fraction
                metrics["trust/improvement"] = improvement
                return metrics
        weights.write(old)
        return metrics

    def _clear(self) -> None:
        for module in self._modules:
            module.zero_grad(set_to_none=True)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The critic's optimiser and the counters: of the policy's own updates nothing is carried on."""
        tensors, values = self._critic.state() if self._critic else ({}, {})
        return tensors, {**self._gate.state(), "critic": values}

    def load(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Restores what `state` returned."""
        self._gate.load(values)
        if self._critic:
            self._critic.load(tensors, values["critic"])


def full_step(
    product: Callable[[Tensor], Tensor], direction: Float[Tensor, " D"], max_kl: float
) -> Float[Tensor, " D"]:
    """The direction s at the length where ½ sᵀ F s = δ; zeros where the KL is flat along it."""
    curvature = float(direction @ product(direction))
    if not (curvature > 0 and math.isfinite(curvature)):
        return torch.zeros_like(direction)
    return math.sqrt(2 * max_kl / curvature) * direction


@contextmanager
def _without_dropout(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Inside, no dropout: the KL of two policies must not be that of two masks."""
    modes = [(part, part.training) for module in modules for part in module.modules()]
    for part, _ in modes:
        part.training = False
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
