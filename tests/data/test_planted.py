"""What is found of planted personal data, and what is taken for it though it is none."""

from __future__ import annotations

from collections import Counter

from data.planted import ordinary, planted
from trueup.data.personal import find_personal

ITEMS = 2000


def test_planted_pieces_are_found_and_ordinary_sentences_left() -> None:
    planted_num, found, missed = Counter[str](), Counter[str](), []
    for kind, piece, text in planted(ITEMS, seed=11):
        planted_num[kind] += 1
        start = text.index(piece)
        here = [item for item in find_personal(text) if item.start < start + len(piece) and item.end > start]
        # A word before a number leads to it and is not of it.
        whole = (
            text[start : start + len(piece)].removeprefix("call ").removeprefix("Tel. ").removeprefix("电话 ")
        )
        if any(item.kind == kind and text[item.start : item.end] == whole for item in here):
            found[kind] += 1
        else:
            missed.append((kind, piece, text))
    recall = {kind: found[kind] / planted_num[kind] for kind in planted_num}
    assert sum(planted_num.values()) >= 2000
    assert min(recall.values()) >= 0.98, (recall, missed[:20])
    wrong = [text for text in ordinary() if find_personal(text)]
    assert len(ordinary()) == 200
    assert len(wrong) <= 1, wrong
