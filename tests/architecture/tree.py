"""The source as the architecture tests read it: files, syntax trees, layers and the imports between them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "trueup"


@dataclass(frozen=True)
class Module:
    """One file of the package: its dotted name, path, text and syntax tree."""

    name: str
    path: Path
    text: str
    tree: ast.Module

    @property
    def layer(self) -> str:
        """Its room, the folder below the package: `objectives`; in a wing with the file: `engine.loop`."""
        return layer_of(self.name)

    @property
    def where(self) -> str:
        """Its path from the root of the repository."""
        return str(self.path.relative_to(ROOT))


WINGS = ("engine", "settings", "runs")
"Folders whose files have an order among themselves."


def layer_of(name: str) -> str:
    """The layer that a dotted name belongs to: `trueup.engine.loop.fit` is of `engine.loop`."""
    parts = name.split(".")[1:] or ["trueup"]
    return ".".join(parts[:2]) if parts[0] in WINGS else parts[0]


def room_of(name: str) -> str:
    """The folder below the package that a dotted name belongs to."""
    return (name.split(".")[1:] or ["trueup"])[0]


@cache
def modules() -> tuple[Module, ...]:
    """Every Python file of the package."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        text = path.read_text(encoding="utf-8")
        found.append(Module(name, path, text, ast.parse(text)))
    return tuple(found)


def imports(module: Module) -> Iterator[str]:
    """The dotted names a module imports, anywhere in it; those for type checkers alone are left out."""
    yield from _imports_below(module.tree)


def _imports_below(node: ast.AST) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module:
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        else:
            yield from _imports_below(child)


def imported_layers(module: Module) -> set[str]:
    """The layers of the package that a module imports from, its own left out."""
    return {layer_of(name) for name in imports(module) if name.startswith("trueup.")} - {module.layer}


def code_lines(text: str) -> int:
    """Lines that say what to do: no blank lines, comments or docstrings."""
    documentation: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        value = node.value if isinstance(node, ast.Expr) else None
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            documentation.update(range(value.lineno, (value.end_lineno or value.lineno) + 1))
    return sum(
        1
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip() and not line.strip().startswith("#") and number not in documentation
    )


FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


def functions(module: Module) -> Iterator[FunctionNode]:
    """Every function of a module, nested ones too."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
