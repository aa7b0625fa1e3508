"""YAML traps: each either reads as what it looks like or is an error that names the line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueup.errors import TrueupError
from trueup.settings.strict_yaml import dump_yaml, parse_value, parse_yaml, read_yaml

READ_RIGHT: list[tuple[str, Any]] = [
    ("5e-7", 5e-7),
    ("1e5", 1e5),
    ("1E-3", 1e-3),
    ("-1.5", -1.5),
    (".5", 0.5),
    ("2.", 2.0),
    ("+3", 3),
    ("0", 0),
    ("-0", 0),
    ("'010'", "010"),
    ("no", "no"),
    ("yes", "yes"),
    ("on", "on"),
    ("off", "off"),
    ("y", "y"),
    ("NO", "NO"),
    ("true", True),
    ("False", False),
    ("null", None),
    ("~", None),
    ("", None),
    ("'null'", "null"),
    ("'5e-7'", "5e-7"),
    ("2024-01-01", "2024-01-01"),
    ("2024-01-01T00:00:00Z", "2024-01-01T00:00:00Z"),
    ("1.2.3", "1.2.3"),
    ("nan", "nan"),
    ("inf", "inf"),
    ("e5", "e5"),
    ("=", "="),
    ("a:b", "a:b"),
    ("[1, no, 2e3]", [1, "no", 2000.0]),
    ("{a: {b: 1}}", {"a": {"b": 1}}),
    ("!!str 5", "5"),
    ("!!float 5", 5.0),
    ("|\n  one\n  two\n", "one\ntwo\n"),
]

REFUSED: list[tuple[str, str, int]] = [
    ("a: 1\nb: 2\na: 3", "stands twice, first on line 1", 3),
    ("a:\n  b: 1\n  b: 2", "`a.b` stands twice, first on line 2", 3),
    ("a: 010", "read 010 differently", 1),
    ("a: 0x1F", "read 0x1F differently", 1),
    ("a: 0o17", "differently", 1),
    ("a: 0b11", "differently", 1),
    ("a: 1_000", "differently", 1),
    ("a: 12:30", "differently", 1),
    ("a: 1:30:00", "differently", 1),
    ("a: .nan", "not a finite number", 1),
    ("a: -.inf", "not a finite number", 1),
    ("x: 0\na: 1e999", "too large a number", 2),
    ("a: !!float inf", "too large a number", 1),
    ("1: a", "the key `1` is not text", 1),
    ("true: a", "the key `true` is not text", 1),
    ("null: a", "the key `null` is not text", 1),
    ("? [a, b]\n: 1", "the key here is not text", 1),
    ("a: 1\n<<: {b: 2}", "merge keys", 2),
    ("a: !!python/object/apply:os.system [ls]", "tag", 1),
    ("a: !!python/name:os.system ''", "tag", 1),
    ("a: !!set {b}", "tag", 1),
    ("a: !!binary aGk=", "tag", 1),
    ("a: !!int x", "not what its tag", 1),
    ("a: !!bool maybe", "not what its tag", 1),
    ("a: &a [*a]", "aliases", 1),
    ("a: *nowhere", "undefined alias", 1),
    ("- 1\n- 2", "not a mapping", 1),
    ("just text", "not a mapping", 1),
    ("a: b: c", "not YAML", 1),
    ("a: 'open", "not YAML", 1),
    ("a: 1\n\tb: 2", "not YAML", 2),
    ("a: 1\n---\nb: 2", "another document", 2),
    ("a: " + "[" * 40 + "]" * 40, "nested deeper", 1),
    ("a: " + "[" * 100_000, "nested deeper", 1),
]


@pytest.mark.parametrize(("written", "value"), READ_RIGHT)
def test_a_value_reads_as_what_it_looks_like(written: str, value: Any) -> None:
    read = parse_yaml(f"key: {written}").values["key"]
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(("text", "reason", "line"), REFUSED)
def test_a_trap_is_an_error_that_names_its_line(text: str, reason: str, line: int) -> None:
    with pytest.raises(TrueupError) as caught:
        parse_yaml(text, "recipe.yaml")
    assert caught.value.code == "E710"
    assert reason in caught.value.reason
    assert caught.value.where == f"recipe.yaml:{line}"
    assert caught.value.remedy


def test_an_alias_bomb_is_refused_before_it_unfolds() -> None:
    levels = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 20)]
    text = "\n".join(["a0: &a0 [x, x, x, x, x, x, x, x, x]", *levels])
    with pytest.raises(TrueupError, match="unfold to too much"):
        parse_yaml(text)  # 9^20 values if it were unfolded


def test_a_small_alias_is_read() -> None:
    assert parse_yaml("a: &x [1, 2]\nb: *x").values == {"a": [1, 2], "b": [1, 2]}


def test_every_key_has_its_line() -> None:
    layer = parse_yaml("a: 1\nblock:\n  b: 2\n  list:\n  - c: 3\n")
    assert layer.lines == {"a": 1, "block": 2, "block.b": 3, "block.list": 4, "block.list.0.c": 5}
    assert layer.where("block.b") == "text:3 block.b"


def test_files_that_are_not_configuration_are_refused(tmp_path: Path) -> None:
    latin, large, empty = (tmp_path / name for name in ("latin.yaml", "large.yaml", "empty.yaml"))
    latin.write_bytes(b"a: \xe9")
    large.write_bytes(b"#" * 1_000_001)
    empty.write_text("# nothing yet\n")
    with pytest.raises(TrueupError, match="byte 3 is not UTF-8"):
        read_yaml(latin)
    with pytest.raises(TrueupError, match="1000001 bytes"):
        read_yaml(large)
    with pytest.raises(TrueupError, match="E801"):
        read_yaml(tmp_path / "absent.yaml")
    with pytest.raises(TrueupError, match="E801"):
        read_yaml(tmp_path)
    assert read_yaml(empty).values == {}


def test_a_nul_byte_is_refused() -> None:
    with pytest.raises(TrueupError, match="does not belong in YAML"):
        parse_yaml("a: '\x00'")


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("1", 1),
        ("1e-5", 1e-5),
        ("true", True),
        ("null", None),
        ("no", "no"),
        ("010", "010"),
        ("12:30", "12:30"),
        ("'010'", "010"),
        ("[a, 2]", ["a", 2]),
        ("{a: 1}", {"a": 1}),
        ("", ""),
        ("a: b", "a: b"),
        ("- a", "- a"),
        ("# 1", "# 1"),
        ("a # b", "a # b"),
        ("1 # b", "1 # b"),
        ("[1, 2", "[1, 2"),
        ("*x", "*x"),
        ("&x 1 2", "&x 1 2"),
        ("--", "--"),
        (" padded ", " padded "),
    ],
)
def test_a_word_of_the_command_line(typed: str, value: Any) -> None:
    read = parse_value(typed)
    assert read == value
    assert type(read) is type(value)


KEYS = st.text("abno1:. -", max_size=4)
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
    | st.sampled_from(
        ["no", "1e-5", "010", "0x1f", "12:30", "1_0", "~", "null", ".nan", "<<", "=", "1.", " x "]
    ),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abno1:. -", max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(KEYS, PLAIN, max_size=4))
def test_what_is_written_reads_back_the_same(values: dict[str, Any]) -> None:
    read = parse_yaml(dump_yaml(values)).values
    assert read == values
    assert repr(read) == repr(values)  # types too: 1 is not True, nor 1.0
