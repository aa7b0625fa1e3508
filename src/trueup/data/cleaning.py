"""Prompts made fit to learn from: repeated, near and personal ones left out, prolific users capped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

from trueup.data.hygiene import Kept, cap_per_user, dedupe_by_prefix, drop_personal
from trueup.data.personal import find_personal, redact
from trueup.data.similar import drop_near_duplicates
from trueup.engine.groups import Group


@dataclass(frozen=True, kw_only=True)
class Hygiene:
    """What makes a prompt unfit (Ouyang et al. 2022, section 3.2)."""

    prefix: Annotated[int, Ge(1)] = 256
    "Of prompts that share so many first characters one stays."
    near: Annotated[float, Gt(0), Le(1)] | None = 0.8
    "Jaccard similarity of runs of three words from which a prompt repeats an earlier one; null: no matter."
    per_user: Annotated[int, Ge(1)] = 200
    "Most prompts of one user."
    personal: Literal["drop", "redact", "flag", "ignore"] = "drop"
    "E-mail, phone, card, IBAN, IP: left out, shown as `[email]`, marked in `meta`, or not looked for."


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleaned:
    """The groups that stay, in their old order, and what became of the others."""

    groups: list[Group]
    num_in: int
    dropped: dict[str, int]
    "How many left, by reason."
    marked: int = 0
    "How many stay that hold personal data, redacted or flagged."


def clean(groups: Sequence[Group], how: Hygiene, *, seed: int = 0) -> Cleaned:
    """The groups that `how` lets pass: num_in = len(groups) + sum(dropped).

    In this order: personal data, equal beginnings, near-duplicates, the cap; a duplicate uses up nothing of
    its user's share. Raises E732 where personal data is looked for without `trueup[personal]`.
    """
    left, dropped, marked = list(groups), Counter[str](), 0
    if how.personal in ("redact", "flag"):
        change = _redacted if how.personal == "redact" else _flagged
        changed = [change(group) for group in left]
        marked = sum(new is not old for new, old in zip(changed, left, strict=True))
        left = changed
    rules = [
        drop_personal if how.personal == "drop" else None,
        partial(dedupe_by_prefix, num_chars=how.prefix),
        partial(drop_near_duplicates, threshold=how.near, seed=seed) if how.near is not None else None,
        partial(cap_per_user, most=how.per_user, seed=seed),
    ]
    for rule in filter(None, rules):
        found: Kept = rule(left)
        left = found.groups
        dropped.update(found.dropped)
    return Cleaned(groups=left, num_in=len(groups), dropped=dict(dropped), marked=marked)


def _redacted(group: Group) -> Group:
    prompt = tuple(replace(message, content=redact(message.content)) for message in group.prompt)
    completions = tuple(replace(c, text=redact(c.text)) for c in group.completions)
    same = prompt == group.prompt and all(
        a.text == b.text for a, b in zip(completions, group.completions, strict=True)
    )
    return group if same else replace(group, prompt=prompt, completions=completions)


def _flagged(group: Group) -> Group:
    texts = [message.content for message in group.prompt] + [c.text for c in group.completions]
    kinds = sorted({item.kind for text in texts for item in find_personal(text)})
    return replace(group, meta={**group.meta, "personal": kinds}) if kinds else group
