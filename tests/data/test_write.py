"""What is written is read back whole: every field of a group, through JSONL and Parquet."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_rows import SHAPES, good_lines
from trueup.data import read, write
from trueup.engine.groups import (
    Comparison,
    Completion,
    Group,
    Message,
    Ranking,
    Role,
    Score,
    digest,
    from_json,
    to_json,
)
from trueup.errors import TrueupError


def full_group(i: int = 0) -> Group:
    """A group that uses every field there is."""
    columns = {"old_logprobs": np.float32([-0.1, -1e-30, -math.pi]).astype(np.float64), "empty": np.zeros(0)}
    return Group(
        prompt=(Message(Role.SYSTEM, "\u2028"), Message(Role.USER, "\U0001f600"), Message(Role.TOOL, "")),
        completions=(
            Completion(
                text="a\r\n\x0b", source="policy", finished=False, tokens=np.int32([1, 2, 3]),
                supervised=np.array([True, False, True]), columns=columns, marks={"score": -0.0, "é": 1e-300},
            ),
            Completion(text="", tokens=np.int32([]), columns={}, marks={}),
            Completion(text="c"),
        ),
        comparisons=(
            Comparison(a=0, b=1, choice="tie", strength=2.5, probability=0.25, shown=(1, 0), labeler="x"),
            Comparison(a=2, b=1, choice="b", when="t"),
        ),
        rankings=(Ranking(tiers=((2, 0), (1,)), labeler="y"), Ranking(tiers=())),
        scores=(Score(completion=1, value=1 / 3, judge="j", when="now"),),
        id=f"g{i}", user="ann", source="here", meta={"a": [1, {"b": None}], "n": 10**30, "f": 0.1, "e": {}},
        prompt_tokens=np.int32([5, 6]),
    )  # fmt: skip


def same(a: Group, b: Group) -> bool:
    return digest([a]) == digest([b])


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet"])
def test_every_field_comes_back(name: str, tmp_path: Path) -> None:
    groups = [full_group(i) for i in range(3)] + [
        Group(prompt=(), id="bare"),
        Group(prompt=(), id="x", meta={"k": ""}),
    ]
    assert write(tmp_path / name, groups) == 5
    result = read(tmp_path / name, format="group")
    assert [to_json(group) for group in result.groups] == [to_json(group) for group in groups]
    assert digest(result.groups) == digest(groups)
    first = result.groups[0].completions[0]
    assert first.tokens is not None and first.tokens.dtype == np.int32
    assert first.supervised is not None and first.supervised.dtype == bool
    assert (
        first.columns["old_logprobs"].astype(np.float32).tolist()
        == np.float32([-0.1, -1e-30, -math.pi]).tolist()
    )
    assert math.copysign(1.0, first.marks["score"]) == -1.0
    assert read(tmp_path / name).format == "group"


def test_json_and_back_is_the_same_group() -> None:
    assert same(from_json(to_json(full_group())), full_group())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet"])
def test_what_a_reader_made_is_written_and_read_again(shape: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"".join(good_lines(shape, 4)))
    groups = read(path).groups
    write(tmp_path / name, groups)
    assert digest(read(tmp_path / name, format="group").groups) == digest(groups)


text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=8)
numbers = st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=40)
@given(contents=st.lists(text, min_size=1, max_size=3), marks=st.dictionaries(text, numbers, max_size=2))
def test_any_text_and_number_comes_back(
    tmp_path_factory: pytest.TempPathFactory, contents: list[str], marks: dict[str, float]
) -> None:
    completions = tuple(Completion(text=said, marks=marks) for said in contents)
    group = Group(
        prompt=(Message(Role.TEXT, contents[0]),), completions=completions, id="g", meta={"m": contents}
    )
    folder = tmp_path_factory.mktemp("round")
    for name in ("out.jsonl", "out.parquet"):
        write(folder / name, [group])
        assert same(read(folder / name).groups[0], group)


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet"])
@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"meta": {"x": float("nan")}}, "E105"),
        ({"meta": {"x": object()}}, "E105"),
        ({"id": "\ud800"}, "E108"),
        ({"completions": (Completion(text="a", marks={"s": float("inf")}),)}, "E105"),
    ],
)
def test_a_group_that_no_file_can_hold_leaves_none_behind(
    name: str, change: dict[str, Any], code: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    write(path, [full_group()])
    before = path.read_bytes()
    with pytest.raises(TrueupError) as caught:
        write(path, [full_group(), replace(full_group(), **change)])
    assert caught.value.code == code and "group 2" in caught.value.where
    assert path.read_bytes() == before and [item.name for item in tmp_path.iterdir()] == [name]


def test_other_suffixes_and_places_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TrueupError, match="E111"):
        write(tmp_path / "out.pkl", [])
    with pytest.raises(TrueupError, match="E102"):
        write(tmp_path / "no" / "such" / "out.jsonl", [])
    with pytest.raises(TrueupError, match="E102"):
        write(tmp_path / "no" / "such" / "out.parquet", [full_group()])
