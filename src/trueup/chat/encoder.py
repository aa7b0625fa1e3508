"""Chat: token ids of prompts and completions, from segments, with no way for a text to forge a role.

Ids are never made from one rendered string. What the template owns and what people wrote are encoded apart,
content with every added token disabled, and afterwards the positions of all control ids in the sequence must
be those that the template's own text put there (E553). Training and generation share one rule:

    training ids = prompt_ids(messages) ‖ completion_ids(text)

so what is trained extends exactly what is generated from. A run of spaces at the end of a template's text
belongs to the text after it (`Assistant: ` + `hello` is `Assistant:` + ` hello`), also at the end of a
prompt: a tokenizer that joins a space to the next word then sees what it always sees.

Templates whose roles are plain text (`hh`, Mistral's `[/INST]` where it is no token) cannot be protected by
ids. A conversation whose contents spell such a marker is refused (E352): breaking the marker up would change
what the person wrote, and passing it on would let it change the roles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Literal, TypeVar

import numpy as np

from trueup.chat.agree import Agreement, compare
from trueup.chat.answers import (
    apart,
    begin_answer,
    check_whole,
    knows_thoughts,
    told_apart,
    unexpected,
)
from trueup.chat.assembly import Assembly
from trueup.chat.codec import Codec
from trueup.chat.ending import Ending
from trueup.chat.markers import Guard
from trueup.chat.probe import probe
from trueup.chat.render import CLOSE, OPEN, Layout
from trueup.chat.thoughts import spoken_text, turns_of, without_thought
from trueup.chat.tooled import Teller, Told, says_more
from trueup.chat.tooled_ids import answer_ids, prompt_ids
from trueup.engine.groups import Completion, Group, Message, Role
from trueup.errors import TrueupError

T = TypeVar("T")
_LAST = "train on the last turn only (`--data.train_on last`)"


@dataclass(frozen=True, slots=True)
class Prompt:
    """An encoded conversation."""

    ids: np.ndarray
    spans: dict[int, tuple[int, int]]
    "Where the contents lie: half-open token ranges, by message."
    header: str
    "Template text after the last content, without spaces at its end."
    told: Told | None = None
    "Of a conversation that says more than role and content."


@dataclass(frozen=True, eq=False, kw_only=True)
class Chat:
    """A tokenizer and a template, inspected: what turns messages into ids and ids into text."""

    codec: Codec
    tokenizer: Any
    "The tokenizer with this template as its own (`carried.dressed`): what a model's folder holds."
    layout: Layout | None
    "None where there is no template: text prompts only."
    ending: Ending | None
    stop_ids: tuple[int, ...]
    "The ids that end a completion; the first is the one that chats are trained on."
    bos: int | None
    "The tokenizer's BOS token, if it has one."
    text_bos: tuple[int, ...]
    "What the tokenizer puts before a plain text: its BOS token or nothing."
    text_stop: int | None
    "The tokenizer's end token, which ends completions of plain text."
    guard: Guard
    "Role markers that are plain text: no content may spell them, and decoding stops at one."
    template_digest: str
    "SHA-256 of the template and the values it is given."
    closed: Chat | None = None
    "With thoughts kept as each row has them: the chat of rows that have none."
    no_system: bool = False
    "Whether the template refuses system turns."
    notes: tuple[str, ...] = ()
    "What the template was made to do that it does not do by itself, a sentence each."
    option: str = "--model.template NAME"
    "How whoever asked can name a template."
    folding: str = "--model.system fold"
    "And how a system's words can be put elsewhere; empty where they cannot."

    @classmethod
    def of(
        cls,
        tokenizer: Any,
        template: str | None = None,
        *,
        thinking: bool | Literal["keep"] | None = None,
        fold_system: bool = False,
        today: date = date(2024, 7, 26),
    ) -> Chat:
        """The chat of a fast tokenizer, with its own template, or one by name, or one given as Jinja source.

        Names: chatml, chatml-tools, llama3, gemma, mistral, zephyr, qwen3, hh, which begin with a BOS token
        where the tokenizer begins texts so, and plain, which takes text prompts only and is what a tokenizer
        without a template gets. `thinking` leaves the thought block of templates that have one (Qwen3) to the
        model; without it the prompt closes an empty block, as for data without thoughts; with "keep" a row
        without a thought is encoded as without it, all else as with it; unsaid, it is what the template of a
        saved model says, else false. `fold_system` puts a system message before the first question where the
        template refuses system turns. `today` is the date that templates are told, fixed so that a prompt is
        the same tomorrow.
        """
        if thinking != "keep":
            return cls(**probe(tokenizer, template, thinking=thinking, fold=fold_system, today=today))
        opened, closed = (
            cls.of(tokenizer, template, thinking=think, fold_system=fold_system, today=today)
            for think in (True, False)
        )
        ask = Message(Role.USER, "one")
        differ = opened.layout is not None and opened.prompt([ask]).header != closed.prompt([ask]).header
        return replace(opened, closed=closed) if differ else opened

    @property
    def markers(self) -> tuple[str, ...]:
        """The role markers that are plain text, as the template writes them."""
        return tuple(marker.text for marker in self.guard.markers)

    @property
    def control_ids(self) -> np.ndarray:
        """The ids of all added tokens, special or not, but those of white space alone; increasing."""
        return np.flatnonzero(self.codec.table)

    @property
    def text_start(self) -> tuple[int, ...]:
        """What an empty text is: `text_bos`, else the BOS token, else the end token; () without any.

        Something must foretell a text's first token. The rule is the field's harness's (gao2021).
        """
        return self.text_bos or tuple(t for t in (self.bos, self.text_stop) if t is not None)[:1]

    def agreement(self, conversations: Iterable[Sequence[Message]]) -> Agreement:
        """How far our ids agree with those that `apply_chat_template` gives: the text encoded as one string.

        A conversation that ends with an assistant's turn is compared up to that turn's stop token, another
        with its generation prompt.
        """
        return compare(self.codec, ((self._ids(m), self._ids_of_string(m)) for m in conversations))

    def _ids(self, messages: Sequence[Message]) -> list[int]:
        if messages[-1].role != Role.ASSISTANT:
            return self.prompt_ids(messages).tolist()
        said = messages[-1]
        last = Completion(text=said.content, thinking=said.thinking, tool_calls=said.tool_calls)
        group = self.encode(Group(prompt=tuple(messages[:-1]), completions=(last,)))
        assert group.prompt_tokens is not None and group.completions[0].tokens is not None
        return [*group.prompt_tokens.tolist(), *group.completions[0].tokens.tolist()]

    def _ids_of_string(self, messages: Sequence[Message]) -> list[int]:
        answered = messages[-1].role == Role.ASSISTANT
        if self._says_more(messages):
            text = self._teller().string(messages, generation=not answered)
        else:
            text = self._chat()[0].template.render(turns_of(messages), generation=not answered)
        ending = self._chat()[1]
        if answered and not ending.closed:
            text += ending.call if messages[-1].tool_calls else ending.tail + ending.stop
        ids: list[int] = self.codec.whole.encode(text, add_special_tokens=False).ids
        stops = [k for k, number in enumerate(ids) if number == self.stop_ids[0]]
        return ids[: stops[-1] + 1] if answered and stops else ids

    def prompt_ids(self, messages: Sequence[Message]) -> np.ndarray:
        """The ids to generate from, int32 [L]: the conversation, and the header of the next turn."""
        return self.prompt(messages).ids

    def prompt(self, messages: Sequence[Message], *, spoken: Sequence[int] = ()) -> Prompt:
        """The encoded conversation, ready for the assistant's next turn, with the places of the contents.

        With tools, calls or the like, the places are those of the messages in `spoken`, whole turns.
        """
        assembly = Assembly(self.codec, begins=True)
        if is_text(messages):
            text = messages[0].content
            for number in self.text_bos if text else self.text_start:
                assembly.control(number)
            span = assembly.content(text)
            return Prompt(assembly.finish(), {0: span}, "")
        layout, ending = self._chat()
        messages = told_apart(ending, messages)
        if self._says_more(messages):
            return self._told_prompt(messages, spoken)
        turns = turns_of(messages)
        skeleton, contents = self._allowing(messages, lambda: layout.fill(turns, generation=True))
        self._refuse_markers(skeleton.literals, contents)
        spans: dict[int, tuple[int, int]] = {}
        moved = ""
        for k, (slot, content) in enumerate(zip(skeleton.slots, contents, strict=True)):
            assembly.template(skeleton.literals[k].removeprefix(moved))
            following = skeleton.literals[k + 1]
            said = turns[slot.message][0] == Role.ASSISTANT and following.startswith(
                ending.tail + ending.stop
            )
            moved = ending.tail if said else ""
            spans[slot.message] = assembly.content(content + moved)
        assembly.template(skeleton.literals[-1].removeprefix(moved))
        return Prompt(assembly.finish(), spans, skeleton.literals[-1].rstrip(" "))

    def _told_prompt(self, messages: Sequence[Message], spoken: Sequence[int]) -> Prompt:
        teller = self._teller()
        told = self._allowing(messages, lambda: teller.tell(messages, generation=True))
        self._refuse_markers(told.skeleton.literals, told.contents)
        ids, spans = prompt_ids(teller, told, messages, spoken, self.stop_ids)
        return Prompt(ids, spans, told.skeleton.literals[-1].rstrip(" "), told)

    def _allowing(self, messages: Sequence[Message], filled: Callable[[], T]) -> T:
        """What `filled` gives; its error names the setting where the template refuses a system turn."""
        try:
            return filled()
        except TrueupError as error:
            if not self.no_system or messages[0].role != Role.SYSTEM:
                raise
            remedy = (
                f"`{self.folding}` puts the system's words before the first question"
                if self.folding
                else f"name a template that has the role, `{self.option}`, or leave the system's turn out"
            )
            raise TrueupError(error.code, error.reason, where=error.where, remedy=remedy) from None

    def _says_more(self, messages: Iterable[Message]) -> bool:
        thinks = knows_thoughts(*self._chat())
        return any(says_more(message, thinks=thinks) for message in messages)

    def _teller(self) -> Teller:
        return Teller(layout=self._chat()[0], codec=self.codec, guard=self.guard)

    def completion_ids(
        self, text: str, *, finished: bool = True, plain: bool = False, begins: bool = False
    ) -> np.ndarray:
        """The ids of a completion, int32 [L]: its text, and the stop token if it is `finished`.

        `plain` is for completions of text prompts: the text as it is, then the tokenizer's end token. With
        `begins`, after an empty prompt, the tokenizer treats it as it does the beginning of a text.
        """
        assembly = Assembly(self.codec, begins=begins)
        if plain or self.layout is None:
            assembly.content(text)
            if finished:
                assembly.control(self._text_stop())
            return assembly.finish()
        ending = self._chat()[1]
        if CLOSE in text or OPEN in text:
            self._refuse_markers([ending.header, ""], [text])
        text, slot = begin_answer(*self._chat(), assembly, text), ending.slot
        text = slot.trim(text) if finished else text.lstrip(slot.left)
        after = ending.tail + ending.stop + ending.rest if finished else ""
        self._refuse_markers([ending.header + ending.lead, after], [text])
        assembly.content(text + ending.tail if finished else text)
        if finished:
            assembly.template(ending.stop)
        return assembly.finish()

    def encode(self, group: Group, *, train_on: Literal["last", "all"] = "last") -> Group:
        """The group with its prompt's ids, and each completion's ids and mask of supervised tokens.

        Completions that have tokens already (samples of a policy) keep them. With `train_on="all"` the
        `supervised` assistant turns of the prompt are trained too: `prompt_tokens` ends with the first one's
        header, and each completion holds everything after it, supervised on every such turn's content and
        stop token. E557 if the group was encoded before and by another template.
        """
        if self.closed is not None and without_thought(group):
            return self.closed.encode(group, train_on=train_on)
        spoken = [k for k, m in enumerate(group.prompt) if m.role == Role.ASSISTANT and m.supervised]
        spoken = spoken if train_on == "all" else []
        prompt = self.prompt(group.prompt, spoken=spoken)
        if group.prompt_tokens is not None and not np.array_equal(group.prompt_tokens, prompt.ids):
            reason = f"group {group.id!r} was encoded by another template or tokenizer"
            remedy = "encode the text afresh, or use the chat that it was encoded with"
            raise TrueupError("E557", reason, remedy=remedy)
        completions = [self._encode_completion(group, prompt, c) for c in group.completions]
        encoded = replace(group, prompt_tokens=prompt.ids, completions=tuple(completions))
        return self._supervise_all(encoded, prompt, spoken) if spoken else encoded

    def _encode_completion(self, group: Group, prompt: Prompt, completion: Completion) -> Completion:
        if completion.tokens is not None:
            return completion
        said = Message(
            Role.ASSISTANT, completion.text, thinking=completion.thinking, tool_calls=completion.tool_calls
        )
        plain = is_text(group.prompt)
        if not plain and self._chat()[1].keyed and CLOSE in said.content:
            if self._chat()[1].thought is None:
                raise unexpected("the completion has a thought block, and this chat expects none")
            thought, said = apart(said)
            said = replace(said, thinking=thought)
        more = not plain and (prompt.told or self._unopened(prompt) or self._says_more([said]))
        if more and completion.finished:
            return replace(completion, tokens=self._told_answer(group.prompt, prompt, said), supervised=None)
        text = spoken_text(said)
        begins = plain and not group.prompt[0].content
        ids = self.completion_ids(text, finished=completion.finished, plain=plain, begins=begins)
        if not plain and not prompt.told:
            check_whole(*self._chat(), told_apart(self._chat()[1], group.prompt), prompt.header, text)
        return replace(completion, tokens=ids, supervised=None)

    def _told_answer(self, messages: Sequence[Message], prompt: Prompt, said: Message) -> np.ndarray:
        teller, (layout, ending), thought = self._teller(), self._chat(), ""
        messages = told_apart(ending, messages)
        if ending.taken:
            thought, said = apart(said)
        inline = layout.thinks and CLOSE in spoken_text(said)
        if ending.thought is None and (thought or inline or (said.thinking and ending.refuses)):
            raise unexpected("the completion has a thought block, and this chat expects none")
        before = prompt.told or teller.tell(messages, generation=True)
        whole = teller.tell([*messages, said], generation=False)
        self._refuse_markers(whole.skeleton.literals, whole.contents)
        return answer_ids(teller, ending, before, whole, [*messages, said], self.stop_ids, thought)

    def _unopened(self, prompt: Prompt) -> bool:
        """Whether the template's prompts open a thought and this one, behind a tool's answer, does not."""
        dropped = self._chat()[1].dropped.rstrip(" ")
        return bool(dropped) and not prompt.header.endswith(dropped)

    def _supervise_all(self, group: Group, prompt: Prompt, spoken: list[int]) -> Group:
        if self._chat()[1].dropped and not prompt.told:
            reason = "the template's prompts open a thought, and its earlier turns do not begin with one"
            raise TrueupError("E363", reason, remedy=_LAST)
        for k in spoken:
            if k not in prompt.spans:
                reason = f"message {k + 1}, an assistant's, is empty: there is nothing to train on"
                raise TrueupError("E356", reason, remedy="drop the row, or train on the last turn only")
        begin = prompt.spans[spoken[0]][0]
        mask = np.zeros(len(prompt.ids), bool)
        for k in spoken:
            start, end = prompt.spans[k]
            mask[start : end + 1] = True
            if int(prompt.ids[end]) not in self.stop_ids:
                reason = f"the template does not end message {k + 1}, an assistant's, with its stop token"
                raise TrueupError("E363", reason, remedy=_LAST)
        completions = []
        for c in group.completions:
            assert c.tokens is not None
            own = np.ones(len(c.tokens), bool) if c.supervised is None else c.supervised
            tokens = np.concatenate([prompt.ids[begin:], c.tokens]).astype(np.int32)
            completions.append(replace(c, tokens=tokens, supervised=np.concatenate([mask[begin:], own])))
        return replace(group, prompt_tokens=prompt.ids[:begin], completions=tuple(completions))

    def decode(self, ids: Sequence[int] | np.ndarray, *, plain: bool = False) -> str:
        """The visible text of a completion: up to the stop token or the first role marker.

        Control ids before that are shown as their own text, never dropped: what a model did stays visible.
        The lead and tail that the template puts around the content (a space, an empty thought block) are
        taken off.
        """
        numbers = [int(number) for number in ids]
        end = next((k for k, number in enumerate(numbers) if number in self.stop_ids), len(numbers))
        text = self.codec.decode(numbers[:end])
        if plain or self.ending is None:
            return text
        text = self.guard.cut(self.ending.header, text)
        if self.ending.lead:
            text = text.removeprefix(self.ending.lead)
        return text.removesuffix(self.ending.tail) if end < len(numbers) else text

    def _chat(self) -> tuple[Layout, Ending]:
        if self.layout is None or self.ending is None:
            reason = "the tokenizer has no chat template, and the prompt is a conversation"
            remedy = (
                f"name one: `{self.option}` (hh goes with every tokenizer), or give the prompt as plain text"
            )
            raise TrueupError("E350", reason, remedy=remedy)
        return self.layout, self.ending

    def _text_stop(self) -> int:
        if self.text_stop is None:
            raise TrueupError(
                "E552", "the tokenizer has no end token", remedy="set eos_token in tokenizer_config.json"
            )
        return self.text_stop

    def _refuse_markers(self, literals: Sequence[str], contents: Sequence[str]) -> None:
        """E352 if contents, between what the template itself wrote, spell a plain-text marker."""
        if marker := self.guard.forged(literals, contents):
            reason = f"a message contains {marker!r}, which this template uses to tell the roles apart"
            remedy = "split the text into turns, take the marker out, or name another template"
            raise TrueupError("E352", reason, remedy=remedy)


def is_text(messages: Sequence[Message]) -> bool:
    """Whether the prompt is a plain text; E355 if it is empty, or mixes text with turns."""
    kinds = {message.role == Role.TEXT for message in messages}
    if kinds == {False} or (kinds == {True} and len(messages) == 1):
        return kinds == {True}
    reason = "a prompt is one plain text, or one or more turns of system, user, assistant and tool"
    raise TrueupError("E355", reason, remedy="repair the row")
