"""The judge that runs programs: what counts as the program, what counts as tests, 1 or 0."""

from __future__ import annotations

import pytest

from trueup.engine.groups import Completion, Group
from trueup.errors import TrueupError
from trueup.judges.open import open_judge
from trueup.judges.unit_tests import UnitTests, program_of, unit_tests_of

TESTS = ["assert add(2, 3) == 5", "assert add(-1, 1) == 0"]
BEFORE = 'import math\ndef add(a, b):\n    """The sum."""\n'


def group(*texts: str, **meta: object) -> Group:
    """A group with these completions and tests of `add`."""
    return Group(
        prompt=(), id="g", completions=tuple(Completion(text=t) for t in texts), meta={"tests": TESTS, **meta}
    )


@pytest.mark.usefixtures("strongest")
def test_a_right_program_scores_one_and_a_wrong_one_nought() -> None:
    right, wrong = "def add(a, b): return a + b", "def add(a, b): return a - b"
    fenced = f"Here it is:\n```python\n{right}\n```\nIt adds."
    scores = open_judge("rule:tests")([group(right, wrong, fenced), group(wrong, "I do not know.")])
    assert scores == [[1.0, 0.0, 1.0], [0.0, 0.0]]


def test_options_by_reference() -> None:
    assert open_judge("rule:tests?key=checks&seconds=2&memory_mib=128") == UnitTests(
        key="checks", seconds=2.0, memory_mib=128
    )
    assert UnitTests(seconds=0.4).limits().cpu_seconds == 1
    with pytest.raises(TrueupError, match="E702"):
        open_judge("rule:tests?memory_mib=1")


@pytest.mark.usefixtures("strongest")
def test_the_key_names_the_tests() -> None:
    judge = open_judge("rule:tests?key=checks")
    assert judge([group("def add(a, b): return 7", checks="assert add(1, 1) == 7")]) == [[1.0]]


@pytest.mark.parametrize("tests", [None, "", [], 5])
def test_a_group_without_tests_is_refused(tests: object) -> None:
    with pytest.raises(TrueupError, match="E206 group g"):
        UnitTests()([group("def add(a, b): return 1", tests=tests)])


@pytest.mark.usefixtures("strongest")
def test_tests_that_call_nothing_are_refused() -> None:
    with pytest.raises(TrueupError, match=r"E206 group g.*call nothing"):
        UnitTests()([group("def add(a, b): return 1", tests="assert 1 == 1")])


@pytest.mark.usefixtures("strongest")
def test_a_completion_goes_on_from_the_code_before_it() -> None:
    goes_on = Completion(text="    return a + b\n")
    asked = group(before=BEFORE, entry_point="add")
    assert program_of(asked, goes_on) == BEFORE + "    return a + b\n"
    scored = group("    return a + b\n", before=BEFORE, entry_point="add")
    assert UnitTests()([scored]) == [[1.0]]


def test_what_a_model_writes_on_is_cut_where_it_ran_into_the_limit() -> None:
    asked = group(before=BEFORE, entry_point="add")
    text = "    return a + b\n\ndef other(x):\n    return ("
    assert program_of(asked, Completion(text=text, finished=False)) == BEFORE + "    return a + b\n"
    assert program_of(asked, Completion(text=text)) == BEFORE + text, "one that ended by itself is whole"
    assert program_of(group(), Completion(text=text, finished=False)) == text, "with nothing to go on from"


def test_a_block_that_defines_the_function_again_needs_only_the_imports() -> None:
    asked = group(before=BEFORE, entry_point="add")
    whole = "```python\ndef add(a, b):\n  return math.fsum([a, b])\n```"
    assert program_of(asked, Completion(text=whole)) == (
        "import math\ndef add(a, b):\n  return math.fsum([a, b])"
    )
    body = "```\n    return a + b\n```"
    assert program_of(asked, Completion(text=body)) == BEFORE + "    return a + b"
    open_end = Completion(text="```py\ndef add(a, b): return 1", finished=False)
    assert program_of(group(), open_end) == "def add(a, b): return 1"


def test_tests_are_one_text_or_several() -> None:
    assert unit_tests_of(group()) == "\n".join(TESTS)
    assert unit_tests_of(group(tests="assert add(1, 1)")) == "assert add(1, 1)"
