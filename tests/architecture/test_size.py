"""Size caps: files 400 lines, functions 60 without docstring, 12 branches. An exception gives its reason."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from architecture.tree import FunctionNode, Module, code_lines, functions, imports, modules

MAX_FILE = 400
MAX_FUNCTION = 60
MAX_BRANCHES = 12
MAX_READING_PATH = 500
"Lines of code, documentation left out, from a method's file to the gradient."
LONGER_READING = {
    "reward_model": (600, "three likelihoods of a judgement, and a language-modelling loss beside them"),
    "ppo": (600, "two networks and two losses: a critic's objective and the sum are read too"),
    "ppo_v1": (600, "two networks and two losses: a critic's objective and the sum are read too"),
    "apa": (600, "two networks and two losses: a critic's objective and the sum are read too"),
    "trpo": (600, "two networks and two losses: a critic's objective and the sum are read too"),
}

MAX_METHOD = 60
"Lines of code of a method's own file, documentation and imports left out."
LONGER_METHOD = {
    "ppo_v1": (64, "three ways to move the penalty, each a setting"),
    "ppo": (64, "a dual clip and an entropy bonus beside the clip, the critic and the penalty"),
    "grpo": (67, "the options of four papers beside its own: Dr. GRPO, DAPO, the dual clip, the bonus"),
}

LARGE: dict[str, str] = {
    "trueup.data.raw_rows:_elements": "one pass over brackets; its cases share the position",
    "trueup.lab.replies:wrong": "one flat case for each kind of request",
}
"`module` or `module:function` -> why it is larger than the caps."


def size(function: FunctionNode) -> int:
    """Lines of a function from `def` on, its docstring left out."""
    first = function.body[0]
    documented = ast.get_docstring(function, clean=False) is not None
    docstring = (first.end_lineno or first.lineno) - first.lineno + 1 if documented else 0
    return (function.end_lineno or function.lineno) - function.lineno + 1 - docstring


def branches(function: FunctionNode) -> int:
    """How many ways part inside a function: if, for, while, try, match, and/or, conditional expressions."""
    kinds = (ast.If, ast.For, ast.While, ast.Try, ast.BoolOp, ast.IfExp, ast.match_case)
    return sum(isinstance(node, kinds) for node in ast.walk(function))


def oversized(module: Module) -> Iterator[str]:
    """What of a module is over a cap and not excepted."""
    lines = module.text.count("\n")
    if lines > MAX_FILE and module.name not in LARGE:
        yield f"{module.where}: {lines} lines, at most {MAX_FILE}"
    for function in functions(module):
        if f"{module.name}:{function.name}" in LARGE:
            continue
        place = f"{module.where}:{function.lineno} {function.name}"
        if size(function) > MAX_FUNCTION:
            yield f"{place}: {size(function)} lines, at most {MAX_FUNCTION}"
        if branches(function) > MAX_BRANCHES:
            yield f"{place}: {branches(function)} branches, at most {MAX_BRANCHES}"


def test_files_and_functions_stay_small() -> None:
    found = [place for module in modules() for place in oversized(module)]
    assert not found, "\n".join(found)


def test_every_exception_is_still_needed() -> None:
    known = {m.name for m in modules()} | {f"{m.name}:{f.name}" for m in modules() for f in functions(m)}
    assert set(LARGE) <= known


def reading_path(method: Module) -> dict[str, int]:
    """Lines of code by module that a reader follows from a method's file to the gradient."""
    by_name = {m.name: m for m in modules()}
    objectives = {
        ".".join(name.split(".")[:3]) for name in imports(method) if name.startswith("trueup.objectives.")
    }
    names = [
        "trueup.engine.method",
        "trueup.engine.batch",
        "trueup.engine.loop",
        method.name,
        *sorted(objectives),
    ]
    return {name: code_lines(by_name[name].text) for name in names}


METHODS = [m for m in modules() if m.layer == "methods" and m.path.stem != "__init__"]


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.path.stem)
def test_a_method_is_read_in_one_sitting(method: Module) -> None:
    path = reading_path(method)
    allowed, _ = LONGER_READING.get(method.path.stem, (MAX_READING_PATH, ""))
    assert sum(path.values()) <= allowed, path
    most, _ = LONGER_METHOD.get(method.path.stem, (MAX_METHOD, ""))
    own = path[method.name] - import_lines(method)
    assert own <= most, "a method's own file states a configuration and a chain"


def import_lines(module: Module) -> int:
    """Lines of a module's imports."""
    found = [n for n in module.tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
    return sum((n.end_lineno or n.lineno) - n.lineno + 1 for n in found)
