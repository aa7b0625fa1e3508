"""TRL's SFTTrainer on tool-calling and reasoning rows: the same ids and masks, and where they differ."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from chat_shapes import shipped
from tiny_models import llama
from trueup.chat import Chat
from trueup.data import read
from trueup.engine.groups import Group

# Deprecations inside TRL and what it builds on; nothing of ours raises them.
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
IGNORED = -100
Row = dict[str, Any]
Labelled = tuple[list[int], list[int]]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Look it up.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    }
]
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Rome"}}}
ASK = {"role": "user", "content": "What is the weather in Rome?"}
CALLING = {"role": "assistant", "content": "", "tool_calls": [CALL]}
ANSWER = {"role": "tool", "name": "weather", "content": "21 degrees."}
DONE = {"role": "assistant", "content": "It is 21 degrees."}
REASONED = {"role": "assistant", "content": "four", "reasoning_content": "Two and two make four."}
TOOL_ROWS = [
    {"prompt": [ASK], "completion": [CALLING], "tools": TOOLS},
    {"prompt": [ASK, CALLING, ANSWER], "completion": [DONE], "tools": TOOLS},
]
REASONING_ROWS = [
    {"prompt": [{"role": "user", "content": "two plus two?"}], "completion": [REASONED]},
    {
        "prompt": [
            {"role": "user", "content": "one plus one?"},
            {"role": "assistant", "content": "two", "reasoning_content": "One and one."},
            {"role": "user", "content": "two plus two?"},
        ],
        "completion": [REASONED],
    },
]


def theirs(tokenizer: Any, rows: list[Row], folder: Path, **options: Any) -> list[Labelled]:
    """Token ids and labels of each row, as TRL's trainer prepares them."""
    from datasets import Dataset
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    tokenizer.pad_token = tokenizer.eos_token
    args = SFTConfig(
        output_dir=str(folder), use_cpu=True, report_to="none", max_length=None, bf16=False, **options
    )
    # Tools as text: Arrow would give every row the columns of all.
    told = [{**row, "tools": json.dumps(row["tools"])} if "tools" in row else row for row in rows]
    trainer = SFTTrainer(
        model=llama(vocab_size=len(tokenizer)),
        args=args,
        train_dataset=Dataset.from_list(told),
        processing_class=tokenizer,
    )
    prepared = [dict(row) for row in trainer.train_dataset]
    batches = [trainer.data_collator([row]) for row in prepared]
    return [(batch["input_ids"][0].tolist(), batch["labels"][0].tolist()) for batch in batches]


def ours(chat: Chat, rows: list[Row], folder: Path, train_on: Any = "last") -> list[Labelled]:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return [labelled(chat.encode(group, train_on=train_on)) for group in read(path).groups]


def labelled(group: Group) -> Labelled:
    """The ids of a group with one completion, and its labels."""
    (completion,) = group.completions
    assert group.prompt_tokens is not None and completion.tokens is not None
    prompt, tokens = group.prompt_tokens.tolist(), completion.tokens.tolist()
    on = [True] * len(tokens) if completion.supervised is None else completion.supervised.tolist()
    labels = [token if yes else IGNORED for token, yes in zip(tokens, on, strict=True)]
    return prompt + tokens, [IGNORED] * len(prompt) + labels


@pytest.mark.parametrize(
    ("name", "rows", "rest"),
    [
        ("qwen3", TOOL_ROWS, "\n"),
        ("qwen2_5", TOOL_ROWS, "\n"),
        ("llama3_1", TOOL_ROWS, ""),
        ("gptoss", TOOL_ROWS, ""),
        ("qwen3", REASONING_ROWS, "\n"),
    ],
)
def test_ids_and_masks_are_trls_up_to_the_stop_token(
    name: str, rows: list[Row], rest: str, tmp_path: Path
) -> None:
    """Equal up to the stop token; TRL goes on to what the template writes after it, and trains that."""
    tokenizer = shipped(name)
    chat = Chat.of(tokenizer, thinking=True, today=date.today())
    expected, found = theirs(tokenizer, rows, tmp_path), ours(chat, rows, tmp_path)
    assert len(expected) == len(found) == len(rows)
    for (their_ids, their_labels), (our_ids, our_labels) in zip(expected, found, strict=True):
        length = len(our_ids)
        assert our_ids == their_ids[:length]
        assert our_labels == their_labels[:length]
        assert our_ids[-1] in chat.stop_ids
        assert chat.codec.decode(their_ids[length:]) == rest


DIALOGUE = {"messages": [ASK, CALLING, ANSWER, DONE], "tools": TOOLS}


def test_all_turns_of_a_dialogue_are_trls_but_for_newlines(tmp_path: Path) -> None:
    """`train_on: all` beside `assistant_only_loss`: the same ids; TRL's mask has four newlines more.

    Two end the prompts that the turns are generated from, two stand after stop tokens.
    """
    tokenizer = shipped("qwen2_5")
    ((their_ids, their_labels),) = theirs(tokenizer, [DIALOGUE], tmp_path, assistant_only_loss=True)
    chat = Chat.of(tokenizer)
    ((our_ids, our_labels),) = ours(chat, [DIALOGUE], tmp_path, "all")
    assert chat.codec.decode(their_ids[len(our_ids) :]) == "\n" and our_ids == their_ids[: len(our_ids)]
    call = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call><|im_end|>'
    learnt = [token for token in our_labels if token != IGNORED]
    assert chat.codec.decode(learnt) == f"{call}It is 21 degrees.<|im_end|>"
    pairs = list(zip([*our_labels, IGNORED], their_labels, strict=True))
    assert all(ours == theirs for ours, theirs in pairs if ours != IGNORED)
    more = [theirs for ours, theirs in pairs if ours == IGNORED and theirs != IGNORED]
    assert [chat.codec.decode([token]) for token in more] == ["\n"] * 4


def test_trl_shows_empty_thoughts_that_qwen3s_own_template_leaves_out(tmp_path: Path) -> None:
    """For `assistant_only_loss` TRL swaps Qwen3's template for another, with a thought in every turn."""
    tokenizer = shipped("qwen3")
    ((their_ids, _),) = theirs(tokenizer, [DIALOGUE], tmp_path, assistant_only_loss=True)
    chat = Chat.of(tokenizer, thinking=True)
    ((our_ids, _),) = ours(chat, [DIALOGUE], tmp_path, "all")
    empty = "<|im_start|>assistant\n<think>\n\n</think>\n\n"
    found, expected = chat.codec.decode(our_ids), chat.codec.decode(their_ids)
    assert (found.count(empty), expected.count(empty)) == (1, 2)
    assert (
        expected.replace(empty, "<|im_start|>assistant\n")
        == found.replace(empty, "<|im_start|>assistant\n") + "\n"
    )
    prompt = tokenizer.apply_chat_template(
        [ASK, CALLING, ANSWER], tools=TOOLS, add_generation_prompt=True, tokenize=False
    )
    assert found.startswith(prompt) and not expected.startswith(prompt)
