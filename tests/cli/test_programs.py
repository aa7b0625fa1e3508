"""`trueup sandbox` and `trueup programs`: what they print, what they write, how they fail."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import small_world
from trueup.cli import main
from trueup.engine.groups import read_jsonl
from trueup.errors import EXIT_REFUSED, EXIT_UNAVAILABLE, EXIT_USAGE
from trueup.sandbox import probes, trust
from trueup.sandbox.trust import named, refusal

ROW = {
    "task_id": "one",
    "prompt": "def one():\n",
    "entry_point": "one",
    "test": "def check(candidate):\n    assert candidate() == 1\n",
}


def test_the_sandbox_says_what_held_and_fails_where_something_did_not(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {"files": {"list the root folder": probes.FILES["list the root folder"]}}
    monkeypatch.setattr(probes, "PROBES", few)
    here = [backend.name for backend in named() if not refusal(backend)]
    if not here:
        pytest.skip("no sandbox works on this machine")
    assert main(["sandbox"]) == 0
    out = capsys.readouterr().out
    assert all(f"{name}: 1 of 1 probe held" in out for name in here)
    assert out.count("not on this machine: ") == len(named()) - len(here)
    monkeypatch.setattr(probes, "PROBES", {"files": {"do what is allowed": "return os.getpid()"}})
    assert main(["sandbox", "--json"]) == EXIT_REFUSED
    printed = capsys.readouterr()
    assert json.loads(printed.out)["open"] == [f"{name}: files: do what is allowed" for name in here]
    assert "E952" in printed.err


def test_nothing_is_sampled_where_no_sandbox_works(
    world: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust, "refusal", lambda backend: f"{backend.name}: no")
    assert main(["programs", "no-model", "--data", "rows.jsonl"]) == EXIT_UNAVAILABLE
    assert "E951 generated code — no sandbox: bubblewrap: no; landlock: no" in capsys.readouterr().err
    assert main(["programs", "no-model", "--data", "rows.jsonl", "--sandbox", "none"]) == EXIT_USAGE
    assert "E702 sandbox — no back end 'none'" in capsys.readouterr().err


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a tiny model and two problems."""
    monkeypatch.chdir(tmp_path)
    small_world.save_model(tmp_path / "model")
    rows = [ROW, {**ROW, "task_id": "two"}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return tmp_path


@pytest.mark.usefixtures("strongest")
def test_pass_at_k_of_a_model(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["programs", "model", "--data", "rows.jsonl", "--num-samples", "2", "--max-new-tokens", "3"]
    assert main([*words, "--k", "1", "--k", "2", "--out", "programs.jsonl"]) == 0
    out = capsys.readouterr().out
    assert "pass@1 0.000 [0.000, " in out and "pass@2 0.000" in out and "failed 4" in out
    written = read_jsonl("programs.jsonl")
    assert [group.id for group in written] == ["one", "two"]
    assert all(len(g.completions) == 2 and [s.value for s in g.scores] == [0.0, 0.0] for g in written)
    assert main([*words, "--limit", "1", "--temperature", "0", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["pass@1"]["n"] == 1 and found["outcomes"] == {"failed": 2}


@pytest.mark.usefixtures("strongest")
def test_pass_at_every_k_of_programs_written_already(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = {"one": ["    return 1\n", "    return 2\n", "    return 3\n"], "two": ["    return 1\n"] * 3}
    rows = [{"task_id": name, "completion": text} for name, several in texts.items() for text in several]
    Path("samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert (
        main(["programs", "--samples", "samples.jsonl", "--data", "rows.jsonl", "--out", "said.jsonl"]) == 0
    )
    out = capsys.readouterr().out
    # (1/3 + 1)/2, (2/3 + 1)/2, (1 + 1)/2.
    assert "pass@1 0.667 [" in out and "pass@2 0.833 [" in out and "pass@3 1.000 [" in out
    assert "failed 2  passed 4" in out
    assert main(["programs", "--samples", "said.jsonl", "--k", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["pass@2"]["mean"] == pytest.approx(5 / 6) and "pass@1" not in found
    for words in (["--samples", "said.jsonl", "model"], ["model"], []):
        assert main(["programs", *words]) == EXIT_USAGE
        assert "E702 programs" in capsys.readouterr().err


def test_a_k_that_the_samples_cannot_tell_is_refused_before_the_model_loads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["programs", "no-model", "--data", str(tmp_path / "none"), "--k", "11"]) == EXIT_USAGE
    assert "E702 k — pass@11 from 10 samples" in capsys.readouterr().err
