"""What only shows across rows: contradictory pairs, duplicates, one-sided labels, sides of unequal length."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np

from trueup.data.csv_cells import DELIMITERS
from trueup.data.problems import Fault, printable
from trueup.data.raw_rows import RawRow
from trueup.data.turns import KEYS
from trueup.engine.groups import Comparison, Group
from trueup.errors import counted

_CONTROL_LIKE = re.compile(rb"<\|[A-Za-z_]{2,30}\|>|\[/?INST\]|<</?SYS>>|</?s>|<(?:start|end)_of_turn>")

_MOST_NAMES, _SHOWN = 1000, 12
"Names of unread columns that are counted, and that a note shows."


@final
class Lines:
    """Which line each 64-bit hash was first seen in, in flat memory: 18 to 36 bytes a hash, not 150."""

    def __init__(self) -> None:
        self._hashes, self._lines, self._used = array("q", bytes(8 << 10)), array("I", bytes(4 << 10)), 0

    def first(self, hash_: int) -> int:
        """The line that the hash was put in with, from 1; 0 when it never was."""
        return self._lines[self._slot(hash_)]

    def put(self, hash_: int, line: int) -> None:
        """Nothing; a hash keeps the line it first came with."""
        slot = self._slot(hash_)
        if not self._lines[slot]:
            self._hashes[slot], self._lines[slot], self._used = hash_, line, self._used + 1
            if self._used * 3 > len(self._lines) * 2:
                self._grow()

    def _slot(self, hash_: int) -> int:
        hashes, lines, last = self._hashes, self._lines, len(self._lines) - 1
        slot = hash_ & last
        while lines[slot] and hashes[slot] != hash_:
            slot = (slot + 1) & last
        return slot

    def _grow(self) -> None:
        hashes, lines = self._hashes, self._lines
        self._hashes, self._lines = array("q", bytes(16 * len(lines))), array("I", bytes(8 * len(lines)))
        for hash_, line in zip(hashes, lines, strict=True):
            if line:
                slot = self._slot(hash_)
                self._hashes[slot], self._lines[slot] = hash_, line


@final
@dataclass(slots=True)
class Watch:
    """Collects what is worth a note while rows go by, and refuses pairs that contradict an earlier one.

    Rows are remembered by 64-bit hashes: ten million rows collide by chance once in some 300,000 files.
    """

    pairs: Lines = field(default_factory=Lines)
    rows: array[int] = field(default_factory=lambda: array("q"))
    prompts: array[int] = field(default_factory=lambda: array("q"))
    tally: Counter[str] = field(default_factory=Counter)
    capitals: dict[str, str] = field(default_factory=dict)
    "Columns whose names differ from ours in capitals."
    unread: Counter[str] = field(default_factory=Counter)
    "How often each column, or key of a message (`messages[].key`), stood there without being read."

    def raw(self, row: RawRow) -> None:
        """None; counts rows that hold something like a control token, and a byte order mark."""
        raw = row.raw
        if row.byte == 0 and raw.startswith(b"\xef\xbb\xbf"):
            self.tally["bom"] += 1
        if row.cells and row.cells != ",":
            self.tally[row.cells] += 1
        if (b"<" in raw or b"INST]" in raw) and _CONTROL_LIKE.search(raw):
            self.tally["control"] += 1

    def groups(self, groups: Sequence[Group], line: int) -> None:
        """None. Raises Fault E404 when a group prefers what an earlier row rejected."""
        for group in groups:
            texts = tuple((c.text, c.thinking, c.tool_calls) for c in group.completions)
            prompt = hash(group.prompt)
            if len(texts) == 2 and len(group.comparisons) == 1:
                self._pair(prompt, texts, group.comparisons[0], line)
            self.rows.append(hash((prompt, texts, group.comparisons, group.rankings, group.scores)))
            self.prompts.append(prompt)
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

    def _pair(self, prompt: int, texts: tuple[Any, ...], comparison: Comparison, line: int) -> None:
        """Of a pair that a file prefers, not one of several people, who may disagree."""
        if comparison.choice == "tie" or comparison.labeler:
            return
        first, second = texts if comparison.choice == "a" else texts[::-1]
        swapped = self.pairs.first(hash((prompt, second, first)))
        if swapped:
            reason, found = "contradicts an earlier row, which prefers the other side", f"line {swapped}"
            raise Fault("E404", reason, field="chosen", found=found, remedy="keep one of the two rows")
        self.pairs.put(hash((prompt, first, second)), line)
        self.tally["pair"] += 1
        self.tally["longer"] += len(first[0]) > len(second[0])
        self.tally["shorter"] += len(first[0]) < len(second[0])

    def notes(self) -> tuple[str, ...]:
        """The notes, each one sentence with its numbers."""
        t, made = self.tally, []
        made += [f"cells are separated by {name}" for sign, name in DELIMITERS.items() if t[sign]]
        if self.capitals:
            named = ", ".join(f"{printable(theirs)} as {ours}" for theirs, ours in self.capitals.items())
            made.append(f"columns are read in small letters: {named}")
        if t["bom"]:
            made.append("a byte order mark at the start was passed over")
        num, rows, prompts = len(self.rows), _distinct(self.rows), _distinct(self.prompts)
        if num > rows:
            made.append(counted(num - rows, "group repeats", "groups repeat") + " an earlier one exactly")
        if num > prompts:
            made.append(f"{counted(prompts, 'distinct prompt')} in {counted(num, 'group')}")
        if t["pair"]:
            made.append(
                f"chosen is longer in {t['longer']} of {counted(t['pair'], 'pair')} "
                f"({t['longer'] / t['pair']:.0%}), shorter in {t['shorter']}"
            )
        if t["good"] or t["bad"]:
            one_sided = "" if t["good"] and t["bad"] else " (one-sided: nothing to tell apart)"
            made.append(f"labels: {t['good']} good, {t['bad']} bad{one_sided}")
        if t["control"]:
            held = counted(t["control"], "row holds", "rows hold")
            made.append(f"{held} text that looks like control tokens; it is read as plain text")
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


def _distinct(hashes: array[int]) -> int:
    """How many different ones there are; they are sorted where they lie, for their order says nothing."""
    found = np.frombuffer(hashes, np.int64)
    found.sort()
    return int((found[1:] != found[:-1]).sum()) + bool(hashes)
