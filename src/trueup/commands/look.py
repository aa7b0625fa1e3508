"""Commands that look: init, config, preview, methods, show, cite, report."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from trueup.commands.options import AsJson, MethodName, Overrides, Positive, say
from trueup.engine import disk
from trueup.errors import TrueupError, counted
from trueup.settings import discover
from trueup.settings.narrow import narrow

if TYPE_CHECKING:
    from trueup.settings.reading import Found


def init(method: MethodName, /, *overrides: Overrides, out: Path | None = None) -> None:
    """Print a commented recipe to start from, with every setting of a method at its default.

    `--key.path VALUE` puts another value there: with `--model.path my-model`, it says what `lr: auto` is for
    that model.

    Parameters
    ----------
    out
        Write it to this file instead; an existing file is left alone.
    """
    from trueup.commands.early import check_keys
    from trueup.settings.aliases import ALIASES
    from trueup.settings.config import build, parse_overrides
    from trueup.settings.schema import commented_yaml, items
    from trueup.worlds import DEFAULT

    layer = parse_overrides(list(overrides))
    check_keys(method, layer, where="command line", aliases=ALIASES)
    with discover.for_settings():
        module = discover.find(method)
    config_class = vars(module)["Config"]
    settings = build(config_class, layer, where="command line", aliases=ALIASES)
    text = f"method: {method}\n"
    if all(item.name != "world" for item in items(config_class)):
        text += "# Where `world:NAME` leads: a world that comes with trueup, or your FILE.yaml.\n"
        text += f"world: {DEFAULT}\n"
    text += f"\n{_with_rates(commented_yaml(settings), module, settings)}"
    if out is None:
        print(text, end="")
        return
    if out.exists():
        raise TrueupError("E724", "the file exists", where=str(out), remedy="choose another name for --out")
    disk.write(out, text)
    say(f"wrote {out}; `trueup train {out}` runs it")


def _with_rates(text: str, module: ModuleType, settings: Any) -> str:
    """The recipe with what each `lr: auto` comes to, for its model, beside it."""
    from trueup.runs.rates import settle, size_of

    for one in settle(module, settings, size_of)[1]:
        text = text.replace("lr: auto\n", f"lr: auto  # {one.said}\n", 1)
    return text


def config(recipe: str, /, *overrides: Overrides) -> None:
    """Print every setting of a run as it would be used: defaults, recipe and options merged and checked.

    Parameters
    ----------
    recipe
        As for `trueup train`: a YAML file with `method:`, or a method's name.
    """
    from trueup.commands.stages import single_stage
    from trueup.settings.config import dump_yaml, parse_overrides

    with discover.for_settings():
        stage = single_stage(recipe, parse_overrides(list(overrides)))
    print(dump_yaml(stage.settings), end="")


def preview(recipe: str, /, *overrides: Overrides, num: Positive = 3) -> None:
    """Show the first rows of a run's data as the model will read them, what is trained on in colour.

    Parameters
    ----------
    recipe
        As for `trueup train`.
    num
        How many rows.
    """
    from trueup.commands.stages import single_stage
    from trueup.settings.config import parse_overrides

    stage = single_stage(recipe, parse_overrides(list(overrides)), reads=True)
    if not {"data", "model"} <= vars(stage.config).keys() or isinstance(stage.config.model, str):
        raise TrueupError(
            "E728", f"{stage.name} reads no data", where=recipe, remedy="`trueup config` shows what it reads"
        )
    from trueup.chat.preview import render_preview, visible
    from trueup.models.opening import open_chat
    from trueup.sources.open import open_groups

    chat = open_chat(stage.config.model)
    needs = vars(stage.module).get("NEEDS", ())
    opened = open_groups(stage.config.data, chat, seed=stage.config.seed, needs=needs)
    console = Console(highlight=False)
    for group in opened.train[:num]:
        shown = (counted(len(group.completions), "completion"), counted(len(group.pairs()), "pair"))
        console.rule(Text("  ".join((visible(group.id) or "row", *shown))))
        console.print(render_preview(chat, group))
    for note in (*chat.notes, *opened.unread):
        console.print(f"note: {visible(note)}", markup=False)
    console.print(
        f"{counted(opened.rows_in, 'row')}: {len(opened.train)} to train on, "
        f"{len(opened.held_out)} held out, "
        f"{opened.quarantined} bad, {opened.overlong} longer than {stage.config.data.max_tokens} tokens"
    )


def methods(*, as_json: AsJson = False) -> None:
    """List the methods and procedures, by what they do.

    Parameters
    ----------
    as_json
        Print JSON with each one's name, family, needs, loss unit, references and default settings.
    """
    if as_json:
        print(json.dumps([_described(package, name) for package, name in _known()], indent=1))
        return
    from rich.table import Table

    console = Console(highlight=False)
    said = [(name, _constants(package, name)) for package, name in _known()]
    width = max(len(name) for name, _ in said)
    for family in discover.FAMILIES:
        members = [(name, about) for name, about in said if about["FAMILY"] == family]
        if not members:
            continue
        table = Table(box=None, pad_edge=False, show_header=False, width=min(console.width, 110))
        table.add_column(min_width=width)
        table.add_column()
        for name, about in members:
            table.add_row(f"[bold]{name}[/]", f"{about['SUMMARY']}{_needs(about)}")
        console.print(f"[bold underline]{family}[/]")
        console.print(table, "")
    for need, meaning in discover.NEEDS.items():
        console.print(f"{need:<{width}}  {meaning}")
    console.print(f"{'models':<{width}}  how many copies of the weights a run holds, without LoRA\n")
    console.print("`trueup show NAME` reads one aloud; `trueup init NAME` writes a recipe to start from.")


def _needs(about: Mapping[str, Any]) -> str:
    """What a method needs, as a line below its summary: `comparisons, reference; 2 models`."""
    copies = str(about.get("COPIES", ""))
    models = f"{copies} model{'s' if copies != '1' else ''}" if copies else ""
    said = "; ".join(part for part in (", ".join(about["NEEDS"]), models) if part)
    return f"\n[dim]{said}[/]" if said else ""


def _known() -> list[tuple[str, str]]:
    return [(package, name) for package in discover.PLACES for name in discover.names(package)]


def _constants(package: str, name: str) -> dict[str, Any]:
    return {"FAMILY": "procedures", "NEEDS": (), **discover.constants(name, package)}


def _described(package: str, name: str) -> dict[str, Any]:
    from trueup.settings.schema import resolved

    about = _constants(package, name)
    return {
        "name": name,
        "kind": "method" if package == discover.METHODS else "procedure",
        "family": about["FAMILY"],
        "summary": about["SUMMARY"],
        "needs": list(about["NEEDS"]),
        "unit": about.get("UNIT"),
        "models": about.get("COPIES"),
        "references": list(about.get("REFERENCES", ())),
        "defaults": resolved(vars(discover.find(name))["Config"]()),
    }


def show(method: MethodName, /) -> None:
    """Print a method in reading order: its file, the stages and objectives it is made of, and the loop."""
    from trueup.settings.reading import defined, lookup, mentioned, named, read_file

    file = read_file(*discover.place(method))
    # A method built on another (PPO-ptx on PPO) is read together with it.
    made_of = [file, *(found for found in named(file) if _is_file(found) and lookup(found, "build"))]
    stated = [found for read in made_of for found in named(read)]
    # What a function that is named makes is read too: what `from_policy` makes is `Sample`.
    made = [c for found in stated if _is_function(found) for c in mentioned(found) if not _is_function(c)]
    layers = ("trueup.sources", "trueup.annotate", "trueup.objectives", "trueup.update")
    parts = dict.fromkeys(p for p in (*stated, *made) if p.module.startswith(layers) and not _is_file(p))
    near = sorted(parts, key=lambda p: [p.module.startswith(layer) for layer in layers], reverse=True)
    if lookup(file, "build"):
        near += filter(None, [defined("trueup.engine.loop", "fit")])
    for found in (*made_of, *near):
        _print_source(found)


def _is_file(found: Found) -> bool:
    return isinstance(found.node, ast.Module)


def _is_function(found: Found) -> bool:
    return isinstance(found.node, ast.FunctionDef)


def _print_source(found: Found) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:  # In a file or a pager it stays Python.
        print(f"# {found.name}\n\n{narrow(found.source)}")
        return
    from rich.syntax import Syntax

    console.rule(found.name)
    console.print(Syntax(found.source, "python", background_color="default", word_wrap=True))


def cite(run: str, /) -> None:
    """Print BibTeX for what a run used, or for a method.

    Parameters
    ----------
    run
        A run's folder, or a method's name.
    """
    from trueup.citations import cite as bibtex
    from trueup.runs.export import methods_of, references_of

    print(bibtex(references_of(methods_of(Path(run)) or [run])), end="")


def report(run: Path, /, *, out: Path | None = None) -> None:
    """Write the report of a run, a comparison or a measurement: one HTML file that needs nothing else.

    Parameters
    ----------
    run
        The folder of a run, of a comparison, or of what `trueup measure` wrote.
    out
        Where the file goes; `RUN/report.html` otherwise, `RUN/comparison.html` of a comparison,
        `RUN/measure.html` of a measurement.
    """
    from trueup.reports.which import report_of

    say(f"report: {report_of(run, out)}")
