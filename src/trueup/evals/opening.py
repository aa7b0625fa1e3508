"""A model as a policy to be measured, by its reference."""

from __future__ import annotations

from trueup.engine.method import Role
from trueup.evals.view import PolicyView
from trueup.models.opening import open_chat, open_network, pick_device
from trueup.settings.blocks import ModelSettings
from trueup.sources.context import open_context


def open_view(
    model: str, *, dialogues: int = 0, context: str = "lab:hhh", template: str | None = None
) -> PolicyView:
    """The model of a folder, an id or `lab:base` as a policy, behind the first dialogues of a context."""
    settings, device = ModelSettings(path=model, template=template), pick_device("auto")
    network = open_network(Role(trained=False), settings, device, seed=0)
    return PolicyView(
        name=model,
        network=network,
        chat=open_chat(settings),
        prefix=open_context(context, dialogues) if dialogues else (),
        context=network.config.max_position_embeddings,
        device=device,
    )
