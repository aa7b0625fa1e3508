"""What a file says is what a setting becomes: forty lines on which YAML or a lenient schema errs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from trueup.errors import TrueupError
from trueup.settings.config import build
from trueup.settings.strict_yaml import parse_yaml


@dataclass(frozen=True, kw_only=True)
class Inner:
    """A block."""

    size: int = 1


@dataclass(frozen=True, kw_only=True)
class Config:
    """One setting of each kind."""

    lr: float = 0.5
    steps: int = 2
    flag: bool = False
    name: str = "x"
    template: str | None = "t"
    names: tuple[str, ...] = ()
    inner: Inner = Inner()


TRAPS: list[tuple[str, Any]] = [
    ("lr: 1e-5", 1e-5),
    ("lr: 5E-7", 5e-7),
    ("lr: 1", 1.0),
    ("lr: .5", 0.5),
    ("lr: +3.", 3.0),
    ("lr: '1e-5'", "E712"),
    ("lr: 1e-5 x", "E712"),
    ("lr: 1,5", "E712"),
    ("lr: 1_0", "E710"),
    ("lr: .nan", "E710"),
    ("lr: nan", "E712"),
    ("lr: inf", "E712"),
    ("lr: 1e400", "E710"),
    ("lr: true", "E712"),
    ("lr: ~", "E712"),
    ("lr:", "E712"),
    ("lr: [1e-5]", "E712"),
    ("steps: 010", "E710"),
    ("steps: 0x10", "E710"),
    ("steps: 12:30", "E710"),
    ("steps: 1.5", "E712"),
    ("steps: '3'", "E712"),
    ("steps: yes", "E712"),
    ("steps: true", "E712"),
    ("steps: 1 000", "E712"),
    ("flag: yes", "E712"),
    ("flag: on", "E712"),
    ("flag: y", "E712"),
    ("flag: 1", "E712"),
    ("flag: 'true'", "E712"),
    ("flag: True", True),
    ("name: no", "no"),
    ("name: off", "off"),
    ("name: 2024-01-01", "2024-01-01"),
    ("name: '007'", "007"),
    ("name: 007", "E710"),
    ("name: 1.10", "E712"),
    ("name: 1e5", "E712"),
    ("name: null", "E712"),
    ("name: true", "E712"),
    ("template: null", None),
    ("template: 'null'", "null"),
    ("template: ~", None),
    ("names: a", "E712"),
    ("names: [no, 1]", "E712"),
    ("names: [no, on]", ("no", "on")),
    ("lr: 1\nlr: 2", "E710"),
    ("steps: 1\n'steps': 2", "E710"),
    ("Lr: 1", "E711"),
    ("lr : 1", 1.0),
    ("inner: 3", "E712"),
    ("inner.size: 3", "E711"),
    ("inner: {size: 3, size: 4}", "E710"),
    ("inner: {siz: 3}", "E711"),
    ("<<: {lr: 1}", "E710"),
    ("lr: !!str 1", "E712"),
    ("lr: !!python/name:os.getcwd", "E710"),
    ("lr: &a 1\nsteps: *a", 1.0),
]


def test_there_are_forty() -> None:
    assert len({text for text, _ in TRAPS}) >= 40


@pytest.mark.parametrize(("text", "outcome"), TRAPS, ids=[text for text, _ in TRAPS])
def test_it_is_what_it_looks_like(text: str, outcome: Any) -> None:
    key = text.partition(":")[0].strip()
    if isinstance(outcome, str) and outcome.startswith("E7"):
        with pytest.raises(TrueupError) as caught:
            build(Config, parse_yaml(text, "r.yaml"))
        assert caught.value.code == outcome and "r.yaml:" in caught.value.where and caught.value.remedy
        return
    found = getattr(build(Config, parse_yaml(text, "r.yaml")), key)
    assert found == outcome and type(found) is type(outcome)


@pytest.mark.parametrize(("text", "meant"), [("stesp: 1", "steps"), ("inner: {siz: 3}", "inner.size")])
def test_an_unknown_key_names_the_nearest(text: str, meant: str) -> None:
    with pytest.raises(TrueupError, match="E711") as caught:
        build(Config, parse_yaml(text))
    assert meant.rpartition(".")[2] in caught.value.remedy


def test_aliases_and_depth_are_capped() -> None:
    many = (
        "a: &a [" + ", ".join("x" for _ in range(2000)) + "]\nb: [" + ", ".join("*a" for _ in range(11)) + "]"
    )
    for text in (many, "a: " + "[" * 33 + "]" * 33):
        with pytest.raises(TrueupError, match="E710"):
            parse_yaml(text)
