"""The preview shows which tokens are learnt, and shows what a terminal would act on."""

from __future__ import annotations

import pytest

from chat_shapes import shapes
from trueup.chat import Chat
from trueup.chat.preview import CONTROL, LEARNT, LEARNT_CONTROL, READ, render_preview
from trueup.engine.groups import Completion, Group, Message, Role
from trueup.errors import TrueupError

CHAT = Chat.of(next(shape for shape in shapes() if shape.name == "chatml").tokenizer)


def spans(group: Group) -> list[tuple[str, str]]:
    text = render_preview(CHAT, group)
    return [(text.plain[span.start : span.end], str(span.style)) for span in text.spans]


def test_by_hand() -> None:
    messages = (Message(Role.USER, "a"), Message(Role.ASSISTANT, "b 🙂"), Message(Role.USER, "c"))
    group = CHAT.encode(Group(prompt=messages, completions=(Completion(text="d"),)), train_on="all")
    assert spans(group) == [
        spans(group)[0],
        ("<|im_start|>", CONTROL),
        ("user\na", READ),
        ("<|im_end|>", CONTROL),
        ("\n", READ),
        ("<|im_start|>", CONTROL),
        ("assistant\n", READ),
        spans(group)[7],
        ("b 🙂", LEARNT),
        ("<|im_end|>", LEARNT_CONTROL),
        ("\n", READ),
        ("<|im_start|>", CONTROL),
        ("user\nc", READ),
        ("<|im_end|>", CONTROL),
        ("\n", READ),
        ("<|im_start|>", CONTROL),
        ("assistant\n", READ),
        ("d", LEARNT),
        ("<|im_end|>", LEARNT_CONTROL),
    ]
    assert group.prompt_tokens is not None and group.completions[0].tokens is not None
    assert spans(group)[0][0].startswith(f"prompt — {len(group.prompt_tokens)} tokens")
    count = f"{len(group.completions[0].tokens)} tokens, {group.completions[0].num_supervised} supervised"
    assert spans(group)[7][0].strip() == f"completion 1 — {count}"


def test_control_characters_are_shown_by_their_code() -> None:
    group = CHAT.encode(
        Group(
            prompt=(Message(Role.USER, "\x1b[31mred \u202e [bold]x[/bold]"),),
            completions=(Completion(text="y"),),
        )
    )
    plain = render_preview(CHAT, group).plain
    assert (
        "\\u{1b}[31mred \\u{202e} [bold]x[/bold]" in plain and "\x1b" not in plain and "\u202e" not in plain
    )


def test_a_group_without_tokens_is_an_error() -> None:
    with pytest.raises(TrueupError, match="E556"):
        render_preview(CHAT, Group(prompt=(Message(Role.USER, "a"),)))
