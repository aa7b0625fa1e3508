"""Program-writing problems: rows of HumanEval and MBPP as items, and pass@k of what is written for them."""

from __future__ import annotations

import ast
import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval_stubs import tiny_model, view_of
from shared_data import shared
from trueup.coding.items import program_item, read_programs
from trueup.coding.pass_rates import judged, measure_samples, pass_task, solve
from trueup.coding.samples import read_samples
from trueup.engine.groups import Completion, Group, Role, write_jsonl
from trueup.errors import TrueupError
from trueup.judges.code_blocks import syntax_of
from trueup.judges.unit_tests import UnitTests, unit_tests_of
from trueup.sandbox.verdicts import check, check_all
from trueup.sources.sample import Decoding

HUMANEVAL = {
    "task_id": "HumanEval/900",
    "prompt": 'import math\n\ndef half(n):\n    """Half of n."""\n',
    "entry_point": "half",
    "canonical_solution": "    return n / 2\n",
    "test": (
        "META = {}\n\ndef check(candidate):\n"
        "    assert candidate(3) == 1.5\n    assert math.isclose(half(0.2), 0.1)\n"
    ),
}
MBPP = {
    "task_id": 12,
    "text": "Write a function to double a number.",
    "code": "def double(n):\n  return 2 * n",
    "test_setup_code": "limit = 4",
    "test_list": ["assert double(limit) == 8", "assert len(str(double(1))) == 1"],
}


def passes(item: Group, program: str) -> bool:
    """Whether the program passes the item's tests."""
    return check(program, unit_tests_of(item), entry_point=item.meta["entry_point"]).passed


@pytest.mark.usefixtures("strongest")
def test_a_row_of_humaneval() -> None:
    item = program_item(HUMANEVAL)
    assert item.prompt[0].role is Role.TEXT and item.prompt[0].content == HUMANEVAL["prompt"]
    assert item.id == "HumanEval/900" and item.meta["before"] == HUMANEVAL["prompt"]
    assert item.meta["tests"].startswith("import math\n"), "tests use what the prompt imports"
    assert passes(item, item.meta["solution"])
    assert not passes(item, item.meta["solution"].replace("/", "*"))


@pytest.mark.usefixtures("strongest")
def test_a_row_of_mbpp() -> None:
    item = program_item(MBPP)
    assert item.prompt[0].role is Role.USER and item.id == "MBPP/12"
    assert item.prompt[0].content == (
        "Write a function to double a number.\nYour code should pass these tests:\n\n"
        "assert double(limit) == 8\nassert len(str(double(1))) == 1\n"
    )
    assert item.meta["entry_point"] == "double" and "before" not in item.meta
    assert passes(item, item.meta["solution"]) and not passes(item, "def double(n): return n")


@pytest.mark.usefixtures("strongest")
def test_modules_that_the_tests_name_and_nobody_imports() -> None:
    row = {**HUMANEVAL, "prompt": HUMANEVAL["prompt"].replace("import math\n", "")}
    item = program_item(row)
    assert item.meta["tests"].startswith("import math\n") and passes(item, item.meta["solution"])


@pytest.mark.usefixtures("strongest")
def test_a_body_indented_otherwise_than_its_docstring() -> None:
    item = program_item({**HUMANEVAL, "canonical_solution": "  return n / 2\n"})
    assert passes(item, item.meta["solution"])


def test_code_that_python_warns_of_is_read_as_it_is() -> None:
    """These tests run under `-W error`, where an unknown escape is a syntax error to who does not mind."""
    body = '    return re.match("\\w", n)\n'
    item = program_item({**HUMANEVAL, "canonical_solution": body})
    assert item.meta["solution"] == HUMANEVAL["prompt"] + body, "nothing was taken for a wrong indent"
    assert program_item({**MBPP, "test_list": ['assert double("\\w")']}).meta["entry_point"] == "double"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "x"}, "neither"),
        ([], "neither"),
        ({**HUMANEVAL, "test": 5}, "no text in `test`"),
        ({**HUMANEVAL, "entry_point": " "}, "no text in `entry_point`"),
        ({**MBPP, "test_list": []}, "empty"),
    ],
)
def test_rows_of_another_shape_are_refused(row: Any, said: str) -> None:
    with pytest.raises(TrueupError, match="E206 file:3") as caught:
        program_item(row, where="file:3")
    assert said in str(caught.value)


