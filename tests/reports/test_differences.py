"""What differs between two replies is marked, whatever they say, in a time that has a bound."""

from __future__ import annotations

import re

import pytest
from markupsafe import Markup

from trueup.reports.differences import MOST_CHARACTERS, cut, differences, marked
from trueup.reports.record import Reply, Sample


def taken(marks: Markup) -> str:
    """What is said here: the text without what is marked as said there, and without marks."""
    return Markup(re.sub(r"<del>.*?</del>|</?ins>", "", str(marks), flags=re.DOTALL)).unescape()


def test_by_hand() -> None:
    found = differences("The cat sat on the mat.\nIt slept.", "A cat sat on the mat. It slept well.")
    assert found == ("<del>A</del><ins>The</ins> cat sat on the mat.\nIt slept<del>well</del>."), (
        "spaces alone are no difference"
    )
    assert differences("the same words", "the same words") == "the same words"
    assert differences("日本語です", "日本です") == "日本<ins>語</ins>です", "words that no space parts"


def test_what_shares_too_little_has_no_marks() -> None:
    assert differences("Nothing of it.", "An altogether other reply!") is None
    assert differences("words", "") is None


@pytest.mark.parametrize(
    "text",
    ["<ins>forged</ins> & </p>", "a\u202eb c", "e\u0301 \U0001f468\u200d\U0001f469 x", "  two\n\n lines\t"],
)
def test_text_is_escaped_and_what_hides_is_written_out(text: str) -> None:
    found = differences(f"{text} one two three four", "zero one two three four")
    assert found is not None
    assert taken(found) == f"{text} one two three four".replace("\u202e", "⟦U+202E⟧").replace(
        "\u200d", "⟦U+200D⟧"
    )
    assert found.count("<ins>") == found.count("</ins>") and "<p" not in found


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("a " * 1500, "a " * 1400),
        ("a b " * 600, "b a " * 600),
        ("x" * 10**6, "y" * 10**6),
        ("e" + "\u0301" * 10**5, "e"),
        (" ".join(str(k % 30) for k in range(530)), " ".join(str(29 - k % 30) for k in range(530))),
    ],
    ids=range(5),
)
def test_what_would_take_long_has_no_marks(text: str, other: str) -> None:
    assert differences(text, other) is None


def test_long_texts_are_compared_as_far_as_they_are_shown() -> None:
    words = " ".join(f"word{k}" for k in range(2000))
    assert len(cut(words)) < MOST_CHARACTERS + 40 and cut(words).endswith(" more characters)")
    found = differences(words, words.replace("word7 ", "other "))
    assert found is not None and "<del>other</del><ins>word7</ins>" in found
    assert found.endswith(f"({len(words) - MOST_CHARACTERS} more characters)")


def test_every_reply_is_marked_against_that_of_one() -> None:
    said = {"sft": "It is two.", "dpo": "It is three.", "ppo": ""}
    replies = {name: Reply(text=text, gold=None, reasons=()) for name, text in said.items()}
    sample = Sample(prompt=(("user", "1 + 1?"),), kind="", replies=replies)
    (found,) = marked([sample], "sft")
    assert found.replies["dpo"].marks == "It is <del>two</del><ins>three</ins>."
    assert found.replies["sft"].marks is None and found.replies["ppo"].marks is None
    assert marked([sample], "absent") == [sample]
