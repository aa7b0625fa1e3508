"""What commands that measure a model share: options, the model as a policy, and what they write and print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter, validators
from rich.console import Console

if TYPE_CHECKING:
    from trueup.engine.groups import Group
    from trueup.evals.view import PolicyView

Count = Annotated[int, Parameter(validator=validators.Number(gte=0))]
Flag = Annotated[bool, Parameter(negative="")]
Json = Annotated[bool, Parameter(name="--json", negative="")]


def open_view(
    model: str, *, dialogues: int = 0, context: str = "world:hhh", template: str | None = None
) -> PolicyView:
    """The model of a folder, an id or `world:base` as a policy, behind the first dialogues of a context."""
    # Imported here: looking at a command's help needs no torch.
    from trueup.engine.method import Role
    from trueup.evals.view import PolicyView
    from trueup.models.opening import open_chat, open_network, pick_device
    from trueup.settings.blocks import ModelSettings
    from trueup.sources.context import open_context

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


def write_groups(out: Path | None, groups: Sequence[Group]) -> None:
    """Nothing; the groups are in the file, where one is named."""
    from trueup.engine.groups import write_jsonl

    if out is not None:
        write_jsonl(str(out), groups)


def plain_console() -> Console:
    """A console that prints text as it is, on lines of its own length."""
    return Console(highlight=False, markup=False, soft_wrap=True)


def estimate_line(row: Mapping[str, Any]) -> str:
    """An estimate as JSON holds it, as text: `0.250 [0.210, 0.290]  n 200`."""
    interval = row["ci95"]
    shown = f"[{interval[0]:.3f}, {interval[1]:.3f}]" if interval else ""
    return f"{row['mean']:.3f} {shown}  n {row['n']}"