def test_files_plain_and_compressed(tmp_path: Path) -> None:
    text = json.dumps(HUMANEVAL) + "\n\n" + json.dumps(MBPP) + "\n"
    (tmp_path / "a.jsonl").write_text(text, encoding="utf-8")
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    for name in ("a.jsonl", "a.jsonl.gz"):
        assert [item.id for item in read_programs(tmp_path / name)] == ["HumanEval/900", "MBPP/12"]
    (tmp_path / "b.jsonl").write_text('{"task_id": NaN}\n', encoding="utf-8")
    with pytest.raises(TrueupError, match=r"E10\d .*b.jsonl:1"):
        read_programs(tmp_path / "b.jsonl")
    with pytest.raises(TrueupError, match="E801"):
        read_programs(tmp_path / "none.jsonl")


# ----------------------------------------------------------------------------------------- real problems


class _Nothing(ast.NodeTransformer):
    """Every return gives None."""

    def visit_Return(self, node: ast.Return) -> ast.Return:
        return ast.copy_location(ast.Return(ast.Constant(None)), node)


def references_and_mutants(step: int) -> tuple[list[bool], list[bool]]:
    """Whether reference programs pass, and whether those that return nothing do; every `step`-th row."""
    items = read_programs(shared("mbpp/sanitized.jsonl.gz"))[::step]
    sources = [item.meta["solution"] for item in items]
    mutants = [ast.unparse(ast.fix_missing_locations(_Nothing().visit(syntax_of(s)))) for s in sources]
    jobs = [
        (program, unit_tests_of(item), item.meta["entry_point"])
        for programs in (sources, mutants)
        for program, item in zip(programs, items, strict=True)
    ]
    found = [verdict.passed for verdict in check_all(jobs)]
    return found[: len(items)], found[len(items) :]


@pytest.mark.usefixtures("strongest")
def test_reference_programs_pass_and_mutants_fail() -> None:
    references, mutants = references_and_mutants(step=20)
    assert len(references) == 22 and all(references) and not any(mutants)


# Two processes for each of 854 programs: a minute and a half.
@pytest.mark.slow
@pytest.mark.usefixtures("strongest")
def test_every_reference_program_passes_and_every_mutant_fails() -> None:
    references, mutants = references_and_mutants(step=1)
    assert len(references) == 427 and all(references) and not any(mutants)


# ------------------------------------------------------------------------------------------------ pass@k


@pytest.mark.usefixtures("strongest")
def test_pass_rates_of_programs_by_hand() -> None:
    right, wrong = Completion(text="    return n / 2\n"), Completion(text="    return n\n")
    stops = Completion(text="    raise SystemExit\n")
    item = program_item(HUMANEVAL)
    groups = [
        replace(item, id="a", completions=(right, wrong, wrong, stops)),
        replace(item, id="b", completions=(wrong, wrong, wrong, wrong)),
    ]
    solved = judged(groups)
    assert [row.tolist() for row in solved.correct] == [[1, 0, 0, 0], [0, 0, 0, 0]]
    assert [rate.mean for rate in solved.at_each().values()] == pytest.approx([0.125, 0.25, 0.375, 0.5])
    assert list(solved.at_each((1, 4))) == ["pass@1", "pass@4"]
    assert solved.outcomes == {"passed": 1, "failed": 7}
    assert [score.value for score in solved.groups[0].scores] == [1.0, 0.0, 0.0, 0.0]
    assert {score.judge for score in solved.groups[0].scores} == {"rule:tests"}
    # pass@1 = (1/4 + 0)/2; pass@2 = (1 − C(3,2)/C(4,2) + 0)/2 = (1/2)/2; pass@4 = (1 + 0)/2.
    assert [solved.at(k).mean for k in (1, 2, 4)] == pytest.approx([0.125, 0.25, 0.5])
    assert solved.at(4).low < 0.5 < solved.at(4).high
    with pytest.raises(TrueupError, match="E702"):
        solved.at(5)


def test_problems_without_a_program_are_refused() -> None:
    item = program_item(HUMANEVAL)
    one = Completion(text="    return n\n")
    for groups in ([], [item], [replace(item, completions=(one,)), item]):
        with pytest.raises(TrueupError, match="E827"):
            judged(groups)


