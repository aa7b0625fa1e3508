"""Held-out rows of a large file are evaluated where they lie: the numbers of memory, few held at once."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from data_rows import good_lines
from eval_stubs import byte_chat, tiny_model
from trueup.engine import room
from trueup.engine.batch import Batch
from trueup.engine.groups import Group
from trueup.engine.method import Handles, Method, Parts
from trueup.engine.packing import pack
from trueup.engine.views import View
from trueup.methods import dpo, kto, reward_model, rrhf, sft
from trueup.runs.keeper import evaluate, held_out_step
from trueup.settings.blocks import DataSettings
from trueup.sources import kept
from trueup.sources.open import open_groups

ROWS = 200


@pytest.mark.parametrize(
    "module",
    # KTO's chain has DPO's in it; what SFT and reward models evaluate passes no annotator.
    [kto, *(pytest.param(module, marks=pytest.mark.slow) for module in (rrhf, sft, dpo, reward_model))],
)
def test_held_out_rows_are_evaluated_where_they_lie(
    module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of those who say more than a loss: a reference, a baseline over all of them, an order of theirs."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"".join(good_lines("preference", ROWS)))

    def made() -> Method:
        chat = byte_chat()
        opened = open_groups(DataSettings(path=str(path), held_out=0.5), chat, seed=0)
        parts = Parts(
            groups=opened.train, held_out=opened.held_out, decode=chat.decode, stop_ids=chat.stop_ids
        )
        return module.build(module.Config(), parts)

    policy, other = tiny_model(0), tiny_model(1)
    handles = Handles(
        networks={"policy": policy, "reward": policy, "reference": other}, seed=0, microbatch_tokens=256
    )
    alive: list[int] = []

    def counted(groups: Sequence[Group]) -> Batch:
        looks = len(alive) % 32 == 0
        if looks:
            gc.collect()
        alive.append(sum(type(item) is Group for item in gc.get_objects()) if looks else 0)
        return pack(groups)

    in_memory = made()
    expected = evaluate(in_memory, handles)
    by_group = held_out_step(in_memory, handles, {})
    assert expected["loss"] > 0 and by_group is not None
    each = by_group.by_group()
    del in_memory, by_group
    monkeypatch.setattr(kept, "SMALL", 0)
    monkeypatch.setattr(room, "pack", counted)
    gc.collect()
    before = sum(type(item) is Group for item in gc.get_objects())
    method = made()
    assert evaluate(method, handles) == expected
    step = held_out_step(method, handles, {})
    assert step is not None and isinstance(step.groups, View) and len(step.groups) > ROWS / 3
    assert step.by_group() == each
    assert len(alive) > 16 and max(alive) - before < ROWS / 6
