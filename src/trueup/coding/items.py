"""Items of program-writing benchmarks, from rows as their files hold them: HumanEval, MBPP.

An item's `meta` says `tests`, `entry_point`, `before` (the code that a completion goes on from) and, where
the row has one, `solution` (the reference program, whole). `trueup.judges.unit_tests` runs them.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trueup.engine.groups import Group, Message, Role
from trueup.errors import TrueupError
from trueup.evals.rows import read_values, text_of
from trueup.judges.code_blocks import called_in, imports_of, syntax_of

_DOCSTRING = re.compile(r"^[ \t]*(\"\"\"|''').*?\1[ \t]*\n", flags=re.DOTALL | re.MULTILINE)


def read_programs(path: Path | str) -> list[Group]:
    """The items of a JSON Lines file (or its .gz) in HumanEval's or MBPP's columns.

    Raises E801 for a missing file, E101 to E108 for a line that is no JSON, E206 for a row of another shape.
    """
    rows = read_values(path, remedy="name a file of HumanEval or MBPP")
    return [program_item(row, where=where) for where, row in rows]


def program_item(row: Any, *, where: str = "") -> Group:
    """The item of one row: HumanEval's columns where it has `entry_point`, else MBPP's. Raises E206."""
    if isinstance(row, dict) and "entry_point" in row:
        return humaneval(row, where=where)
    if isinstance(row, dict) and "test_list" in row:
        return mbpp(row, where=where)
    raise TrueupError(
        "E206",
        "neither `entry_point` (HumanEval) nor `test_list` (MBPP) in the row",
        where=where,
        remedy="give rows with the columns of one of them",
    )


def humaneval(row: Mapping[str, Any], *, where: str = "") -> Group:
    """An item in HumanEval's columns (Chen et al. 2021): the head of a function, to be gone on from.

    The tests may use the modules that the prompt imports, as they would in the program's own file.
    """
    prompt = _text(row, "prompt", where)
    tests = _with_modules(f"{imports_of(prompt)}\n{_text(row, 'test', where)}")
    entry = _text(row, "entry_point", where).strip()
    meta: dict[str, Any] = {"before": prompt, "tests": tests, "entry_point": entry}
    if isinstance(row.get("canonical_solution"), str):
        meta["solution"] = _reference(prompt, row["canonical_solution"])
    return Group(prompt=(Message(Role.TEXT, prompt),), id=str(row.get("task_id", where)), meta=meta)


def mbpp(row: Mapping[str, Any], *, where: str = "") -> Group:
    """An item in MBPP's columns (Austin et al. 2021): a task in words, with its tests shown."""
    task = _text(row, "text" if "text" in row else "prompt", where)
    listed = [str(test) for test in row["test_list"]]
    if not listed:
        raise TrueupError("E206", "an empty `test_list`", where=where, remedy="leave the row out")
    setup = [*row.get("test_imports", ()), row.get("test_setup_code", "")]
    shown = "\n".join(listed)
    meta: dict[str, Any] = {"tests": "\n".join([*map(str, setup), shown]), "entry_point": called_in(shown)}
    if isinstance(row.get("code"), str):
        meta["solution"] = row["code"]
    prompt = Message(Role.USER, f"{task}\nYour code should pass these tests:\n\n{shown}\n")
    return Group(prompt=(prompt,), id=f"MBPP/{row.get('task_id', where)}", meta=meta)


def _reference(prompt: str, solution: str) -> str:
    """The reference program. Some bodies are indented otherwise than the prompt's docstring: it then goes."""
    try:
        syntax_of(prompt + solution)
    except SyntaxError:
        return _DOCSTRING.sub("", prompt) + solution
    return prompt + solution


def _with_modules(tests: str) -> str:
    """The tests with an import of each standard module that they use by its name and do not import."""
    try:
        nodes = list(ast.walk(syntax_of(tests)))
    except (SyntaxError, ValueError):
        return tests
    names = {a.asname or a.name for n in nodes if isinstance(n, ast.Import | ast.ImportFrom) for a in n.names}
    stored = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    bases = {n.value.id for n in nodes if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)}
    missing = sorted((bases & sys.stdlib_module_names) - names - stored)
    return "\n".join([*(f"import {name}" for name in missing), tests])


def _text(row: Mapping[str, Any], key: str, where: str) -> str:
    return text_of(row, key, where, remedy="give the benchmark's columns")
