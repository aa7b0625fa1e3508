"""AdamW with a schedule, clipping, and a gate that no non-finite number passes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt, Le, Lt
from torch import Tensor

from trueup.engine.method import Minibatch, Network, Rule
from trueup.engine.ranks import placed, whole
from trueup.errors import TrueupError
from trueup.update.halves import Halves, is_half, total_norm


@dataclass(frozen=True, kw_only=True)
class AdamW:
    """The settings of an AdamW update (Loshchilov and Hutter 2019)."""

    lr: Annotated[float, Gt(0)] | Literal["auto"] = "auto"
    "Peak learning rate; `auto` is what docs/learning-rates.md has for the method and the model's size."
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    "How the learning rate falls after warm-up."
    warmup: Annotated[float, Ge(0), Le(1)] = 0.05
    "Share of the updates over which the learning rate rises from 0."
    final: Annotated[float, Ge(0), Le(1)] = 0.1
    "Learning rate at the end, as a share of the peak."
    betas: tuple[Annotated[float, Ge(0), Lt(1)], Annotated[float, Ge(0), Lt(1)]] = (0.9, 0.95)
    eps: Annotated[float, Gt(0)] = 1e-8
    weight_decay: Annotated[float, Ge(0)] = 0.0
    "Decoupled decay, on matrices only."
    max_grad_norm: Annotated[float, Gt(0)] = 1.0
    "Gradients are scaled down to this norm over all trained networks."
    lr_scale: Mapping[str, float] = field(default_factory=dict)
    "A factor on the learning rate by network: `{value: 3.0}`."
    master_weights: Literal["float32", "kahan", "none"] = "float32"
    """What keeps small changes of bfloat16 weights: a float32 copy of each, or Kahan summation, which takes
    10 bytes a weight in place of 16. `none` is refused for them; other weights need neither."""
    nonfinite: Literal["abort", "skip"] = "abort"
    "What a non-finite loss or gradient does: end the run, or skip the update."
    max_skips: int = 3
    "With `skip`: how many updates in a row may be skipped before the run ends."

    def start(self, networks: Mapping[str, Network], num_updates: int) -> Rule:
        """The rule at work on these networks' trainable parameters; E505 and E506 where they are bfloat16
        and would not move, or not rightly."""
        return AdamWRule(self, networks, num_updates)

    @property
    def peak(self) -> float:
        """The peak learning rate. Raises E764 for `auto`, which a run settles before it begins."""
        if self.lr == "auto":
            raise TrueupError(
                "E764",
                "`auto` is no number yet: runs settle it from the method and the model",
                where="update.lr",
                remedy="give a number",
            )
        return self.lr


def schedule(settings: AdamW, update: int, num_updates: int) -> float:
    """The factor on the peak learning rate at update 0, 1, ..., num_updates − 1.

    Rises linearly over the warm-up (already above 0 at update 0), then stays, or falls to `final` along a
    line or half a cosine.
    """
    warm = math.ceil(settings.warmup * num_updates)
    if update < warm:
        return (update + 1) / (warm + 1)
    done = (update - warm) / max(1, num_updates - warm)
    fall = {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}
    share = fall[settings.schedule]
    return 1.0 if settings.schedule == "constant" else settings.final + (1 - settings.final) * share


@dataclass(kw_only=True)
class Gate:
    """Lets an update through only where every number that it was measured by is finite, and counts."""

    nonfinite: Literal["abort", "skip"]
    max_skips: int
    lower: str
    "The setting that is worth lowering when numbers overflow."
    update: int = 0
    "Updates asked for so far."
    skips: int = 0
    "How many of them, the last ones in a row, were refused."

    def passes(self, metrics: Mapping[str, float]) -> bool:
        """Whether the update may be made. Raises E901 where a refusal ends the run."""
        self.update += 1
        bad = sorted(name for name, value in metrics.items() if not math.isfinite(value))
        self.skips = self.skips + 1 if bad else 0
        if bad and (self.nonfinite == "abort" or self.skips > self.max_skips):
            raise TrueupError(
                "E901",
                f"not finite: {', '.join(f'{n} = {metrics[n]}' for n in bad)}; no weight was changed",
                where=f"update {self.update - 1}",
                remedy=f"lower {self.lower}, or look for extreme values in the data and the judge's scores",
            )
        return not bad

    def state(self) -> dict[str, Any]:
        """The counters."""
        return {"update": self.update, "skips": self.skips}

    def load(self, values: Mapping[str, Any]) -> None:
        """Restores what `state` returned."""
        self.update, self.skips = values["update"], values["skips"]


def clipped(parameters: Sequence[Tensor], most: float) -> float:
    """The norm of the parameters' gradients, which are scaled down to `most` where it is larger."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = whole(total_norm(gradients))
    torch.nn.utils.clip_grads_with_norm_(parameters, most, norm)
    return float(norm)


