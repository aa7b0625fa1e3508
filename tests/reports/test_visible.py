"""No character that hides, reorders or controls text gets through unseen."""

from __future__ import annotations

import sys
import unicodedata

import pytest

from trueup.reports.visible import visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\u202eb", "a⟦U+202E⟧b"),
        ("a\u200bb\u2066c", "a⟦U+200B⟧b⟦U+2066⟧c"),
        ("\x1b[31mred", "⟦U+001B⟧[31mred"),
        ("\x00\x7f\x85", "⟦U+0000⟧⟦U+007F⟧⟦U+0085⟧"),
        ("one\r\ntwo\rthree\tfour", "one\ntwo⟦U+000D⟧three\tfour"),
        ("\ud800", "⟦U+D800⟧"),
        ("\U000e0041\ufe0d", "⟦U+E0041⟧⟦U+FE0D⟧"),
        ("\u3164\u2800", "⟦U+3164⟧⟦U+2800⟧"),
    ],
)
def test_hidden_characters_are_written_out(text: str, shown: str) -> None:
    assert visible(text) == shown


@pytest.mark.parametrize(
    "text", ["", "plain\ntext", "naïve Ωmega 漢字 עברית العربية", "½ − ≤ \u202f\u00a0", "❤️ 👍"]
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert visible(text) == text


def test_no_format_or_control_character_survives() -> None:
    hidden = [c for c in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(c) in ("Cf", "Cc", "Cs")]
    left = set(visible("".join(hidden))) & set(hidden)
    assert left == {"\n", "\t"}
