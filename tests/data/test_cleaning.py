"""Prompts cleaned in one pass and split by user: what leaves, why, and that everything is counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import small_world
from trueup.cli import main
from trueup.data.cleaning import Hygiene, clean
from trueup.engine.groups import Completion, Group, Message, Role, read_jsonl
from trueup.errors import TrueupError
from trueup.procedures import clean_prompts
from trueup.runs.done import read_done
from trueup.settings.blocks import DataSettings

SENTENCE = "please tell me how many of the {} birds that live beside the river can sing at night"
WORDS = [
    f"{first}{second}"
    for first in ("red", "blue", "old", "kind")
    for second in ("ly", "ish", "er", "est", "")
][:19]


def asked(text: str, user: str = "", place: int = 0) -> Group:
    return Group(prompt=(Message(Role.USER, text),), user=user, id=f"row-{place}")


def test_everything_that_leaves_is_counted_once() -> None:
    """Three say personal data, two repeat, one nearly repeats, and of five of one user three stay."""
    groups = [
        asked("write to ann@example.org", "a"),
        asked("write to ann@example.org", "b"),
        asked("call +44 20 7946 0123", "a"),
        asked("why is the sky blue", "a"),
        asked("why is the sky blue", "b"),
        asked("why is the sky blue", "c"),
        asked("WHY is the sky blue?!", "d"),
        *[asked(f"what does the word {word} mean", "busy") for word in WORDS[:5]],
    ]
    found = clean(groups, Hygiene(per_user=3), seed=1)
    assert found.dropped == {
        "personal data: email": 2,
        "personal data: phone": 1,
        "shared prefix": 2,
        "near-duplicate": 1,
        "over the cap of its user": 2,
    }
    assert found.num_in == 12 and len(found.groups) == 4
    again = clean(found.groups, Hygiene(per_user=3), seed=1)
    assert again.groups == found.groups and not again.dropped
    assert len(clean(groups, Hygiene(per_user=3, near=None, personal="ignore"), seed=1).groups) == 7


def test_personal_data_is_replaced_or_named() -> None:
    group = asked("write to ann@example.org").with_completions([Completion(text="or to 203.0.113.7")])
    (redacted,) = clean([group], Hygiene(personal="redact")).groups
    assert redacted.prompt[0].content == "write to [email]" and redacted.completions[0].text == "or to [ip]"
    flagged = clean([group, asked("hello there")], Hygiene(personal="flag"))
    assert [g.meta for g in flagged.groups] == [{"personal": ["email", "ip"]}, {}] and flagged.marked == 1


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rows: list[dict[str, Any]] = [
        {"prompt": SENTENCE.format(word), "user": f"user-{i % 10}"} for i, word in enumerate(WORDS)
    ]
    small_world.write(tmp_path / "prompts.jsonl", [*rows, rows[0], {"prompt": 3}])
    shown = [
        {"prompt": SENTENCE.format("red"), "completion": "ten", "user": "writer"},
        {"prompt": "what is the capital of France", "completion": "Paris", "user": "user-1"},
    ]
    small_world.write(tmp_path / "demos.jsonl", shown)
    return tmp_path


def test_a_stage_splits_by_user_and_leaves_out_who_demonstrated(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of 19 sentences "red" is a demonstration's, and "blue" and one more are those of its user."""
    command = [
        "train",
        "clean_prompts",
        "--data.path",
        "prompts.jsonl",
        "--demonstrations.path",
        "demos.jsonl",
    ]
    command += ["--shares.reward", "0.5", "--shares.ppo", "0.5", "--shares.sft", "0", "--hygiene.near", "1.0"]
    assert main([*command, "--data.max_bad", "0.1", "--out", "run"]) == 0, capsys.readouterr().err
    found = read_done(here / "run").metrics
    splits = {name: read_jsonl(str(here / "run" / f"{name}.jsonl")) for name in ("reward", "ppo", "sft")}
    assert not splits["sft"] and splits["reward"] and splits["ppo"]
    users = [{g.user for g in groups} for groups in splits.values()]
    assert not users[0] & users[1] and "user-1" not in users[0] | users[1]
    assert found["rows_in"] == 21 and found["quarantined"] == 1
    assert found["dropped/shared prefix"] == 1 and found["dropped/asked in a demonstration"] == 1
    assert found["dropped/its user is in the demonstrations"] == 2
    assert found["kept"] == 16 == found["split/reward"] + found["split/ppo"]
    assert found["demonstrations/kept"] == 2
    assert [g.completions[0].text for g in read_jsonl(str(here / "run" / "demonstrations.jsonl"))] == [
        "ten",
        "Paris",
    ]
    assert all(not g.completions for g in read_jsonl(str(here / "run" / "prompts.jsonl")))


def test_a_split_without_prompts_is_refused(here: Path) -> None:
    config = clean_prompts.Config(
        data=DataSettings(path="demos.jsonl", held_out=0), shares={"a": 0.4, "b": 0.3, "c": 0.3}
    )
    with pytest.raises(
        TrueupError, match=r"E825 shares — no prompt for .*: 2 prompts of 2 users are left of 2"
    ):
        clean_prompts.run(config, here, stop_requested=str)
    with pytest.raises(ValueError, match="cannot name a split 'prompts'"):
        clean_prompts.Config(shares={"prompts": 1.0})
