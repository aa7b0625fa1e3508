"""Who may import whom. The table is the architecture: docs/architecture.md draws it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter

import pytest

from architecture.tree import imported_layers, imports, modules, room_of

# What the core layers may import; a layer that is not named here may import anything that makes no cycle.
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "citations": {"errors"},
    "engine.order": set(),
    "engine.disk": {"errors"},
    "engine.inputs": {"engine.disk", "errors"},
    "engine.groups": {"engine.disk", "errors"},
    "engine.lines": {"errors"},
    "engine.views": {"engine.groups"},
    "engine.picks": set(),
    "engine.batch": {"engine.picks", "errors"},
    "engine.packing": {"engine.batch", "engine.groups", "engine.picks", "errors"},
    "engine.prefixes": {"engine.groups", "engine.packing"},
    "engine.ranks": {"engine.order"},
    "engine.method": {"engine.batch", "engine.groups", "engine.ranks", "errors"},
    "engine.room": {"engine.batch", "engine.groups", "engine.method", "engine.packing", "errors"},
    "engine.reduce": {"engine.batch", "engine.method"},
    "engine.loop": {
        "engine.batch", "engine.groups", "engine.method", "engine.order", "engine.packing", "engine.reduce",
        "engine.room", "engine.unfinished", "errors",
    },
    "engine.unfinished": {"engine.groups", "engine.method", "errors"},
    "settings.strict_yaml": {"errors"},
    "settings.schema": {"errors", "settings.strict_yaml"},
    "settings.translate": {"errors", "settings.schema", "settings.strict_yaml"},
    "settings.config": {"errors", "settings.schema", "settings.strict_yaml", "settings.translate"},
    "settings.answers": {"settings.translate"},
    "settings.aliases": {"settings.answers", "settings.translate"},
    "settings.blocks": {"settings.schema"},
    "settings.stages": {"settings.blocks", "settings.config"},
    "settings.alone": {"settings.reading", "settings.schema"},
    "settings.discover": {"errors", "settings.alone"},
    "settings.held": {"errors"},
    "settings.beside": set(),
    "settings.forms": {"errors", "settings.config"},
    "settings.narrow": set(),
    "settings.reading": {"errors"},
    "settings.hub": set(),
    "settings.names": {"errors"},
    "settings.json_files": {"errors"},
    "settings.stored": set(),
    "settings.sealed": {"engine.disk", "errors", "settings.json_files"},
    "settings.vetted": {"errors", "settings.json_files", "settings.sealed", "settings.stored"},
    "settings.weights": {"errors", "settings.hub", "settings.json_files", "settings.vetted"},
    "settings.sound": {"errors", "settings.stored", "settings.weights"},
    "objectives": {"engine.batch", "engine.method", "errors"},
    "annotate": {
        "engine.batch", "engine.groups", "engine.method", "engine.order", "engine.packing", "engine.prefixes",
        "engine.room", "engine.views", "errors",
    },
    "update": {"engine.batch", "engine.method", "engine.ranks", "errors"},
    "chat": {"engine.groups", "engine.views", "errors"},
    "data": {"engine.disk", "engine.groups", "engine.views", "errors", "settings.hub"},
    "worlds": {
        "engine.groups", "errors", "settings.beside", "settings.config", "settings.discover",
        "settings.strict_yaml",
    },
    "models": {
        "chat", "engine.batch", "engine.disk", "engine.groups", "engine.method", "engine.order",
        "engine.packing", "engine.picks", "engine.ranks", "engine.room", "errors", "settings.blocks",
        "settings.held", "settings.sound", "settings.stored", "settings.vetted", "settings.weights", "worlds",
    },
    "statistics": {"errors"},
    "ratings": {"data", "engine.disk", "engine.groups", "errors", "statistics"},
    "sandbox": {"errors"},
    "runs.signals": {"errors"},
    "runs.inputs": {"errors"},
    "runs.manifest": {"engine.disk", "errors"},
    "runs.checkpoint": {"errors", "runs.manifest"},
    "runs.trackers": {"engine.disk", "errors"},
    "reports": {"engine.disk", "engine.inputs", "engine.lines", "errors", "settings.strict_yaml"},
    "methods": {
        "annotate", "chat", "engine.batch", "engine.groups", "engine.method", "engine.order", "engine.views",
        "errors", "judges", "objectives", "settings.blocks", "sources", "update",
    },
}  # fmt: skip

ALSO: dict[str, tuple[set[str], str]] = {
    "trueup.methods.best_of_n": (
        {"evals", "runs.meter", "models", "runs.recipe"},
        "it trains nothing: samples and chooses",
    ),
}
"module -> what it may import beyond its layer, and why."

LAB_COMMANDS = ("trueup.commands.lab",)
"What may know the lab beside itself and the claims, which are measured in it."

# Layers, or single modules, that work on a machine where torch cannot be imported.
NO_TORCH = (
    "trueup.collecting",
    "trueup.data",
    "trueup.engine.disk",
    "trueup.engine.groups",
    "trueup.engine.lines",
    "trueup.engine.order",
    "trueup.engine.views",
    "trueup.errors",
    "trueup.lab.datasets",
    "trueup.lab.graders",
    "trueup.lab.labelers",
    "trueup.lab.world",
    "trueup.ratings",
    "trueup.reports",
    "trueup.runs.manifest",
    "trueup.sandbox",
    "trueup.settings.aliases",
    "trueup.settings.alone",
    "trueup.settings.config",
    "trueup.settings.discover",
    "trueup.settings.held",
    "trueup.settings.json_files",
    "trueup.settings.names",
    "trueup.settings.reading",
    "trueup.settings.schema",
    "trueup.settings.sound",
    "trueup.settings.sealed",
    "trueup.settings.stored",
    "trueup.settings.strict_yaml",
    "trueup.settings.vetted",
    "trueup.settings.weights",
    "trueup.statistics",
    "trueup.watching",
)


WITHOUT_TORCH = """
import importlib, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}")

