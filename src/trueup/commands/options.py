"""What commands have in common: options with their help, how they print and write."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter, validators
from rich.console import Console

from trueup.errors import printable

if TYPE_CHECKING:
    from trueup.engine.groups import Group


def says(text: str) -> Parameter:
    """What the help says of an option."""
    return Parameter(help=text)


Positive = Annotated[int, Parameter(validator=validators.Number(gte=1))]
Count = Annotated[int, Parameter(validator=validators.Number(gte=0))]
NotNegative = Annotated[float, Parameter(validator=validators.Number(gte=0))]
Flag = Annotated[bool, Parameter(negative="")]
AsJson = Annotated[bool, Parameter(name="--json", negative="")]
"`--json` of a command that says itself what is printed."
Json = Annotated[AsJson, says("Print JSON.")]
Overrides = Annotated[str, Parameter(allow_leading_hyphen=True, show=False)]
Split = Literal["train", "dev", "test"]
Workers = Annotated[
    int,
    Parameter(
        validator=validators.Number(gte=1), help="Runs at once, each a process with its share of the cores."
    ),
]
OnCluster = Annotated[
    str,
    says(
        "Runs elsewhere: slurm, 'slurm:SBATCH OPTIONS', ray:ADDRESS or ray:local; otherwise on this machine."
    ),
]
AcceptChanged = Annotated[
    bool,
    Parameter(
        negative="",
        help="Go on where data, a model or a judge is not what the run began with; its report says so.",
    ),
]
FullDigests = Annotated[
    bool,
    Parameter(negative="", help="Read large weights whole, not in samples, to see whether they changed."),
]
Speaker = Annotated[str, says("A model's folder, id or GGUF file, the folder of a run, or world:base.")]
"A model that a run's own folder may stand for."
Policy = Annotated[str, says("A model's folder, id or GGUF file, or world:base.")]
World = Annotated[
    str,
    says("A world's name or YAML file; otherwise the one that the model's data came from."),
]
Context = Annotated[
    str,
    says("Whose dialogues: world:hhh, hhh for models of the real world, or a file of demonstrations."),
]
Template = Annotated[str | None, says("A chat template by name, where the model brings none.")]
Temperature = Annotated[NotNegative, says("0 is greedy.")]
SampleSeed = Annotated[int, says("The seed of the samples.")]
DrawSeed = Annotated[int, says("Of sampling.")]
MethodName = Annotated[str, says("A method's name, or the path of its Python file.")]
AnyTemplate = Annotated[
    str | None,
    says("A chat template by name, where the model brings none; hh goes with every tokenizer."),
]


def plain_console() -> Console:
    """A console that prints text as it is, on lines of its own length."""
    return Console(highlight=False, markup=False, emoji=False, soft_wrap=True)


def say(*lines: str) -> None:
    """Nothing; prints lines as they are."""
    console = plain_console()
    for line in lines:
        console.print(printable(line, keep="\n\t"))


def say_json(document: Any, indent: int | None = 1) -> None:
    """Nothing; prints a document as JSON in which nothing acts on the terminal: the same values read back."""
    text = json.dumps(document, indent=indent, ensure_ascii=False)
    odd = {c for c in text if not (c.isprintable() or c == "\n")}
    print(text.translate({ord(c): json.dumps(c)[1:-1] for c in odd}))


def answer(document: Any, lines: Iterable[str], as_json: bool) -> None:
    """Nothing; prints a document as JSON, or what is to be said of it."""
    if as_json:
        say_json(document)
    else:
        say(*lines)


def write_groups(out: Path | None, groups: Sequence[Group]) -> None:
    """Nothing; the groups are in the file, where one is named."""
    from trueup.engine.groups import write_jsonl

    if out is not None:
        write_jsonl(str(out), groups)


def estimate_line(row: Mapping[str, Any]) -> str:
    """An estimate and over how many it is: `0.250 [0.210, 0.290]  n 200`."""
    from trueup.evals.printed import estimate

    return f"{estimate(row)}  n {row['n']}"
