"""What an error tells to type works when it is typed."""

from __future__ import annotations

import gzip
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

import small_world
from chat_shapes import shapes
from trueup.chat import Chat
from trueup.cli import main
from trueup.data.problems import Fault
from trueup.data.turns import as_prompt
from trueup.engine.groups import Completion, Group, Message, Role
from trueup.errors import EXIT_DATA, exit_code_of
from trueup.runs.one_stage import by_importance, held_out_lines, metric_lines
from trueup.sources.open import encoder

MODEL = "--model.path my-model --loop.steps 1 --loop.batch 2"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a policy's run and a reward model's."""
    folder = small_world.make(tmp_path_factory.mktemp("remedies"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(f"train sft {MODEL} --data.path demos.jsonl".split()) == 0
        assert main(f"train reward_model {MODEL} --data.path preferences.jsonl".split()) == 0
    return folder


@pytest.mark.parametrize(
    ("line", "said", "then"),
    [
        ("train demo", "`trueup run demo` takes it", ""),
        ("train compare-quick", "`trueup compare compare-quick` takes it", ""),
        ("run dpo", "`trueup train dpo` runs it", ""),
        ("run compare-quick", "`trueup compare` takes such files", ""),
        (
            "config sft --loop.trackers wandb",
            "give a list of text: --loop.trackers '[a, b]'",
            "config sft --loop.trackers [wandb]",
        ),
        ("config sft --model.lora 8", "--model.lora.rank 16", "config sft --model.lora.rank 16"),
        ("config sft --update.learning_rte 1", "did you mean `update.lr`?", "config sft --update.lr 1"),
        ("config sft --loop.learning_rate 1", "did you mean `update.lr`?", ""),
        ("preview soup", "`trueup config` shows what it reads", "config soup"),
        (
            "generate runs/reward_model hi",
            "this one is a judge: --judge runs/reward_model/model",
            "generate runs/sft hi --max-new-tokens 2 --num 2 --judge runs/reward_model/model",
        ),
        ("chat runs/reward_model", "this one is a judge: --judge runs/reward_model/model", ""),
        ("serve runs/reward_model", "this one is a judge: --judge runs/reward_model/model", ""),
        ("soup runs/sft my-model --out s", "did you mean runs/sft/model?", ""),
        ("toxicity my-model", "--data FILE where the command takes one", ""),
        (
            f"train sft {MODEL} --data.path . --out fmt",
            "name it: --data.format prompt-completion",
            f"train sft {MODEL} --data.path demos.jsonl --out fmt --data.format prompt-completion",
        ),
    ],
)  # fmt: skip
def test_a_remedy_works(
    line: str,
    said: str,
    then: str,
    runs: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(runs)
    assert main(line.split()) in (64, 65, 66)
    error = capsys.readouterr().err
    assert said in error and "E999" not in error
    if then:
        assert main(then.split()) == 0


@pytest.mark.parametrize("judge", ["runs/reward_model", "runs/reward_model/model"])
def test_a_judge_is_a_run_or_its_model(judge: str, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runs)
    more = f"--judge {judge} --decoding.max_new_tokens 2 --out ppo-{judge.count('/')}"
    assert main(f"train reinforce {MODEL} --data.path prompts.jsonl {more}".split()) == 0


def test_columns_are_renamed_in_training_as_they_are_checked(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(runs)
    rows = [{"question": r["prompt"], "completion": r["completion"]} for r in small_world.demonstrations()]
    small_world.write(runs / "asked.jsonl", rows)
    assert main(["data", "check", "asked.jsonl", "--columns.prompt", "question"]) == 0
    given = f"train sft {MODEL} --data.path asked.jsonl --columns.prompt question --out asked"
    assert main(given.split()) == 0


def test_last_numbers_come_by_importance_on_80_columns(tmp_path: Path) -> None:
    metrics = {
        "grad_norm": 0.1,
        "lr": 1e-3,
        "beta": 0.05,
        "kl": 1.2,
        "score": 0.5,
        "loss": 2.0,
        "loss/nll": 2.0,
    }
    more = {f"policy/{'x' * 12}{i}": float(i) for i in range(8)}
    lines = metric_lines({**metrics, **more})
    assert lines[0].startswith("loss 2  score 0.5  kl 1.2  beta 0.05  ") and len(lines) > 1
    assert all(len(line) <= 80 for line in lines) and lines[-1].endswith("grad_norm 0.1  lr 0.001")
    assert "loss/nll" not in "".join(lines)
    assert by_importance(["lr", "b", "a", "kl"]) == ["kl", "b", "a", "lr"]
    rows = {
        "policy/ratio": {"mean": 1.0, "ci95": [1.0, 1.0], "n": 9},
        "value/error": {"mean": 0.5, "ci95": [0.4, 0.6], "n": 9},
        "loss": {"mean": 2.0, "ci95": None, "n": 1},
    }
    (tmp_path / "held_out.json").write_text(json.dumps(rows))
    assert [line.split()[2] for line in held_out_lines(tmp_path)] == ["loss", "value/error"]


def recipe_run(folder: Path, gold: dict[str, float]) -> None:
    """A recipe's folder: a reward model's stage that ended last, and policies with their gold."""
    for name in ("sft", "dpo", "ppo", "reward"):
        stage = folder / "stages" / f"{name}-0123456789"
        (stage / "model").mkdir(parents=True)
        (stage / "model/config.json").write_text("{}")
        (stage / "DONE.json").write_text("{}")
    heads = folder / "stages/reward-0123456789/model/trueup_heads.json"
    heads.write_text('{"heads": ["reward_head"]}')
    policies = {name: {"gold": {"mean": value}} for name, value in gold.items()}
    if gold:
        (folder / "summary.json").write_text(json.dumps({"policies": policies}))


def test_a_recipes_folder_is_its_best_policy(tmp_path: Path) -> None:
    from trueup.settings.weights import model_folder

    run = tmp_path / "run"
    recipe_run(run, {"base": 0.9, "sft": 0.4, "dpo": 0.6, "ppo": 0.5, "best_of_16": 0.8})
    assert model_folder(str(run)) == str(run / "stages/dpo-0123456789/model")
    (run / "summary.json").unlink()
    assert Path(model_folder(str(run))).parent.name in {"sft-0123456789", "dpo-0123456789", "ppo-0123456789"}
    assert model_folder(str(run / "stages")) == str(run / "stages")


CALL = {"type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
ASK, SAID = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}


@pytest.mark.parametrize(
    ("row", "template", "said", "more"),
    [
        ({"messages": [ASK, SAID]}, "", "E350 — the tokenizer has no chat template", "--template hh"),
        (
            {"messages": [{"role": "system", "content": "s"}, ASK, SAID]},
            "{%- if messages[0].role == 'system' -%}{{ raise_exception('no') }}{%- endif -%}",
            "E351 rows.jsonl:1:0 — the template refuses this conversation: no — `--system fold` puts",
            "--system fold",
        ),
        (
            {"messages": [ASK, SAID], "tools": [TOOL]},
            " ",
            "name a template with tools (`--template chatml-tools`)",
            "--template chatml-tools",
        ),
        (
            {"messages": [ASK, {**SAID, "content": None, "tool_calls": [CALL]}]},
            " ",
            "name a template with tools (`--template chatml-tools`)",
            "--template chatml-tools",
        ),
    ],
)
def test_data_check_names_options_as_it_has_them(
    row: dict[str, Any],
    template: str,
    said: str,
    more: str,
    runs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(runs / "my-model", "model")
    own = Path("model/chat_template.jinja")
    own.write_text(template.strip() + small_world.TEMPLATE) if template else own.unlink()
    small_world.write(Path("rows.jsonl"), [row])
    assert main(["data", "check", "rows.jsonl", "--model", "model"]) == 65
    printed = "".join(capsys.readouterr())
    assert said in printed and "--model." not in printed
    assert main(f"data check rows.jsonl --model model {more}".split()) == 0


def test_the_thoughts_options_are_those_of_data_check() -> None:
    chat = Chat.of(next(s for s in shapes() if s.name == "qwen3").tokenizer)
    group = Group(prompt=(Message(Role.USER, "q"),), completions=(Completion(text="</think>a"),))
    with pytest.raises(Fault, match="E354") as caught:
        encoder(chat, alone=True)(group)
    assert caught.value.remedy.startswith("`--thinking on` trains")


@pytest.mark.parametrize("kind", ["cut", "no gzip"])
@pytest.mark.parametrize(
    "line", ["programs --samples", "refusals my-model --data", "toxicity my-model --data"]
)
def test_a_damaged_gz_is_said(
    line: str, kind: str, runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(runs)
    whole = gzip.compress(b'{"prompt": "a", "completion": "b"}')
    Path("rows.jsonl.gz").write_bytes(whole[:-9] if kind == "cut" else b"{}")
    assert main([*line.split(), "rows.jsonl.gz"]) == 65
    error = capsys.readouterr().err
    assert "error E110 rows.jsonl.gz — the compressed file is damaged or cut off (" in error


def test_the_prompt_is_told_what_it_lacks() -> None:
    for role, remedy in ((Role.SYSTEM, "add the turn of the user"), (Role.ASSISTANT, "move the assistant's")):
        with pytest.raises(Fault, match="E303") as caught:
            as_prompt((Message(role, "x"),), "prompt")
        assert caught.value.remedy.startswith(remedy)
    with pytest.raises(Fault, match="E303") as caught:
        as_prompt((), "prompt")
    assert caught.value.remedy == "add the turn of the user that is to be answered"


def test_what_a_persons_function_or_numbers_do_is_data() -> None:
    assert [exit_code_of(code) for code in ("E793", "E799", "E901")] == [EXIT_DATA] * 3


def test_texts_are_trained_on_where_no_token_begins_them(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every byte and the end, after one end token: the mean loss of an untrained model is that of chance."""
    monkeypatch.chdir(runs)
    small_world.write(runs / "texts.jsonl", [{"text": "Once upon a time"}, {"text": "The sea is wide"}])
    assert main(f"train sft {MODEL} --data.path texts.jsonl --data.held_out 0 --out texts".split()) == 0
    (line,) = (runs / "texts/metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["loss"] == pytest.approx(math.log(259), abs=0.1)
