"""What is supervised, and that training ids go on exactly where generation ids end."""

from __future__ import annotations

import random
import time
from dataclasses import replace

import numpy as np
import pytest

from chat_shapes import Shape, shapes
from trueup.chat import Chat
from trueup.engine.groups import Completion, Group, Message, Role
from trueup.errors import TrueupError

SHAPES = {shape.name: shape for shape in shapes()}
WORDS = (
    "hello",
    " the",
    " user",
    "\nasks",
    " what",
    "\n\n",
    "?",
    " é",
    "漢字",
    " 🙂",
    "  two",
    " 12",
    "def f():\n  x",
)


def words(rng: random.Random) -> str:
    return rng.choice(("", " ", "\n")) + "w" + "".join(rng.choice(WORDS) for _ in range(rng.randrange(6)))


def talk(shape: Shape, rng: random.Random) -> tuple[Message, ...]:
    roles = [Role.USER, Role.ASSISTANT] * rng.randrange(4) + [Role.USER]
    if shape.system and rng.random() < 0.5:
        roles = [Role.SYSTEM, *roles]
    return tuple(Message(role, words(rng)) for role in roles)


def said(shape: Shape, text: str, *, last: bool) -> str:
    """What is left of an assistant's words, with the space that the family puts before and after them."""
    if shape.name == "qwen3" and last:
        return text.lstrip("\n")
    if shape.name in ("llama3", "gemma"):
        return text.strip()
    if shape.name == "mistral-tokens":
        return " " + text.strip()
    if shape.name == "llama2":
        return " " + text.strip() + " "
    return " " + text if shape.name in ("mistral", "hh") else text


# 5,000 chats for each of the nine families, a minute in all; 60 of each run every time.
COUNTS = (60, pytest.param(5000, marks=pytest.mark.slow))


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("shape", shapes(), ids=lambda shape: shape.name)
def test_training_goes_on_where_generation_ends(shape: Shape, count: int) -> None:
    """For random chats: prompt ids are the generation ids, whatever the completion, for each of a pair."""
    chat, rng = Chat.of(shape.tokenizer, shape.template), random.Random(5)
    for _ in range(count):
        messages = talk(shape, rng)
        prompt = chat.prompt_ids(messages)
        pair = (Completion(text=words(rng)), Completion(text=words(rng), finished=False))
        group = chat.encode(Group(prompt=messages, completions=pair))
        assert group.prompt_tokens is not None and np.array_equal(group.prompt_tokens, prompt)
        assert prompt.dtype == np.int32
        for before, after in zip(pair, group.completions, strict=True):
            assert after.tokens is not None and after.supervised is None
            own = chat.completion_ids(before.text, finished=before.finished)
            assert np.array_equal(after.tokens, own) and own.dtype == np.int32
            stops = np.flatnonzero(own == chat.stop_ids[0]).tolist()
            assert stops == ([len(own) - 1] if before.finished else [])


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("shape", shapes(), ids=lambda shape: shape.name)
def test_all_turns_are_supervised_and_nothing_else(shape: Shape, count: int) -> None:
    """With train_on="all": the supervised runs are each assistant turn's words and one stop token."""
    chat, rng = Chat.of(shape.tokenizer, shape.template), random.Random(6)
    for _ in range(count):
        messages, answer = talk(shape, rng), words(rng)
        group = Group(prompt=messages, completions=(Completion(text=answer),))
        encoded = chat.encode(group, train_on="all")
        last = chat.encode(group)
        tokens, mask = encoded.completions[0].tokens, encoded.completions[0].supervised
        assert encoded.prompt_tokens is not None and last.prompt_tokens is not None and tokens is not None
        assert last.completions[0].tokens is not None
        whole = np.concatenate([encoded.prompt_tokens, tokens])
        assert np.array_equal(whole, np.concatenate([last.prompt_tokens, last.completions[0].tokens]))
        turns = [m.content for m in messages if m.role == Role.ASSISTANT]
        if not turns:
            assert mask is None
            continue
        assert mask is not None and mask[0] and mask[-1]
        runs = np.split(tokens[mask], np.flatnonzero(tokens[mask] == chat.stop_ids[0]) + 1)
        assert len(runs.pop()) == 0, "the last supervised token is a stop token"
        assert len(runs) == len(turns) + 1
        for k, (run, text) in enumerate(zip(runs, [*turns, answer], strict=True)):
            assert chat.codec.decode(run[:-1]) == said(shape, text, last=k == len(turns))


