"""What is read from files as text is what Python finds when it imports them."""

from __future__ import annotations

import ast
import inspect
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from trueup.errors import TrueupError
from trueup.settings import config, discover, reading, schema

EVERY = [(package, name) for package in discover.PLACES for name in discover.names(package)]


def object_of(found: reading.Found) -> Any:
    """What Python has under the name."""
    module = import_module(found.module)
    return module if isinstance(found.node, ast.Module) else vars(module)[found.name.rpartition(".")[2]]


@pytest.mark.parametrize(("package", "name"), EVERY, ids=[name for _, name in EVERY])
def test_a_file_is_read_as_it_is_imported(package: str, name: str) -> None:
    """Its classes, functions and modules of trueup, in order, their sources, and the keys of its settings."""
    file = reading.read_file(*discover.place(name))
    module = discover.find(name)
    assert file.source == inspect.getsource(module)
    read = list(reading.named(file))
    for found in read:
        thing = object_of(found)
        assert found.source == inspect.getsource(thing)
        assert inspect.ismodule(thing) or f"{thing.__module__}.{thing.__name__}" == found.name
    ours = [
        thing
        for thing in vars(module).values()
        if (inspect.isclass(thing) or inspect.isfunction(thing)) and thing.__module__.startswith("trueup.")
    ]
    assert [found for found in map(object_of, read) if not inspect.ismodule(found)] == list(
        dict.fromkeys(ours)
    )
    settings = reading.lookup(file, "Config")
    assert settings is not None
    keys = [entry.key for entry in schema.describe(reading.outline(settings))]
    assert dict.fromkeys(keys) == dict.fromkeys(e.key for e in schema.describe(vars(module)["Config"]))


def test_an_outline_tells_a_wrong_key_and_nothing_else() -> None:
    settings = reading.lookup(reading.read_file(*discover.place("trpo")), "Config")
    assert settings is not None
    outline = reading.outline(settings)
    with pytest.raises(TrueupError, match=r"E711 config update\.dampign .*did you mean `damping`"):
        config.build(outline, {"update": {"dampign": 1}})
    made: Any = config.build(outline, {"model": {"path": "here", "lora": {"rank": "no number"}}})
    assert made.model.path == "here" and made.model.lora.rank == "no number"
    assert made.data.path is None and made.seed is None


def test_a_users_file_is_read_without_being_run(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("from trueup.objectives.pairwise import DPO as D\nimport not_there\ndef build(): ...\n")
    file = reading.read_file(*discover.place(str(path)))
    assert [found.name for found in reading.named(file)] == [
        "trueup.objectives.pairwise.DPO",
        "trueup_method_mine.build",
    ]
    assert reading.lookup(file, "D") is not None and reading.lookup(file, "DPO") is None
    assert "not_there" not in sys.modules
    (tmp_path / "other.py").write_text("def build(:\n")
    with pytest.raises(TrueupError, match=r"E704 .*other\.py:1 — not Python"):
        reading.read_file("other", tmp_path / "other.py")
