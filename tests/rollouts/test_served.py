"""GRPO through a server: the same run as the command line makes it, the gap, and planted faults."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from scripted_server import Scripted, serving
from small_world import make
from trueup.cli import main
from trueup.errors import EXIT_PREEMPTED, EXIT_REFUSED, EXIT_UNAVAILABLE

JUDGE = "def judge(prompts, completions, **_):\n    return [len(set(c)) / 8 for c in completions]\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, prompts and a judge."""
    folder = make(tmp_path_factory.mktemp("served"))
    (folder / "judge.py").write_text(JUDGE, encoding="utf-8")
    return folder


def options(place: Path, script: Scripted, out: Path, **more: Any) -> list[str]:
    """A command for two steps of GRPO through the server."""
    given = {
        "model.path": place / "my-model",
        "model.lora.rank": 4,
        "judge": f"{place / 'judge.py'}:judge",
        "data.path": place / "prompts.jsonl",
        "data.held_out": 0.0,
        "num_completions": 2,
        "decoding.max_new_tokens": 5,
        "decoding.temperature": 0.7,
        "loop.steps": 2,
        "loop.batch": 2,
        "update.lr": 0.05,
        "sampler.kind": script.kind,
        "sampler.url": script.url,
        "sampler.patience": 0,
        "out": out,
        **more,
    }
    return ["train", "grpo", *(str(w) for k, v in given.items() if v is not None for w in (f"--{k}", v))]


def lines(out: Path) -> list[dict[str, Any]]:
    """The steps' lines of metrics.jsonl."""
    path = out / "metrics.jsonl"
    rows = [json.loads(line) for line in (path.read_text("utf-8") if path.exists() else "").splitlines()]
    return [row for row in rows if row["phase"] == "train"]