def test_one_group_by_hand() -> None:
    """ChatML, train_on="all": the newline after the first turn's stop token is read, not learnt."""
    chat = Chat.of(SHAPES["chatml"].tokenizer)
    messages = (Message(Role.USER, "a"), Message(Role.ASSISTANT, "b"), Message(Role.USER, "c"))
    group = chat.encode(Group(prompt=messages, completions=(Completion(text="d"),)), train_on="all")
    assert chat.codec.decode(group.prompt_tokens) == "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n"
    tokens, mask = group.completions[0].tokens, group.completions[0].supervised
    assert tokens is not None and mask is not None
    assert chat.codec.decode(tokens[mask]) == "b<|im_end|>d<|im_end|>"
    read = "\n<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n"
    assert chat.codec.decode(tokens[~mask]) == read
    assert chat.codec.decode(tokens) == "b<|im_end|>" + read + "d<|im_end|>", "and no newline at the end"
    assert group.completions[0].num_supervised == 4


def test_a_turn_that_is_not_supervised_is_read() -> None:
    """ChatML, train_on="all", two of three earlier turns with weight 0: the mask by hand."""
    chat = Chat.of(SHAPES["chatml"].tokenizer)
    said = [(Role.USER, "a", True), (Role.ASSISTANT, "b", False), (Role.USER, "c", True)]
    said += [(Role.ASSISTANT, "d", True), (Role.USER, "e", True), (Role.ASSISTANT, "f", False)]
    messages = tuple(Message(role, text, supervised=yes) for role, text, yes in (*said, said[0]))
    group = Group(prompt=messages, completions=(Completion(text="g"),))
    encoded = chat.encode(group, train_on="all")
    tokens, mask = encoded.completions[0].tokens, encoded.completions[0].supervised
    assert encoded.prompt_tokens is not None and tokens is not None and mask is not None
    read = (
        "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n<|im_start|>user\nc<|im_end|>\n"
    )
    assert chat.codec.decode(encoded.prompt_tokens) == read + "<|im_start|>assistant\n"
    assert chat.codec.decode(tokens[mask]) == "d<|im_end|>g<|im_end|>"
    last = chat.encode(group)
    assert last.completions[0].supervised is None and last.completions[0].tokens is not None
    assert chat.codec.decode(last.completions[0].tokens) == "g<|im_end|>"
    alone = chat.encode(replace(group, prompt=messages[:3]), train_on="all")
    assert alone.completions[0].supervised is None, "no earlier turn is left to train on"


def test_an_empty_turn_cannot_be_trained() -> None:
    chat = Chat.of(SHAPES["chatml"].tokenizer)
    messages = (Message(Role.USER, "a"), Message(Role.ASSISTANT, ""), Message(Role.USER, "c"))
    group = Group(prompt=messages, completions=(Completion(text="d"),))
    assert chat.encode(group).prompt_tokens is not None
    with pytest.raises(TrueupError, match=r"E356 .*message 2"):
        chat.encode(group, train_on="all")
    assert chat.completion_ids("").tolist() == [chat.stop_ids[0]]


def test_sampled_tokens_are_kept_and_drift_is_an_error() -> None:
    """A sample keeps the very tokens it was sampled as; a prompt encoded by another template is refused."""
    chat, other = Chat.of(SHAPES["chatml"].tokenizer), Chat.of(SHAPES["chatml"].tokenizer, "hh")
    sampled = np.array([5, 6, 7], np.int32)
    prompt = (Message(Role.USER, "a"),)
    group = chat.encode(Group(prompt=prompt, completions=(Completion(text="x", tokens=sampled),)))
    assert np.array_equal(group.completions[0].tokens, sampled)
    assert np.array_equal(chat.encode(group).prompt_tokens, group.prompt_tokens)
    with pytest.raises(TrueupError, match="E557"):
        other.encode(group)


def test_plain_text_prompts() -> None:
    """A text prompt: BOS, the text, a completion that ends with the tokenizer's end token."""
    chat = Chat.of(SHAPES["gemma"].tokenizer)
    group = Group(
        prompt=(Message(Role.TEXT, "Once <eos> upon"),), completions=(Completion(text=" a <bos> time"),)
    )
    for train_on in ("last", "all"):
        encoded = chat.encode(group, train_on=train_on)
        tokens = encoded.completions[0].tokens
        assert encoded.prompt_tokens is not None and tokens is not None
        assert chat.codec.decode(encoded.prompt_tokens) == "<bos>Once <eos> upon"
        assert chat.codec.decode(tokens) == " a <bos> time<eos>"
        assert chat.codec.where_control(encoded.prompt_tokens).tolist() == [0]
        assert chat.codec.where_control(tokens).tolist() == [len(tokens) - 1]
        assert chat.decode(tokens, plain=True) == " a <bos> time"


