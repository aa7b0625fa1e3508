"""What the loop does in which order, on networks with known numbers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

import pytest
import torch

from trueup.engine.groups import Group
from trueup.engine.loop import Progress, Step, fit, num_updates, plan
from trueup.engine.method import Handles, Method, Minibatch, Network
from trueup.engine.order import draw, spans
from trueup.engine.reduce import mean_metrics
from trueup.errors import TrueupError
from trueup.objectives.likelihood import NLL
from trueup.sources.files import Files
from trueup.testing.toys import StandIn, toy_groups
from trueup.update.adamw import AdamW


@dataclass(eq=False)
class Watching:
    """An update rule that learns nothing and notes the groups of each minibatch."""

    seen: list[list[str]] = field(default_factory=list)

    def start(self, networks: dict[str, Network], num_updates: int) -> Watching:
        self.expected = num_updates
        return self

    def step(self, minibatch: Minibatch) -> dict[str, float]:
        assert isinstance(minibatch, Step)
        self.seen.append([g.id for g in minibatch.groups])
        return {"lr": float(len(self.seen))}


def method(update: object, **parts: object) -> Method:
    made = {"source": Files(groups=toy_groups(10), batch=6), "objective": NLL(), **parts}
    return Method(name="watched", update=update, **made)  # pyright: ignore


@pytest.mark.parametrize("epochs", [1, 2, 3, 0.5, 1.5, 0.01])
@pytest.mark.parametrize("batch", [1, 3, 4, 10, 32])
def test_an_epoch_shows_every_row_once(batch: int, epochs: float) -> None:
    """Of 10 rows: no batch reaches into the next epoch, and the last of each is what is left."""
    sizes = spans(10, batch, epochs)
    steps = [draw(10, batch, step, 7, epochs) for step in range(len(sizes))]
    assert [len(rows) for rows in steps] == sizes and max(sizes) <= batch
    seen = [row for rows in steps for row in rows]
    assert len(seen) == max(1, round(10 * epochs))
    for start in range(0, len(seen), 10):
        epoch = seen[start : start + 10]
        assert len(set(epoch)) == len(epoch)
    assert len(sizes) == int(epochs) * -(-10 // batch) + -(-round(epochs % 1 * 10) // batch) or epochs == 0.01


def test_by_hand_an_epoch_of_ten_in_batches_of_four() -> None:
    assert spans(10, 4, 2) == [4, 4, 2, 4, 4, 2]
    assert spans(10, 4, 1.5) == [4, 4, 2, 4, 1]
    assert spans(10, 32, 3) == [10, 10, 10]
    # The walk is the one that steps see too: with whole batches in each epoch nothing changes.
    assert [draw(12, 4, k, 3, 2.0) for k in range(6)] == [draw(12, 4, k, 3) for k in range(6)]


def test_a_run_of_epochs_learns_from_every_row_once_an_epoch_and_its_schedule_ends_with_it() -> None:
    watching = Watching()
    sizes = spans(10, 6, 2)
    chain = method(watching, minibatch=4)
    fit(chain, replace(HANDLES, epochs=2), num_steps=len(sizes), groups_per_step=sizes)
    # Steps of 6 and 4 rows in minibatches of 4: 2 updates and 1, twice.
    assert [len(ids) for ids in watching.seen] == [4, 2, 4, 4, 2, 4]
    assert watching.expected == len(watching.seen) == 6
    seen = [i for ids in watching.seen for i in ids]
    assert len(set(seen[:10])) == len(set(seen[10:])) == 10


HANDLES = Handles(networks={"policy": StandIn()}, dtype=torch.float64)


def test_every_epoch_visits_every_group_of_the_step_once_in_a_fresh_order() -> None:
    watching = Watching()
    progress = fit(method(watching, epochs=2, minibatch=4), HANDLES, num_steps=3, groups_per_step=6)
    assert [len(ids) for ids in watching.seen] == [4, 2] * 6
    assert watching.expected == len(watching.seen) == 12
    epochs = [a + b for a, b in zip(watching.seen[::2], watching.seen[1::2], strict=True)]
    for first, second in zip(epochs[::2], epochs[1::2], strict=True):
        assert sorted(first) == sorted(second)
    assert len({tuple(e) for e in epochs}) == 6
    # 3 steps of 6 over 10 groups: the first 10 visits are one pass over the data.
    visits = [i for epoch in epochs[::2] for i in epoch]
    assert max(Counter(visits).values()) == 2
    assert progress.step == 3
    assert progress.buffer == []


def test_the_order_is_a_function_of_the_seed() -> None:
    def order(seed: int) -> list[list[str]]:
        watching = Watching()
        fit(method(watching, minibatch=2), replace(HANDLES, seed=seed), num_steps=2, groups_per_step=6)
        return watching.seen

    assert order(0) == order(0) != order(1)


@pytest.mark.parametrize(
    ("size", "epochs", "expected"), [(None, 1, 5), (4, 1, 10), (4, 3, 30), (6, 2, 10), (1, 1, 30)]
)
def test_how_many_updates_a_run_makes(size: int | None, epochs: int, expected: int) -> None:
    chain = method(AdamW(lr=1e-4), minibatch=size, epochs=epochs)
    assert num_updates(chain, num_steps=5, groups_per_step=6) == expected
    assert 5 * len(plan(6, chain, 0, 0)) == expected


def test_a_steps_numbers_are_means_over_its_updates_and_stages() -> None:
    assert mean_metrics([{"a": 1.0}, {"a": 3.0, "b": 5.0}]) == {"a": 2.0, "b": 5.0}
    seen: list[dict[str, float]] = []

    def noted(groups: list[Group], handles: Handles) -> list[Group]:
        handles.record({"stage": 7.0})
        return groups

    def progressed(_: Progress, metrics: object) -> None:
        seen.append(dict(metrics))  # pyright: ignore

    stage = type(
        "Noting", (), {"reads": frozenset(), "writes": frozenset(), "__call__": lambda s, g, h: noted(g, h)}
    )()
    chain = method(Watching(), minibatch=2, annotate=(stage,))
    fit(chain, HANDLES, num_steps=2, groups_per_step=6, progressed=progressed)
    assert seen == [{"stage": 7.0, "lr": 2.0}, {"stage": 7.0, "lr": 5.0}]


def test_means_inside_groups() -> None:
    """`by_group` gives one number for each group with entries; their size-weighted mean is the whole's."""
    from trueup.objectives.reward_model import BradleyTerry

    chain = method(AdamW(lr=1e-4), objective=BradleyTerry())
    handles = Handles(networks={"reward": StandIn()}, dtype=torch.float64, microbatch_tokens=48)
    step = Step(chain, handles, toy_groups(7))
    means, whole = step.by_group(), step.evaluate()
    assert len(means["accuracy"]) == 7
    assert sum(means["accuracy"]) / 7 == pytest.approx(whole["accuracy"])
    sizes = [len(g.completions) for g in toy_groups(7)]
    weighted = sum(m * n for m, n in zip(means["score"], sizes, strict=True)) / sum(sizes)
    assert weighted == pytest.approx(whole["score"])


def test_a_source_without_groups_is_an_error_for_people() -> None:
    with pytest.raises(TrueupError):
        fit(method(AdamW(lr=1e-4), source=Files(groups=[], batch=2)), HANDLES, num_steps=1, groups_per_step=2)
