"""What only shows across rows: contradictory pairs, duplicates, one-sided labels, sides of unequal length."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

from trueup.data.problems import Fault, printable
from trueup.data.raw_rows import RawRow
from trueup.data.turns import KEYS
from trueup.engine.groups import Group

_CONTROL_LIKE = re.compile(rb"<\|[A-Za-z_]{2,30}\|>|\[/?INST\]|<</?SYS>>|</?s>|<(?:start|end)_of_turn>")

_MOST_NAMES, _SHOWN = 1000, 12
"Names of unread columns that are counted, and that a note shows."


@final
@dataclass(slots=True)
class Watch:
    """Collects what is worth a note while rows go by, and refuses pairs that contradict an earlier one.

    Rows are remembered by 64-bit hashes: ten million rows collide by chance once in some 300,000 files.
    """

    pairs: dict[int, int] = field(default_factory=dict)
    rows: set[int] = field(default_factory=set)
    prompts: set[int] = field(default_factory=set)
    tally: Counter[str] = field(default_factory=Counter)
    unread: Counter[str] = field(default_factory=Counter)
    "How often each column, or key of a message (`messages[].key`), stood there without being read."

    def raw(self, row: RawRow) -> None:
        """None; counts rows that hold something like a control token, and a byte order mark."""
        if row.byte == 0 and row.raw.startswith(b"\xef\xbb\xbf"):
            self.tally["bom"] += 1
        raw = row.raw
        if (b"<" in raw or b"INST]" in raw) and _CONTROL_LIKE.search(raw):
            self.tally["control"] += 1

    def groups(self, groups: Sequence[Group], line: int) -> None:
        """None. Raises Fault E404 when a group prefers what an earlier row rejected."""
        for group in groups:
            texts = tuple((c.text, c.thinking, c.tool_calls) for c in group.completions)
            prompt = hash(group.prompt)
            if len(texts) == 2 and len(group.comparisons) == 1 and not group.comparisons[0].labeler:
                self._pair(prompt, texts, line)
            whole = hash((prompt, texts, group.comparisons, group.rankings, group.scores))
            self.tally["duplicate"] += whole in self.rows
            self.rows.add(whole)
            self.prompts.add(prompt)
            self.tally["group"] += 1
            for score in group.scores:
                if score.judge == "label":
                    self.tally["good" if score.value else "bad"] += 1

    def keys(self, row: Mapping[str, Any], known: frozenset[str]) -> None:
        """None; counts the columns that are not in `known`, and the keys of messages that nothing reads."""
        for key, value in row.items():
            if key in known:
                for item in value if isinstance(value, list) else (value,):
                    if isinstance(item, dict) and ("role" in item or "from" in item) and item.keys() - KEYS:
                        self._count(f"{key}[].{k}" for k in item.keys() - KEYS if item[k] is not None)
            elif value is not None:
                self._count((key,))

    def _count(self, names: Iterable[str]) -> None:
        for name in names:
            if name in self.unread or len(self.unread) < _MOST_NAMES:
                self.unread[name] += 1

    def _pair(self, prompt: int, texts: tuple[Any, ...], line: int) -> None:
        first, second = texts
        swapped = self.pairs.get(hash((prompt, second, first)))
        if swapped is not None:
            reason, found = "contradicts an earlier row, which prefers the other side", f"line {swapped}"
            raise Fault("E404", reason, field="chosen", found=found, remedy="keep one of the two rows")
        self.pairs.setdefault(hash((prompt, first, second)), line)
        self.tally["pair"] += 1
        self.tally["longer"] += len(first[0]) > len(second[0])
        self.tally["shorter"] += len(first[0]) < len(second[0])

    def notes(self) -> tuple[str, ...]:
        """The notes, each one sentence with its numbers."""
        t, made = self.tally, []
        if t["bom"]:
            made.append("a byte order mark at the start was passed over")
        if t["duplicate"]:
            made.append(f"{t['duplicate']} groups repeat an earlier one exactly")
        if t["group"] > len(self.prompts):
            made.append(f"{len(self.prompts)} distinct prompts in {t['group']} groups")
        if t["pair"]:
            made.append(
                f"chosen is longer in {t['longer']} of {t['pair']} pairs ({t['longer'] / t['pair']:.0%}), "
                f"shorter in {t['shorter']}"
            )
        if t["good"] or t["bad"]:
            one_sided = "" if t["good"] and t["bad"] else " (one-sided: nothing to tell apart)"
            made.append(f"labels: {t['good']} good, {t['bad']} bad{one_sided}")
        if t["control"]:
            rows = "1 row holds" if t["control"] == 1 else f"{t['control']} rows hold"
            made.append(f"{rows} text that looks like control tokens; it is read as plain text")
        return (*made, *self.unread_notes())

    def unread_notes(self) -> tuple[str, ...]:
        """The notes on columns and keys that no format reads, most frequent first."""
        kinds = ("columns kept in meta, not trained on", "keys of messages that nothing reads")
        named: tuple[list[str], list[str]] = ([], [])
        for name, count in self.unread.most_common():
            named["[]." in name].append(f"{printable(str(name))[:60]} ({count})")
        return tuple(
            f"{kind}: {', '.join(names[:_SHOWN])}"
            + (f" and {len(names) - _SHOWN} more" if names[_SHOWN:] else "")
            for kind, names in zip(kinds, named, strict=True)
            if names
        )
