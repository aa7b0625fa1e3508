"""What is declared is imported or has its reason; what is imported is declared, that of an extra late."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from architecture.tree import ROOT, Module, modules

REASONS = {
    "tensorboard": "a tracker; the error where one is missing names the tracker's package",
    "myst-parser": "docs/site/conf.py names it as an extension",
    "furo": "docs/site/conf.py names it as the theme",
    "ziamath": "the font that the pages' equations are set in comes along with it",
    "pytest-cov": "a plugin of pytest",
    "pytest-xdist": "a plugin of pytest",
    "psycopg": "SQLAlchemy imports it where the address of a store names PostgreSQL",
    "hatchling": "a program that builds the wheels which a test compares",
    "ruff": "a program of the gates",
    "pyright": "a program of the gates",
    "ipykernel": "the kernel in which nbclient runs a notebook",
    "pandas": "tests read frames with it",
    "polars": "tests read frames with it",
}
"What is declared and need not be imported, and why it is there."
PINNED = {"pip"}
"What scripts import and the set-up pins: the lock is made by pip's own search."
COMES_WITH = {"pydantic_core": "pydantic, which pins it to the one version that fits"}
"What is imported and cannot be declared apart from what brings it."
BROUGHT = {
    "pandas": "frames are made on request; the error where it is missing says how",
    "detoxify": "it fetches weights of its own, so whoever wants it installs it",
    **dict.fromkeys(("wandb", "trackio", "mlflow"), "a tracker that users have an account or a server of"),
}
"What src imports by request and only users install; the error where it is missing says how."
MODULES = {
    "pyyaml": "yaml", "scikit-learn": "sklearn", "markdown-it-py": "markdown_it",
    "phonenumberslite": "phonenumbers", "python-stdnum": "stdnum",
}  # fmt: skip
"Distributions whose module has another name."
LATE_ROOMS = {"trueup.collecting.": "trueup.collecting.open"}
"Rooms that need an extra as a whole, each with the module that says so where it is missing."
OWN = [path for folder in ("tests", "scripts", "docs/site") for path in (ROOT / folder).iterdir()]
"What tests and scripts import from beside them, and from the site; `benchmarks` lies at the root."
BY_NAME = ("import_module", "importorskip", "find_spec", "_package")
"Functions that are given a module's name."


def module_of(requirement: str) -> str:
    """The module that a requirement brings: `lm-eval[hf]>=0.4` brings `lm_eval`."""
    name = Requirement(requirement).name.lower()
    return MODULES.get(name, name.replace("-", "_"))


@cache
def declared() -> dict[str, list[str]]:
    """The requirements of the base, under "", and of each extra; trueup's own extras are left out."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = {"": project["dependencies"], **project["optional-dependencies"]}
    return {
        extra: [one for one in found if Requirement(one).name != "trueup"] for extra, found in groups.items()
    }


def foreign(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """The top names of the third-party modules that some nodes import, by a statement or by name."""
    for node in nodes:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module] if node.module and not node.level else []
        elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in BY_NAME:
            first = node.args[0] if node.args else None
            names = [first.value] if isinstance(first, ast.Constant) and isinstance(first.value, str) else []
        else:
            continue
        for name in names:
            top = name.partition(".")[0]
            if top not in sys.stdlib_module_names and top != "trueup":
                yield top


