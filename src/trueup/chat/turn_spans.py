"""Where each assistant's turn of a told conversation lies: from where it would be generated to its stop.

A turn begins where the conversation before it, rendered by itself with a generation prompt, ends; that
rendering must be the beginning of the whole, or the turn would be trained in another context than it is
generated in. To render that for every turn takes time in the square of their number. So turns are told by
others of their kind (`_kinds`): the first, second, fourth, eighth ... and last of each are rendered, which is
in proportion to the conversation; any other begins behind the part before it with the text that those have
in common. Where the template writes another text there, as one that numbers its turns does, every such turn
has to be rendered.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from trueup.chat.render import CLOSE
from trueup.chat.tooled import Teller, Told
from trueup.engine.groups import Message, Role
from trueup.errors import TrueupError

Span = tuple[int, int]
_WINDOW = 3
"Messages before a turn that its kind tells of."


@dataclass(frozen=True, eq=False, kw_only=True)
class Shown:
    """A told conversation with its placeholders, and where they stand."""

    teller: Teller
    told: Told
    messages: Sequence[Message]
    stop_ids: Sequence[int]
    text: str
    starts: Sequence[int]
    "Of the placeholder in each slot, in characters."
    before: Sequence[int]
    "Of each message, where the last placeholder of those before it ends."

    @classmethod
    def of(cls, teller: Teller, told: Told, messages: Sequence[Message], stop_ids: Sequence[int]) -> Shown:
        """The conversation, laid out with its placeholders."""
        slots, literals = told.skeleton.slots, told.skeleton.literals
        marks = [told.marks[slot.message, slot.part] for slot in slots]
        sizes = (len(piece) for pair in zip(literals, marks, strict=False) for piece in pair)
        at = list(accumulate(sizes, initial=0))
        last = [0] * (len(messages) + 1)
        for slot, end in zip(slots, at[2::2], strict=True):
            last[slot.message + 1] = end
        return cls(
            teller=teller,
            told=told,
            messages=messages,
            stop_ids=stop_ids,
            text=told.skeleton.splice(marks),
            starts=at[1::2],
            before=list(accumulate(last, max)),
        )

    def spans(self, spoken: Sequence[int]) -> list[Span]:
        """Of each message in `spoken`, an assistant's, its range in the text, in characters.

        E363 where the template renders one otherwise than it asks for it, or ends it with no stop token.
        """
        alike: dict[object, list[int]] = defaultdict(list)
        kinds = list(_kinds(self.messages)) if spoken else []
        for k in spoken:
            alike[kinds[k]].append(k)
        begins: dict[int, int] = {}
        for turns in alike.values():
            begins |= self._begins(turns)
        return [(begins[k], self._stop(k, begins[k])) for k in spoken]

    def _begins(self, turns: Sequence[int]) -> dict[int, int]:
        """Where turns of one kind begin."""
        tried = {turns[(1 << n) - 1] for n in range(len(turns).bit_length())} | {turns[-1]}
        begins = {k: self._begin(k) for k in sorted(tried)}
        headers = {self.text[self.before[k] : begin] for k, begin in begins.items()}
        header = headers.pop()
        for k in turns:
            if k not in begins:
                same = header and not headers and self.text.startswith(header, self.before[k])
                begins[k] = self.before[k] + len(header) if same else self._begin(k)
        return begins

    def _begin(self, k: int) -> int:
        """Where message `k` begins, by rendering what is before it."""
        for thinks in (False, True):
            head = self.teller.text(self.messages[:k], self.told, generation=True, open=thinks)
            if self.text.startswith(head):
                return len(head)
        raise _otherwise(k)

    def _stop(self, k: int, begin: int) -> int:
        """Where the stop token of message `k` ends, which stands before what later messages say."""
        slots = self.told.skeleton.slots
        later = range(bisect_left(self.starts, begin), len(slots))
        limit = next((self.starts[n] for n in later if slots[n].message > k), len(self.text))
        for found in self.teller.codec.pattern.finditer(self.text, begin, limit):
            if self.teller.codec.control[found.group()] in self.stop_ids:
                return found.end()
        raise _otherwise(k)


def _kinds(messages: Sequence[Message]) -> Iterator[object]:
    """What each turn has in common with others whose context a template treats alike, or may.

    The shape of the turn and of those before it; whether anything was thought since the last question, and
    whether another question follows: templates drop the thoughts before it.
    """
    thinks = [bool(m.thinking) or CLOSE in m.content for m in messages]
    shapes = [
        (m.role, bool(m.content.strip()), thinks[k], bool(m.tool_calls), bool(m.name))
        for k, m in enumerate(messages)
    ]
    asked = max((k for k, m in enumerate(messages) if m.role is Role.USER), default=0)
    thought = False
    for k, message in enumerate(messages):
        thought = thought and message.role is not Role.USER
        yield k < asked, thought, *shapes[max(k - _WINDOW, 0) : k + 1]
        thought = thought or thinks[k]


def _otherwise(k: int) -> TrueupError:
    reason = f"the template does not end message {k + 1}, an assistant's, as it would be generated"
    return TrueupError("E363", reason, remedy="train on the last turn only (`--data.train_on last`)")
