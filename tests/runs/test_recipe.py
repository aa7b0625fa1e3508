"""Which stages a recipe plans, and what their digests depend on."""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from trueup.commands.stages import MEASURED, measured_lines
from trueup.errors import TrueupError
from trueup.runs.one_stage import single_stage
from trueup.runs.recipe import Recipe, plan, run_recipe, run_stage
from trueup.settings.config import parse_overrides
from waiting_stage import elsewhere, waiting_stage

SFT = {"model": {"path": "my-model"}, "data": {"path": "mydata", "split": "test"}}
LABEL = {"model": {"path": "lab:base"}, "labeler": "lab:crowd"}
SERVER = "openai:https://example.org/v1?model=m&"
JUDGED = {"method": "dpo", "data": {"path": "mydata"}, "judge": "rules.py:short"}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def digests(stages: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Each stage's digest, planned in the current directory."""
    return {stage.name: stage.digest for stage in plan(Recipe(name="r", stages=stages), Path("out"))}


def test_words_that_happen_to_name_a_folder_change_no_digest() -> None:
    before = digests({"sft": SFT, "label": LABEL})
    for name in ("lab", "test", "train", "auto", "sft", "policy", "sigmoid"):
        Path(name).mkdir()
        (Path(name) / "big.bin").write_bytes(b"not read")
    assert digests({"sft": SFT, "label": LABEL}) == before


def test_a_bare_folder_of_data_is_read_and_its_change_redoes_the_stages_on_it() -> None:
    Path("mydata").mkdir()
    data = Path("mydata/rows.jsonl")
    data.write_text('{"prompt": "a"}\n', encoding="utf-8")
    stages = {"sft": SFT, "label": LABEL, "after": {**SFT, "method": "sft", "data": {"path": "stage:sft"}}}
    before = digests(stages)
    data.write_text('{"prompt": "b"}\n', encoding="utf-8")
    after = digests(stages)
    assert {name for name in stages if before[name] != after[name]} == {"sft", "after"}


@pytest.mark.parametrize(
    "judge", ["rules.py:short", "rules.py", "rules.py?longest=3", "lm:rules.py#read=text"]
)
def test_the_file_of_a_judge_is_read_whatever_follows_it(judge: str) -> None:
    stages = {"dpo": {**JUDGED, "method": "reinforce", "judge": judge}}
    Path("rules.py").write_text("def short(prompt, text): return 0\n", encoding="utf-8")
    before = digests(stages)
    Path("rules.py").write_text("def short(prompt, text): return 1\n", encoding="utf-8")
    assert digests(stages) != before


@pytest.mark.parametrize(
    ("judge", "bound"),
    [
        ("stage:sft", "{model}"),
        ("lm:stage:sft", "lm:{model}"),
        ("lm:stage:sft#read=text", "lm:{model}#read=text"),
        ("rule.yaml?reward=stage:sft", "rule.yaml?reward={model}"),
        ("upstage:sft", "upstage:sft"),
    ],
)
def test_a_stage_is_bound_wherever_a_judge_may_name_one(judge: str, bound: str) -> None:
    stages = plan(
        Recipe(name="r", stages={"sft": SFT, "rl": {"method": "reinforce", "judge": judge}}), Path("out")
    )
    assert stages[1].config.judge == bound.format(model=stages[0].folder / "model")


def test_a_key_in_place_of_its_variable_is_written_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    stages = {"revise": {"reviser": f"{SERVER}key=sk-secret"}}
    recipe = Recipe(name="r", stages=stages)
    with pytest.raises(TrueupError, match="E797 stage revise") as refused:
        run_recipe(recipe, Path("out"))
    assert "secret" not in str(refused.value) and not Path("out").exists()
    with pytest.raises(TrueupError, match="E797 stage revise"):
        single_stage("revise", parse_overrides(["--model", f"{SERVER}key=sk-secret"]), Path("out"))
    monkeypatch.setenv("NAME", "sk-secret")
    named = {"revise": {"reviser": f"{SERVER}key=NAME"}}
    assert plan(Recipe(name="r", stages=named), Path("out"))


def test_what_measure_stages_found_stands_under_one_head() -> None:
    stages = plan(Recipe(name="r", stages={"m_base": {"method": "measure"}, "sft": SFT}), Path("out"))
    stages[0].folder.mkdir(parents=True)
    row = {"output": "measured.json", "publish": [], "metrics": {"gold": 0.5, "kl": 12.25}}
    (stages[0].folder / "DONE.json").write_text(json.dumps(row), encoding="utf-8")
    (stages[0].folder / "measured.json").touch()
    head, line = measured_lines(stages)
    assert head.split() == list(MEASURED)
    assert line == "m_base    0.500" + " " * 45 + "   12.250"
    assert line.index("0.500") + 5 == head.index("gold") + 4 and len(line) == len(head) <= 80
    assert measured_lines(stages[1:]) == []


def test_a_stage_that_another_process_runs_is_left_to_it(tmp_path: Path) -> None:
    stage = waiting_stage(tmp_path)
    with elsewhere(stage) as other:
        try:
            with pytest.raises(TrueupError, match=r"E903 .*another process is running this stage"):
                run_stage(stage)
            (tmp_path / "stages" / "go").touch()
            assert other.wait(60) == 0
        finally:
            other.kill()
    assert stage.done
    assert run_stage(stage).output == "started"


def test_the_lock_of_a_killed_process_holds_nobody_up(tmp_path: Path) -> None:
    stage = waiting_stage(tmp_path)
    with elsewhere(stage) as other:
        other.kill()
    before = (stage.folder / "config.resolved.yaml").read_text(encoding="utf-8")
    (tmp_path / "stages" / "go").touch()
    run_stage(stage)
    assert stage.done
    assert (stage.folder / "config.resolved.yaml").read_text(encoding="utf-8") == before != ""


def test_where_no_lock_can_be_had_the_stage_runs_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: object, how: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("trueup.runs.hold.fcntl.flock", refuse)
    stage = waiting_stage(tmp_path)
    stage.folder.mkdir(parents=True)
    (tmp_path / "stages" / "go").touch()
    with pytest.warns(UserWarning, match=r"no lock .*Function not implemented"):
        run_stage(stage)
    assert stage.done
