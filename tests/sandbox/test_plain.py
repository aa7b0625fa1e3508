"""What crosses the border: plain data to the bit, in exact types, and nothing else."""

from __future__ import annotations

import math
from collections import Counter, OrderedDict, namedtuple
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from trueup.sandbox.plain import NotPlainError, decode, encode

LEAF = (
    some.none()
    | some.booleans()
    | some.integers()
    | some.floats(allow_nan=False)
    | some.text()
    | some.binary()
)
KEY = some.integers() | some.text() | some.tuples(some.booleans(), some.text())
VALUE = some.recursive(
    LEAF,
    lambda inner: some.lists(inner) | some.tuples(inner, inner) | some.dictionaries(KEY, inner)
    | some.sets(KEY) | some.frozensets(KEY),
    max_leaves=12,
)  # fmt: skip
Point = namedtuple("Point", "x y")


@settings(max_examples=150, deadline=None)
@given(VALUE)
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    line = encode(value)
    assert b"\n" not in line
    back = decode(line)
    assert back == value and type(back) is type(value)


def test_numbers_come_back_to_the_bit() -> None:
    assert decode(encode(10**6000)) == 10**6000
    assert math.isnan(decode(encode(math.nan))) and decode(encode(-math.inf)) == -math.inf
    assert math.copysign(1, decode(encode(-0.0))) == -1.0
    assert decode(encode(1.5 - 2j)) == 1.5 - 2j


@pytest.mark.parametrize(
    ("value", "kind"),
    [(Counter("aab"), dict), (OrderedDict(a=1), dict), (Point(1, 2), tuple), (bytearray(b"x"), bytes)],
)
def test_subclasses_come_back_as_their_base(value: Any, kind: type) -> None:
    back = decode(encode(value))
    assert type(back) is kind and back == value


@pytest.mark.parametrize("value", [object(), print, iter([]), {1: object()}, range(3), ...])
def test_what_is_no_plain_data_does_not_leave(value: Any) -> None:
    with pytest.raises(NotPlainError):
        encode(value)


@pytest.mark.parametrize(
    "line",
    [
        b"", b"{", b"5", b"1.5", b"[]", b"{}", b'{"i": "x"}', b'{"i": 5}', b'{"i": [5]}', b'{"f": "y"}',
        b'{"b": "0"}',
        b'{"x": "1"}', b'{"x": []}', b'{"s": [{"l": []}]}', b'{"d": [[1]]}', b'{"d": [[{"l": []}, null]]}',
        b'{"c": ["0x1p0"]}', b'{"i": "1", "f": "1"}', b"\xff", b'{"l": [' * 5000, b'{"i": null}',
        b'{"t": "ab"}',
    ],
)  # fmt: skip
def test_what_is_no_value_is_refused(line: bytes) -> None:
    with pytest.raises(NotPlainError):
        decode(line)
