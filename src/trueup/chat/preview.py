"""An encoded group as a person should see it: what is read, what is learnt, where control tokens are."""

from __future__ import annotations

import unicodedata
from itertools import groupby

import numpy as np
from rich.text import Text

from trueup.chat.encoder import Chat
from trueup.engine.groups import Group
from trueup.errors import TrueupError, counted

READ = "dim"
"Style of tokens that no loss touches."
LEARNT = "bold green"
"Style of supervised tokens."
CONTROL = "magenta"
LEARNT_CONTROL = "bold black on green"


def render_preview(chat: Chat, group: Group) -> Text:
    """The group as coloured text: supervised tokens green, others dim, control tokens marked.

    Characters that a terminal would act on (escape sequences, direction marks) are shown by their code.
    E556 if the group is not encoded.
    """
    if group.prompt_tokens is None or any(c.tokens is None for c in group.completions):
        raise TrueupError("E556", f"group {group.id!r} is not encoded", remedy="chat.encode it first")
    out = Text(no_wrap=False)
    count = len(group.prompt_tokens)
    out.append(f"prompt — {counted(count, 'token')}, none supervised\n", style="underline")
    _append(out, chat, group.prompt_tokens, np.zeros(count, bool))
    for number, completion in enumerate(group.completions, 1):
        assert completion.tokens is not None
        mask = completion.supervised
        mask = np.ones(len(completion.tokens), bool) if mask is None else mask
        title = f"\ncompletion {number} — {counted(len(mask), 'token')}, {int(mask.sum())} supervised\n"
        out.append(title, style="underline")
        _append(out, chat, completion.tokens, mask)
    out.append("\n")
    return out


def _append(out: Text, chat: Chat, ids: np.ndarray, mask: np.ndarray) -> None:
    """Adds the ids to the text, in runs of one style: a character's bytes may lie in several tokens."""

    def kind(position: int) -> tuple[bool, bool]:
        return bool(mask[position]), int(ids[position]) in chat.codec.names

    for (learnt, control), run in groupby(range(len(ids)), kind):
        style = (LEARNT_CONTROL if control else LEARNT) if learnt else (CONTROL if control else READ)
        out.append(visible(chat.codec.decode([int(ids[k]) for k in run])), style=style)


def visible(text: str) -> str:
    """The text with every character that a terminal would act on, but newline and tab, shown by its code."""
    return "".join(
        c if c in "\n\t" or unicodedata.category(c)[0] != "C" else f"\\u{{{ord(c):x}}}" for c in text
    )