def at_once(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that run when a module is imported: not those in functions, nor those for type checkers."""
    for child in ast.iter_child_nodes(node):
        typing = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        if not typing and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield child
            yield from at_once(child)


@cache
def imported(folder: str) -> frozenset[str]:
    """Third-party modules that the Python files below a folder import, anywhere in them."""
    paths = (ROOT / folder).rglob("*.py")
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in paths]
    own = set() if folder == "src" else {"benchmarks", *(path.stem for path in OWN)}
    return frozenset(name for tree in trees for name in foreign(ast.walk(tree))) - own


EXTRAS = sorted(set(declared()) - {"", "dev"})


def test_every_dependency_is_imported_by_the_package_or_has_a_reason() -> None:
    assert [one for one in declared()[""] if module_of(one) not in imported("src")] == []


def test_fourteen_dependencies_at_most_bring_all_others() -> None:
    """What is imported is declared; what another one brings anyway adds nobody who must be trusted."""
    base = {canonicalize_name(Requirement(one).name) for one in declared()[""]}
    brought = {one: {name for name in brings(one) if name in base} for one in base}
    apart = {one for one in base if not any(one in brought[other] for other in base - {one})}
    assert apart == {"peft", "datasets", "cyclopts", "scipy", "jaxtyping"}
    assert len(apart) <= 14 and apart.union(*(brought[one] for one in apart)) == base


def brings(name: str) -> set[str]:
    """What the installed distribution asks for without an extra, and what that asks for, and so on."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        for text in importlib.metadata.requires(waiting.pop()) or ():
            one = Requirement(text)
            inner = canonicalize_name(one.name)
            if inner not in found and (one.marker is None or one.marker.evaluate({"extra": ""})):
                found.add(inner)
                waiting.append(inner)
    return found


@pytest.mark.parametrize("extra", EXTRAS)
def test_every_dependency_of_an_extra_is_imported_or_has_a_reason(extra: str) -> None:
    used = {"docs": imported("docs/site"), "test": imported("tests") | imported("docs")}.get(
        extra, imported("src")
    )
    idle = {Requirement(one).name for one in declared()[extra] if module_of(one) not in used}
    assert idle <= set(REASONS), f"nothing imports {sorted(idle - set(REASONS))}"


def test_every_reason_is_of_something_declared_and_stands_beside_it() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    lines = text.partition("[project]")[2].splitlines()
    for name in REASONS:
        (line,) = [line for line in lines if re.search(rf'"{name}(\[\w+\])?[><=]', line)]
        # Of `track` the extra's own name says it.
        assert name == "tensorboard" or re.search(r'",\s+# \S', line), f"{name} has no reason beside it"


def test_the_package_imports_nothing_that_is_not_declared() -> None:
    known = {module_of(one) for extra, found in declared().items() if extra != "test" for one in found}
    assert imported("src") - known == set(COMES_WITH) | set(BROUGHT)


@pytest.mark.parametrize("folder", ["tests", "scripts", "docs"])
def test_nothing_else_imports_what_is_not_declared(folder: str) -> None:
    known = {module_of(one) for found in declared().values() for one in found}
    assert not imported(folder) - known - (PINNED if folder == "scripts" else set())


def of_extras() -> dict[str, set[str]]:
    """The modules that come with extras alone, and with which."""
    base = {module_of(one) for one in declared()[""]}
    found: dict[str, set[str]] = {}
    for extra in EXTRAS:
        for one in declared()[extra] if extra not in ("docs", "test") else ():
            found.setdefault(module_of(one), set()).add(extra)
    return {name: extras for name, extras in found.items() if name not in base}


def early(module: Module) -> set[str]:
    """Modules of extras that are imported as soon as a module of ours is."""
    return set(foreign(at_once(module.tree))) & set(of_extras())


def test_what_an_extra_brings_is_imported_when_it_is_needed() -> None:
    """In a function; or in a module, or a room, that all others import in functions."""
    late = {module.name for module in modules() if early(module)}
    rooms = {name for name in late if name.startswith(tuple(LATE_ROOMS))}
    assert late - rooms == {"trueup.answerers.serve"}
    late |= {module.name for module in modules() if module.name.startswith(tuple(LATE_ROOMS))}
    for module in modules():
        if module.name.startswith(tuple(LATE_ROOMS)):
            continue
        for node in at_once(module.tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            assert not late & set(names), f"{module.where}:{node.lineno} imports {late & set(names)} at once"


def test_what_imports_a_package_of_an_extra_names_the_extra() -> None:
    texts = {module.name: module.text for module in modules()}
    for module in modules():
        room = next((texts[door] for start, door in LATE_ROOMS.items() if module.name.startswith(start)), "")
        for name in set(foreign(ast.walk(module.tree))) & set(of_extras()):
            named = any(f"trueup[{extra}]" in module.text + room for extra in of_extras()[name])
            assert name in REASONS or named, f"{module.where} imports {name}"


def test_servers_and_clients_are_imported_by_those_who_use_them() -> None:
    """Whoever asks no server, and serves none, pays for neither."""
    code = (
        "import sys, trueup.commands.app, trueup.answerers.open, trueup.judges.endpoint\n"
        "print({'httpx2', 'starlette', 'uvicorn'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import starlette.routing", {"starlette"}),
        ("try:\n    from uvicorn import run\nexcept ImportError: pass", {"uvicorn"}),
        ("class A:\n    import uvicorn", {"uvicorn"}),
        ("importlib.import_module('rouge_score.rouge_scorer')", {"rouge_score"}),
        ("def f():\n    import uvicorn", set()),
        ("if TYPE_CHECKING:\n    import uvicorn", set()),
        ("import json, trueup.cli", set()),
    ],
)
def test_the_lint_sees_what_is_imported_at_once(source: str, found: set[str]) -> None:
    module = Module("m", Path("m.py"), source, ast.parse(source))
    assert early(module) == found
