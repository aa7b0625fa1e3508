"""Keys inside messages and beside them that change what a row means: honoured, or refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from data_rows import assistant, line, said, user
from trueup.data import check, read, write
from trueup.data.reader import ReadResult
from trueup.engine.groups import Group, Message, Role, ToolCall, digest

CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]


def looked_at(tmp_path: Path, *rows: dict[str, Any]) -> ReadResult:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"".join(line(row) for row in rows))
    return read(path, max_bad=1.0) if check(path).counts.accepted else check(path)


def one(tmp_path: Path, row: dict[str, Any]) -> Group:
    found = looked_at(tmp_path, row)
    assert found.ok, found
    return found.groups[0]


def refused(tmp_path: Path, row: dict[str, Any]) -> str:
    (problem,) = looked_at(tmp_path, row).problems
    return f"{problem.code} {problem.field}"


@pytest.mark.parametrize("content", [{}, {"content": None}, {"content": ""}])
def test_a_call_stands_in_place_of_text(content: dict[str, Any], tmp_path: Path) -> None:
    calling = {"role": "assistant", **content, "tool_calls": [CALL]}
    answer = {"role": "tool", "content": "5", "tool_call_id": "c1", "name": "add"}
    row = {"messages": [user("q"), calling, answer, assistant("five")], "tools": TOOLS}
    group = one(tmp_path, row)
    assert group.prompt == (
        Message(Role.USER, "q", tools=json.dumps(TOOLS)),
        Message(Role.ASSISTANT, "", tool_calls=(ToolCall("add", '{"a": 1}', "c1"),)),
        Message(Role.TOOL, "5", name="add", tool_call_id="c1"),
    )
    (last,) = one(tmp_path, {"messages": [user("q"), calling], "tools": json.dumps(TOOLS)}).completions
    assert (last.text, last.tool_calls) == ("", (ToolCall("add", '{"a": 1}', "c1"),))


def test_older_forms_of_tools_and_calls(tmp_path: Path) -> None:
    old = {"role": "assistant", "content": None, "function_call": {"name": "add", "arguments": {"a": 1}}}
    answer = {"role": "function", "name": "add", "content": "5"}
    function = {"name": "add", "parameters": {}}
    group = one(tmp_path, {"messages": [user("q"), old, answer, assistant("5")], "functions": [function]})
    assert json.loads(group.prompt[0].tools) == [{"type": "function", "function": function}]
    assert group.prompt[1].tool_calls == (ToolCall("add", '{"a": 1}'),)
    assert group.prompt[2] == Message(Role.TOOL, "5", name="add")
    talk = [said("human", "q"), said("function_call", '{"name": "add", "arguments": {"a": 1}}')]
    shared = one(tmp_path, {"conversations": [*talk, said("observation", "5"), said("gpt", "5")]})
    assert shared.prompt[1] == Message(Role.ASSISTANT, "", tool_calls=(ToolCall("add", '{"a": 1}'),))
    other = [said("human", "q"), said("function_call", "add 1"), said("observation", "5"), said("gpt", "5")]
    assert one(tmp_path, {"conversations": other}).prompt[1] == Message(Role.ASSISTANT, "add 1")


@pytest.mark.parametrize("key", ["reasoning_content", "thinking", "reasoning"])
def test_a_thought_is_kept_beside_the_content(key: str, tmp_path: Path) -> None:
    thoughtful = {**assistant("four"), key: "2 and 2"}
    group = one(tmp_path, {"messages": [user("q"), thoughtful, user("r"), {**assistant("x"), key: "y"}]})
    assert group.prompt[1] == Message(Role.ASSISTANT, "four", thinking="2 and 2")
    assert (group.completions[0].text, group.completions[0].thinking) == ("x", "y")
    twice = {**assistant("four"), "reasoning_content": "2 and 2", "reasoning": "other"}
    assert refused(tmp_path, {"messages": [user("q"), twice]}) == "E215 messages[1].reasoning"


NO = [("weight", 0), ("weight", 0.0), ("loss", False), ("train", False), ("train", "no"), ("mask", True)]
YES = [("weight", 1), ("loss", True), ("train", True), ("mask", False), ("weight", None)]


@pytest.mark.parametrize(("key", "value"), [*NO, *YES])
def test_a_turn_says_whether_it_is_trained_on(key: str, value: object, tmp_path: Path) -> None:
    bad, good = {**assistant("bad"), key: value}, assistant("good")
    group = one(tmp_path, {"messages": [user("q"), bad, user("r"), good]})
    assert group.prompt[1].supervised is ((key, value) in YES)
    assert group.completions[0].text == "good"
    alone = looked_at(tmp_path, {"messages": [user("q"), bad]})
    if (key, value) in YES:
        assert alone.groups[0].completions[0].text == "bad"
    else:
        assert [p.code for p in alone.problems] == ["E216"]
        assert "nothing is left to train on" in str(alone)
        after = one(tmp_path, {"messages": [user("q"), good, user("r"), bad]})
        assert [m.content for m in after.prompt] == ["q"] and after.completions[0].text == "good"


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"messages": [user("q"), {**assistant("a"), "weight": 0.5}]}, "E212 messages[1].weight"),
        (
            {"messages": [user("q"), {**assistant("a"), "reasoning": {"effort": 1}}]},
            "E205 messages[1].reasoning",
        ),
        ({"messages": [{**user("q"), "thinking": "t"}, assistant("a")]}, "E214 messages[0]"),
        ({"messages": [{**user("q"), "images": ["x.png"]}, assistant("a")]}, "E214 messages[0].images"),
        ({"messages": [user("q"), {**assistant(""), "thinking": "t"}]}, "E306 messages[1]"),
        ({"messages": [user("q"), assistant("a")], "tools": "weather"}, "E214 tools"),
        ({"messages": [user("q"), assistant("a")], "tools": [{"type": "function"}]}, "E214 tools[0]"),
        (
            {"messages": [user("q"), assistant("a")], "tools": TOOLS, "functions": [{"name": "f"}]},
            "E214 functions",
        ),
        (
            {"messages": [user("q"), {**assistant(""), "tool_calls": [{"name": "f", "arguments": "[1]"}]}]},
            "E214 messages[1].tool_calls[0].arguments",
        ),
        (
            {"messages": [user("q"), assistant("a")], "chat_template_kwargs": {"x": 1}},
            "E214 chat_template_kwargs",
        ),
        ({"prompt": "q", "completion": "a", "system": "s", "system_prompt": "t"}, "E305 system_prompt"),
        (
            {
                "prompt": [user("q")],
                "chosen": [{**assistant("a"), "weight": 0}],
                "rejected": [assistant("b")],
            },
            "E216 chosen",
        ),
    ],
)
def test_what_cannot_be_honoured_is_refused(row: dict[str, Any], what: str, tmp_path: Path) -> None:
    assert refused(tmp_path, row) == what


SYSTEM = [
    {"prompt": "q", "chosen": "a", "rejected": "b"},
    {"prompt": [user("q")], "chosen": [assistant("a")], "rejected": [assistant("b")]},
    {"chosen": [user("q"), assistant("a")], "rejected": [user("q"), assistant("b")]},
    {"prompt": "q", "completion": "a"},
    {"prompt": "q", "completion": "a", "label": True},
    {"prompt": "q"},
    {"messages": [user("q"), assistant("a")]},
    {"conversations": [said("human", "q"), said("gpt", "a")]},
    {"instruction": "q", "output": "a"},
    {"prompt": "q", "completions": ["a", "b"], "ranking": [0, 1]},
]


@pytest.mark.parametrize("key", ["system", "system_prompt"])
@pytest.mark.parametrize("row", SYSTEM, ids=lambda row: " ".join(row))
def test_a_system_column_is_a_system_turn(row: dict[str, Any], key: str, tmp_path: Path) -> None:
    said_to = (Message(Role.SYSTEM, "be brief"), Message(Role.USER, "q"))
    assert one(tmp_path, {**row, key: "be brief"}).prompt == said_to
    assert one(tmp_path, {**row, key: ""}).prompt == (Message(Role.USER, "q"),)


def test_pairs_of_calls_differ_in_their_calls(tmp_path: Path) -> None:
    def calling(name: str) -> list[dict[str, Any]]:
        return [{"role": "assistant", "tool_calls": [{"function": {"name": name, "arguments": {}}}]}]

    row = {"prompt": [user("q")], "chosen": calling("add"), "rejected": calling("sub"), "tools": TOOLS}
    group = one(tmp_path, row)
    assert [c.tool_calls for c in group.completions] == [(ToolCall("add"),), (ToolCall("sub"),)]
    assert refused(tmp_path, {**row, "rejected": calling("add")}) == "E401 rejected"


def test_other_keys_are_counted_and_named(tmp_path: Path) -> None:
    row = {
        "messages": [user("q"), {**assistant("a"), "mood": "glad", "refusal": None}],
        "margin": 1,
        "x": None,
    }
    result = looked_at(tmp_path, row, {**row, "answer": 5})
    assert result.counts.notes[-2:] == (
        "columns kept in meta, not trained on: margin (2), answer (1)",
        "keys of messages that nothing reads: messages[].mood (2)",
    )
    assert result.groups[1].meta == {"margin": 1, "answer": 5}
    plain = {"messages": [user("q"), {**assistant("a"), "weight": 1}], "system": "s", "tools": [], "id": "7"}
    assert looked_at(tmp_path, plain).counts.notes == ()


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_what_turns_say_survives_writing(suffix: str, tmp_path: Path) -> None:
    calling = {**assistant("on it"), "tool_calls": [CALL, {"name": "f", "arguments": {}}], "thinking": "t"}
    rows = [
        {
            "messages": [user("q"), calling, {"role": "tool", "content": "5", "name": "add"}, calling],
            "tools": TOOLS,
        },
        {"messages": [user("q"), {**assistant("x"), "weight": 0}, user("r"), assistant("plain")]},
    ]
    groups = looked_at(tmp_path, *rows).groups
    path = tmp_path / f"out.{suffix}"
    write(path, groups)
    back = read(path).groups
    assert [g.prompt for g in back] == [g.prompt for g in groups] and digest(back) == digest(groups)
    assert back[0].completions[0].tool_calls == groups[0].completions[0].tool_calls
    assert back[0].completions[0].thinking == "t"


def test_groups_without_such_keys_keep_their_digest() -> None:
    """The digest of a plain group, taken before turns could say more than role and content."""
    plain = Group(prompt=(Message(Role.SYSTEM, ""), Message(Role.USER, "q")), id="1", meta={"a": None})
    assert digest([plain]) == "192c0ceba0278ccbd23a1cb5cba60406685992485fd6f74e400d95683e8e7b6e"