FAULTS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "raw": ({"raw": True}, {"decoding.temperature": 0.5}, "log-probs are those of temperature 1.000"),
    "nucleus": ({"top_p": 0.8}, {}, "Cause: truncated support."),
    "stale": ({"stale": True}, {"num_completions": 4}, "are those of the base model without the adapter"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_gap_ends_the_run_and_says_why(
    name: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faults, more, says = FAULTS[name]
    more = {"num_completions": 8, "decoding.max_new_tokens": 8, **more}
    with serving(Scripted(base=place / "my-model", **faults)) as script:
        assert main(options(place, script, tmp_path / "run", **more)) == EXIT_REFUSED
    said = capsys.readouterr().err
    assert "E875" in said and says in said
    assert len(lines(tmp_path / "run")) == (1 if name == "stale" else 0)


def test_a_server_that_dies_costs_no_step(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two steps at temperature .7: a gap of rounding's size, each version under a name of its own. With the
    server dead in step 2 the run ends with 75 and is saved, and the same command asks for the same.
    """
    out = tmp_path / "run"
    with serving(Scripted(base=place / "my-model")) as script:
        assert main(options(place, script, tmp_path / "whole")) == 0
        whole = seeds(script)
    assert all(
        0 < line["sampler_gap_mean"] <= line["sampler_gap"] < 1e-5 for line in lines(tmp_path / "whole")
    )
    loads = [asked for path, asked in script.log if path == "/v1/load_lora_adapter"]
    assert len(loads) == len({a["lora_name"] for a in loads}) == len({a["lora_path"] for a in loads}) == 2
    with serving(Scripted(base=place / "my-model", dies_after=6)) as script:
        assert main(options(place, script, out)) == EXIT_PREEMPTED
        assert "E876" in (said := capsys.readouterr().err) and "the same command" in said
        assert [p.name for p in (out / "checkpoints").iterdir()] == ["step-000001"]
        asked, script.completions, script.dies_after = len(script.log), 0, 10**9
        assert main(options(place, script, out)) == 0
        assert seeds(script, asked) == whole[1:]
    assert [line["step"] for line in lines(out)] == [1, 2]
    assert lines(out)[1]["score"] == lines(tmp_path / "whole")[1]["score"]


def test_a_server_that_was_started_again_is_sent_the_weights_again(place: Path, tmp_path: Path) -> None:
    with serving(Scripted(base=place / "my-model", forgetful=2)) as script:
        more = {"sampler.patience": 20, "loop.steps": 1}
        assert main(options(place, script, tmp_path / "run", **more)) == 0
    loads = [asked["lora_name"] for path, asked in script.log if path == "/v1/load_lora_adapter"]
    assert len(set(loads)) == len(loads) == 2
    assert script.adapters == {} and not (tmp_path / "run" / "sampler").exists()


def seeds(script: Scripted, start: int = 0) -> list[tuple[int, ...]]:
    """The prompts and seeds of completions that were answered, in one order."""
    asked = [a for path, a in script.log[start:] if path in ("/v1/completions", "/generate")]
    found = [(*a.get("prompt", ()), a["seed"]) for a in asked]
    return [tuple(sorted(found[n : n + 4])) for n in range(0, len(found), 4)]


def test_sglang_takes_all_weights(place: Path, tmp_path: Path) -> None:
    with serving(Scripted(base=place / "my-model", kind="sglang")) as script:
        assert main(options(place, script, tmp_path / "run", **{"model.lora.rank": None})) == 0
    assert all(line["sampler_gap"] < 1e-5 for line in lines(tmp_path / "run"))
    sent = [asked for path, asked in script.log if path == "/update_weights_from_disk"]
    assert len(sent) == len({a["model_path"] for a in sent}) == 2 and all(a["flush_cache"] for a in sent)


REFUSED = {
    "E866 all weights": {"model.lora.rank": None},
    "E866 DoRA": {"model.lora.dora": "true"},
    "E866 head": {"model.lora.targets": "q_proj,lm_head"},
    "E867 top_p": {"decoding.top_p": 0.9},
    "E867 top_k": {"decoding.top_k": 50},
    "E868 own": {"sampler.kind": "own", "sampler.url": None, "sampler.correction": "token_mask"},
    "E868 floor": {"sampler.correction": "token_truncate", "sampler.floor": 0.5},
    "E869 path": {"sampler.url": "http://127.0.0.1:1/v1"},
    "E869 key": {"sampler.key": "NO_SUCH_VARIABLE"},
    "E876 nobody": {"sampler.url": "http://127.0.0.1:9"},
    "E970 elsewhere": {"sampler.url": "http://10.1.2.3:8000"},
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_served_is_refused(
    case: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = Scripted(base=place / "my-model", url="http://127.0.0.1:1")
    assert main(options(place, script, tmp_path / "run", **REFUSED[case])) in (64, 75, 77)
    assert case.split()[0] in capsys.readouterr().err


def test_a_server_that_ends_early_is_told_apart(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(Scripted(base=place / "my-model", short=True)) as script:
        assert main(options(place, script, tmp_path / "run")) == EXIT_UNAVAILABLE
    assert "E877" in (said := capsys.readouterr().err) and "--max-model-len" in said


def test_a_server_at_another_address_and_another_limit_are_no_other_run(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A server in bfloat16 ends the run; where its rounding is allowed, it goes on, and weights are noted."""
    out, more = tmp_path / "run", {"loop.steps": 1, "sampler.correction": "token_truncate"}
    with serving(Scripted(base=place / "my-model", dtype=torch.bfloat16)) as script:
        assert main(options(place, script, out, **more, **{"sampler.max_gap": 1e-7})) == EXIT_REFUSED
    assert "E875" in (said := capsys.readouterr().err) and "Cause: precision." in said
    with serving(Scripted(base=place / "my-model", dtype=torch.bfloat16)) as script:
        assert main(options(place, script, out, **more, **{"sampler.max_gap": 0.1})) == 0
    (line,) = lines(out)
    assert line["sampler_gap_mean"] > 1e-7 and line["sampler/bounded"] == 0
    assert line["sampler/weight"] == pytest.approx(1, abs=0.05) and line["sampler/weight"] != 1


@pytest.mark.slow  # reason: a process of its own that is killed
def test_a_trainer_that_is_killed_asks_for_the_same_completions(place: Path, tmp_path: Path) -> None:
    """SIGKILL in the rollout of step 2: the same command draws it again, and the adapter left behind goes."""
    with serving(Scripted(base=place / "my-model")) as script:
        assert main(options(place, script, tmp_path / "whole")) == 0
        whole = seeds(script)
    with serving(Scripted(base=place / "my-model")) as script:
        command = options(place, script, tmp_path / "run", **{"loop.save_every": 1})
        process = subprocess.Popen([sys.executable, "-m", "trueup.cli", *command])
        while script.completions < 6:
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
        process.wait()
        left = set(script.adapters)
        asked = len(script.log)
        assert main(command) == 0
        assert [a["lora_name"] for p, a in script.log[asked:] if p == "/v1/unload_lora_adapter"][: len(left)]
        assert seeds(script, asked) in (whole[1:], whole)
        assert script.adapters == {} and left
    assert [line["step"] for line in lines(tmp_path / "run")] == [1, 2]