sys.meta_path.insert(0, Absent())
"""


def _covered(name: str) -> bool:
    return any(name == layer or name.startswith(f"{layer}.") for layer in NO_TORCH)


def test_layers_import_only_what_the_table_allows() -> None:
    found = []
    for module in modules():
        more, _ = ALSO.get(module.name, (set(), ""))
        beyond = imported_layers(module) - ALLOWED.get(module.layer, imported_layers(module)) - more
        if beyond:
            found.append(f"{module.where} imports {sorted(beyond)}")
    assert not found, "\n".join(found)


def test_modules_form_no_cycle() -> None:
    names = {m.name for m in modules()}
    graph: dict[str, set[str]] = {}
    for module in modules():
        targets = {n if n in names else n.rpartition(".")[0] for n in imports(module)}
        graph[module.name] = (targets & names) - {module.name}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"modules import each other: {' -> '.join(error.args[1])}")


def test_nothing_imports_the_command_line() -> None:
    guilty = [
        m.where
        for m in modules()
        if m.layer not in ("cli", "commands", "__main__") and imported_layers(m) & {"cli", "commands"}
    ]
    assert not guilty


def test_nothing_imports_a_method() -> None:
    """Methods are found by their file's name (`trueup.settings.discover`), never named by other code."""
    guilty = [
        m.where
        for m in modules()
        if m.layer != "methods" and any(n.startswith("trueup.methods.") for n in imports(m))
    ]
    assert not guilty


def test_nothing_but_the_lab_knows_the_lab() -> None:
    """General rooms reach a world through its doors: they neither import the lab nor spell `lab:`."""
    guilty = []
    for module in modules():
        if module.layer in ("lab", "claims") or module.name in LAB_COMMANDS:
            continue
        guilty += [
            f"{module.where} imports {n}" for n in imports(module) if f"{n}.".startswith("trueup.lab.")
        ]
        spelt = [
            n.value for n in ast.walk(module.tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)
        ]
        guilty += [f"{module.where} says {text[:60]!r}" for text in spelt if re.search(r"\blab:", text)]
    assert not guilty, "\n".join(guilty)


def test_rooms_form_no_circle() -> None:
    """The folders of the package have an order: who is imported stands below, whole rooms at a time."""
    graph: dict[str, set[str]] = {}
    for module in modules():
        rooms = {room_of(name) for name in imports(module) if name.startswith("trueup.")}
        graph.setdefault(room_of(module.name), set()).update(rooms - {room_of(module.name)})
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"rooms import each other: {' -> '.join(error.args[1])}")


def test_the_loop_names_no_method() -> None:
    loop = next(m for m in modules() if m.name == "trueup.engine.loop")
    names = {m.path.stem for m in modules() if m.layer == "methods"} - {"__init__"}
    words = set("".join(c if c.isalnum() or c == "_" else " " for c in loop.text.lower()).split())
    assert names, "no methods were found"
    assert not names & words


def test_layers_without_torch_do_not_mention_it() -> None:
    for module in modules():
        if _covered(module.name):
            heavy = {name.split(".")[0] for name in imports(module)} & {"torch", "transformers", "peft"}
            assert not heavy, f"{module.where} imports {heavy}"


def test_layers_without_torch_import_where_torch_cannot_be() -> None:
    """In a fresh interpreter in which importing torch raises, every one of their modules still imports."""
    names = [m.name for m in modules() if _covered(m.name)]
    assert len(names) > 10
    code = WITHOUT_TORCH + f"for name in {names!r}: importlib.import_module(name)\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
