"""The paper's demonstrations of TruthfulQA: whose text it is, what stands where, what is said without it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

import small_world
from shared_data import shared
from trueup.cli import main
from trueup.errors import EXIT_UNAVAILABLE, TrueupError
from trueup.evals import harness_text
from trueup.evals.benchmarks import items_of
from trueup.evals.harness_text import text_before
from trueup.evals.task_files import FAMILIES, find_task, shipped
from trueup.reports import which

PROMPT = "5c0da5f346e8652c9a85061a6e3aca6bc82e10a8a7dad4596fe980a9c9bae543"
ROW = {
    "question": "Is {this} one?",
    "mc1_targets": {"choices": ["Yes", "No"], "labels": [1, 0]},
    "mc2_targets": {"choices": ["Yes", "No", "Maybe"], "labels": [1, 0, 1]},
}
QUERY = "Q: {question}\nA:"
CONSTRAINTS = (Path(__file__).parents[2] / "constraints.txt").read_text(encoding="utf-8")
PINNED = next(line.split("==")[1] for line in CONSTRAINTS.splitlines() if line.startswith("lm_eval=="))


@pytest.fixture(autouse=True)
def _fresh() -> None:
    text_before.cache_clear()


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("mc.jsonl").write_text(json.dumps(ROW) + "\n", encoding="utf-8")
    return "mc.jsonl"


@pytest.mark.parametrize("name", FAMILIES["truthfulqa-paper"])
def test_the_paper_s_six_demonstrations_stand_before_the_question(name: str, rows: str) -> None:
    pytest.importorskip("lm_eval", reason="the extra eval")
    (item,) = items_of(find_task(name), rows)
    before, asked = item.prompt[0].content.rsplit("\n\n", 1)
    assert asked == "Q: Is {this} one?\nA:" and before.count("Q: ") == before.count("\nA: ") == 6
    # SHA-256 of the six demonstrations of lm-eval 0.4.13.
    assert hashlib.sha256(before.encode()).hexdigest() == PROMPT
    own = items_of(find_task(name.replace("paper_", "")), rows)[0]
    assert [c.text for c in own.completions] == [c.text for c in item.completions] and own.meta == item.meta
    files = "".join(path.read_text(encoding="utf-8") for path in shipped().values())
    assert not [line for line in before.splitlines() if line and line in files], "none of it is in our files"


@pytest.mark.slow  # the harness takes 7 s to import
@pytest.mark.parametrize("name", FAMILIES["truthfulqa-paper"])
def test_the_prompt_is_the_harness_s(name: str) -> None:
    utils = pytest.importorskip("lm_eval.utils", reason="the extra eval")
    path = str(shared("truthfulqa/first_100.jsonl.gz"))
    items, own = items_of(find_task(name), path), items_of(find_task("truthfulqa_mc1"), path)
    from lm_eval.tasks._yaml_loader import load_yaml

    file = Path(utils.__file__).parent / "tasks" / "truthfulqa" / f"{name.replace('paper_', '')}.yaml"
    template = load_yaml(str(file))["doc_to_text"]
    for item, plain in zip(items, own, strict=True):
        question = plain.prompt[0].content.rsplit("Q: ", 1)[1].removesuffix("\nA:")
        assert item.prompt[0].content == utils.apply_template(template, {"question": question})


def test_without_the_harness_the_extra_is_named(
    rows: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(harness_text, "find_spec", lambda name: None)
    small_world.save_model(Path("model"))
    words = ["eval", "model", "--tasks", "truthfulqa-paper", "--data.truthfulqa-paper", rows]
    assert main(words) == EXIT_UNAVAILABLE
    assert "E811" in (said := capsys.readouterr().err) and "pip install 'trueup[eval]'" in said
    assert main(["eval", "model", "--tasks", "truthfulqa-papers"]) != 0
    assert "did you mean 'truthfulqa-paper'" in capsys.readouterr().err


def test_a_harness_that_words_the_task_otherwise_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tasks").mkdir()
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(harness_text, "find_spec", lambda name: spec)
    task = tmp_path / "tasks" / "other.yaml"
    for text in ("Question: {{question}}", "{{question}}"):
        task.write_text(f"doc_to_text: 'A: b {text}'\nprocess: !function utils.f\n", encoding="utf-8")
        text_before.cache_clear()
        with pytest.raises(TrueupError, match=rf"E431 .*other.yaml, task other .*'lm-eval=={PINNED}'$"):
            text_before("other", QUERY, "\n\n")
    with pytest.raises(TrueupError, match="E431 lm-eval, task none"):
        text_before("none", QUERY, "\n\n")
    task.write_text("include: base.yaml\n", encoding="utf-8")
    base = "doc_to_text: \"{% set p = 'Q: a\\nA: b' %}{{p + '\\n\\nQ: ' + question + '\\nA:'}}\"\n"
    (tmp_path / "tasks" / "base.yaml").write_text(base, encoding="utf-8")
    text_before.cache_clear()
    assert text_before("other", QUERY, "\n\n") == "Q: a\nA: b"


def test_a_table_with_demonstrations_of_ours_says_so_under_itself(
    rows: str, capsys: pytest.CaptureFixture[str]
) -> None:
    small_world.save_model(Path("model"))
    words = ["eval", "model", "--tasks", "truthfulqa_mc1", "--data.truthfulqa_mc1", rows]
    assert main(words) == 0
    note = "truthfulqa_mc1: its six demonstrations are ours; truthfulqa-paper has the paper's"
    assert note in capsys.readouterr().out
    with_note = {name for name in shipped() if find_task(name).note}
    page = (Path(which.__file__).parent / "parts.html.j2").read_text(encoding="utf-8")
    assert with_note == {"truthfulqa_mc1", "truthfulqa_mc2"} and all(
        f'"{name}"' in page for name in with_note
    )
