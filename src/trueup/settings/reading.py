"""Python files read as text: what their names stand for, followed from file to file. Nothing is imported."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterator
from functools import cache, reduce
from operator import or_
from pathlib import Path
from typing import Any, NamedTuple

from trueup.errors import TrueupError

_ABOVE = Path(__file__).resolve().parents[2]


class Found(NamedTuple):
    """A class, a function or a whole file, where it is written."""

    module: str
    path: Path
    node: ast.ClassDef | ast.FunctionDef | ast.Module

    @property
    def name(self) -> str:
        """The dotted name."""
        return self.module if isinstance(self.node, ast.Module) else f"{self.module}.{self.node.name}"

    @property
    def source(self) -> str:
        """Its text, decorators included."""
        text = self.path.read_text(encoding="utf-8")
        if isinstance(self.node, ast.Module):
            return text
        first = min([self.node.lineno, *(d.lineno for d in self.node.decorator_list)])
        return "".join(text.splitlines(keepends=True)[first - 1 : self.node.end_lineno])


def read_file(module: str, path: Path) -> Found:
    """A whole file; E704 for one that is no Python."""
    try:
        return Found(module, path, _parsed(path))
    except SyntaxError as error:
        raise TrueupError(
            "E704", f"not Python: {error.msg}", where=f"{path}:{error.lineno}", remedy="repair it"
        ) from None


def named(file: Found) -> Iterator[Found]:
    """What the names at a file's top level stand for, in order: classes, functions and files of trueup."""
    yield from filter(None, (_meant(file, node, name) for _, node, name in _bound(file)))


def lookup(file: Found, name: str) -> Found | None:
    """What a name stands for at the top level of a file; None for what is no part of trueup."""
    return next((_meant(file, node, there) for here, node, there in _bound(file) if here == name), None)


def _bound(file: Found) -> Iterator[tuple[str, ast.ClassDef | ast.FunctionDef | ast.ImportFrom, str]]:
    """The names at a file's top level, what binds each, and what it is called where it comes from."""
    for node in file.node.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield node.name, node, node.name
        elif isinstance(node, ast.ImportFrom):
            yield from ((alias.asname or alias.name, node, alias.name) for alias in node.names)


def _meant(file: Found, node: ast.ClassDef | ast.FunctionDef | ast.ImportFrom, name: str) -> Found | None:
    if isinstance(node, ast.ImportFrom):
        return defined(node.module or "", name)
    return Found(file.module, file.path, node)


def defined(module: str, name: str) -> Found | None:
    """What a module of trueup calls by a name; None for another module, or one without it."""
    path = path_of(module)
    if path is None:
        return None
    inner = path_of(f"{module}.{name}")
    own = lookup(read_file(module, path), name)
    return own or (read_file(f"{module}.{name}", inner) if inner else None)


def mentioned(found: Found) -> Iterator[Found]:
    """What the names inside a function or class stand for at the top level of its file."""
    file = read_file(found.module, found.path)
    names = (node.id for node in ast.walk(found.node) if isinstance(node, ast.Name))
    yield from filter(None, (lookup(file, name) for name in names))


@cache
def outline(block: Found) -> type:
    """A dataclass with the names of a written one's settings and of its blocks, without types and values.

    It tells a key that there is not without importing what the settings' own module needs.
    """
    file = read_file(block.module, block.path)
    fields: list[tuple[str, Any, Any]] = []
    for node in block.node.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            blocks = [outline(found) for found in _blocks(file, node.annotation)]
            default: Any = dataclasses.field(default=None)
            if isinstance(node.value, ast.Call):
                made = next(_blocks(file, node.value.func), None)
                default = dataclasses.field(default_factory=outline(made) if made else lambda: None)
            elif isinstance(node.value, ast.Constant) and node.target.id == "kind":
                default = dataclasses.field(default=node.value.value)
            fields.append((node.target.id, reduce(or_, blocks) if blocks else Any, default))
    return dataclasses.make_dataclass(block.name.rpartition(".")[2], fields)


def _blocks(file: Found, written: ast.expr) -> Iterator[Found]:
    """The classes among the members of an annotation, or the one that a name stands for."""
    if isinstance(written, ast.BinOp):
        yield from _blocks(file, written.left)
        yield from _blocks(file, written.right)
    found = None
    if isinstance(written, ast.Name):
        found = lookup(file, written.id)
    elif isinstance(written, ast.Attribute) and isinstance(written.value, ast.Name):
        inner = lookup(file, written.value.id)
        found = lookup(inner, written.attr) if inner and isinstance(inner.node, ast.Module) else None
    if found is not None and isinstance(found.node, ast.ClassDef):
        yield found


def path_of(module: str) -> Path | None:
    """The file of a module of trueup; None for another module, or one that is not there."""
    if module.split(".")[0] != "trueup":
        return None
    base = _ABOVE.joinpath(*module.split("."))
    return next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()), None)


@cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))
