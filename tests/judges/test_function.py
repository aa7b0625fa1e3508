"""A person's function as a judge: every signature, every mistake, and what a function may abstain from."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from chat_shapes import IM, byte_level
from trueup.chat import Chat
from trueup.engine.groups import Completion, Group, Message, Role, ToolCall
from trueup.errors import EXIT_DATA, EXIT_USAGE, TrueupError
from trueup.judges.function import FunctionJudge
from trueup.judges.open import open_judge

ASKED = (Message(Role.SYSTEM, "be brief"), Message(Role.USER, "what is 2 plus 3?"))


def group(*texts: str, prompt: tuple[Message, ...] = ASKED, id: str = "sums.jsonl:1", **row: Any) -> Group:
    """A group with token ids: one for each character."""
    completions = tuple(Completion(text=t, tokens=np.frombuffer(t.encode(), np.uint8)) for t in texts)
    return Group(prompt=prompt, completions=completions, id=id, meta=row)


def judged(function: Callable[..., Any], *groups: Group) -> list[list[float]]:
    return FunctionJudge.of(function, "f")(groups)


# ------------------------------------------------------------------------------------------ calls


def test_an_answer_that_is_only_a_call_is_read_as_the_template_writes_it() -> None:
    """With the policy's chat its own words; without one JSON; in messages the calls themselves."""
    call = ToolCall("weather", '{"city": "Rome"}', "c1")
    chat = Chat.of(byte_level(IM, eos=IM[2]), "chatml-tools")
    row = Group(prompt=(ASKED[1],), completions=(Completion(text="", tool_calls=(call,)),), id="calls:1")
    seen: list[Any] = []

    def by_text(prompt, completion):
        seen.append(completion)
        return float(len(completion))

    def by_messages(completions, **row):
        seen.extend(completions)
        return [1.0]

    written = '<tool_call>{"name": "weather", "arguments": {"city": "Rome"}}</tool_call>'
    assert FunctionJudge.of(by_text, "f", chat.decode)([chat.encode(row)]) == [[float(len(written))]]
    plain = '{"name": "weather", "arguments": {"city": "Rome"}}'
    assert FunctionJudge.of(by_text, "f")([row]) == [[float(len(plain))]]
    FunctionJudge.of(by_messages, "f", chat.decode)([chat.encode(row)])
    function = {"name": "weather", "arguments": '{"city": "Rome"}'}
    calls = [{"id": "c1", "type": "function", "function": function}]
    assert seen == [written, plain, [{"role": "assistant", "content": "", "tool_calls": calls}]]
    assert Completion(text="Let me look.", tool_calls=(call, call)).said == f"Let me look.\n{plain}\n{plain}"


# ------------------------------------------------------------------------------------------ signatures


def by_name(prompt, completion, answer, **row):
    return float(completion == answer and prompt[-1].content.startswith("what") and row["level"] == 1)


def with_ids(completion_ids, text):
    return float(bytes(completion_ids).decode() == text)


def with_default(completion, answer="5"):
    return float(completion == answer)


def only_rest(**row):
    return float(row["completion"] == row["answer"])


def of_row(completion, row, id, group):
    return float(row == {"answer": "5", "level": 1} and id == group.id and group.meta == row)


def by_position(x, y):
    return float(x == ASKED and y == "5")


def text_alone(y):
    return float(y == "5")


def verifiers(prompt, completion, answer, state, info):
    """As functions of a rubric read: messages are dictionaries."""
    assert prompt[0] == {"role": "system", "content": "be brief"} and info == {}
    assert state["prompt"] == prompt and state["answer"] == answer and state["completion"] == completion
    return float(completion[-1]["content"] == answer)


def annotated(prompt: list[dict[str, str]], completion: list[dict[str, str]], answer: str) -> float:
    return float(completion[0]["content"] == answer and prompt[1]["role"] == "user")


def plain_text(prompt: str, completion: str) -> float:
    return float(prompt == "what is 2 plus 3?" and completion == "5")


def trl(completions, answer, **kwargs):
    """As reward functions of TRL read a conversational data set."""
    assert kwargs["prompts"][0][-1] == {"role": "user", "content": "what is 2 plus 3?"}
    assert [bytes(ids).decode() for ids in kwargs["completion_ids"]] == [c[0]["content"] for c in completions]
    assert kwargs["level"] == [1] * len(completions)
    return [float(c[0]["content"] == a) for c, a in zip(completions, answer, strict=True)]


