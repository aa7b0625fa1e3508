"""AdamW over half-precision weights: what a step changes in them is kept beside them, however small.

A bfloat16 number has 8 significant bits: of what is added to 1, anything below 1/512 is lost, and AdamW's
steps are about as large as the learning rate. So each weight w is stepped as a wide number m and rounded
afterwards: m is kept whole in float32, or as w and what rounding has left out of it (Kahan 1965),

    m = w + c,   m <- AdamW(m),   w <- round(m),   c <- round(m - w).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, final

import torch
from torch import Tensor, nn

from trueup.engine.ranks import placed
from trueup.errors import TrueupError

Kept = Literal["float32", "kahan", "none"]
MOMENTS = ("exp_avg", "exp_avg_sq")
CHUNK = 1 << 26
"Weights whose gradients are float32 at once: 256 MiB."
SLOWEST = 0.98
"The largest beta of `kahan`: moments in bfloat16 follow within 0.4 % / (1 - beta) of what they should be."


def is_half(tensor: Tensor) -> bool:
    """Whether a tensor's numbers have 16 bits."""
    return tensor.dtype in (torch.bfloat16, torch.float16)


def total_norm(gradients: Sequence[Tensor]) -> Tensor:
    """The norm of all of them as one vector, added up in float32 or wider."""
    if not any(map(is_half, gradients)):
        return nn.utils.get_total_norm(gradients)
    norms = [
        torch.linalg.vector_norm(g, dtype=torch.promote_types(g.dtype, torch.float32)) for g in gradients
    ]
    return torch.linalg.vector_norm(torch.stack([norm.to(norms[0].device) for norm in norms]))


@final
class Halves:
    """AdamW at work on half-precision weights, in the groups and with the options of torch's."""

    def __init__(self, kept: Kept, groups: Iterable[Mapping[str, Any]], options: Mapping[str, Any]) -> None:
        groups = list(groups)
        self._names: list[str] = [name for group in groups for name in group["names"]]
        self._weights: list[Tensor] = [p for group in groups for p in group["params"]]
        if self._weights:
            _refuse(kept, options["betas"])
        self._kahan = kept == "kahan"
        self._left = [torch.zeros_like(w, requires_grad=False) for w in self._weights if self._kahan]
        self._wide = [nn.Parameter(w.detach().float(), requires_grad=False) for w in self._weights]
        wide = iter(self._wide)
        stepped = [{**group, "params": [next(wide) for _ in group["params"]]} for group in groups]
        self._adamw = torch.optim.AdamW(stepped, **options) if self._weights else None
        if self._kahan:
            for one in self._wide:
                one.data = one.new_empty(0)

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """One update by the weights' gradients at a learning rate, times each group's `scale`."""
        if self._adamw is None:
            return
        for group in self._adamw.param_groups:
            group["lr"] = rate * group["scale"]
        for chunk in self._chunks():
            for number in chunk:
                self._widen(number)
            self._adamw.step()
            for number in chunk:
                self._round(number)

    def state(self) -> dict[str, Tensor]:
        """What is kept beside the weights, and Adam's moments, by parameter name."""
        tensors: dict[str, Tensor] = {}
        for number, name in enumerate(self._names):
            tensors[f"{name}:{self._beside}"] = (self._left if self._kahan else self._wide)[number].detach()
            for key, value in self._state(number).items():
                tensors[f"{name}:{key}"] = torch.as_tensor(value)
        return tensors

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores what `state` returned. Raises E844 where nothing was kept beside a weight."""
        for number, name in enumerate(self._names):
            held = {k.removeprefix(f"{name}:"): v for k, v in tensors.items() if k.startswith(f"{name}:")}
            if self._beside not in held:
                raise TrueupError(
                    "E844",
                    f"missing: {name}:{self._beside}",
                    where="optimizer.safetensors",
                    remedy="resume it with the settings and the version that wrote it",
                )
            beside = (self._left if self._kahan else self._wide)[number].detach()
            beside.copy_(placed(held.pop(self._beside).to(beside.device), beside))
            if held:
                assert self._adamw is not None
                place = self._weights[number].device
                self._adamw.state[self._wide[number]] = {
                    key: value.to("cpu") if key == "step" else placed(value.to(place), self._weights[number])
                    for key, value in held.items()
                }

    @property
    def _beside(self) -> str:
        return "compensation" if self._kahan else "master"

    def _state(self, number: int) -> dict[str, Tensor]:
        return self._adamw.state.get(self._wide[number], {}) if self._adamw else {}

    def _chunks(self) -> Iterator[list[int]]:
        """Numbers of the weights that have a gradient, in runs of about `CHUNK` entries."""
        run: list[int] = []
        size = 0
        for number, weight in enumerate(self._weights):
            if weight.grad is None:
                continue
            if run and size + weight.numel() > CHUNK:
                yield run
                run, size = [], 0
            run.append(number)
            size += weight.numel()
        if run:
            yield run

    def _widen(self, number: int) -> None:
        weight, wide = self._weights[number], self._wide[number]
        assert weight.grad is not None
        if self._kahan:
            wide.data = weight.float() + self._left[number].float()
            self._cast(number, torch.float32)
        wide.grad = weight.grad.float()

    def _round(self, number: int) -> None:
        weight, wide = self._weights[number], self._wide[number]
        weight.copy_(wide)
        wide.grad = None
        if self._kahan:
            self._left[number].copy_(wide - weight.float())
            wide.data = wide.new_empty(0)
            self._cast(number, weight.dtype)

    def _cast(self, number: int, dtype: torch.dtype) -> None:
        state = self._state(number)
        state.update({key: state[key].to(dtype) for key in MOMENTS if key in state})


def _refuse(kept: Kept, betas: Sequence[float]) -> None:
    """Nothing; E505 where small changes would be lost, E506 where moments would not follow."""
    if kept == "none":
        raise TrueupError(
            "E505",
            "weights in half precision do not move at small learning rates: what a step changes rounds away",
            where="update.master_weights",
            remedy="--update.master_weights float32; or kahan, which takes 6 bytes a weight less",
        )
    if kept == "kahan" and max(betas) > SLOWEST:
        raise TrueupError(
            "E506",
            f"kahan keeps the moments in half precision, which cannot follow betas above {SLOWEST:g}",
            where="update.betas",
            remedy="--update.master_weights float32, or betas of [0.9, 0.95]",
        )
