"""`export --push-to-hub`: what is asked of the hub's client, recorded by a stub with its signatures."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import HFValidationError

import small_world
from trueup.cli import main

REAL = huggingface_hub.HfApi


class Client:
    """Records calls in place of `huggingface_hub.HfApi`; what the real one would not take is a TypeError."""

    def __init__(self, calls: list[tuple[str, dict[str, Any]]], error: Exception | None) -> None:
        self._calls, self._error = calls, error

    def __call__(self, **options: Any) -> Client:
        inspect.signature(REAL.__init__).bind(self, **options)
        return self

    def __getattr__(self, name: str) -> Any:
        def call(*given: Any, **options: Any) -> Any:
            bound = inspect.signature(getattr(REAL, name)).bind(self, *given, **options)
            self._calls.append((name, {k: v for k, v in bound.arguments.items() if k != "self"}))
            if self._error is not None:
                raise self._error
            return huggingface_hub.RepoUrl(f"https://huggingface.co/{bound.arguments['repo_id']}")

        return call


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a finished run in `runs/sft`, and a hub that answers."""
    small_world.make(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("trueup.runs.export.unanswered", lambda: "")
    given = "--model.path my-model --data.path demos.jsonl --loop.steps 1"
    assert main(f"train sft {given}".split()) == 0
    return tmp_path


def recorded(
    monkeypatch: pytest.MonkeyPatch, error: Exception | None = None
) -> list[tuple[str, dict[str, Any]]]:
    """The calls to the client, from now on."""
    calls: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(huggingface_hub, "HfApi", Client(calls, error))
    return calls


def test_nothing_is_sent_that_nobody_asked_for(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = recorded(monkeypatch)
    assert main(["export", "runs/sft", "out"]) == 0
    assert calls == [] and (run / "out/model.safetensors").is_file()


@pytest.mark.parametrize(("more", "private"), [([], True), (["--no-private"], False)])
def test_the_exported_folder_is_sent(
    more: list[str],
    private: bool,
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    calls = recorded(monkeypatch)
    assert main(["export", "runs/sft", "out", "--push-to-hub", "me/mine", *more]) == 0
    assert calls == [
        ("create_repo", {"repo_id": "me/mine", "private": private, "exist_ok": True}),
        (
            "upload_folder",
            {"repo_id": "me/mine", "folder_path": "out", "commit_message": "out, exported by trueup"},
        ),
    ]
    assert "pushed to https://huggingface.co/me/mine" in capsys.readouterr().out


def test_a_refusal_leaves_the_folder_and_says_how_to_go_on(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = recorded(monkeypatch, HFValidationError("Repo id must be owner/name"))
    assert main(["export", "runs/sft", "out", "--push-to-hub", "a/b/c"]) == 69
    error = capsys.readouterr().err
    assert [name for name, _ in calls] == ["create_repo"]
    assert "E768 a/b/c — not pushed: Repo id must be owner/name — choose a name of that form, then" in error
    assert (
        "`hf upload OWNER/NAME out`" in error
        and "auth" not in error
        and (run / "out/model.safetensors").is_file()
    )


def test_a_hub_that_is_not_there_is_said(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = recorded(monkeypatch)
    monkeypatch.setattr("trueup.runs.export.unanswered", lambda: "HF_HUB_OFFLINE is set")
    assert main(["export", "runs/sft", "out", "--push-to-hub", "me/mine"]) == 69
    said = "E768 me/mine — HF_HUB_OFFLINE is set — `unset HF_HUB_OFFLINE`, then `hf upload me/mine out`"
    assert calls == [] and said in capsys.readouterr().err
    monkeypatch.setattr("trueup.runs.export.unanswered", lambda: "https://hub does not answer (timeout)")
    assert main(["export", "runs/sft", "again", "--push-to-hub", "me/mine"]) == 69
    assert "(timeout) — wait until it answers, then `hf upload" in capsys.readouterr().err


def test_who_may_not_write_is_told_to_log_in(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded(monkeypatch, OSError("401 Unauthorized"))
    assert main(["export", "runs/sft", "out", "--push-to-hub", "me/mine"]) == 69
    assert "401 Unauthorized — `hf auth login`, then `hf upload me/mine out`" in capsys.readouterr().err
