"""Networks of which each rank holds a part: torch's `fully_shard` on every decoder layer and on the whole.

A layer's weights are whole on a rank while the layer runs, those of the rest (embeddings, LM head, the heads)
while the network is called. Heads are read below their modules, so it is the call that is wrapped: the root's
`forward` runs whatever work it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import final

import torch
from torch import Tensor, nn

from trueup.engine.ranks import Ranks
from trueup.models.forward import LanguageModel
from trueup.models.parts import called


@final
class _AtWork(nn.ModuleDict):
    """Runs the work that it is given."""

    def forward(self, work: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        # What is in place upon a view would lose the hook that gathers weights for the way back.
        return {name: said.clone() if said._is_view() else said for name, said in work().items()}


def shard(networks: Iterable[LanguageModel], ranks: Ranks, device: torch.device) -> None:
    """Nothing; each rank holds a part of every network, in place, and gradients are sums over ranks.

    Layer by layer they are moved to the device from where they lie. Networks over one base are sharded each
    for itself, and the base stays. All ranks come here with networks that are equal.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    modules = {id(network.module): network for network in networks}
    for network in modules.values():
        mesh = init_device_mesh(device.type, (ranks.count,))
        kinds = frozenset(getattr(network.hf_model, "_no_split_modules", None) or ())
        root = network.module
        layers = [part for part in root.modules() if type(part).__name__ in kinds]
        root.__class__ = _AtWork  # as `fully_shard` makes its own kind of each module
        for part in (*layers, root):
            sharded = fully_shard(part, mesh=mesh, reshard_after_forward=True)
            sharded.set_gradient_divide_factor(1.0)
            # gloo knows no sum that multiplies first.
            sharded.set_force_sum_reduction_for_comms(True)
        with torch.no_grad():  # the root is known as such from its first call on
            called(root, dict)
