"""What reward models learn from: orders, what to imitate, quality tags, and mixtures of sources."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eval_stubs import byte_chat
from hand_batches import group
from trueup.engine.groups import Comparison, Group, Message, Ranking, Role, write_jsonl
from trueup.engine.groups import Completion as Text
from trueup.engine.method import Handles
from trueup.errors import TrueupError
from trueup.settings.blocks import DataSettings
from trueup.sources.files import Files, with_pairs
from trueup.sources.judged import binarised, ordered, with_imitate
from trueup.sources.open import open_groups
from trueup.sources.shares import Shares, by_share
from trueup.testing.toys import toy_groups

HANDLES = Handles(networks={}, seed=3)


def test_every_judgement_becomes_a_group_in_order() -> None:
    said = group(
        1,
        2,
        3,
        comparisons=(Comparison(a=0, b=2, choice="b"), Comparison(a=0, b=1, choice="tie")),
        rankings=(Ranking(tiers=((1,), (0, 2))), Ranking(tiers=((0, 1, 2),))),
    )
    pair, ranking = ordered([said])
    assert [(c.num_tokens, c.marks["tier"]) for c in pair.completions] == [(1, 1.0), (3, 0.0)]
    assert [p[:2] for p in pair.pairs()] == [(1, 0)]
    assert [c.marks["tier"] for c in ranking.completions] == [1.0, 0.0, 1.0]
    assert {p[:2] for p in ranking.pairs()} == {(1, 0), (1, 2)}


def test_a_soft_label_is_no_order() -> None:
    soft = group(1, 1, comparisons=(Comparison(a=0, b=1, choice="a", probability=0.7),))
    with pytest.raises(TrueupError, match="E402"):
        ordered([soft])


def test_only_what_was_preferred_and_never_rejected_is_imitated() -> None:
    ranked = group(1, 1, 1, 1, rankings=(Ranking(tiers=((2, 0), (1,))),))
    soft = group(1, 1, comparisons=(Comparison(a=0, b=1, choice="a", probability=0.2),))
    torn = group(1, 1, comparisons=[Comparison(a=0, b=1, choice=c) for c in ("a", "b")])  # pyright: ignore
    marks = [[c.marks["imitate"] for c in g.completions] for g in with_imitate([ranked, soft, torn])]
    assert marks == [[0.5, 0, 0.5, 0], [0, 1], [0, 0]]
    assert len(with_pairs([ranked, group(1, 1)])) == 1


def test_a_pair_becomes_two_comparisons_of_tags() -> None:
    good, bad = np.array([90, 91], np.int32), np.array([92], np.int32)
    said = group(1, 2, rankings=(Ranking(tiers=((1,), (0,))),))
    (tagged,) = binarised([said], good, bad)
    tokens = [c.tokens.tolist() for c in tagged.completions if c.tokens is not None]
    assert tokens == [[90, 91, 1, 2], [92, 1, 2], [92, 1], [90, 91, 1]]
    assert [c.num_supervised for c in tagged.completions] == [2, 2, 1, 1]
    assert [c.marks["imitate"] for c in tagged.completions] == [1, 0, 0, 0]
    assert [tuple(p[:3]) for p in tagged.pairs()] == [(0, 1, 1.0), (2, 3, 1.0)]
    soft = replace(said, rankings=(), comparisons=(Comparison(a=1, b=0, choice="a", probability=0.9),))
    assert [p.label for p in binarised([soft], good, bad)[0].pairs()] == [0.9, 0.9]
    ranking = group(1, 1, 1, rankings=(Ranking(tiers=((0,), (1,), (2,))),))
    assert len(binarised([ranking], good, bad)) == 3


def sources(**sizes: int) -> dict[str, list[Group]]:
    return {
        name: [replace(g, source=name, id=f"{name}{i}") for i, g in enumerate(toy_groups(size))]
        for name, size in sizes.items()
    }


def seen(source: Shares, num_steps: int) -> list[str]:
    return [g.id for step in range(num_steps) for g in source(step, HANDLES)]


def test_all_the_weight_on_one_source_is_that_source() -> None:
    parts = sources(a=5, b=7)
    drawn = seen(Shares(parts=parts, weights={"a": 1, "b": 0}, batch=3), 5)
    assert sorted(drawn) == sorted([g.id for g in parts["a"]] * 3), "three epochs of a, each row once in each"
    assert drawn[:5] != drawn[5:10]


@pytest.mark.parametrize(("power", "share"), [(0.0, 0.5), (0.5, 0.75), (2.0, 81 / 82)])
def test_shares_are_as_the_power_says(power: float, share: float) -> None:
    """n = 9 and 1: n^τ / Σ n^τ is 1/2, 3/4, 81/82 of the draws."""
    parts = sources(a=9, b=1)
    source = by_share([*parts["a"], *parts["b"]], 8, power=power)
    assert isinstance(source, Shares)
    drawn = seen(source, 41)
    assert abs(sum(i.startswith("a") for i in drawn) - share * 41 * 8) < 3
    counts = [drawn.count(g.id) for g in parts["a"]]
    assert max(counts) - min(counts) <= 1, "every row before any row again"


def test_a_step_of_a_mixture_needs_no_earlier_step() -> None:
    source = Shares(parts=sources(a=5, b=3), weights={"a": 2, "b": 1}, batch=4)
    forwards = [[g.id for g in source(step, HANDLES)] for step in range(4)]
    assert [[g.id for g in source(step, HANDLES)] for step in reversed(range(4))] == forwards[::-1]
    assert len(source.groups) == 8


def test_power_one_is_the_plain_walk() -> None:
    parts = sources(a=4, b=2)
    assert isinstance(by_share([*parts["a"], *parts["b"]], 2), Files)
    assert isinstance(by_share(parts["a"], 2, power=0.5), Files)


def test_weights_and_rows_are_checked() -> None:
    for weights in ({"a": -1.0, "b": 2.0}, {"a": 0.0}):
        with pytest.raises(TrueupError, match="E716"):
            Shares(parts=sources(a=1, b=1), weights=weights, batch=1)
    with pytest.raises(TrueupError, match=r"E604.*mix b"):
        Shares(parts={**sources(a=1), "b": []}, weights={"a": 1, "b": 1}, batch=1)


def test_data_settings_name_several_sources(tmp_path: Path) -> None:
    for name, size in (("x", 3), ("y", 2)):
        rows = [
            Group(
                prompt=(Message(Role.USER, f"{name}{i}?"),),
                completions=(Text(text="yes"), Text(text="no")),
                comparisons=(Comparison(a=0, b=1, choice="a"),),
                id=f"{name}{i}",
            )
            for i in range(size)
        ]
        write_jsonl(str(tmp_path / f"{name}.jsonl"), rows)
    with (tmp_path / "y.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"prompt": 3, "completions": 4, "comparisons": 5}\n')
    settings = DataSettings(
        mix={"help": str(tmp_path / "x.jsonl"), "harm": str(tmp_path / "y.jsonl")}, held_out=0, max_bad=0.5
    )
    opened = open_groups(settings, byte_chat(), seed=0, quarantine=tmp_path / "bad.jsonl")
    assert [g.source for g in opened.train] == ["help"] * 3 + ["harm"] * 2
    assert (opened.rows_in, opened.quarantined, opened.format) == (6, 1, "group + group")
    refused = [(tmp_path / f"bad-{part}.jsonl").read_text(encoding="utf-8") for part in (0, 1)]
    assert [len(text.splitlines()) for text in refused] == [0, 1]
