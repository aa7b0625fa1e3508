"""The weighted sum of judges: by hand, its file, its scales, and a recipe's stage inside it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trueup.engine.groups import Completion, Group, Message, Role, write_jsonl
from trueup.errors import TrueupError
from trueup.judges.open import open_judge
from trueup.runs.recipe import Recipe, plan


def group(*texts: str) -> Group:
    return Group(prompt=(Message(Role.USER, "say a"),), completions=tuple(Completion(text=t) for t in texts))


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


COUNTER = "def count(prompt, text):\n    return text.count('a')\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write(tmp_path / "counter.py", COUNTER)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_sum_by_hand(here: Path) -> None:
    """The text aab: 3 · (2 − 1) / .5 = 6 for its two a; one character too long is −1 / 2, in the range
    (−.5 + 1) / 2 = .25, times −4 is −1; a b was found, 1. The sum is 6 − 1 + 1 = 6."""
    file = write(
        here / "sum.yaml",
        "parts:\n"
        "  - {judge: 'counter.py:count', weight: 3, normalise: zscore, mean: 1, std: 0.5}\n"
        "  - {judge: 'rule:length?longest=2&per=2', weight: -4, normalise: range, low: -1, high: 1}\n"
        "  - {judge: 'rule:matches?pattern=b'}\n",
    )
    assert open_judge(file)([group("aab"), group()]) == [[pytest.approx(6.0)], []]
    assert not list(here.glob("*.json"))


def test_a_part_of_weight_one_is_that_judge(here: Path) -> None:
    file = write(here / "one.yaml", "parts:\n  - {judge: 'counter.py:count'}\n")
    asked = [group("a", "bb", "aaa"), group("aa")]
    assert open_judge(file)(asked) == open_judge("counter.py:count")(asked) == [[1, 0, 3], [2]]


def test_scales_are_measured_once_and_kept(here: Path) -> None:
    """Counts 1, 3, 0, 0: mean 1, variance (0 + 4 + 1 + 1) / 4 = 1.5; aaa is (3 − 1) / 1.5^½."""
    write_jsonl("reference.jsonl", [group("a", "aaa"), group("b", "bb")])
    file = write(
        here / "sum.yaml",
        "reference: reference.jsonl\nparts:\n  - {judge: 'counter.py:count', normalise: zscore}\n"
        "  - {judge: 'counter.py:count', normalise: range, weight: 2}\n",
    )
    first = open_judge(file)([group("aaa")])
    assert first == [[pytest.approx(2 / 1.5**0.5 + 2 * 1)]]
    kept = (here / "sum.moments.json").read_text(encoding="utf-8")
    (row,) = json.loads(kept).values()
    assert row["completions"] == 4 and row["judge"] == "counter.py:count"
    # The numbers that were kept are used, not measured anew: another value in their place shows it.
    changed = {key: {**values, "low": -3.0} for key, values in json.loads(kept).items()}
    write(here / "sum.moments.json", json.dumps(changed))
    assert open_judge(file)([group("aaa")]) == [[pytest.approx(2 / 1.5**0.5 + 2 * 6 / 6)]]
    assert open_judge(file)([group("b")]) == [[pytest.approx(-1 / 1.5**0.5 + 2 * 3 / 6)]]
    # Another judge behind the name, or other reference completions, are measured for themselves.
    write(here / "counter.py", COUNTER.replace("'a'", "'b'"))
    open_judge(file)
    write_jsonl("reference.jsonl", [group("ab", "bbb")])
    open_judge(file)
    assert len(json.loads((here / "sum.moments.json").read_text(encoding="utf-8"))) == 3


def test_what_the_file_declares_goes_before_what_is_measured(here: Path) -> None:
    write_jsonl("reference.jsonl", [group("a", "aaa")])
    file = write(
        here / "sum.yaml",
        "reference: reference.jsonl\nparts:\n  - {judge: 'counter.py:count', normalise: zscore, mean: 0}\n",
    )
    assert open_judge(file)([group("aaa")]) == [[3.0]]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("parts: []\n", "E796"),
        ("parts:\n  - {weight: 2}\n", "E713"),
        ("parts:\n  - {judge: 'counter.py:count', wieght: 2}\n", "E711"),
        ("parts:\n  - {judge: 'counter.py:count', normalise: zscore}\n", "E796"),
        ("parts:\n  - {judge: 'counter.py:count', mean: 1}\n", "E796"),
        ("parts:\n  - {judge: 'counter.py:count', normalise: zscore, mean: 0, std: 0}\n", "E796"),
        ("parts:\n  - {judge: 'counter.py:count', normalise: range, low: 1, high: 1}\n", "E796"),
        ("parts:\n  - {judge: $other}\n", "E796"),
        ("reference: 'lab:prompts'\nparts:\n  - {judge: 'counter.py:count', normalise: zscore}\n", "E796"),
        ("parts:\n  - {judge: 'nobody'}\n", "E801"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_named(here: Path, text: str, code: str) -> None:
    with pytest.raises(TrueupError) as caught:
        open_judge(write(here / "sum.yaml", text))
    assert caught.value.code == code


def test_a_missing_file_and_a_name_it_does_not_know(here: Path) -> None:
    with pytest.raises(TrueupError, match="E801"):
        open_judge("nowhere.yaml")
    file = write(here / "sum.yaml", "parts:\n  - {judge: 'counter.py:count'}\n")
    with pytest.raises(TrueupError, match=r"E796.*does not speak of \$reward"):
        open_judge(f"{file}?reward=lab:gold")


def test_a_name_stands_for_a_reference(here: Path) -> None:
    file = write(here / "sum.yaml", "parts:\n  - {judge: $reward, weight: 2}\n")
    assert open_judge(f"{file}?reward=counter.py:count")([group("aa")]) == [[4.0]]


def test_a_stage_of_a_recipe_stands_inside_the_sum(here: Path) -> None:
    write(here / "sum.yaml", "parts:\n  - {judge: $reward}\n")
    stages = {
        "reward": {"method": "reward_model"},
        "ppo": {"judge": "sum.yaml?reward=stage:reward"},
    }
    reward, ppo = plan(Recipe(name="r", stages=stages), here / "run")
    assert ppo.inputs == ("reward",)
    assert ppo.config.judge == f"sum.yaml?reward={reward.folder / 'model'}"
    write(here / "sum.yaml", "parts:\n  - {judge: $reward, weight: 2}\n")
    _, again = plan(Recipe(name="r", stages=stages), here / "run")
    assert again.digest != ppo.digest, "another sum is another judge"
