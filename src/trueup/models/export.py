"""Export: a network as an ordinary Hugging Face folder, with a model card that says how it came to be.

A card states only what it was given: a figure that was not measured is not mentioned.
"""

from __future__ import annotations

import filecmp
import json
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import ModelCardData

from trueup.engine import disk
from trueup.engine.method import HeadName
from trueup.errors import TrueupError
from trueup.models import heads
from trueup.models.forward import LanguageModel
from trueup.models.load import merge, save

Kind = Literal["writer", "adapter", "scorer", "step scorer"]
"""What a folder holds: whole weights that write text, a LoRA adapter alone, or a network that only scores."""
PACKAGES = ("trueup", "torch", "transformers", "peft", "safetensors", "numpy")
CARD = "README.md"
MARKS = (CARD, "adapter_config.json")
"What only a folder that was exported, or a model's, has."


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A measured number, with its 95 % interval where there is one."""

    mean: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        interval = "" if self.low is None or self.high is None else f" [{self.low:.3g}, {self.high:.3g}]"
        return f"{self.mean:.3g}{interval}"


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """What a model card says. Everything but the name and the method may be left out."""

    name: str
    method: str
    summary: str = ""
    "One sentence on what the method does."
    base: str = ""
    "The model that training started from: a hub id, or a folder's name."
    data: Mapping[str, Any] = field(default_factory=dict)
    "What it learned from: the source, and how many rows were used, held out, refused."
    settings: Mapping[str, Any] = field(default_factory=dict)
    "The resolved settings, as nested mappings."
    gold: Figure | None = None
    "Reward by the judge that stands for the truth."
    proxy: Figure | None = None
    "Reward by the judge that was optimised."
    kl: Figure | None = None
    "KL from the reference, nats per completion."
    tax: Mapping[str, Figure] = field(default_factory=dict)
    "By test: after minus before, so negative is a loss."
    cost: Mapping[str, float] = field(default_factory=dict)
    bibtex: str = ""


def export(network: LanguageModel, folder: Path, *, card: CardFacts, merged: bool = True) -> Path:
    """The new folder: config, safetensors, tokenizer, heads where there are any, and the card as README.md.

    With `merged`, a LoRA adapter is added into the weights; without, the folder holds the adapter alone. The
    folder appears whole or not at all. Raises E846 when it exists and holds something else.
    """
    refuse_other(folder)
    whole = merge(network) if merged else network
    with new_folder(folder) as staged:
        save(whole, staged)
        disk.write(staged / CARD, render(card, kind_of_folder(staged)))
    return folder


def refuse_other(folder: Path) -> None:
    """Nothing; raises E846 when the folder exists and holds something else than a model's folder."""
    if folder.exists() and not any((folder / name).is_file() for name in MARKS):
        _refuse_existing(folder)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Where to write a model's new folder; E846 when there is one already, unless it is the same to the byte.

    So a command that was killed when all was written, but before it could say so, can be given again.
    """
    with disk.whole_folder(folder) as staged:
        yield staged
        if not _same(staged, folder):
            _refuse_existing(folder)


def _refuse_existing(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise TrueupError(
            "E846", "exists already and is not empty", where=str(folder), remedy="name a new folder"
        )


def _same(one: Path, other: Path) -> bool:
    names = [{p.relative_to(folder) for p in folder.rglob("*") if p.is_file()} for folder in (one, other)]
    return names[0] == names[1] and all(filecmp.cmp(one / n, other / n, shallow=False) for n in names[0])


SCORERS: dict[Kind, HeadName] = {"scorer": "rewards", "step scorer": "values"}
"What a folder with a head for scores gives."


def kind_of_folder(folder: Path) -> Kind:
    """What a saved folder holds, by the files in it."""
    record = folder / heads.RECORD
    held = json.loads(record.read_text("utf-8"))["heads"] if record.is_file() else ()
    for kind, output in SCORERS.items():
        if heads.MODULES[output] in held:
            return kind
    return "adapter" if (folder / "adapter_config.json").is_file() else "writer"


def render(card: CardFacts, kind: Kind) -> str:
    """The model card's Markdown, with the YAML header that model hubs read."""
    sections = (
        _header(card, kind),
        f"# {_line(card.name)}\n\n{_opening(card)}",
        _use(card, kind),
        _table("Measured", ("figure", "value"), _figures(card)),
        _table("Data", ("", ""), ((key, _text(value)) for key, value in card.data.items())),
        _table("Cost", ("", ""), ((key, f"{value:,.6g}") for key, value in card.cost.items())),
        _table("Settings", ("key", "value"), ((key, _text(value)) for key, value in _flat(card.settings))),
        _table("Versions", ("package", "version"), versions().items()),
        f"## Citations\n\n```bibtex\n{card.bibtex.strip()}\n```" if card.bibtex else "",
    )
    return "\n\n".join(part for part in sections if part) + "\n"


