"""SELF-ALIGN's quick recipe with its models behind servers: the rows of the models in this process."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from answerers.worlds import process, rows_of, run_quick, weights_of


@pytest.mark.slow  # Two servers are started, and the quick recipe runs twice, trainings and all.
def test_the_quick_recipe_gives_the_same_rows_behind_servers(tmp_path: Path) -> None:
    """The base writes tasks and answers; the model engraved by them, trained here, answers at length."""
    greedy = {"greedy": True, "max_new_tokens": 32}
    asked = ("tasks", "answers", "verbose")
    changes = {stage: {"decoding": greedy} for stage in asked}
    near = run_quick("self-align/quick", changes, tmp_path / "near")
    with process("lab:base") as (base, _):
        served = {stage: {"decoding": greedy, "model": f"{base}&cache=off"} for stage in asked[:2]}
        engraved = run_quick("self-align/quick", served, tmp_path / "far", until="engrave")["engrave"]
    with process(str(engraved.folder / "model")) as (ref, _):
        served["verbose"] = {"decoding": greedy, "model": f"{ref}&cache=off"}
        far = run_quick("self-align/quick", served, tmp_path / "far")
    for name in asked:
        assert rows_of(near[name]) == rows_of(far[name]) and len(rows_of(near[name])) > 2
    for name in ("engrave", "clone"):
        mine, theirs = weights_of(near[name]), weights_of(far[name])
        assert all(torch.equal(mine[key], theirs[key]) for key in mine)
    assert near["measure"].folder.name != far["measure"].folder.name
    said = [(run["measure"].folder / "measured.json").read_bytes() for run in (near, far)]
    assert said[0] == said[1]
