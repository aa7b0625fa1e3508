"""What commands have in common: options with their help, and how they print."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from cyclopts import Parameter, validators
from rich.console import Console

Positive = Annotated[int, Parameter(validator=validators.Number(gte=1))]
Count = Annotated[int, Parameter(validator=validators.Number(gte=0))]
NotNegative = Annotated[float, Parameter(validator=validators.Number(gte=0))]
Flag = Annotated[bool, Parameter(negative="")]
AsJson = Annotated[bool, Parameter(name="--json", negative="")]
"`--json` of a command that says itself what is printed."
Json = Annotated[AsJson, Parameter(help="Print JSON.")]
Overrides = Annotated[str, Parameter(allow_leading_hyphen=True, show=False)]
Split = Literal["train", "dev", "test"]
Workers = Annotated[
    int,
    Parameter(
        validator=validators.Number(gte=1), help="Runs at once, each a process with its share of the cores."
    ),
]
Speaker = Annotated[str, Parameter(help="A model's folder or id, the folder of a run, or world:base.")]
"A model that a run's own folder may stand for."
Policy = Annotated[str, Parameter(help="A model's folder or id, or world:base.")]
World = Annotated[
    str,
    Parameter(help="A world's name or YAML file; otherwise the one that the model's data came from."),
]
Context = Annotated[
    str,
    Parameter(
        help="Whose dialogues: world:hhh, hhh for models of the real world, or a file of demonstrations."
    ),
]
Template = Annotated[str | None, Parameter(help="A chat template by name, where the model brings none.")]
AnyTemplate = Annotated[
    str | None,
    Parameter(help="A chat template by name, where the model brings none; hh goes with every tokenizer."),
]


def plain_console() -> Console:
    """A console that prints text as it is, on lines of its own length."""
    return Console(highlight=False, markup=False, emoji=False, soft_wrap=True)


def say(*lines: str) -> None:
    """Nothing; prints lines as they are."""
    console = plain_console()
    for line in lines:
        console.print(line)


def answer(document: Any, lines: Iterable[str], as_json: bool) -> None:
    """Nothing; prints a document as JSON, or what is to be said of it."""
    if as_json:
        print(json.dumps(document, indent=1, ensure_ascii=False))
    else:
        say(*lines)