class AdamWRule:
    """AdamW at work; see `AdamW`."""

    def __init__(self, settings: AdamW, networks: Mapping[str, Network], num_updates: int) -> None:
        self._settings, self._num_updates = settings, num_updates
        self._gate = Gate(nonfinite=settings.nonfinite, max_skips=settings.max_skips, lower="update.lr")
        groups = _groups(settings, networks)
        options = {"lr": settings.peak, "betas": settings.betas, "eps": settings.eps}
        plain = _only(groups, half=False)
        self._names: list[str] = [name for group in plain for name in group["names"]]
        self._adamw = torch.optim.AdamW(plain, **options)
        self._halves = Halves(settings.master_weights, _only(groups, half=True), options)
        self._parameters: list[Tensor] = [p for group in groups for p in group["params"]]

    def step(self, minibatch: Minibatch) -> dict[str, float]:
        """One update, or none where a loss or gradient is not finite."""
        self._clear()
        metrics = minibatch.backward()
        metrics["grad_norm"] = clipped(self._parameters, self._settings.max_grad_norm)
        factor = schedule(self._settings, self._gate.update, self._num_updates)
        metrics["lr"] = self._settings.peak * factor
        if not self._gate.passes(metrics):
            self._clear()
            return {**metrics, "skipped": 1.0}
        for group in self._adamw.param_groups:
            group["lr"] = self._settings.peak * factor * group["scale"]
        self._adamw.step()
        self._halves.step(self._settings.peak * factor)
        return metrics

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Adam's moments by parameter name, what is kept beside bfloat16 weights, and the counters."""
        tensors = self._halves.state()
        for name, parameter in zip(self._names, self._stepped, strict=True):
            for key, value in self._adamw.state.get(parameter, {}).items():
                tensors[f"{name}:{key}"] = torch.as_tensor(value)
        return tensors, self._gate.state()

    def load(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Restores what `state` returned."""
        self._gate.load(values)
        self._halves.load(tensors)
        for name, parameter in zip(self._names, self._stepped, strict=True):
            held = {k.removeprefix(f"{name}:"): v for k, v in tensors.items() if k.startswith(f"{name}:")}
            if held:
                self._adamw.state[parameter] = {
                    key: value.to("cpu") if key == "step" else placed(value.to(parameter.device), parameter)
                    for key, value in held.items()
                }

    @property
    def _stepped(self) -> list[Tensor]:
        """The parameters that torch's AdamW changes itself."""
        return [p for group in self._adamw.param_groups for p in group["params"]]

    def _clear(self) -> None:
        for parameter in self._parameters:
            parameter.grad = None


def _groups(settings: AdamW, networks: Mapping[str, Network]) -> list[dict[str, Any]]:
    """The networks' trainable parameters, each once, by what is done to them."""
    groups: list[dict[str, Any]] = []
    seen: set[int] = set()
    for network, model in networks.items():
        for decays in (True, False):
            chosen = [
                (f"{network}/{name}", p)
                for name, p in model.module.named_parameters()
                if p.requires_grad and (p.dim() >= 2) == decays and id(p) not in seen
            ]
            seen.update(id(p) for _, p in chosen)
            groups.append(
                {
                    "names": [name for name, _ in chosen],
                    "params": [p for _, p in chosen],
                    "weight_decay": settings.weight_decay if decays else 0.0,
                    "scale": settings.lr_scale.get(network, 1.0),
                }
            )
    return groups


def _only(groups: list[dict[str, Any]], *, half: bool) -> list[dict[str, Any]]:
    """The groups with the half-precision parameters alone, or with the others."""
    found: list[dict[str, Any]] = []
    for group in groups:
        named = zip(group["names"], group["params"], strict=True)
        kept = [(name, p) for name, p in named if is_half(p) == half]
        found.append({**group, "names": [name for name, _ in kept], "params": [p for _, p in kept]})
    return found
