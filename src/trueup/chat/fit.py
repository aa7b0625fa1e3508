"""Encoded groups within a length limit. A completion is never cut; what was done is said and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from trueup.chat.encoder import Chat
from trueup.engine.groups import Group
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


def fit(chat: Chat, group: Group, max_tokens: int, policy: Policy = "error") -> Fitted:
    """The encoded group, such that the prompt and each single completion together have at most `max_tokens`.

    All completions of a group keep the same prompt. `truncate_prompt_start` takes tokens from the prompt's
    beginning, after its BOS token, and leaves at least one; where even that is too long, because a completion
    is, the group is dropped. E556 with `error`.
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
            remedy="raise max_tokens, or choose the policy drop or truncate_prompt_start",
        )
    cut = length - max_tokens
    head = int(len(prompt) > 0 and int(prompt[0]) == chat.bos)
    if policy == "drop" or cut > len(prompt) - head - 1:
        return Fitted(group=None, action="dropped", length=length)
    kept = np.concatenate([prompt[:head], prompt[head + cut :]])
    return Fitted(group=replace(group, prompt_tokens=kept), action="truncated", num_cut=cut, length=length)


def fit_all(
    chat: Chat, groups: Iterable[Group], max_tokens: int, policy: Policy = "error"
) -> tuple[list[Group], FitReport]:
    """The groups that `fit` leaves, in order, and the count of what it did."""
    kept: list[Group] = []
    dropped: list[str] = []
    done: Counter[str] = Counter()
    for group in groups:
        fitted = fit(chat, group, max_tokens, policy)
        done.update({fitted.action: 1, "cut": fitted.num_cut})
        if fitted.group is None:
            dropped.append(group.id)
        else:
            kept.append(fitted.group)
    return kept, FitReport(
        num_kept=done["kept"],
        num_truncated=done["truncated"],
        num_dropped=len(dropped),
        num_cut=done["cut"],
        dropped=tuple(dropped),
    )