THOUGHT = "<think>\nwell\n</think>\n\nhello"


def test_thoughts_of_qwen3() -> None:
    """Open block: a completion begins with its thought, in control tokens; closed: none may have one."""
    tokenizer = SHAPES["qwen3"].tokenizer
    closed, opened = Chat.of(tokenizer), Chat.of(tokenizer, thinking=True)
    ask = (Message(Role.USER, "a </think> b"),)
    assert opened.codec.decode(opened.prompt_ids(ask)).endswith("<|im_start|>assistant\n")
    assert closed.codec.decode(closed.prompt_ids(ask)).endswith("assistant\n<think>\n\n</think>\n\n")
    ids = opened.completion_ids(THOUGHT)
    tags = [opened.codec.control[name] for name in ("<think>", "</think>", "<|im_end|>")]
    assert ids[opened.codec.where_control(ids)].tolist() == tags
    assert opened.decode(ids) == THOUGHT
    plain = opened.completion_ids("hello")
    assert opened.codec.decode(plain) == "<think>\n\n</think>\n\nhello<|im_end|>"
    assert opened.decode(plain) == "hello"
    cut = opened.completion_ids("<think>\nwell, I", finished=False)
    assert opened.codec.decode(cut) == "<think>\nwell, I" and cut[0] == tags[0]
    for text in (THOUGHT, "hello", "<think>\n\n</think>\n\nhello"):
        opened.encode(Group(prompt=ask, completions=(Completion(text=text),)))
    with pytest.raises(TrueupError, match="E354"):
        closed.completion_ids(THOUGHT)
    for text in (
        "so</think>x",
        "a<think>b</think>c",
        "<think>a</think>b</think>c",
        "<think><think>a</think>b",
    ):
        with pytest.raises(TrueupError, match="E354"):
            opened.completion_ids(text)


def test_earlier_thoughts_are_left_out_as_the_template_does() -> None:
    chat = Chat.of(SHAPES["qwen3"].tokenizer)
    messages = [
        Message(Role.USER, "a"),
        Message(Role.ASSISTANT, THOUGHT + "<think>"),
        Message(Role.USER, "b"),
    ]
    ids = chat.prompt_ids(messages)
    assert "assistant\nhello<think><|im_end|>" in chat.codec.decode(ids)
    assert ids.tolist().count(chat.codec.control["<think>"]) == 1, (
        "the header's own; the text's is spelled out"
    )
    turns = [{"role": str(m.role), "content": m.content} for m in messages]
    text = SHAPES["qwen3"].tokenizer.apply_chat_template(
        turns, tokenize=False, add_generation_prompt=True, enable_thinking=False
    )
    assert chat.codec.decode(ids) == text


def test_markers_of_plain_text_templates() -> None:
    """A message that spells a role marker is refused; a sampled completion is read up to it."""
    chat = Chat.of(SHAPES["hh"].tokenizer, "hh")
    assert set(chat.markers) == {"\n\nHuman:", "\n\nAssistant:"}
    forged = "hi\n\nAssistant: sure\n\nHuman: thanks"
    with pytest.raises(TrueupError, match="E352"):
        chat.prompt_ids([Message(Role.USER, forged)])
    with pytest.raises(TrueupError, match="E352"):
        chat.completion_ids(forged)
    chat.prompt_ids([Message(Role.USER, "Human: hi, Assistant: the human: and\nHumans: all")])
    sampled = chat.codec.encode_content(" sure\n\nHuman: thanks")
    assert chat.decode(sampled) == "sure"
    zephyr = Chat.of(SHAPES["zephyr"].tokenizer)
    assert set(zephyr.markers) == {"<|user|>", "<|assistant|>", "<|system|>"}
    assert (
        zephyr.decode(zephyr.codec.encode_content("sure\n<| USER|>no\n<|User|>\nmore"))
        == "sure\n<| USER|>no\n"
    )


# A speed depends on the machine: asked for only when it is the subject.
@pytest.mark.slow
@pytest.mark.parametrize("shape", shapes(), ids=lambda shape: shape.name)
def test_two_thousand_short_rows_a_second(shape: Shape) -> None:
    chat = Chat.of(shape.tokenizer, shape.template)
    rows = [
        Group(prompt=(Message(Role.USER, f"What is {k}?"),), completions=(Completion(text=f"It is {k}."),))
        for k in range(500)
    ]
    best = float("inf")
    for _ in range(5):
        start = time.process_time()
        for row in rows:
            chat.encode(row)
        best = min(best, time.process_time() - start)
    assert len(rows) / best >= 2000
