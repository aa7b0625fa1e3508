"""The public surface: what is in it, that it stays what it is, what it costs to look at, how it is typed."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import trueup
from cli.test_help import COMMANDS
from page_blocks import DOCS, ROOT, blocks

PAGE = (DOCS / "python.md").read_text(encoding="utf-8")
OTHER_NAMES = {"train": "fit", "eval": "evaluate", "data check": "check", "data convert": "convert"}
"Commands whose function has another name, or whose name has two words."
SHARED = ("model", "tokenizer", "seed", "template", "settings", "changes")
"Parameters that mean the same everywhere."
PAGES_FOR_WRITERS = {
    "adding-a-method.md": "a method is made of the library's own parts",
    "endpoints.md": "who answers, for those who write procedures",
    "ratings.md": "the statistics behind `trueup.rank`, one by one",
    "reproduce.md": "a claim is made of the library's own parts",
    "soups.md": "many mixtures served from one set of adapters",
    "toxicity.md": "the wordings of few-shot labels",
}
"Pages whose blocks may use what is not public, and why."


def test_every_module_imports_and_the_functions_are_still_functions() -> None:
    """Importing `trueup.NAME` would put a module in the place of a function of that name."""
    code = (
        "import importlib, inspect, pkgutil, trueup\n"
        "for found in pkgutil.walk_packages(trueup.__path__, 'trueup.'):\n"
        "    if not found.name.endswith('__main__'): importlib.import_module(found.name)\n"
        "kinds = {n: 'module' if inspect.ismodule(getattr(trueup, n)) else 'class' if "
        "inspect.isclass(getattr(trueup, n)) else 'function' for n in trueup.__all__}\n"
        "import json; print(json.dumps(kinds))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    kinds = json.loads(done.stdout.splitlines()[-1])
    assert kinds == {name: "class" if name[0].isupper() else "function" for name in trueup.__all__}


def test_the_names_are_in_order_and_each_is_where_it_is_said_to_be() -> None:
    assert list(trueup.__all__) == sorted(trueup.__all__)
    listed = [name for names in trueup._HOME.values() for name in names]
    assert sorted(listed) == list(trueup.__all__)
    for name in trueup.__all__:
        assert inspect.getdoc(getattr(trueup, name)), name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = trueup.nothing  # pyright: ignore[reportAttributeAccessIssue] - that is what is tried
    assert set(trueup.__all__) <= set(dir(trueup))


def test_every_command_has_a_function_or_a_reason() -> None:
    table = PAGE.split("## Commands", 1)[1].split("\n## ", 1)[0]
    said = dict(re.findall(r"^\| `trueup ([a-z ]+)` \| (.+) \|$", table, flags=re.MULTILINE))
    assert set(said) == {" ".join(words) for words in COMMANDS}
    for command, text in said.items():
        function = OTHER_NAMES.get(command, command)
        if function in trueup.__all__:
            assert text.startswith(f"`{function}`"), command
        else:
            assert not text.startswith("`") or ("(" in text and len(text) > 10), f"{command}: a reason"


def test_the_headings_are_the_public_names() -> None:
    headings = re.findall(r"^### `(\w+)`", PAGE, flags=re.MULTILINE)
    assert sorted(headings) == list(trueup.__all__)


def test_every_parameter_is_on_the_page_or_in_the_functions_own_words() -> None:
    sections = dict(re.findall(r"^### `(\w+)`\n(.*?)(?=^##|\Z)", PAGE, flags=re.MULTILINE | re.DOTALL))
    for name in trueup.__all__:
        found = getattr(trueup, name)
        if not inspect.isfunction(found):
            continue
        text = sections[name] + str(inspect.getdoc(found))
        command = re.search(r"settings\s+are\s+those\s+of\s+`trueup \w+`", text)
        for parameter in inspect.signature(found).parameters.values():
            shared = parameter.name in SHARED
            assert shared or command or re.search(rf"\b{parameter.name}\b", text), f"{name}: {parameter.name}"


def test_pages_use_the_public_surface_alone() -> None:
    inner = re.compile(r"^\s*(?:from|import) (trueup\.[\w.]+)", flags=re.MULTILINE)
    found = {
        page.name: sorted(set(inner.findall(block.text)))
        for page in [*DOCS.glob("*.md"), ROOT / "README.md"]
        for block in blocks(page)
        if block.kind == "python" and inner.findall(block.text)
    }
    assert set(found) == set(PAGES_FOR_WRITERS), found


def test_importing_costs_little_and_loads_no_torch() -> None:
    code = (
        "import time; a = time.process_time()\nimport trueup\n"
        "b = time.process_time() - a\nimport sys\n"
        "print(b, sorted({'torch', 'numpy', 'transformers', 'pydantic', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    cost, heavy = done.stdout.split(" ", 1)
    assert float(cost) < 0.15 and heavy.strip() == "[]"


def test_data_are_read_without_torch() -> None:
    code = "import sys, trueup\ntrueup.read([{'prompt': 'a'}])\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.slow(reason="pyright reads the whole package: ten seconds")
def test_the_surface_and_what_it_reaches_is_completely_typed() -> None:
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable]
    command += ["--verifytypes", "trueup", "--ignoreexternal", "--outputjson"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    found = json.loads(done.stdout)["typeCompleteness"]
    assert Path(found["packageRootDirectory"]) == Path(str(trueup.__file__)).parent
    known = {symbol["name"]: symbol for symbol in found["symbols"]}
    public = {f"trueup.{name}" for name in trueup.__all__}
    assert public <= set(known)
    unknown = {
        name: [d["message"] for d in symbol.get("diagnostics", ())]
        for name, symbol in known.items()
        if (name in public or name.rpartition(".")[0] in public) and not symbol["isTypeKnown"]
    }
    assert not unknown
