"""docs/metrics.md names every number the code logs, and nothing else."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from architecture.tree import ROOT, Module, modules

LAYERS = (
    *("objectives", "annotate", "sources", "rollouts", "update", "methods"),
    *("engine.loop", "engine.reduce", "engine.room"),
    *("runs.training", "runs.meter", "runs.keeper", "runs.guard"),
)
PAGE = ROOT / "docs" / "metrics.md"


def documented() -> set[str]:
    """The keys in the first column of the page's tables."""
    rows = re.findall(r"^\| `([^`]+)`", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert len(rows) == len(set(rows)), "a key is explained twice"
    return set(rows)


def _keys(node: ast.Dict) -> Iterator[str]:
    """The names a dictionary display gives; the parts of an f-string that vary are `*`."""
    for key in node.keys:
        if isinstance(key, ast.Constant) and isinstance(key.value, str):
            yield key.value
        elif isinstance(key, ast.JoinedStr):
            yield "".join(str(p.value) if isinstance(p, ast.Constant) else "*" for p in key.values)


def _of_call(call: ast.Call) -> Iterator[str]:
    """What `record({...})` and `Terms({losses}, {metrics})` name."""
    name = ast.unparse(call.func).rpartition(".")[2]
    shown = [part for part in (*call.args, *(k.value for k in call.keywords)) if isinstance(part, ast.Dict)]
    if name == "record":
        yield from (key for part in shown for key in _keys(part))
    elif name == "Terms" and shown:
        yield from (f"loss/{key}" for key in _keys(shown[0]))
        yield from (key for part in shown[1:] for key in _keys(part))


def _of_assignment(assignment: ast.Assign) -> Iterator[str]:
    """What `metrics[...] = ` and the meter's `line = {...}` name."""
    target, value = assignment.targets[0], assignment.value
    if isinstance(target, ast.Subscript) and ast.unparse(target.value) in ("metrics", "reduced", "noted"):
        yield from _keys(ast.Dict(keys=[target.slice], values=[value]))
    elif ast.unparse(target) == "line" and isinstance(value, ast.Dict):
        yield from (key for key in _keys(value) if key != "step")


def logged(module: Module) -> Iterator[str]:
    """The keys a module logs: records, an objective's entries, what an update or `finish` returns, costs."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call):
            yield from _of_call(node)
        elif isinstance(node, ast.Assign):
            yield from _of_assignment(node)
        elif isinstance(node, ast.Return) and isinstance(node.value, ast.Dict):
            if None in node.value.keys or module.layer == "methods":  # {**metrics, ...}, or `finish`
                yield from _keys(node.value)
        elif isinstance(node, ast.ClassDef) and node.name == "Cost":
            yield from (ast.unparse(f.target) for f in node.body if isinstance(f, ast.AnnAssign))


def test_every_number_that_is_logged_is_explained() -> None:
    known, page = documented(), PAGE.read_text(encoding="utf-8")
    found = {key: m.where for m in modules() if m.layer in LAYERS for key in logged(m)}
    assert {"grad_norm", "kl", "loss/dpo", "policy/clipfrac", "tokens_trained", "skipped"} <= set(found)
    unknown = {key: where for key, where in found.items() if key not in known and f"`{key}`" not in page}
    assert not unknown, f"explain in docs/metrics.md: {unknown}"


def test_nothing_is_explained_that_is_never_logged() -> None:
    found = {key for m in modules() if m.layer in LAYERS for key in logged(m)}
    assert documented() <= found
