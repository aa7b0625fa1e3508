"""Prompts drawn again until they can teach: what is kept, what is counted, and a stop inside the redraw."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from hand_batches import group, handles
from trueup.annotate.overlong import SoftOverlong
from trueup.annotate.scores import Scores
from trueup.annotate.select import Kept
from trueup.engine.groups import Group
from trueup.engine.loop import fit
from trueup.engine.method import Handles, Method, Parts
from trueup.errors import TrueupError
from trueup.methods import grpo
from trueup.runs import checkpoint
from trueup.runs.keeper import RunKeeper
from trueup.runs.meter import METRICS, Meter
from trueup.settings.blocks import LoopSettings
from trueup.sources.redrawn import Judged, Redrawn
from trueup.sources.sample import Decoding
from trueup.testing.toys import STOP, share_of_even_tokens, tiny_network, toy_groups
from trueup.update.adamw import AdamW


@dataclass(frozen=True)
class Numbered:
    """Two groups of two completions a batch; a group's id is its place in the endless walk."""

    writes = frozenset({"sampled_logprobs"})

    def __call__(self, step: int, handles: Handles) -> list[Group]:
        """Batch number `step`."""
        return [replace(group(1, 1), id=str(2 * step + place)) for place in range(2)]


def split_at(*numbers: int) -> object:
    """A judge that tells the completions of these groups apart, and of no others."""

    def judge(groups: Sequence[Group]) -> list[list[float]]:
        return [[1.0, 0.0] if int(g.id) in numbers else [0.5, 0.5] for g in groups]

    return judge


def redrawn(batch: int, most: int) -> Redrawn:
    return Redrawn(judged=Judged(source=Numbered(), scores=Scores(missing_eos=None)), batch=batch, most=most)


def kept(groups: Sequence[Group]) -> list[str]:
    return [g.id for g in Kept()(list(groups), handles()[0])]


def test_batches_are_drawn_until_enough_groups_are_told_apart() -> None:
    """Informative are 1, 4, 5 and 7; two are wanted: batches 0, 1 and 2 are drawn, 1 and 4 are kept."""
    run, noted = handles(judge=split_at(1, 4, 5, 7))
    groups = redrawn(2, 10)(0, run)
    assert [g.id for g in groups] == ["0", "1", "2", "3", "4", "5"]
    assert kept(groups) == ["1", "4"]
    assert noted["dynamic/batches"] == 3
    assert noted["dynamic/informative"] == 0.5
    assert run.state == {"batches_drawn": 3.0}


def test_the_walk_goes_on_where_the_last_step_stopped() -> None:
    """What was over the number, group 5, is not kept for later: the next step begins with batch 3."""
    run, _ = handles(judge=split_at(1, 4, 5, 7))
    source = redrawn(2, 2)
    assert kept(source(0, run)) == ["1"]
    assert kept(source(1, run)) == ["4", "5"]
    assert run.state == {"batches_drawn": 3.0}


def test_a_step_that_finds_nothing_keeps_its_last_batch() -> None:
    run, noted = handles(judge=split_at())
    assert kept(redrawn(2, 3)(0, run)) == ["4", "5"]
    assert noted["dynamic/informative"] == 0.0


# ------------------------------------------------------------------------------------------ a run of it

PARTS = Parts(groups=toy_groups(9, seed=1), held_out=toy_groups(3, seed=2), decode=str, stop_ids=(STOP,))
CONFIG = grpo.Config(
    num_completions=2,
    decoding=Decoding(max_new_tokens=4),
    algorithm=grpo.Algorithm(max_batches=6, overlong_cache=2, missing_eos=None),
    loop=LoopSettings(steps=4, batch=3, save_every=1, eval_every=2),
    update=AdamW(lr=1e-2),
    minibatch=2,
)


class Killed(Exception):
    """Stands for the end of the process."""


