"""Prompt hygiene as InstructGPT did it: pure functions of groups and a seed; nothing leaves uncounted.

Reference: Ouyang et al. 2022 (InstructGPT), section 3.2: prompts are deduplicated by long common prefix, at
most 200 are kept per user, train, validation and test are split by user, and prompts of the training split
with personally identifiable information are filtered out.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trueup.data.personal import find_personal
from trueup.engine.groups import Group, digest
from trueup.errors import TrueupError


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The groups that stay, in their old order, and how many left for which reason."""

    groups: list[Group]
    num_in: int
    dropped: Mapping[str, int]
    reasons: Mapping[int, str]
    "Why each that left did, by its place among those that came in."

    def __post_init__(self) -> None:
        assert self.num_in == len(self.groups) + sum(self.dropped.values()), "a group was lost"


def kept(groups: Sequence[Group], reasons: Mapping[int, str]) -> Kept:
    """The groups without those at the given positions, counted by reason."""
    stay = [group for index, group in enumerate(groups) if index not in reasons]
    counts = dict(Counter(reasons.values()))
    return Kept(groups=stay, num_in=len(groups), dropped=counts, reasons=dict(reasons))


def prompt_text(group: Group) -> str:
    """The prompt as one string: the turns with their roles, a line each."""
    return "\n".join(f"{message.role}: {message.content}" for message in group.prompt)


def normalise(text: str) -> str:
    """The text for comparison: NFKC, lower case, everything but letters and digits as one space."""
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))


def dedupe_by_prefix(groups: Sequence[Group], *, num_chars: int = 256) -> Kept:
    """The groups without those whose prompt shares its first `num_chars` characters with a kept one.

    Shorter prompts must be equal to count as duplicates. Sharing a prefix is an equivalence, so the result
    does not depend on the order: of each class the prompt that sorts first stays. Idempotent.
    """
    _at_least(num_chars, "num_chars")
    classes: dict[str, list[int]] = defaultdict(list)
    for index, group in enumerate(groups):
        classes[prompt_text(group)[:num_chars]].append(index)
    reasons: dict[int, str] = {}
    for members in classes.values():
        if len(members) > 1:
            first = min(members, key=lambda index: _sort_key(groups[index]))
            reasons.update((index, "shared prefix") for index in members if index != first)
    return kept(groups, reasons)


def cap_per_user(groups: Sequence[Group], *, most: int = 200, seed: int = 0) -> Kept:
    """The groups with at most `most` of each user, chosen by a seeded hash and not by position.

    Groups that name no user are all kept: nobody is known to be behind two of them.
    """
    _at_least(most, "most")
    by_user: dict[str, list[int]] = defaultdict(list)
    for index, group in enumerate(groups):
        if group.user:
            by_user[group.user].append(index)
    reasons: dict[int, str] = {}
    for members in by_user.values():
        members.sort(key=lambda index: (_hash(seed, *_sort_key(groups[index])), index))
        reasons.update((index, "over the cap of its user") for index in members[most:])
    return kept(groups, reasons)


def split_by_user(
    groups: Sequence[Group], fractions: Mapping[str, float], *, seed: int = 0
) -> dict[str, list[Group]]:
    """The groups in named splits, each user in one split only; `fractions` add up to 1.

    A user's split is a seeded hash of the name, so it stays the same when data is added. Groups that name no
    user go by their prompt, so equal prompts stay together. Raises TrueupError E701 for bad fractions.
    """
    if not fractions or min(fractions.values()) < 0 or abs(sum(fractions.values()) - 1.0) > 1e-9:
        reason = f"the fractions add up to {sum(fractions.values())}"
        raise TrueupError("E701", reason, where="fractions", remedy="make it 1")
    names = [name for name, fraction in fractions.items() if fraction > 0]
    ends = np.cumsum([fractions[name] for name in names])
    splits: dict[str, list[Group]] = {name: [] for name in fractions}
    for group in groups:
        owner = ("user", group.user) if group.user else ("prompt", normalise(prompt_text(group)))
        point = int(_hash(seed, *owner)[:13], 16) / 16**13
        splits[names[min(int(np.searchsorted(ends, point, side="right")), len(names) - 1)]].append(group)
    return splits


def drop_personal(groups: Sequence[Group], *, kinds: Iterable[str] = ()) -> Kept:
    """The groups whose prompt and completions hold no personal data, counted by the first kind found.

    `kinds` limits what counts (`email`, `phone`, `card`, `iban`, `ip`); empty means all.
    """
    wanted = frozenset(kinds)
    reasons: dict[int, str] = {}
    for index, group in enumerate(groups):
        texts = [message.content for message in group.prompt] + [c.text for c in group.completions]
        found = (item.kind for text in texts for item in find_personal(text))
        kind = next((kind for kind in found if not wanted or kind in wanted), None)
        if kind is not None:
            reasons[index] = f"personal data: {kind}"
    return kept(groups, reasons)


def _sort_key(group: Group) -> tuple[str, str]:
    return prompt_text(group), digest([group])


def _hash(seed: int, *parts: str) -> str:
    state = hashlib.sha256(f"trueup:{seed}".encode())
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")
        state.update(len(raw).to_bytes(8, "little") + raw)
    return state.hexdigest()


def _at_least(value: int, name: str) -> None:
    if value < 1:
        raise TrueupError("E701", f"{name} is {value}", where=name, remedy="give a number from 1 up")
