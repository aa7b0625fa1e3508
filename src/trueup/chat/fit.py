"""Encoded groups within a length limit. A completion is never cut; what was done is said and counted."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from trueup.chat.encoder import Chat, is_text
from trueup.engine.groups import Group, Role
from trueup.engine.views import flat
from trueup.errors import TrueupError

Policy = Literal["error", "drop", "truncate_prompt_start"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """One group within the limit, or None where it was dropped, and what was done to it."""

    group: Group | None
    action: Literal["kept", "truncated", "dropped"]
    num_cut: int = 0
    "Prompt tokens taken away."
    length: int
    "Tokens of the prompt and the longest completion, before."


@dataclass(frozen=True, slots=True, kw_only=True)
class FitReport:
    """How many groups were kept whole, truncated and dropped; the three add up to all of them."""

    num_kept: int
    num_truncated: int
    num_dropped: int
    num_cut: int
    "Prompt tokens taken away, over all groups."
    dropped: tuple[str, ...]
    "The ids of the dropped groups, in order."
    longest: int = 0
    "Tokens of the longest group, before."
    shortest_dropped: int = 0
    longest_left: int = 0
    "As `longest`, of what is left."
    longest_prompt: int = 0
    "Tokens of the longest prompt that is left."


def fit(chat: Chat, group: Group, max_tokens: int, policy: Policy = "error") -> Fitted:
    """The encoded group, such that the prompt and each single completion together have at most `max_tokens`.

    All completions of a group keep the same prompt. `truncate_prompt_start` takes whole turns from the
    conversation's beginning: what is left keeps the system message, begins with a user's turn and holds
    the last one. Of a prompt that is plain text it takes tokens, behind its BOS token, and leaves at least
    one. Where even that is too long the group is dropped. E556 with `error`.
    """
    if group.prompt_tokens is None or any(c.tokens is None for c in group.completions):
        raise TrueupError("E556", f"group {group.id!r} is not encoded", remedy="chat.encode it first")
    prompt = group.prompt_tokens
    longest = max((len(c.tokens) for c in group.completions if c.tokens is not None), default=0)
    length = len(prompt) + longest
    if length <= max_tokens:
        return Fitted(group=group, action="kept", length=length)
    if policy == "error":
        raise TrueupError(
            "E556",
            f"group {group.id!r} has {len(prompt)} prompt tokens and a completion of {longest}, "
            f"more than max_tokens = {max_tokens} together",
            remedy=f"--data.max_tokens {length} holds it, --data.overlong drop leaves such rows out",
        )
    shortened = None if policy == "drop" else _shortened(chat, group, max_tokens)
    if shortened is None:
        return Fitted(group=None, action="dropped", length=length)
    cut = length - len_of(shortened)
    return Fitted(group=shortened, action="truncated", num_cut=cut, length=length)


def len_of(group: Group) -> int:
    """Tokens of the prompt and the longest completion."""
    prompt = 0 if group.prompt_tokens is None else len(group.prompt_tokens)
    return prompt + max((c.num_tokens for c in group.completions), default=0)


def _shortened(chat: Chat, group: Group, max_tokens: int) -> Group | None:
    """The group with as much of its prompt's end as fits; None where nothing that may stay does."""
    messages, prompt = group.prompt, group.prompt_tokens
    assert prompt is not None, "an encoded group"
    if is_text(messages):
        cut, head = len_of(group) - max_tokens, int(len(prompt) > 0 and int(prompt[0]) == chat.bos)
        if cut > len(prompt) - head - 1:
            return None
        return replace(group, prompt_tokens=np.concatenate([prompt[:head], prompt[head + cut :]]))
    # What of the dialogue was moved into the completions, to be trained on, goes back before it is cut.
    moved = len(chat.prompt_ids(messages)) - len(prompt)
    answers = [
        replace(c, tokens=c.tokens[moved:], supervised=None if c.supervised is None else c.supervised[moved:])
        for c in group.completions
        if c.tokens is not None
    ]
    first = int(messages[0].role == Role.SYSTEM)
    starts = [k for k, message in enumerate(messages) if message.role == Role.USER and k > first]

    def encoded(start: int) -> Group:
        left = (*messages[:first], *messages[start:])
        kept = replace(
            group,
            prompt=(replace(left[0], tools=messages[0].tools), *left[1:]),
            prompt_tokens=None,
            completions=tuple(answers),
        )
        return chat.encode(kept, train_on="all" if moved else "last")

    # The later it begins the shorter it is, so that of n places log2(n) are looked at.
    place = bisect_left(starts, True, key=lambda start: len_of(encoded(start)) <= max_tokens)
    return encoded(starts[place]) if place < len(starts) else None


def fit_all(
    chat: Chat,
    groups: Sequence[Group],
    max_tokens: int,
    policy: Policy = "error",
    seen: Callable[[Group], object] = lambda group: None,
) -> tuple[Sequence[Group], FitReport]:
    """The groups that `fit` leaves, in order, and the count of what it did; `seen` is shown each one."""
    dropped: list[str] = []
    done: Counter[str] = Counter()
    lengths: list[int] = []
    longest = longest_left = longest_prompt = 0

    def fitting(group: Group) -> tuple[Group, ...]:
        kept = fit(chat, group, max_tokens, policy).group
        return () if kept is None else (kept,)

    def counted(group: Group) -> tuple[Group, ...]:
        nonlocal longest, longest_left, longest_prompt
        fitted = fit(chat, group, max_tokens, policy)
        longest = max(longest, fitted.length)
        done.update({fitted.action: 1, "cut": fitted.num_cut})
        if fitted.group is None:
            dropped.append(group.id)
            lengths.append(fitted.length)
            return ()
        assert fitted.group.prompt_tokens is not None, "it was encoded"
        longest_left = max(longest_left, fitted.length - fitted.num_cut)
        longest_prompt = max(longest_prompt, len(fitted.group.prompt_tokens))
        seen(fitted.group)
        return (fitted.group,)

    left = flat(groups, fitting, first=counted)
    return left, FitReport(
        num_kept=done["kept"],
        num_truncated=done["truncated"],
        num_dropped=len(dropped),
        num_cut=done["cut"],
        dropped=tuple(dropped),
        longest=longest,
        shortest_dropped=min(lengths, default=0),
        longest_left=longest_left,
        longest_prompt=longest_prompt,
    )
