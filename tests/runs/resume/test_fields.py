"""No part of a checkpoint can go missing silently: without any one of them, resuming fails and names it."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import pytest

from runs.resume.made_runs import make
from trueup.errors import TrueupError
from trueup.runs import checkpoint
from trueup.runs.keeper import RunKeeper
from trueup.runs.meter import Meter
from trueup.runs.signals import Interrupted

STEMS = ("policy", "value", "optimizer")
DOCUMENTS = ("run", "rule", "state", "best", "names")


@pytest.fixture(autouse=True)
def no_syncs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of checkpoints are written here, and none must outlive a power cut."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """What the checkpoint of a PPO run holds that stopped inside a step."""
    folder = tmp_path_factory.mktemp("ppo")
    with pytest.raises(Interrupted):
        make("ppo", folder, best="eval/reward", eval_every=1).go(stop_after=6)
    found = checkpoint.latest(folder / "checkpoints")
    assert found is not None
    assert {name.partition(".")[0] for name in found.files} == {*STEMS, *DOCUMENTS, "groups"}
    tensors = {stem: found.tensors(stem) for stem in STEMS}
    return tensors, {stem: found.document(stem) for stem in DOCUMENTS}, found.lines("groups")


def resume(folder: Path, tensors: Any, documents: Any, groups: list[str] | None) -> None:
    """Resumes from a checkpoint that is whole on disk and holds what is given."""
    lines = {} if groups is None else {"groups": groups}
    checkpoint.save(folder / "checkpoints", "given", tensors=tensors, documents=documents, lines=lines)
    make("ppo", folder).go(stop_after=7)


def restore(run: Any, folder: Path) -> None:
    """What resuming does before it trains."""
    keeper = RunKeeper(
        folder, method=run.method, settings=run.settings, meter=Meter(folder), num_steps=run.settings.steps
    )
    rule = run.method.update.start({n: run.handles.networks[n] for n in run.method.trains}, 16)
    keeper.restore(run.handles, rule)


def test_the_untouched_one_resumes(tmp_path: Path, stopped: tuple[Any, Any, list[str]]) -> None:
    with pytest.raises(Interrupted):
        resume(tmp_path, *stopped)


def test_every_tensor_is_needed(tmp_path: Path, stopped: tuple[Any, Any, list[str]]) -> None:
    tensors, documents, groups = stopped
    run = make("ppo", tmp_path)
    keys = [(stem, key) for stem in STEMS for key in tensors[stem]]
    assert len(keys) > 100
    for number, (stem, key) in enumerate(keys):
        left = {**tensors, stem: {k: v for k, v in tensors[stem].items() if k != key}}
        folder = tmp_path / str(number)
        checkpoint.save(
            folder / "checkpoints", "a", tensors=left, documents=documents, lines={"groups": groups}
        )
        with pytest.raises(TrueupError, match="E844") as caught:
            restore(run, folder)
        assert f"missing: {key}" in str(caught.value)
        assert f"{stem}.safetensors" in str(caught.value)


def test_every_named_value_is_needed(tmp_path: Path, stopped: tuple[Any, Any, list[str]]) -> None:
    tensors, documents, groups = stopped
    assert set(documents["state"]) == {"beta"}
    assert set(documents["best"]) == {"step", "value"}
    run = make("ppo", tmp_path)
    keys = [(stem, key) for stem in DOCUMENTS for key in documents[stem]]
    for number, (stem, key) in enumerate(keys):
        left = copy.deepcopy(documents)
        del left[stem][key]
        folder = tmp_path / str(number)
        checkpoint.save(
            folder / "checkpoints", "a", tensors=tensors, documents=left, lines={"groups": groups}
        )
        with pytest.raises(TrueupError, match="E844") as caught:
            restore(run, folder)
        assert f"missing: {key}" in str(caught.value)
        assert f"{stem}.json" in str(caught.value)


def test_every_file_is_needed(tmp_path: Path, stopped: tuple[Any, Any, list[str]]) -> None:
    tensors, documents, groups = stopped
    for stem in STEMS:
        with pytest.raises(TrueupError, match=rf"E844 .*no {stem}\.safetensors"):
            resume(tmp_path / stem, {k: v for k, v in tensors.items() if k != stem}, documents, groups)
    for stem in DOCUMENTS:
        with pytest.raises(TrueupError, match=rf"E844 .*no {stem}\.json"):
            resume(tmp_path / stem, tensors, {k: v for k, v in documents.items() if k != stem}, groups)
    with pytest.raises(TrueupError, match=r"E844 .*no groups\.jsonl"):
        resume(tmp_path / "groups", tensors, documents, None)