def trl_array(prompts, completions):
    return np.asarray([float(c[0]["content"] == "5") for c in completions])


def trl_tensor(completions: list[str]):
    return torch.tensor([float(c == "5") for c in completions])


async def one_by_one(completion, answer):
    await asyncio.sleep(0)
    return float(completion == answer)


async def at_once(completions: list[str], **kwargs):
    await asyncio.sleep(0)
    return [float(c == "5") for c in completions]


def of_groups(groups):
    return [[float(c.text == "5") for c in g.completions] for g in groups]


class Rubric:
    """A callable that is no function."""

    def __call__(self, completion: str, answer: str) -> float:
        return float(completion == answer)


def weighed(completion, answer, weight):
    return weight * float(completion == answer)


EVERY = [
    by_name, with_ids, with_default, only_rest, of_row, by_position, text_alone, verifiers, annotated,
    plain_text, trl, trl_array, trl_tensor, one_by_one, at_once, of_groups, Rubric(), Rubric().__call__,
    partial(weighed, weight=1.0), lambda completion, answer: float(completion == answer),
]  # fmt: skip


@pytest.mark.parametrize("function", EVERY, ids=lambda f: getattr(f, "__qualname__", type(f).__name__))
def test_each_way_of_asking_gives_the_same_scores(function: Callable[..., Any]) -> None:
    first = group("5", "6", answer="5", level=1)
    second = group("7", "5", "", answer="5", level=1, id="sums.jsonl:2")
    expected = [[1.0, 0.0], [0.0, 1.0, 0.0]]
    if function is with_ids:
        expected = [[1.0, 1.0], [1.0, 1.0, 1.0]]
    if function is of_row:
        expected = [[1.0, 1.0], [1.0, 1.0, 1.0]]
    assert judged(function, first, second) == expected
    assert judged(function) == []


def test_a_plain_prompt_is_text_to_functions_of_trl_and_verifiers() -> None:
    seen: list[Any] = []

    def lists(prompts, completions):
        seen.extend([prompts, completions])
        return [0.0]

    def messages(prompt, completion, state):
        seen.extend([prompt, completion])
        return 0.0

    asked = group("blue", prompt=(Message(Role.TEXT, "name a colour:"),))
    judged(lists, asked)
    judged(messages, asked)
    assert seen == [["name a colour:"], ["blue"], "name a colour:", "blue"]


def test_columns_of_rows_that_lack_them_are_none_to_a_function_of_lists() -> None:
    def lists(completions, level):
        return [float(one or 0) for one in level]

    assert judged(lists, group("a", level=2), group("b", answer="5")) == [[2.0], [0.0]]