# ------------------------------------------------------------------------------------ programs of a file

RIGHT, WRONG, WHOLE = "    return n / 2\n", "    return n\n", "```python\ndef half(n): return n / 2\n```"


def written(path: Path, *rows: Any) -> Path:
    """The file, with a JSON value a line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.usefixtures("strongest")
def test_programs_of_a_file_by_hand(tmp_path: Path) -> None:
    data = written(tmp_path / "problems.jsonl", HUMANEVAL, MBPP)
    half, double = "HumanEval/900", 12
    samples = written(
        tmp_path / "samples.jsonl",
        {"task_id": double, "completion": "def double(n): return n + n"},
        {"task_id": half, "completion": RIGHT},
        {"task_id": half, "completions": [WRONG, WRONG]},
        {"task_id": double, "solution": "def double(n): return 3"},
        {"task_id": half, "solution": WHOLE},
    )
    solved, rates = measure_samples(samples, data)
    assert [row.tolist() for row in solved.correct] == [[1, 0, 0, 1], [1, 0]]
    # pass@1 = (2/4 + 1/2) / 2; pass@2 = (1 - C(2,2)/C(4,2) + 1) / 2; a third program one problem lacks.
    assert {name: rate.mean for name, rate in rates.items()} == pytest.approx(
        {"pass@1": 0.5, "pass@2": 11 / 12}
    )
    with pytest.raises(TrueupError, match=r"E702 k — pass@3 from 2 samples"):
        measure_samples(samples, data, k=(3,))


@pytest.mark.usefixtures("strongest")
def test_groups_that_hold_their_tests_need_no_problems(tmp_path: Path) -> None:
    items = [replace(program_item(HUMANEVAL), completions=(Completion(text=RIGHT), Completion(text=WRONG)))]
    write_jsonl(str(tmp_path / "programs.jsonl"), judged(items).groups)
    solved, rates = measure_samples(tmp_path / "programs.jsonl")
    assert {name: rate.mean for name, rate in rates.items()} == {"pass@1": 0.5, "pass@2": 1.0}
    assert len(solved.groups[0].scores) == 2, "earlier verdicts do not stay beside the new ones"


def test_programs_and_problems_of_different_files_are_refused(tmp_path: Path) -> None:
    data = written(tmp_path / "problems.jsonl", HUMANEVAL, MBPP)
    few = written(tmp_path / "few.jsonl", {"task_id": "HumanEval/900", "completion": RIGHT})
    with pytest.raises(TrueupError, match=r"E430 .*1 \(MBPP/12\) of 2 problems have no program"):
        measure_samples(few, data)
    assert [g.id for g in read_samples(few, read_programs(data), limit=1)] == ["HumanEval/900"]
    other = written(tmp_path / "other.jsonl", {"task_id": "HumanEval/1", "completion": RIGHT})
    with pytest.raises(TrueupError, match=r"E430 .*1 \(HumanEval/1\) of the programs solve no problem"):
        measure_samples(other, data)
    for row in ({"completion": "x"}, {"task_id": 1}, {"task_id": 1, "completion": 2}):
        with pytest.raises(TrueupError, match=r"E206 .*wrong.jsonl:1 .*task_id"):
            measure_samples(written(tmp_path / "wrong.jsonl", row), data)
    bare = written(tmp_path / "bare.jsonl", {"task_id": 1, "completion": "x"})
    with pytest.raises(TrueupError, match=r"E206 group 1 .*no `tests`"):
        measure_samples(bare)


@pytest.mark.usefixtures("strongest")
def test_the_task_gives_one_number_for_each_problem() -> None:
    view = view_of(tiny_model())
    items = [program_item(HUMANEVAL), program_item(MBPP)]
    decoding = Decoding(max_new_tokens=4)
    task = pass_task(2, num_samples=2, decoding=decoding, judge=UnitTests(seconds=5))
    values = task.run(view, items, seed=0)
    assert task.name == "pass_at_2" and task.samples and task.chance(items) == 0.0
    np.testing.assert_array_equal(values, [0.0, 0.0])  # Four random bytes are no program.
    solved = solve(view, items, num_samples=2, decoding=decoding)
    assert solved.outcomes == {"failed": 4}
    with pytest.raises(TrueupError, match="E702"):
        pass_task(3, num_samples=2)
