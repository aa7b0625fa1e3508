"""The order of rows: a function of the seed and of counters, from any place, in any batches."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from itertools import chain

import pytest

from trueup.engine.order import draw, permutation, spans

ROWS, EPOCHS, SEED = 1009, 3, 7
WALK = [int(row) for epoch in range(EPOCHS) for row in permutation(ROWS, SEED, "epoch", epoch)]
"Every row once an epoch, in an order of its own."


def test_every_epoch_has_every_row_once_in_another_order() -> None:
    epochs = [WALK[e * ROWS : (e + 1) * ROWS] for e in range(EPOCHS)]
    assert all(sorted(epoch) == list(range(ROWS)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == EPOCHS


@pytest.mark.parametrize("batch", [3, 7, 64, 1009, 3027])
def test_batches_cut_the_walk_and_change_nothing_of_it(batch: int) -> None:
    """Without epochs a batch goes on across their ends; with them it ends there; the rows are the same."""
    steps = -(-len(WALK) // batch)
    endless = list(chain.from_iterable(draw(ROWS, batch, step, SEED) for step in range(steps)))
    assert endless[: len(WALK)] == WALK
    counted = range(len(spans(ROWS, batch, EPOCHS)))
    assert list(chain.from_iterable(draw(ROWS, batch, step, SEED, EPOCHS) for step in counted)) == WALK


def test_a_walk_taken_up_at_every_seventh_row_is_the_walk() -> None:
    """Whoever goes on asks for a later step and for none before it."""
    for start in range(0, len(WALK) - 6, 7):
        assert draw(ROWS, 7, start // 7, SEED) == WALK[start : start + 7]


def test_another_process_under_another_hash_seed_draws_the_same() -> None:
    code = (
        "from trueup.engine.order import draw\nimport hashlib\n"
        f"rows = [row for step in range(20) for row in draw({ROWS}, 100, step, {SEED})]\n"
        "print(hashlib.sha256(repr(rows).encode()).hexdigest())"
    )
    wanted = hashlib.sha256(repr(WALK[:2000]).encode()).hexdigest()
    environment = {"PYTHONHASHSEED": "12345", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == wanted, done.stderr


def test_the_first_rows_are_those_they_always_were() -> None:
    """Written down once: another version of numpy that drew otherwise would make every run another one."""
    assert WALK[:8] == [9, 750, 375, 625, 347, 662, 273, 275]
