"""A method's settings without what it computes with: its file run without the packages that take long.

Settings are dataclasses in files that import torch for other reasons. Such a file is run here statement by
statement under another name, without its heavy imports; what then has no meaning is left out, and what it
takes from other files of trueup comes from them in the same way. Files that need nothing heavy are imported.
"""

from __future__ import annotations
import __future__

import ast
import dataclasses
import importlib
import sys
from functools import cache
from types import ModuleType
from typing import Any

from trueup.settings.reading import path_of, read_file
from trueup.settings.schema import items, members

HEAVY = frozenset({"torch", "transformers", "peft", "safetensors", "scipy", "datasets", "accelerate"})
_UNDER = "trueup_alone."
"What the names of such modules begin with."


def settings_alone(module: str) -> ModuleType | None:
    """The module with its `Config` and constants; None where its settings cannot be told without the rest."""
    made = _module(module)
    config = vars(made).get("Config")
    return made if isinstance(config, type) and _is_whole(config) else None


def _is_whole(block: type) -> bool:
    """Whether the types of a block's fields, and of those of its blocks, are all known."""
    try:
        inner = [part for item in items(block) for part in members(item.hint)]
    except NameError:
        return False
    return all(_is_whole(part) for part in inner if dataclasses.is_dataclass(part) and isinstance(part, type))


@cache
def _needs(module: str) -> bool:
    """Whether importing a module of trueup imports something heavy, by itself or by what it imports."""
    seen, left = {module}, [module]
    while left:
        path = path_of(name := left.pop())
        above = name.rpartition(".")[0]
        nodes = read_file(name, path).node.body if path is not None else []
        found = {*(other for node in nodes for other in _imported(node)), above} - seen - {""}
        if any(other.split(".")[0] in HEAVY for other in found):
            return True
        seen |= found
        left += [other for other in found if other.split(".")[0] == "trueup"]
    return False


def _imported(node: ast.stmt) -> list[str]:
    """The modules that a statement imports, submodules of a package among them."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        return [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return []


@cache
def _module(name: str) -> ModuleType:
    """A module of trueup: itself where that is light."""
    path = path_of(name)
    assert path is not None, name
    if not _needs(name):
        return importlib.import_module(name)
    made = ModuleType(_UNDER + name)
    made.__file__ = str(path)
    sys.modules[made.__name__] = made  # where dataclasses and types look for what names mean
    for node in read_file(name, path).node.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "trueup":
            vars(made).update(_taken(node))
        elif not any(found.split(".")[0] in HEAVY for found in _imported(node)):
            _run(node, vars(made), str(path))
    return made


def _taken(node: ast.ImportFrom) -> dict[str, Any]:
    """What an import from a file of trueup brings, as far as it has a meaning here."""
    found: dict[str, Any] = {}
    for alias in node.names:
        inner = f"{node.module}.{alias.name}"
        if path_of(inner) is not None:
            found[alias.asname or alias.name] = _module(inner)
            continue
        values = vars(_module(str(node.module)))
        if alias.name in values:
            found[alias.asname or alias.name] = values[alias.name]
    return found


def _run(node: ast.stmt, names: dict[str, Any], path: str) -> None:
    if isinstance(node, ast.If):  # TYPE_CHECKING
        return
    code = compile(ast.Module([node], []), path, "exec", __future__.annotations.compiler_flag, True)
    try:
        exec(code, names)
    except (NameError, AttributeError, TypeError, ImportError):
        return  # It needs what was left out: a network's class, a function of torch.
