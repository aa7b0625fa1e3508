"""Training on a real pretrained model and real human preferences, through the public functions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shared_data import shared
from trueup import fit

STEPS = {"loop": {"steps": 3, "batch": 4}}


def _model() -> dict[str, str]:
    return {"path": str(shared("stories260K")), "template": "hh"}


def _accounted(folder: Path, rows: int) -> dict[str, int]:
    """The account of the rows: every one is trained on, held out, bad, or too long."""
    counts = json.loads((folder / "data.json").read_text())
    parts = ("train", "held_out", "quarantined", "overlong")
    assert counts["rows_in"] == rows == sum(counts[part] for part in parts)
    return counts


@pytest.mark.parametrize("method", ["sft", "reward_model", "dpo"])
def test_human_dialogues_train_a_real_model(method: str, tmp_path: Path) -> None:
    data = {"path": str(shared("hh_harmless/test_first_half.jsonl.gz")), "held_out": 0.1}
    trained = fit(method, out=tmp_path, model=_model(), data=data, **STEPS)
    counts = _accounted(tmp_path, 1156)
    assert counts["quarantined"] == 6
    assert counts["overlong"] > 0 and counts["truncated"] == 0
    accuracy = {"reward_model": "accuracy", "dpo": "rewards/accuracies"}.get(method)
    if accuracy:
        estimate = trained.held_out[accuracy]
        assert estimate.n > 20
        assert 0 <= estimate.low <= estimate.mean <= estimate.high <= 1


def test_human_rankings_of_four_train_a_reward_model(tmp_path: Path) -> None:
    data = {"path": str(shared("qa_feedback/dev_feedback.jsonl.gz")), "held_out": 0.3, "max_tokens": 512}
    model = {**_model(), "template": "plain"}
    trained = fit("reward_model", out=tmp_path, model=model, data=data, **STEPS)
    counts = _accounted(tmp_path, 500)
    assert counts["quarantined"] == 0
    assert trained.held_out["accuracy"].n > 0
