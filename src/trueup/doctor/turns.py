"""Where an assistant speaks in a row of ids: after the template's header, up to its end of turn.

The header is what the template writes before an answer, from the close of the turn before on; it is looked
for in the ids without the white space at its end, which a tokenizer may join to the answer's first word.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from trueup.chat import Chat
from trueup.doctor.dump import Row


@dataclass(frozen=True, kw_only=True, eq=False)
class Turns:
    """The assistant's turns of one row."""

    prompt: np.ndarray
    "Which tokens are surely no assistant's, bool [L]: white space beside a mark is nobody's."
    closings: tuple[int, ...]
    "Where turns end: indices of end-of-turn tokens."
    open_end: bool
    "Whether the last turn has no end."


@dataclass(frozen=True, kw_only=True, eq=False)
class Layout:
    """How a model's template frames answers, in ids."""

    chat: Chat
    header: np.ndarray
    begins_with_bos: bool

    def turns(self, row: Row) -> Turns | None:
        """The row's turns; None where the header is not in it."""
        places = self.own(row)
        ids = row.ids[places]
        if len(self.header) == 0 or len(ids) < len(self.header):
            return None
        windows = np.lib.stride_tricks.sliding_window_view(ids, len(self.header))
        starts = np.flatnonzero((windows == self.header).all(1)) + len(self.header)
        if not len(starts):
            return None
        prompt, closings, open_end = np.ones(len(ids), bool), [], False
        for start in starts:
            stops = np.flatnonzero(np.isin(ids[start:], self.chat.stop_ids))
            end = start + int(stops[0]) + 1 if len(stops) else len(ids)
            open_end = not len(stops)
            prompt[start:end] = False
            closings += [int(places[end - 1])] if len(stops) else []
            prompt[end : end + self._blank(ids[end:])] = False
        marked = np.zeros(len(row.ids), bool)
        marked[places] = prompt
        return Turns(prompt=marked, closings=tuple(closings), open_end=open_end)

    def closings(self, row: Row) -> tuple[int, ...]:
        """Of a row without the header: its last token but for white space, where that ends a turn."""
        places = self.own(row)
        for at in reversed(places[-4:]):
            if int(row.ids[at]) in self.chat.stop_ids:
                return (int(at),)
            if self.chat.codec.decode(row.ids[at : at + 1]).strip():
                break
        return ()

    def own(self, row: Row) -> np.ndarray:
        """Where the row's own tokens are: attended to, and no run of padding at its end."""
        pad, places = self.chat.tokenizer.pad_token_id, row.real
        if pad is None:
            return places
        end = before_padding(row, int(pad), ends=pad in self.chat.stop_ids)
        return places[places < max(end, 1)]

    def _blank(self, ids: np.ndarray) -> int:
        """How many of the first ids are white space."""
        count = 0
        while count < len(ids) and count < 4 and not self.chat.codec.decode(ids[count : count + 1]).strip():
            count += 1
        return count


@lru_cache(maxsize=8)
def layout_of(chat: Chat) -> Layout:
    """The layout of a chat; its header is empty where the model has no template."""
    if chat.ending is None or chat.layout is None:
        return Layout(chat=chat, header=np.zeros(0, np.int64), begins_with_bos=bool(chat.text_bos))
    header = chat.codec.encode_template(chat.ending.header.rstrip())
    text = chat.layout.template.run([{"role": "user", "content": "one"}], generation=True)
    first = chat.codec.whole.encode(text, add_special_tokens=False).ids[:1]
    return Layout(
        chat=chat,
        header=np.array(header, np.int64),
        begins_with_bos=chat.bos is not None and first == [chat.bos],
    )


def before_padding(row: Row, pad: int, *, ends: bool) -> int:
    """Where a row ends when padding is told by its id; of a run of it, the first may end a turn (`ends`)."""
    run = len(row.ids)
    while run > 0 and row.ids[run - 1] == pad:
        run -= 1
    return min(run + 1, len(row.ids)) if ends else run
