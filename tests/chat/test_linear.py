"""What long conversations and long texts cost: no more than in proportion, and no recursion."""

from __future__ import annotations

import time
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, models
from transformers import PreTrainedTokenizerFast

from chat_shapes import CHATML, IM, Shape, byte_level, shapes
from plain_roles import plain_roles
from trueup.chat import Chat, bounded
from trueup.chat.codec import Codec
from trueup.engine.groups import Completion, Group, Message, Role

# Looks at every content in a way that cannot be written down: each row is rendered.
READS = CHATML.replace("message['content'] +", "message['content'][:] +")
SHAPES = {shape.name: shape for shape in (*shapes(), *plain_roles())}
SHAPES["reads"] = Shape("reads", byte_level(IM, eos=IM[2], template=READS), True, IM[2])


def talk(turns: int) -> Group:
    roles = (Role.USER, Role.ASSISTANT)
    prompt = tuple(Message(roles[k % 2], f"w{k}") for k in range(turns - 1 + turns % 2))
    return Group(prompt=prompt, completions=(Completion(text="well"),))


def seconds(chat: Chat, group: Group, times: int) -> float:
    spent = []
    for _ in range(times):
        chat.layout.known.clear()  # type: ignore[union-attr]  # Every chat here has a template.
        start = time.process_time()
        chat.encode(group, train_on="all")
        spent.append(time.process_time() - start)
    return min(spent)


@pytest.mark.parametrize(
    ("name", "most"),
    [
        *((name, 1_001) for name in ("llama3", "openchat", "hh", "reads")),
        *((name, 10_001) for name in ("chatml", "qwen3")),
        *(pytest.param(name, 10_001, marks=pytest.mark.slow) for name in ("openchat", "hh", "reads")),
    ],
)
def test_a_conversation_costs_in_proportion_to_its_turns(
    name: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First seen: as many renderings for 10 turns as for 10,000, and tenfold work for tenfold turns."""
    chat, asked = Chat.of(SHAPES[name].tokenizer, SHAPES[name].template), []
    real = bounded.render
    monkeypatch.setattr(bounded, "render", lambda *a: asked.append(len(a[2]["messages"])) or real(*a))
    counts = []
    for turns in (11, most // 10, most):
        asked.clear()
        encoded = chat.encode(talk(turns), train_on="all")
        counts.append(len(asked))
        assert encoded.completions[0].supervised is not None
        assert encoded.completions[0].supervised.sum() >= turns
    assert max(counts) == min(counts) <= 14
    few, many = seconds(chat, talk(most // 10), 3), seconds(chat, talk(most), 3 if most < 5000 else 2)
    assert many < 30 * few, "a hundred times if quadratic"


@pytest.mark.parametrize("most", [200_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("piece", ["word ", "x", "<|end_of_turn|>", "\n", "GPT4 Correct ", "漢"])
def test_a_long_message_costs_in_proportion_to_its_length(piece: str, most: int) -> None:
    """Of words, of one letter, of tokens' texts, of half markers: tenfold work for tenfold characters."""
    chat = Chat.of(SHAPES["openchat"].tokenizer)

    def spent(size: int) -> float:
        text = "a" + piece * (size // len(piece)) + "b"
        start = time.process_time()
        chat.prompt_ids([Message(Role.USER, text)])
        return time.process_time() - start

    assert spent(most) < 40 * min(spent(most // 10) for _ in range(3))


def test_a_text_of_control_pieces_needs_no_recursion() -> None:
    """A hundred thousand `</s>`, which a Unigram model has for pieces: spelled out, in one pass."""
    pieces: list[Any] = [("<unk>", 0.0), ("</s>", 0.0), *((c, -5.0) for c in "</s>"), ("a", -3.0)]
    raw = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=False))
    raw.add_special_tokens([AddedToken("</s>", normalized=False), AddedToken("<unk>", normalized=False)])
    codec = Codec.of(PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="</s>"))
    for text in ("</s>" * 100_000, "a</s>" * 20_000, "<" * 3 + "</s>/s>" * 20_000):
        ids = codec.encode_content(text)
        assert 1 not in ids and "".join(raw.id_to_token(number) for number in ids) == text
