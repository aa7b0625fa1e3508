"""One sequence of token ids in the making: segments go in, checked ids come out."""

from __future__ import annotations

from typing import final

import numpy as np

from trueup.chat.codec import Codec
from trueup.errors import TrueupError


@final
class Assembly:
    """Segments laid end to end, with a record of where the template put control ids.

    A run of spaces at the end of template text is held back and put before what follows, so that a tokenizer
    that joins a space to the next word can do so.
    """

    def __init__(self, codec: Codec, *, begins: bool) -> None:
        """`begins`: the sequence starts here, rather than going on after other tokens."""
        self._codec = codec
        self._begins = begins
        self._held = ""
        self.ids: list[int] = []
        self.places: list[int] = []
        "Positions of the control ids that templates put in."

    def control(self, number: int) -> None:
        """Append one control id."""
        self.places.append(len(self.ids))
        self.ids.append(number)

    def template(self, text: str) -> None:
        """Append text that a template owns; its control tokens are matched."""
        text = self._held + text
        body = text.rstrip(" ")
        self._held = text[len(body) :]
        if not body:
            return
        start = len(self.ids)
        self.ids += self._codec.encode_template(body, first=self._begins and start == 0)
        names = self._codec.names
        self.places += [k for k in range(start, len(self.ids)) if self.ids[k] in names]

    def content(self, text: str) -> tuple[int, int]:
        """Append text that people or models wrote; the half-open range of its tokens is returned."""
        start = len(self.ids)
        # At most a BOS before it: the tokenizer's own treatment of a text's beginning applies.
        first = self._begins and start <= 1 and len(self.places) == start
        self.ids += self._codec.encode_content(self._held + text, first=first)
        self._held = ""
        return start, len(self.ids)

    def finish(self) -> np.ndarray:
        """The ids, int32 [L]; E553 unless the control ids found in them are those that templates put in."""
        ids = np.asarray(self.ids, np.int32)
        found = self._codec.where_control(ids)
        if not np.array_equal(found, self.places):
            at = sorted(set(found.tolist()) ^ set(self.places))
            reason = f"control tokens at positions {at} that the structure does not have there"
            remedy = "a defect of the tokenizer or of trueup: please report it with the tokenizer's name"
            raise TrueupError("E553", reason, remedy=remedy)
        return ids
