"""The scripted arena of these tests."""

from __future__ import annotations

from pathlib import Path

import pytest

import small_world
from battles.arena import Arena, Comparer, Model
from trueup.battles import answers, judging


@pytest.fixture
def arena(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Arena:
    """A folder with 40 prompts, in which models and the judge `lm:stub` are scripted."""
    here = Arena(home=tmp_path)
    small_world.write(tmp_path / "prompts.jsonl", small_world.prompts(40))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("trueup.commands.battle.check_models", lambda *references: None)
    monkeypatch.setattr("trueup.commands.battle.check_judge", lambda reference: None)

    def open_answerer(reference: str, **_: object) -> Model:
        return Model(name=Path(reference).name, asked=here.answered, dies_at=here.model_dies_at)

    def open_pairwise(reference: str) -> Comparer:
        return Comparer(asked=here.judged, always_first=here.always_first, dies_at=here.judge_dies_at)

    monkeypatch.setattr(answers, "open_answerer", open_answerer)
    monkeypatch.setattr(judging, "open_pairwise", open_pairwise)
    return here
