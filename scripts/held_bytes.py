"""How many bytes of tensors a run holds between its updates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

from trueup.engine.method import Network, Rule


def held(networks: Mapping[str, Network], rule: Rule | None = None) -> dict[str, int]:
    """Bytes of weights (parameters and buffers), gradients and the optimiser's state, and their `total`.

    A storage that several networks share counts once. What a forward pass needs while it lasts is left out.
    """
    seen: set[int] = set()
    modules = [network.module for network in networks.values()]
    parameters = [p for module in modules for p in module.parameters()]
    weights: list[Tensor] = [*parameters, *(b for module in modules for b in module.buffers())]
    # The scales of 4-bit weights are neither parameters nor buffers.
    states = (getattr(p, "quant_state", None) for p in parameters)
    weights += [scale for state in states if state is not None for scale in _scales(state)]
    said = {
        "weights": _bytes(weights, seen),
        "gradients": _bytes((p.grad for p in parameters if p.grad is not None), seen),
        "optimiser": _bytes(rule.state()[0].values(), seen) if rule is not None else 0,
    }
    return {**said, "total": sum(said.values())}


def _scales(state: object) -> list[Tensor]:
    """The tensors of a quantisation state, those of a quantised state inside it too."""
    found: list[Tensor] = []
    for part in vars(state).values():
        if isinstance(part, Tensor):
            found.append(part)
        elif hasattr(part, "absmax"):
            found += _scales(part)
    return found


def _bytes(tensors: Iterable[Tensor], seen: set[int]) -> int:
    total = 0
    for tensor in tensors:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in seen:
            seen.add(storage.data_ptr())
            total += storage.nbytes()
    return total
