"""Each method's page shows the call of `trueup.fit` beside the command, with settings that exist."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from page_blocks import DOCS, Block, blocks
from trueup.errors import TrueupError
from trueup.settings import config as configuration
from trueup.settings import discover
from trueup.settings.aliases import ALIASES

GIVEN = {"model", "data", "prompts", "judge", "out", "world"}
"What `trueup.fit` takes by name; every other name is a setting of the method."
RESULT = {"model", "metrics", "generate", "score", "report", "export"}
"What the finished run has."
JUDGE = ["prompt", "completion"]


def python_blocks(page: Path) -> list[Block]:
    return [block for block in blocks(page) if block.kind == "python"]


def fits(tree: ast.AST) -> Iterator[ast.Call]:
    """Every call of `trueup.fit` in some code."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "trueup.fit":
            yield node


def assigned(tree: ast.Module) -> dict[str, ast.expr]:
    """What the names of a block stand for."""
    return {
        ast.unparse(node.targets[0]): node.value for node in ast.walk(tree) if isinstance(node, ast.Assign)
    }


def literal(value: ast.expr, names: dict[str, ast.expr]) -> Any:
    """A setting, written in the call or under a name of the block."""
    return ast.literal_eval(names.get(value.id, value) if isinstance(value, ast.Name) else value)


def check(call: ast.Call, tree: ast.Module) -> None:
    """Raises where a call gives what its method does not take, or leaves out what it needs."""
    (method,) = (ast.literal_eval(argument) for argument in call.args)
    given = {str(keyword.arg): keyword.value for keyword in call.keywords}
    config, needs = vars(discover.find(method))["Config"], discover.constants(method)["NEEDS"]
    settings = {name: literal(value, assigned(tree)) for name, value in given.items() if name not in GIVEN}
    judge = given.get("judge")
    if isinstance(judge, ast.Constant):
        settings["judge"] = judge.value
    assert configuration.build(config, settings, aliases=ALIASES)
    assert "model" in given
    assert ("prompts" in given, "data" in given) == ("prompts" in needs, "prompts" not in needs)
    assert judge is not None or "judge" not in needs
    if judge is not None:
        assert "judge" in config.__dataclass_fields__
    if isinstance(judge, ast.Name):
        (function,) = (n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == judge.id)
        taken = function.args
        assert [a.arg for a in taken.args] == JUDGE and taken.kwarg is not None and taken.kwarg.arg == "row"


@pytest.mark.parametrize("name", discover.names())
def test_the_notebooks_form_stands_beside_the_command(name: str) -> None:
    page = (DOCS / "methods" / f"{name}.md").read_text(encoding="utf-8")
    form = r"\n## Run\n\nIn a terminal:\n\n```sh\n(.*?)```\n\nIn a notebook:\n\n```python\n(.*?)```\n"
    found = re.findall(form, page, flags=re.DOTALL)
    assert len(found) == 1, "under `## Run`: In a terminal, then In a notebook"
    command, code = found[0]
    assert f"trueup train {name} " in command and "```" not in command + code
    assert f'"{name}"' in [ast.unparse(call.args[0]).replace("'", '"') for call in fits(ast.parse(code))]


@pytest.mark.parametrize("name", discover.names())
def test_a_page_says_no_setting_that_does_not_exist(name: str) -> None:
    for block in python_blocks(DOCS / "methods" / f"{name}.md"):
        tree = ast.parse(block.text)
        for call in fits(tree):
            check(call, tree)


WRONG = [
    'trueup.fit("dpo", model="m", data=frame, bta=0.1)',
    'trueup.fit("dpo", model="m", data=frame, loop={"epoch": 1})',
    'trueup.fit("dpo", model="m", data=frame, beta="strong")',
    'trueup.fit("dpo", model="m", prompts=frame)',
    'trueup.fit("dpo", data=frame)',
    'trueup.fit("dpo", model="m", data=frame, judge="lab:gold")',
    'trueup.fit("grpo", model="m", prompts=frame)',
    'trueup.fit("grpo", model="m", prompts=frame, judge=score)',
    'def score(text): ...\ntrueup.fit("grpo", model="m", prompts=frame, judge=score)',
    'trueup.fit("dpoo", model="m", data=frame)',
]


@pytest.mark.parametrize("code", WRONG)
def test_a_wrong_call_on_a_page_would_be_found(code: str) -> None:
    tree = ast.parse(code)
    (call,) = fits(tree)
    with pytest.raises((TrueupError, AssertionError, ValueError)):
        check(call, tree)


@pytest.mark.parametrize("name", discover.names())
def test_every_name_of_a_block_is_made_or_explained(name: str) -> None:
    """`frame` is what a comment says it is: `# frame: a data frame with ...`."""
    for block in python_blocks(DOCS / "methods" / f"{name}.md"):
        tree = ast.parse(block.text)
        names = [node for node in ast.walk(tree) if isinstance(node, ast.Name | ast.arg | ast.FunctionDef)]
        read = {n.id for n in names if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
        made = {n.id for n in names if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        made |= {n.arg if isinstance(n, ast.arg) else n.name for n in names if not isinstance(n, ast.Name)}
        explained = set(re.findall(r"^# (\w+): ", block.text, flags=re.MULTILINE))
        assert explained == read - made - set(dir(builtins)) - {"trueup"}


@pytest.mark.parametrize("name", discover.names())
def test_what_is_read_from_a_result_is_there(name: str) -> None:
    page = DOCS / "methods" / f"{name}.md"
    for block in python_blocks(page):
        tree = ast.parse(block.text)
        results = {n for n, value in assigned(tree).items() if value in list(fits(tree))}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) in results:
                assert node.attr in RESULT
            if isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith(".metrics"):
                key = ast.literal_eval(node.slice)
                assert f"`{key}`" in page.read_text(encoding="utf-8"), "a metric that the page explains"
