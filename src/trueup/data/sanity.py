"""What only shows across rows: contradictory pairs, duplicates, one-sided labels, sides of unequal length."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import final

from trueup.data.problems import Fault
from trueup.data.raw_rows import RawRow
from trueup.groups import Group

_CONTROL_LIKE = re.compile(rb"<\|[A-Za-z_]{2,30}\|>|\[/?INST\]|<</?SYS>>|</?s>|<(?:start|end)_of_turn>")
_SEEN_BYTES = 16


@final
@dataclass(slots=True)
class Watch:
    """Collects what is worth a note while rows go by, and refuses pairs that contradict an earlier one."""

    pairs: dict[bytes, int] = field(default_factory=dict)
    rows: set[bytes] = field(default_factory=set)
    prompts: set[bytes] = field(default_factory=set)
    tally: Counter[str] = field(default_factory=Counter)

    def raw(self, row: RawRow) -> None:
        """None; counts rows that hold something like a control token, and a byte order mark."""
        if row.byte == 0 and row.raw.startswith(b"\xef\xbb\xbf"):
            self.tally["bom"] += 1
        if _CONTROL_LIKE.search(row.raw):
            self.tally["control"] += 1

    def groups(self, groups: Sequence[Group], line: int) -> None:
        """None. Raises Fault E404 when a group prefers what an earlier row rejected."""
        for group in groups:
            texts = [completion.text for completion in group.completions]
            prompt = _key([str(group.prompt)])
            if len(texts) == 2 and len(group.comparisons) == 1 and not group.comparisons[0].labeler:
                self._pair(prompt, texts, line)
            whole = _key([prompt.hex(), *texts, str(group.comparisons), str(group.scores)])
            self.tally["duplicate"] += whole in self.rows
            self.rows.add(whole)
            self.prompts.add(prompt)
            self.tally["group"] += 1
            for score in group.scores:
                if score.judge == "label":
                    self.tally["good" if score.value else "bad"] += 1

    def _pair(self, prompt: bytes, texts: list[str], line: int) -> None:
        swapped = self.pairs.get(_key([prompt.hex(), texts[1], texts[0]]))
        if swapped is not None:
            raise Fault(
                "E404",
                "contradicts an earlier row, which prefers the other side",
                field="chosen",
                found=f"line {swapped}",
                remedy="keep one of the two rows",
            )
        self.pairs.setdefault(_key([prompt.hex(), *texts]), line)
        self.tally["pair"] += 1
        self.tally["longer"] += len(texts[0]) > len(texts[1])
        self.tally["shorter"] += len(texts[0]) < len(texts[1])

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
            made.append(f"labels: {t['good']} good, {t['bad']} bad" + self._one_sided())
        if t["control"]:
            made.append(
                f"{t['control']} rows hold text that looks like control tokens; it is read as plain text"
            )
        return tuple(made)

    def _one_sided(self) -> str:
        return "" if self.tally["good"] and self.tally["bad"] else " (one-sided: nothing to tell apart)"


def _key(parts: Sequence[str]) -> bytes:
    state = blake2b(digest_size=_SEEN_BYTES)
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")
        state.update(len(raw).to_bytes(8, "little") + raw)
    return state.digest()