class Fragile:
    """Says only whether the first token is even, so that many groups tie; ends the process at one call."""

    def __init__(self, at: int) -> None:
        self.left = at

    def __call__(self, groups: Sequence[Group]) -> list[list[float]]:
        self.left -= 1
        if self.left == 0:
            raise Killed
        return [[float(round(s)) for s in row] for row in share_of_even_tokens(groups)]


def opened(judge: object) -> tuple[Method, Handles]:
    method = grpo.build(CONFIG, PARTS)
    networks = {n: tiny_network(role.heads, trained=role.trained) for n, role in method.networks.items()}
    return method, Handles(networks=networks, judge=judge)  # pyright: ignore[reportArgumentType]


def train(folder: Path, judge: object) -> dict[str, object]:
    """How the run ends: digests, state, and its lines."""
    method, run = opened(judge)
    meter = Meter(folder)
    keeper = RunKeeper(
        folder, method=method, settings=CONFIG.loop, meter=meter, num_steps=4, stop_requested=lambda: ""
    )
    try:
        ended = fit(method, run, num_steps=4, groups_per_step=3, keeper=keeper)
    finally:
        meter.close()
    last = checkpoint.latest(folder / "checkpoints")
    assert last is not None
    sums = {file: facts["sha256"] for file, facts in last.files.items()}
    return {
        "files": sums,
        "lines": (folder / METRICS).read_text(encoding="utf-8"),
        "sampled": ended.tokens_sampled,
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    return train(tmp_path_factory.mktemp("whole"), Fragile(0))


def test_a_run_draws_more_than_a_batch_somewhere(whole: dict[str, object]) -> None:
    lines = [json.loads(line) for line in str(whole["lines"]).splitlines()]
    train_lines = [line for line in lines if line["phase"] == "train"]
    assert max(line["dynamic/batches"] for line in train_lines) > 1
    assert all("dynamic/batches" not in line for line in lines if line["phase"] == "eval")
    assert all(-1 <= line["overlong/penalty"] <= 0 for line in train_lines)


@pytest.mark.parametrize("call", range(1, 12))
def test_killed_inside_the_redraw_it_ends_at_the_same_bits(
    call: int, whole: dict[str, object], tmp_path: Path
) -> None:
    with contextlib.suppress(Killed):
        train(tmp_path, Fragile(call))
    assert train(tmp_path, Fragile(0)) == whole


def test_what_was_drawn_and_dropped_is_counted_as_sampled(whole: dict[str, object]) -> None:
    """Every completion of every batch, by hand from the judge's side."""
    seen: list[int] = []

    class Counting(Fragile):
        def __call__(self, groups: Sequence[Group]) -> list[list[float]]:
            seen.append(sum(c.num_tokens for g in groups for c in g.completions))
            return super().__call__(groups)

    method, run = opened(Counting(0))
    ended = fit(method, run, num_steps=4, groups_per_step=3)
    assert ended.tokens_sampled == sum(seen) == whole["sampled"]
    assert run.state["batches_drawn"] == len(seen) > 4


# ------------------------------------------------------------------------------------------ soft overlong


def test_a_penalty_on_every_length_is_refused() -> None:
    with pytest.raises(TrueupError, match=r"E443.*4 tokens of penalty leave none of 4"):
        grpo.build(replace(CONFIG, algorithm=grpo.Algorithm(overlong_cache=4)), PARTS)


@pytest.mark.parametrize(
    ("length", "penalty"), [(1, 0.0), (12, 0.0), (13, -0.25), (14, -0.5), (16, -1.0), (20, -1.0)]
)
def test_the_soft_penalty_by_hand(length: int, penalty: float) -> None:
    """Limit 16, the last 4 tokens cost: 0 up to 12, then a quarter a token, −1 at 16 and beyond."""
    run, noted = handles()
    made = group(length, 1, marks=[{"score": 0.7}, {"score": 0.2}])
    (out,) = SoftOverlong(longest=16, cache=4)([made], run)
    assert [c.marks["score"] for c in out.completions] == [pytest.approx(0.7 + penalty), 0.2]
    assert noted == {"overlong/penalty": pytest.approx(penalty / 2)}