def test_a_file_s_function_is_called_like_any_other(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("async def right(completions, answer, **kwargs):\n    return [1.0 for _ in answer]\n")
    assert open_judge(f"{path}:right")([group("5", "6", answer="5")]) == [[1.0, 1.0]]


def test_at_most_sixteen_questions_are_under_way_and_all_in_one_loop() -> None:
    running, most, loops = 0, 0, set()

    async def slow(completion):
        nonlocal running, most
        running += 1
        most = max(most, running)
        loops.add(asyncio.get_running_loop())
        await asyncio.sleep(0.001)
        running -= 1
        return len(completion)

    judge = FunctionJudge.of(slow, "slow")
    for _ in range(2):  # a client made in the first step must still work in the second
        assert judge([group(*"abcdefghijklmnopqrstuvwxyz", *"abcdefghij")]) == [[1.0] * 36]
    assert most == judge.concurrency == 16 and len(loops) == 1


def test_an_asynchronous_function_works_where_a_loop_runs_already() -> None:
    async def notebook() -> list[list[float]]:
        return judged(one_by_one, group("5", answer="5"))

    assert asyncio.run(notebook()) == [[1.0]]


# ------------------------------------------------------------------------------------------ undecidable


def nothing(): ...


def three(a, b, c): ...


def two_by_keyword(*, x, y): ...


@pytest.mark.parametrize("function", [nothing, three, two_by_keyword, dict], ids=lambda f: f.__name__)
def test_a_signature_that_does_not_say_is_refused(function: Callable[..., Any]) -> None:
    with pytest.raises(TrueupError, match=r"E792 judge f — how to call .* `completion`") as caught:
        judged(function, group("5"))
    assert caught.value.exit_code == EXIT_USAGE


@pytest.mark.parametrize(
    "function", [lambda completion, answer: 0.0, lambda completions, answer: [0.0]], ids=["one", "all"]
)
def test_a_column_that_no_row_has_is_named(function: Callable[..., Any]) -> None:
    with pytest.raises(TrueupError, match=r"E206 .* asks for `answer`.*it has: level"):
        judged(function, group("5", level=1))


def test_token_ids_of_completions_that_have_none_are_refused() -> None:
    with pytest.raises(TrueupError, match=r"E206 .*token ids"):
        judged(with_ids, Group(prompt=ASKED, completions=(Completion(text="5"),)))
    unencoded = Group(prompt=ASKED, completions=(Completion(text="5"),))
    assert judged(lambda completions, **kwargs: [float("completion_ids" in kwargs)], unencoded) == [[0.0]]


# ------------------------------------------------------------------------------------------ what it gives

SIXES = group("5", "6", id="sums.jsonl:7")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("1.0", "'1.0'"), (True, "True"), (np.bool_(False), "False"), (None, "None"), (math.nan, "nan"),
        (math.inf, "inf"), (-math.inf, "-inf"), (10**400, "10000"), (10**5000, "16610 bits"),
        ([1.0, 1.0], "[1.0, 1.0]"), (Decimal("NaN"), "NaN"), (Decimal("sNaN"), "sNaN"),
        (np.ones(2), "array([1., 1.])"), (torch.tensor([1.0, 2.0]), "tensor"), (1j, "1j"), (b"1", "b'1'"),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_what_is_no_finite_number_is_the_function_s_mistake(value: Any, said: str) -> None:
    def wrong(completion):
        return 0.0 if completion == "5" else value

    with pytest.raises(TrueupError) as caught:
        judged(wrong, SIXES)
    error = caught.value
    assert error.code == "E793" and said in error.reason and error.exit_code == EXIT_DATA
    assert "judge f" in error.where and "row sums.jsonl:7, completion 2" in error.where
    assert f"{__file__}:{wrong.__code__.co_firstlineno}" in error.where


@pytest.mark.parametrize(
    "value",
    [
        1, 1.0, np.float32(1), np.int64(1), torch.tensor(1.0), torch.tensor([1.0]), np.ones(1),
        Decimal("1.00"), Fraction(1, 1),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_a_number_is_one(value: Any) -> None:
    assert judged(lambda completion: value, group("5")) == [[1.0]]


@pytest.mark.parametrize("value", [[1.0], 1.0, "ab", {"a": 1.0}, None, np.ones((1, 2))], ids=str)
def test_a_list_of_another_length_is_refused(value: Any) -> None:
    with pytest.raises(TrueupError, match=r"E793 .* for 2"):
        judged(lambda completions: value, SIXES)


def test_groups_of_other_shapes_are_refused() -> None:
    with pytest.raises(TrueupError, match=r"E793 .*group sums.jsonl:7.*1 value for 2"):
        judged(lambda groups: [[1.0] for _ in groups], SIXES)
    with pytest.raises(TrueupError, match=r"E793 .*0 values for 1"):
        judged(lambda groups: [], SIXES)


def maybe(completion) -> float | None:
    return None if completion == "?" else float(completion)


async def perhaps(completions: list[str]) -> list[float | None]:
    return [None if c == "?" else float(c) for c in completions]


@pytest.mark.parametrize("function", [maybe, perhaps])
def test_none_abstains_where_the_annotation_says_so(function: Callable[..., Any]) -> None:
    assert judged(function, group("1", "?", "3"), group("?", "?")) == [[1.0, 2.0, 3.0], [0.0, 0.0]]


def test_none_is_refused_elsewhere_and_the_way_to_say_so_is_named() -> None:
    with pytest.raises(TrueupError, match=r"E793 .*float \| None"):
        judged(lambda completion: None, group("5"))

    def procedure(completion) -> None: ...

    with pytest.raises(TrueupError, match="E793"):
        judged(procedure, group("5"))


# ------------------------------------------------------------------------------------------ what it raises


def divides(completion):
    return 1 / (len(completion) - 1)


async def divides_later(completion):
    await asyncio.sleep(0)
    return divides(completion)


def divides_all(completions: list[str]):
    return [divides(c) for c in completions]


def leaves(completion):
    raise SystemExit(0)


async def leaves_later(completion):
    raise SystemExit(0)


@pytest.mark.parametrize("function", [divides, divides_later, divides_all])
def test_what_a_function_raises_is_said_with_its_line_and_the_row(function: Callable[..., Any]) -> None:
    with pytest.raises(TrueupError) as caught:
        judged(function, group("ab", "c", id="sums.jsonl:3"))
    error, line = caught.value, divides.__code__.co_firstlineno + 1
    assert error.code == "E799" and error.exit_code == EXIT_DATA
    assert "ZeroDivisionError: division by zero" in error.reason
    assert f"judge f, {__file__}:{line}, " in error.where and "sums.jsonl:3" in error.where
    assert function is divides_all or "completion 2" in error.where
    assert f"{__file__}, line {line}, in divides\n    return 1 / (len(completion) - 1)" in error.remedy
    assert "report" not in str(error) and isinstance(error.__cause__, ZeroDivisionError)


@pytest.mark.parametrize("function", [leaves, leaves_later])
def test_a_function_that_ends_the_program_ends_the_run_with_an_error(function: Callable[..., Any]) -> None:
    with pytest.raises(TrueupError, match=r"E799 .*ended the program \(SystemExit: 0\)"):
        judged(function, group("5"))
    assert judged(one_by_one, group("5", answer="5")) == [[1.0]], "the loop still runs"


class Stops(BaseException):
    """What is neither an Exception nor an exit."""


def test_whatever_a_function_raises_is_its_own_mistake() -> None:
    def stops(completion):
        raise Stops("enough")

    async def stops_later(completion):
        raise Stops("enough")

    for function in (stops, stops_later):
        with pytest.raises(TrueupError, match=r"E799 .*raised Stops: enough"):
            judged(function, group("5"))
    with pytest.raises(KeyboardInterrupt):  # a person at the keyboard, not the function
        judged(interrupted, group("5"))


def interrupted(completion):
    raise KeyboardInterrupt


def test_the_line_is_the_person_s_own_where_a_library_raised() -> None:
    def reads(completion):
        import json

        return json.loads(completion)

    with pytest.raises(TrueupError) as caught:
        judged(reads, group("{"))
    assert f"{__file__}:{reads.__code__.co_firstlineno + 3}" in caught.value.where
    assert "JSONDecodeError" in caught.value.reason


def test_nothing_waits_for_questions_that_are_not_asked_any_more() -> None:
    """The coroutines made before the mistake are closed: otherwise Python warns that nobody awaited them."""
    calls = iter([0, 1])

    def starts(completion):
        if next(calls):
            raise ValueError("no")
        return one_by_one(completion, "5")

    before = threading.active_count()
    with pytest.raises(TrueupError, match="E799"):
        judged(starts, group("5", "6"))
    assert threading.active_count() <= before + 1


@pytest.mark.parametrize(
    "text",
    ["import sys\nsys.exit(0)\n", "\nraise ValueError('no')\n", "\nraise BaseException\n"],
    ids=["exits", "raises", "stops"],
)
def test_a_file_that_does_not_run_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(TrueupError, match=r"E792 .*mine.py:2 .*the file does not run"):
        open_judge(f"{path}:score")


def test_a_name_that_a_file_lacks_is_answered_by_those_it_has(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("def score(completion): ...\ndef _inner(): ...\n")
    with pytest.raises(TrueupError, match=r"E792 .*no function 'reward' in the file — one of score$"):
        open_judge(f"{path}:reward")


def test_a_mistake_ends_a_run_of_the_command_line_with_its_own_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import small_world
    from trueup.cli import main

    small_world.make(tmp_path)
    monkeypatch.chdir(tmp_path)
    Path("reward.py").write_text("import sys\ndef score(completion):\n    sys.exit(0)\n")
    command = "train grpo --model.path my-model --data.path prompts.jsonl --judge reward.py:score"
    short = "--loop.steps 1 --loop.batch 2 --num_completions 2 --decoding.max_new_tokens 3"
    assert main(f"{command} {short} --out run".split()) == EXIT_DATA
    said = capsys.readouterr().err
    assert "E799" in said and "reward.py:3" in said and "prompts.jsonl:" in said and "report" not in said


def test_annotations_written_as_text_count_too() -> None:
    names: dict[str, Any] = {}
    body = "def f(completions: list[str]) -> list[float]:\n    return [len(c) for c in completions]\n"
    source = f"from __future__ import annotations\n{body}"
    exec(source, names)
    assert judged(names["f"], group("abc")) == [[3.0]]
