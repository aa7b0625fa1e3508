"""Which part of an answer is its program: every way that models fence, and what stands before it."""

from __future__ import annotations

import pytest

from trueup.judges.code_blocks import Block, called_in, fenced, imports_of, program_in

WRONG = "def add(a, b):\n    return a"
GOOD = "def add(a, b):\n    return a + b"
SHELL = "```bash\npip install numpy\n```"
USE = "```python\nprint(add(1, 2))\n```"
BEFORE = 'import math\n\ndef half(x):\n    return x / 2\n\ndef add(a, b):\n    """The sum."""\n'


def block(code: str, info: str = "python", fence: str = "```") -> str:
    """The code, fenced."""
    return f"{fence}{info}\n{code}\n{fence}"


@pytest.mark.parametrize(
    "answer",
    [
        GOOD,
        block(GOOD),
        block(GOOD, ""),
        block(GOOD, "Python3"),
        block(GOOD, "{.python}"),
        block(GOOD, "python title=add.py"),
        block(GOOD, fence="~~~"),
        block(GOOD, fence="````"),
        f"First\n{SHELL}\nthen\n{block(GOOD)}\nso that\n{block('3', '')}",
        f"{SHELL}\n{block(GOOD, '')}",
        f"{USE}\nwhere\n{block(GOOD)}",
        f"{block(GOOD)}\nUse:\n{USE}",
        f"{block(WRONG)}\nNo, that forgets b:\n{block(GOOD)}",
        f"{block(GOOD)}\nLet me see again:\n```python\ndef add(a, b):\n    return (a",
        f"Sure: ```python\n{GOOD}\n```",
        "1. Here:\n   ```python\n   def add(a, b):\n       return a + b\n   ```\n2. Done.",
        "- ```python\n  def add(a, b):\n      return a + b\n  ```",
        f"{SHELL}\n{GOOD}",
        f"```\n$ python add.py\n3\n```\n{block(GOOD)}",
        block(GOOD).replace("\n", "\r\n"),
        f"```python\n{GOOD}",
    ],
)  # fmt: skip
def test_the_block_that_defines_the_entry_point_is_the_program(answer: str) -> None:
    assert program_in(answer, entry="add").strip().replace("\r", "") == GOOD


def test_fences_are_paired() -> None:
    text = "````md\n```python\nx\n```\n````\nand\n~~~\n```\ny\n~~~\nend `z` ```w```"
    assert fenced(text) == ([Block("md", "```python\nx\n```"), Block("", "```\ny")], "and\nend `z` ```w```")
    code = "def f():\n    return 'a ``` b'\n"
    assert fenced(code) == ([], code), "a fence in a string opens nothing"


def test_without_a_name_the_block_of_python_is_the_program() -> None:
    assert program_in(f"{SHELL}\n{block(GOOD)}\n{USE}") == GOOD
    assert program_in(f"{block('3', '')}\n{block(GOOD, '')}") == GOOD, "an output makes no name"
    assert program_in(f"{SHELL}\n{block(GOOD, 'solution')}") == GOOD
    assert program_in("I do not know.") == "I do not know."


def test_a_body_goes_on_from_the_code_before_it() -> None:
    body = "    return a + b"
    for answer in (body, block(body), f"{SHELL}\n{block(body, '')}", f"{block('3', '')}\n{block(body)}"):
        assert program_in(answer, before=BEFORE, entry="add") == BEFORE + body


@pytest.mark.parametrize("answer", [GOOD, block(GOOD), f"{GOOD}\n\nadd(1, 2)\n"])
def test_a_repeated_signature_keeps_the_helpers_before_it(answer: str) -> None:
    program = program_in(answer, before=BEFORE, entry="add")
    assert program.startswith("import math\ndef half(x):\n    return x / 2\ndef add(a, b):\n    return a + b")
    assert program_in(GOOD, before="def add(a, b):\n", entry="add") == GOOD, "a head without a docstring"


def test_what_was_cut_off_loses_what_does_not_read() -> None:
    text = f"{GOOD}\n\nx = 1\n\ndef other(x):\n    return ("
    assert program_in(text, before=BEFORE, entry="add", finished=False).endswith(f"{GOOD}\n\nx = 1\n\n")
    assert program_in(text, entry="add").endswith("return ("), "one that ended by itself is whole"


def test_other_things_than_functions_are_defined_too() -> None:
    for code in ("class Stack:\n    pass", "add = lambda a, b: a + b", "from operator import add"):
        name = "Stack" if "Stack" in code else "add"
        assert program_in(f"{block('x = 1')}\n{block(code)}", entry=name) == code


def test_the_function_that_tests_call() -> None:
    assert called_in("assert sorted(add(1, 2)) == len('x')") == "add"
    assert called_in("assert (") == "" and called_in("assert len('x')") == ""


def test_imports_of_code_that_ends_in_the_middle() -> None:
    assert imports_of('import math\ndef f(x):\n    """One."""\n') == "import math"
    assert imports_of("from re import match as m\ndef f(x):") == "from re import match as m"
    assert imports_of("def f(:") == "" and imports_of("x = 1") == ""
