"""The harness's own figures: paired by item where its record of the items gives them."""

from __future__ import annotations

from typing import Any

import pytest

from trueup.errors import TrueupError
from trueup.evals.figures import figure_items, figure_rows, figures_of


def sample(place: int, cut: int = 0, **metrics: Any) -> dict[str, Any]:
    """A record as the harness writes it, with `tokens_cut`."""
    record = {"doc_id": place, "doc_hash": f"h{place}", "filter": "none", "doc": {"q": place}, "target": 0}
    return record | {"filtered_resps": [], "metrics": list(metrics), "tokens_cut": cut} | metrics


def results(samples: list[dict[str, Any]], **metrics: float) -> dict[str, Any]:
    return {
        "results": {"t": {"alias": "t", **{f"{name},none": value for name, value in metrics.items()}}},
        "versions": {"t": 1.0},
        "n-samples": {"t": {"effective": len(samples)}},
        "higher_is_better": {"t": {"acc": True, "loss": False, "ppl": False}},
    }


OURS = [sample(i, cut=7 * (i == 3), acc=float(i < 6), loss=1.0, ppl=(2.0, 3)) for i in range(8)]
THEIRS = [sample(i, acc=float(i < 2), loss=2.0 + 0.01 * i, ppl=(2.0, 3)) for i in range(8)]


def both(theirs: list[dict[str, Any]] = THEIRS) -> list[dict[str, Any]]:
    ours = figures_of(results(OURS, acc=0.75, loss=1.0, ppl=9.0), {"t": OURS})
    other = figures_of(results(theirs, acc=0.25, loss=2.035, ppl=8.0), {"t": theirs})
    return figure_rows(ours, other, context=512, against_context=256)


def test_differences_are_paired_by_item_and_smaller_may_be_better() -> None:
    acc, loss, _ = both()
    # Four of eight items are gained and none is lost.
    assert acc["difference"]["mean"] == 0.5 and acc["difference"]["n"] == 8
    assert acc["difference"]["verdict"] == "bonus" and 0 < acc["difference"]["ci95"][0] < 0.5
    assert loss["difference"]["mean"] == pytest.approx(-1.035) and loss["difference"]["verdict"] == "bonus"
    assert (acc["cut"], acc["against_cut"]) == ({"items": 1, "context": 512}, {"items": 0, "context": 256})


def test_a_figure_that_is_no_mean_of_items_stands_unpaired() -> None:
    ppl = both()[2]
    assert (ppl["value"]["mean"], ppl["against"]["mean"], ppl["difference"]) == (9.0, 8.0, None)
    assert ppl["value"]["ci95"] is None
    (alone,) = figure_rows(figures_of(results(OURS, acc=0.5), {"t": OURS}))
    assert alone["value"]["ci95"] is None, "the values' mean is 0.75, so the figure is something else"


def test_other_items_are_not_paired() -> None:
    with pytest.raises(TrueupError, match=r"E826 task t"):
        both([{**row, "doc_hash": "other"} for row in THEIRS])


def test_every_item_is_written_with_both_models_values() -> None:
    lines = figure_items({"t": OURS}, {"t": THEIRS})["t"]
    assert [line["values"]["acc"] - line["against_values"]["acc"] for line in lines] == [
        0,
        0,
        1,
        1,
        1,
        1,
        0,
        0,
    ]
    assert lines[3]["tokens_cut"] == 7 and "tokens_cut" not in lines[0] and lines[1]["row"] == {"q": 1}