def versions() -> dict[str, str]:
    """The version of every package that the weights depend on, those that are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _header(card: CardFacts, kind: Kind) -> str:
    on_the_hub = card.base.count("/") == 1 and not card.base.startswith((".", "/"))
    said = ModelCardData(
        library_name="peft" if kind == "adapter" else "transformers",
        tags=["trueup", card.method],
        base_model=card.base if on_the_hub else None,
        pipeline_tag="text-generation" if kind != "scorer" else None,
    )
    return f"---\n{said.to_yaml()}\n---"


def _opening(card: CardFacts) -> str:
    start = f", starting from {_code(card.base)}" if card.base else ""
    summary = f" {_line(card.summary)}" if card.summary else ""
    return f"Trained by the method {_code(card.method)}{start}.{summary}"


def _use(card: CardFacts, kind: Kind) -> str:
    name = json.dumps(card.name)
    if kind in SCORERS:
        what = "completions" if kind == "scorer" else "the steps of completions"
        return (
            f"## Use\n\nThis network scores {what}. Its head lies beside the weights in "
            f"`{heads.FILE}`; `trueup` reads both:\n\n```python\nfrom trueup.models.load import load\n\n"
            f'network = load({name}, heads=("{SCORERS[kind]}",))\n```'
        )
    package, loader = {
        "adapter": ("peft", "AutoPeftModelForCausalLM"),
        "writer": ("transformers", "AutoModelForCausalLM"),
    }[kind]
    return (
        f"## Use\n\n```python\nfrom {package} import {loader}\nfrom transformers import AutoTokenizer\n\n"
        f"model = {loader}.from_pretrained({name})\ntokenizer = AutoTokenizer.from_pretrained({name})\n```"
    )


def _figures(card: CardFacts) -> Iterator[tuple[str, str]]:
    named = (
        ("gold reward", card.gold),
        ("proxy reward", card.proxy),
        ("KL from the reference, nats per completion", card.kl),
        *((f"tax: {test} (after minus before)", figure) for test, figure in card.tax.items()),
    )
    yield from ((name, str(figure)) for name, figure in named if figure is not None)


def _table(title: str, head: tuple[str, str], rows: Any) -> str:
    lines = [f"| {_line(key)} | {_line(value)} |" for key, value in rows]
    if not lines:
        return ""
    return "\n".join((f"## {title}", "", f"| {head[0]} | {head[1]} |", "|---|---|", *lines))


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, part in value.items():
        if isinstance(part, Mapping) and part:
            yield from _flat(part, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", part


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _line(text: str) -> str:
    """One line of Markdown in which nothing of the text acts as markup or HTML."""
    joined = " ".join(text.split())
    for character in "\\`*_[]<>|#":
        joined = joined.replace(character, f"\\{character}")
    return joined


def _code(text: str) -> str:
    return f"`{' '.join(text.replace('`', ' ').split())}`"
