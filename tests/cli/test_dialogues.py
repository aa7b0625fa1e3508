"""Tool, reasoning and weighted rows through the command line: checked with a model, shown, and trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import trl_templates
from chat_shapes import shapes
from small_world import save_model
from tiny_models import llama
from trueup import cli

CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
TOOLED = """{%- if tools %}<|im_start|>system
{{ tools | tojson }}<|im_end|>
{% endif %}{%- for m in messages -%}
<|im_start|>{{ m.role }}{{ "\\n" }}{{ m.content }}
{%- for c in m.tool_calls or [] %}<call>{{ c.function | tojson }}{% endfor %}<|im_end|>{{ "\\n" }}
{%- endfor -%}
{%- if add_generation_prompt -%}<|im_start|>assistant{{ "\\n" }}{%- endif -%}"""
NO_SYSTEM = "{%- if messages[0].role == 'system' %}{{ raise_exception('no system turns') }}{% endif %}"


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def said(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


PLAIN = {"messages": [user("q"), said("a bad one", weight=0), user("r"), said("a good one", weight=1)]}
TOOL = {"messages": [user("q"), said("", tool_calls=[CALL]), {"role": "tool", "content": "5"}, said("five")]}
THOUGHT = {"messages": [user("q"), said("four", reasoning_content="2 and 2")]}


def model_with(folder: Path, template: str | None = None) -> Path:
    save_model(folder)
    if template is not None:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    return folder


def rows(path: Path, *items: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")
    return path


def typed(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    """The exit code, and what was printed with line breaks as spaces."""
    code = cli.main([str(word) for word in words])
    found = capsys.readouterr()
    return code, " ".join((found.out + found.err).split())


def test_data_check_names_the_rows_that_a_model_cannot_show(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = model_with(tmp_path / "model")
    path = rows(tmp_path / "rows.jsonl", PLAIN, TOOL, THOUGHT, {**PLAIN, "tools": TOOLS})
    code, told = typed(capsys, "data", "check", path)
    assert code == 0 and "accepted 4 + quarantined 0" in told
    code, told = typed(
        capsys, "data", "check", path, "--model", model, "--quarantine", tmp_path / "bad.jsonl"
    )
    assert code == 65 and "accepted 1 + quarantined 3" in told
    assert "E361 rows.jsonl:2" in told and "does not show the call of add in message 2" in told
    assert "E364 rows.jsonl:3" in told and "does not show the thought of message 2" in told
    assert "E360 rows.jsonl:4" in told and "does not show the tools of this conversation" in told
    assert len((tmp_path / "bad.jsonl").read_text("utf-8").splitlines()) == 3
    able = model_with(tmp_path / "able", TOOLED)
    code, told = typed(capsys, "data", "check", path, "--model", able)
    assert code == 65 and "accepted 3 + quarantined 1" in told and "E364 rows.jsonl:3" in told


def test_a_run_quarantines_what_its_template_cannot_show_before_it_trains(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, path = (
        model_with(tmp_path / "model"),
        rows(tmp_path / "rows.jsonl", PLAIN, TOOL, {**PLAIN, "mood": 1}),
    )
    run = (
        "train",
        "sft",
        "--model.path",
        model,
        "--data.path",
        path,
        "--data.held_out",
        0,
        "--loop.steps",
        1,
    )
    code, told = typed(capsys, *run, "--out", tmp_path / "strict")
    assert code == 65 and "E601" in told and "1 x E361" in told
    code, told = typed(capsys, *run, "--data.max_bad", 0.5, "--out", tmp_path / "run")
    assert code == 0 and "3 rows, 2 to train on, 0 held out, 1 bad" in told
    assert told.index("note: columns kept in meta, not trained on: mood (1)") < told.index("1/1")
    (bad,) = map(json.loads, (tmp_path / "run/quarantine.jsonl").read_text("utf-8").splitlines())
    assert (bad["code"], bad["line"]) == ("E361", 2)


@pytest.mark.parametrize(("train_on", "learnt"), [("last", "1 of"), ("all", "2 of")])
def test_preview_shows_calls_and_what_is_trained_on(
    train_on: str, learnt: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = model_with(tmp_path / "model", TOOLED)
    path = rows(tmp_path / "rows.jsonl", {**TOOL, "tools": TOOLS})
    options = ("--model.path", model, "--data.path", path, "--data.held_out", 0, "--data.train_on", train_on)
    code, told = typed(capsys, "preview", "sft", *options)
    assert code == 0 and '<call>{"name": "add", "arguments": {"a": 1}}<|im_end|>' in told.replace("\n", "")
    calls = len('<call>{"name": "add", "arguments": {"a": 1}}<|im_end|>') - len("<|im_end|>") + 1
    supervised = len("five") + 1 + (calls if train_on == "all" else 0)
    assert f"{supervised} supervised" in told


def test_weights_fold_and_thinking_are_settings_of_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = model_with(tmp_path / "model", NO_SYSTEM + TOOLED)
    pair = {"prompt": "name a prime", "chosen": "seven", "rejected": "eight", "system": "be brief"}
    path = rows(tmp_path / "pairs.jsonl", pair)
    run = (
        "train",
        "dpo",
        "--model.path",
        model,
        "--data.path",
        path,
        "--data.held_out",
        0,
        "--loop.steps",
        1,
    )
    code, told = typed(capsys, *run, "--out", tmp_path / "no")
    assert code == 65 and "E351" in told and "--model.system fold" in told
    code, told = typed(capsys, *run, "--model.system", "fold", "--out", tmp_path / "run")
    assert code == 0, told
    shown = ("preview", *run[1:], "--model.system", "fold")
    code, told = typed(capsys, *shown)
    assert code == 0 and "<|im_start|>user be brief name a prime<|im_end|>" in told
    assert "note: this template has no system turns" in told


def test_thinking_is_a_setting_that_errors_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, path = tmp_path / "model", rows(tmp_path / "rows.jsonl", THOUGHT, PLAIN)
    save_model(model)
    next(s for s in shapes() if s.name == "qwen3").tokenizer.save_pretrained(model)
    code, told = typed(capsys, "data", "check", path, "--model", model)
    assert code == 65 and "accepted 1 + quarantined 1" in told
    assert "E354 rows.jsonl:1" in told and "`--thinking on`" in told
    for thinking in ("on", "keep"):
        code, told = typed(capsys, "data", "check", path, "--model", model, "--thinking", thinking)
        assert code == 0 and "accepted 2 + quarantined 0" in told
    shown = ("preview", "sft", "--model.path", model, "--data.path", path, "--data.held_out", 0)
    code, told = typed(capsys, *shown, "--model.thinking", "on")
    assert code == 0 and "<|im_start|>assistant completion 1" in told
    assert "<think> 2 and 2 </think> four<|im_end|>" in told
    assert "<think> </think> a good one<|im_end|>" in told.split("completion 1")[2]


@pytest.mark.skipif(not trl_templates.names(), reason="trl is not installed: it ships the templates")
@pytest.mark.parametrize(
    ("name", "learnt", "stops"),
    [
        ("deepseekv3", "2 and 2\n</think>\n\nfour<｜end▁of▁sentence｜>", ["<｜end▁of▁sentence｜>"]),
        (
            "glm4moe",
            "\n<think>2 and 2</think>\nfour<|user|>",
            ["<|user|>", "<|endoftext|>", "<|observation|>"],
        ),
    ],
)
def test_models_of_deepseek_and_glm_train_and_generate(
    name: str, learnt: str, stops: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is saved keeps the template, and stops where training did."""
    tokenizer = trl_templates.tokenizer(name)
    model, path = tmp_path / "model", rows(tmp_path / "rows.jsonl", THOUGHT, THOUGHT)
    llama(vocab_size=len(tokenizer), max_position_embeddings=512).save_pretrained(model)
    tokenizer.save_pretrained(model)
    how = ("--model.path", model, "--data.path", path, "--data.held_out", 0, "--model.thinking", "on")
    code, told = typed(capsys, "preview", "sft", *how, "--num", 1)
    assert code == 0 and f"supervised {' '.join(learnt.split())}" in told
    code, told = typed(capsys, "train", "sft", *how, "--loop.steps", 2, "--out", tmp_path / "run")
    assert code == 0 and "2 rows, 2 to train on, 0 held out, 0 bad" in told
    saved = tmp_path / "run/model"
    ends = json.loads((saved / "generation_config.json").read_text("utf-8"))["eos_token_id"]
    assert ends == tokenizer.convert_tokens_to_ids(stops)
    kept = (saved / "chat_template.jinja").read_text("utf-8")
    assert kept.endswith(tokenizer.chat_template)
    assert typed(capsys, "generate", saved, "two plus two?", "--max-new-tokens", 3)[0] == 0
