"""Words of any script."""

from __future__ import annotations

import pytest

from trueup.data.similar import near_duplicates
from trueup.data.words import spaced, words


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Hello, wörld_x: don't!", ["hello", "wörld", "x", "don", "t"]),
        ("मेरा नाम हिन्दी है।", ["मेरा", "नाम", "हिन्दी", "है"]),
        ("Привет, МИР", ["привет", "мир"]),
        ("مرحبا بالعالم", ["مرحبا", "بالعالم"]),
        ("한국어 문장", ["한국어", "문장"]),
        ("我爱AI和北京。", ["我", "爱", "ai", "和", "北", "京"]),
        ("ひらがなｶﾅ", ["ひ", "ら", "が", "な", "カ", "ナ"]),
        ("ที่นี่", ["ที่", "นี่"]),
        ("e\u0301t\u00e9", ["été"]),
        ("?! _ -", []),
    ],
)
def test_words_by_hand(text: str, found: list[str]) -> None:
    assert list(words(text)) == found


def test_texts_without_spaces_have_near_duplicates_too() -> None:
    assert spaced("a北京 b").split() == ["a", "北", "京", "b"]
    texts = [
        "我今天在北京的公园里看到了一只白色的猫",
        "我昨天在北京的公园里看到了一只白色的猫",
        "水为什么会结冰",
    ]
    assert [(i, j) for i, j, _ in near_duplicates(texts, threshold=0.6, num_words=2)] == [(0, 1)]
