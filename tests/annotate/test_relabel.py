"""Hindsight by hand: who stands after which instruction."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from hand_batches import group, handles
from trueup.annotate.relabel import Relabel
from trueup.engine.groups import Group
from trueup.engine.packing import pack
from trueup.errors import TrueupError


def always(*ids: int) -> Callable[[Group], np.ndarray]:
    return lambda _: np.array(ids, np.int32)


def told(*scores: float, threshold: float | None = None) -> tuple[Group, dict[str, float]]:
    """A group of two-token completions (1, 2) relabelled: the question is 40 41, good is 50, bad is 60 61."""
    run, noted = handles()
    made = group(*([2] * len(scores)), marks=[{"score": s} for s in scores])
    stage = Relabel(good=always(40, 41, 50), bad=always(40, 41, 60, 61), threshold=threshold)
    (out,) = stage([made], run)
    return out, noted


def test_each_completion_stands_after_what_it_satisfied_and_then_after_the_opposite() -> None:
    """Scores 1 and 0, threshold ½: pairs (good, bad) of the first and (bad, good) of the second."""
    out, noted = told(1, 0, threshold=0.5)
    assert out.prompt_tokens is not None and out.prompt_tokens.tolist() == [40, 41]
    tokens = [c.tokens.tolist() for c in out.completions if c.tokens is not None]
    assert tokens == [[50, 1, 2], [60, 61, 1, 2], [60, 61, 1, 2], [50, 1, 2]]
    touched = [c.supervised.tolist() for c in out.completions if c.supervised is not None]
    after_good, after_bad = [False, True, True], [False, False, True, True]
    assert touched == [after_good, after_bad, after_bad, after_good]
    assert [(p.chosen, p.rejected, p.label) for p in out.pairs()] == [(0, 1, 1.0), (2, 3, 1.0)]
    assert noted == {"good_rate": 0.5}


def test_supervised_tokens_are_the_completions_own() -> None:
    out, _ = told(1, 0, threshold=0.5)
    batch = pack([out])
    assert batch.targets.tolist() == [1, 2] * 4
    assert batch.tokens[batch.at].tolist() == [50, 1, 61, 1, 61, 1, 50, 1]


@pytest.mark.parametrize(
    ("scores", "threshold", "share"),
    [
        ((0, 0, 1, 1, 1), None, 3 / 5),  # the mean .6 parts a judge of two levels; the median would not
        ((0.1, 0.1, 0.1), None, 1.0),  # their mean rounds to above .1
        ((2, 4, 9), None, 1 / 3),
        ((2, 4, 9), 4.0, 2 / 3),
        ((2, 4, 9), 10.0, 0.0),
    ],
)
def test_a_told_pair_satisfies_its_own_check(
    scores: tuple[float, ...], threshold: float | None, share: float
) -> None:
    out, noted = told(*scores, threshold=threshold)
    assert noted["good_rate"] == pytest.approx(share)
    used = np.mean(scores) if threshold is None else threshold
    for pair in out.pairs():
        first = out.completions[pair.chosen]
        assert first.tokens is not None
        says_good = first.tokens[0] == 50
        assert says_good == (first.marks["score"] >= used - 1e-12)


def test_what_was_cut_off_does_not_lower_the_threshold() -> None:
    """Of .4, .6 and −.6 (cut off) the mean of those that ended is .5; the mean of all would call .4 good."""
    run, noted = handles()
    marks = [{"score": s} for s in (0.4, 0.6, -0.6)]
    stage = Relabel(good=always(40, 50), bad=always(40, 60), threshold=None)
    stage([group(2, 2, 2, marks=marks, finished=[True, True, False])], run)
    assert noted == {"good_rate": pytest.approx(1 / 3)}
    stage([group(2, 2, marks=marks[1:], finished=[False, False])], run)
    assert noted["good_rate"] == 0.5, "where none ended all count"


def test_prompts_without_a_common_beginning_are_refused() -> None:
    stage = Relabel(good=always(1, 2), bad=always(3, 2), threshold=0.0)
    with pytest.raises(TrueupError, match="no first token in common"):
        stage([group(1, marks=[{"score": 1.0}])], handles()[0])
