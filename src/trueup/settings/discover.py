"""Finds methods and procedures: a file in the folder is found, a path outside is accepted too."""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType
from typing import Any

from trueup.errors import TrueupError

METHODS, PROCEDURES = "trueup.methods", "trueup.procedures"
_ROOT = Path(__file__).resolve().parents[1]
_OF_WORLDS = sorted(f"trueup.{path.parent.name}.procedures" for path in _ROOT.glob("*/procedures"))
PLACES = (METHODS, PROCEDURES, *_OF_WORLDS)
"The packages whose files are found by name; they are looked into, and never imported as a whole."
FAMILIES = (
    "supervised",
    "inference",
    "reward models",
    "contrastive",
    "reinforcement",
    "distillation",
    "procedures",
)
NEEDS = {
    "demonstrations": "prompts with completions worth imitating",
    "comparisons": "judgements between completions: pairs or rankings",
    "labels": "completions marked good or bad, one by one",
    "steps": "completions whose steps were judged one by one",
    "prompts": "prompts alone",
    "judge": "something that scores completions",
    "sampling": "the policy writes completions while it learns",
    "reference": "a frozen copy of the policy",
    "critic": "a network that predicts returns",
    "teacher": "another model, or the same one with a better prompt",
}
"What a method may need, in the order in which it is said."
_ALONE = ContextVar("for_settings", default=False)


def names(package: str = METHODS) -> list[str]:
    """The names of all files in a package, sorted."""
    return sorted(found.name for found in pkgutil.iter_modules([str(_folder(package))]))


def world_of_procedure(name: str) -> str | None:
    """The world whose own procedure this is; None for a method, or what goes with every world."""
    return next((package.split(".")[1] for package in _OF_WORLDS if name in names(package)), None)


def _folder(package: str) -> Path:
    top, *inner = package.split(".")
    spec = importlib.util.find_spec(top)  # of the whole name, it would import what is above
    assert spec is not None and spec.submodule_search_locations, f"{package} is a package"
    return Path(spec.submodule_search_locations[0], *inner)


def constants(name: str, package: str = METHODS) -> dict[str, Any]:
    """What a file says of itself in capitals (SUMMARY, FAMILY, NEEDS ...), read without importing it.

    Tuples on the left take their values in order; what has to be computed is left out. Raises E704 when there
    is no SUMMARY.
    """
    path = _folder(package) / f"{name}.py"
    found: dict[str, Any] = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.Assign) or not ast.unparse(node.targets[0]).isupper():
            continue
        try:
            target, value = node.targets[0], ast.literal_eval(node.value)
        except ValueError:
            continue
        names = [ast.unparse(n) for n in target.elts] if isinstance(target, ast.Tuple) else None
        found.update(zip(names, value, strict=True) if names else {ast.unparse(target): value})
    if "SUMMARY" not in found:
        raise TrueupError("E704", "a method file names its SUMMARY", where=str(path), remedy="add one line")
    return found


def summary(name: str, package: str = METHODS) -> str:
    """The one line a method says of itself."""
    return str(constants(name, package)["SUMMARY"])


def place(name: str) -> tuple[str, Path]:
    """The module and file of a method or procedure, by its name or by the path of a Python file."""
    if name.endswith(".py"):
        if not Path(name).is_file():
            raise TrueupError("E703", "there is no such file", where=name, remedy="give the path of a method")
        return f"trueup_method_{Path(name).stem}", Path(name)
    for package in PLACES:
        if name in names(package):
            return f"{package}.{name}", _folder(package) / f"{name}.py"
    known = [other for package in PLACES for other in names(package)]
    near = difflib.get_close_matches(name, known, 1)
    raise TrueupError(
        "E702",
        f"there is no method {name!r}",
        where="method",
        remedy=f"did you mean {near[0]!r}?"
        if near
        else f"one of {', '.join(known)}, or the path of a .py file",
    )


@contextmanager
def for_settings() -> Iterator[None]:
    """Inside, `find` gives modules whose `Config` and constants are all there is, and torch stays unimported.

    Where settings cannot be had so, and for files of the user's own, it gives the modules themselves.
    """
    token = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(token)


def find(name: str) -> ModuleType:
    """The module of a method or procedure by its name, or by the path of a Python file."""
    module, path = place(name)
    if _ALONE.get() and not name.endswith(".py"):
        from trueup.settings.alone import settings_alone

        made = settings_alone(module)
        if made is not None:
            return made
    return _from_path(module, path) if name.endswith(".py") else importlib.import_module(module)


def _from_path(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # A person's own file: whatever it does, exiting too, is theirs to repair.
        reason = f"the file does not run: {type(error).__name__}: {error}"
        raise TrueupError("E704", reason, where=str(path), remedy="repair it") from None
    missing = [part for part in ("Config", "build") if part not in vars(module)]
    if missing:
        reason = f"a method file defines Config and build; {' and '.join(missing)} not found"
        raise TrueupError("E704", reason, where=str(path), remedy="see docs/adding-a-method.md")
    return module
