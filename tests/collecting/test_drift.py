"""Drift: who begins as others do and ends against them is seen, who stays is not."""

from __future__ import annotations

import json

import numpy as np
import pytest

from trueup.collecting.drift import drift


def test_who_turns_is_seen_and_who_stays_is_not() -> None:
    votes = {n: {"ann": "a" if n < 20 else "b", "bob": "a", "cho": "a" if n % 4 else "b"} for n in range(40)}

    def rows(name: str) -> list[dict[str, object]]:
        return [
            {"id": n, "kind": "compare", "purpose": "work", "gold": None, "body": {"choice": votes[n][name]}}
            for n in range(40)
        ]

    turned = drift("ann", rows("ann"), votes)
    # With bob on all of the first half, with cho on three quarters; then with bob on none, cho on a quarter.
    means, change = [q.mean for q in turned["others"]], turned["others_change"]
    assert means == pytest.approx([0.875, 0.875, 0.125, 0.125], abs=0.06)
    assert change.mean == means[3] - means[0] and change.high < -0.5
    assert turned["known_change"] is None and turned["known"] == [None] * 4
    stays = drift("bob", rows("bob"), {n: {"bob": "a", "cho": v["cho"]} for n, v in votes.items()})
    assert not stays["others_change"].excludes(0.0)


def test_known_answers_count_in_the_order_of_the_work() -> None:
    gold = json.dumps({"choice": "a"})
    said = ["a"] * 8 + ["b"] * 8
    rows = [
        {"id": n, "kind": "compare", "purpose": "gold", "gold": gold, "body": {"choice": choice}}
        for n, choice in enumerate(said)
    ]
    found = drift("ann", rows, {})
    assert [q.mean for q in found["known"]] == [1.0, 1.0, 0.0, 0.0]
    assert found["known_change"].mean == -1.0 and found["others_change"] is None
    assert np.isclose(found["known_change"].low, -1.0)
