"""Critique and revision: a model corrects its own answer by principles drawn at random.

    y_0 ~ p(· | x)
    s = 1..S:   k_s ~ uniform over the principles
                c_s ~ p(· | x, y_{s−1}, critique request of k_s)
                y_s ~ p(· | x, y_{s−1}, critique request of k_s, c_s, revision request of k_s)

(Bai et al. 2022b, section 3.1; the direct form leaves c_s and its request out, section 3.5.) Step s sees the
prompt and y_{s−1} alone: earlier critiques are dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Literal, NamedTuple, TypeVar, cast

from trueup.answerers import Answer, Conversation
from trueup.constitution.principles import Constitution, Correction, Form
from trueup.engine.groups import Completion, Group, Message, Role
from trueup.engine.order import derive
from trueup.errors import TrueupError

Kind = Literal["answer", "critique", "revision"]
CRITIQUE_REQUEST, CRITIQUE = "CritiqueRequest: ", "Critique:"
REVISION_REQUEST, REVISION = "RevisionRequest: ", "Revision:"
_T = TypeVar("_T")


class Ask(NamedTuple):
    """What a talk wants answered next."""

    kind: Kind
    conversation: Conversation


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is done to every prompt."""

    constitution: Constitution
    steps: int = 4
    "S: revisions of each answer."
    critique: bool = True
    "False revises directly, without a critique."
    form: Form = "chat"
    examples: int = 2
    "Transcripts before a request; fewer where they do not fit."
    seed: int = 0
    fits: Callable[[Conversation], bool] = lambda conversation: True
    "Whether the reviser has room for a conversation and its answer."
    answerable: Callable[[Conversation], bool] = lambda conversation: True
    "Whether the writer has, where that is another model."

    def principle(self, row: int, step: int) -> Correction:
        """k_s of a row: a function of the seed, the row and the step alone."""
        found = self.constitution.corrections
        return found[derive(self.seed, "principle", row, step) % len(found)]

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of a plain text: where one begins a line, an answer has ended."""
        speakers = (self.constitution.speaker("user"), self.constitution.speaker("assistant"))
        names = (*speakers, CRITIQUE_REQUEST, CRITIQUE, REVISION_REQUEST, REVISION)
        return tuple(f"\n\n{name.rstrip()}" for name in names if name.strip())

    def stop(self, kind: Kind) -> tuple[str, ...]:
        """Stop strings, of which servers take four: the labels that could come next."""
        if kind == "answer" or self.form == "chat":
            return ()
        following = REVISION_REQUEST if kind == "critique" or not self.critique else CRITIQUE_REQUEST
        human = self.constitution.speaker("user").rstrip()
        return tuple(f"\n\n{name}" for name in (following.rstrip(), human) if name)

    def refused(self, prompt: Conversation) -> str:
        """Why a prompt is not asked at all; "" where it is.

        One that spells a label of the text that it would stand in could forge a turn.
        """
        if any(message.role == Role.TEXT for message in prompt):
            return "plain text"
        if self.form == "text" and any(label in f"\n\n{m.content}" for m in prompt for label in self.labels):
            return "forged label"
        return _refusal(lambda: self.fits(prompt) and self.answerable(prompt))

    def cut(self, text: str) -> str:
        """The text before the first label, without the white space around it."""
        if self.form == "text":
            for label in self.labels:
                text = text.split(label, 1)[0]
        return text.strip()

    def request(self, prompt: Conversation, answer: str, principle: Correction, critique: str = "") -> Ask:
        """The request for a critique; given one, or where there are none, for the revision."""
        count = min(self.examples, len(self.constitution.transcripts))
        said = self._conversation(prompt, answer, principle, critique, count)
        while count and not self.fits(said):
            count -= 1
            said = self._conversation(prompt, answer, principle, critique, count)
        return Ask("revision" if critique or not self.critique else "critique", said)

    def _conversation(
        self, prompt: Conversation, answer: str, principle: Correction, critique: str, count: int
    ) -> Conversation:
        shown = [
            _turns(
                (Message(Role.USER, t.prompt),),
                t.completion,
                self.constitution.correction(t.principle),
                t.critique if self.critique else "",
                t.revision,
                self.critique,
            )
            for t in self.constitution.transcripts[:count]
        ]
        own = _turns(prompt, answer, principle, critique, "", self.critique)
        if self.form == "text":
            return (Message(Role.TEXT, self._text([*shown, own])),)
        # A system message may only stand first.
        head = [turn for turn in own if turn.message.role == Role.SYSTEM]
        rest = [turn for turn in own if turn.message.role != Role.SYSTEM]
        return tuple(turn.message for turn in chain(head, *shown, rest))

    def _text(self, talks: Sequence[Sequence[_Turn]]) -> str:
        parts = []
        for turn in chain(*talks):
            label = turn.label or self.constitution.speaker(str(turn.message.role))
            parts.append(f"{label.rstrip()} {turn.message.content}".strip())
        asked = CRITIQUE if talks[-1][-1].label == CRITIQUE_REQUEST else REVISION
        return "\n\n".join([*parts, asked])


def unless_forged(fits: Callable[[], bool]) -> bool | None:
    """What `fits` says; None where a text in it spells a role of the model's template (E352)."""
    try:
        return fits()
    except TrueupError as error:
        if error.code != "E352":
            raise
        return None


class _Turn(NamedTuple):
    message: Message
    label: str = ""
    "What stands before it in a text; empty is its speaker."


def _turns(
    prompt: Conversation, answer: str, principle: Correction, critique: str, revision: str, critiqued: bool
) -> list[_Turn]:
    """The conversation so far, up to a request or, with a revision, up to that."""
    turns = [*(_Turn(message) for message in prompt), _Turn(Message(Role.ASSISTANT, answer))]
    if critiqued:
        turns.append(_Turn(Message(Role.USER, principle.critique), CRITIQUE_REQUEST))
        if not critique:
            return turns
        turns.append(_Turn(Message(Role.ASSISTANT, critique), CRITIQUE))
    turns.append(_Turn(Message(Role.USER, principle.revision), REVISION_REQUEST))
    return [*turns, _Turn(Message(Role.ASSISTANT, revision), REVISION)] if revision else turns


def talk(row: int, prompt: Conversation, plan: Plan) -> Generator[Ask, Answer, dict[str, Any]]:
    """One prompt's way through S steps: yields what to ask, is sent the answers, returns the record.

    A step whose critique or revision is empty, or that does not fit, is rejected: its record says why, and
    the next step starts from the same answer with a principle of its own.
    """
    refused = plan.refused(prompt)
    if refused:
        return {"row": row, "steps": [], "rejected": refused}
    first = yield Ask("answer", prompt)
    text = plan.cut(first.text)
    record: dict[str, Any] = {"row": row, "text": text, "finished": first.finish == "stop", "steps": []}
    if not text:
        return {**record, "rejected": "empty answer"}
    for step in range(1, plan.steps + 1):
        made = yield from _step(prompt, text, plan.principle(row, step), plan)
        record["steps"].append({"step": step, **made})
        text = made.get("text", text)
    return record


def review(row: int, prompt: Conversation, answer: str, plan: Plan) -> Generator[Ask, Answer, dict[str, Any]]:
    """As `talk`, with `answer` for the first answer: who critiques and revises is asked alone."""
    talking = talk(row, prompt, plan)
    try:
        next(talking)
        ask = talking.send(Answer(text=answer))
        while True:
            ask = talking.send((yield ask))
    except StopIteration as ended:
        return ended.value


def _refusal(fits: Callable[[], bool]) -> str:
    """Why a conversation is not asked; "" where it is."""
    found = unless_forged(fits)
    return "forged role" if found is None else "" if found else "overlong"


def _step(
    prompt: Conversation, answer: str, principle: Correction, plan: Plan
) -> Generator[Ask, Answer, dict[str, Any]]:
    made: dict[str, Any] = {"principle": principle.id}
    for kind in ("critique", "revision") if plan.critique else ("revision",):
        said = made.get("critique", "")
        refused = _refusal(lambda said=said: plan.fits(plan.request(prompt, answer, principle, said)[1]))
        if refused:
            return {**made, "rejected": refused}
        given = yield plan.request(prompt, answer, principle, said)
        text = plan.cut(given.text)
        if not text:
            return {**made, "rejected": f"empty {kind}"}
        if kind == "critique":
            made["critique"] = text
        else:
            # Cut at a label it is whole, however it ended.
            made |= {"text": text, "finished": given.finish == "stop" or text != given.text.strip()}
    return made


def advance(
    talks: Sequence[Generator[Ask, Answer, _T]],
    answer: Callable[[int, Kind, list[Conversation]], list[Answer]],
) -> list[_T]:
    """What each talk returned; in every round all that are asked alike are asked together.

    `answer` is told the round, what kind of answer is wanted, and the conversations.
    """
    returned: dict[int, _T] = {}

    def step(place: int, said: Answer | None) -> Iterator[tuple[int, Ask]]:
        try:
            # A generator is begun by sending it None.
            yield place, talks[place].send(cast(Answer, said))
        except StopIteration as ended:
            returned[place] = ended.value

    waiting = dict(pair for place in range(len(talks)) for pair in step(place, None))
    number = 0
    while waiting:
        following: dict[int, Ask] = {}
        for kind in ("answer", "critique", "revision"):
            places = [place for place, ask in waiting.items() if ask.kind == kind]
            said = answer(number, kind, [waiting[place].conversation for place in places]) if places else []
            for place, given in zip(places, said, strict=True):
                following.update(step(place, given))
        waiting, number = dict(sorted(following.items())), number + 1
    return [returned[place] for place in range(len(talks))]


def rows_of(
    record: Mapping[str, Any], prompt: Group, steps: int | None, lineage: Mapping[str, Any]
) -> list[Group]:
    """What `sft` learns of a record: one group for each revision up to `steps`, or the answer where S = 0.

    `lineage` holds `writer` and `reviser`, names and digests, and what else made the rows.
    """
    said = [made for made in record["steps"] if "text" in made and (steps is None or made["step"] <= steps)]
    if not record["steps"] and "rejected" not in record:
        said = [{"step": 0, "text": record["text"], "finished": record["finished"]}]
    groups = []
    for made in said:
        author = lineage["reviser" if made["step"] else "writer"]
        provenance = {**lineage, "row": record["row"], "step": made["step"], "prompt": prompt.id}
        if made["step"]:
            provenance["principle"] = made["principle"]
        completion = Completion(text=made["text"], finished=made["finished"], source=author["name"])
        groups.append(
            replace(
                prompt,
                completions=(completion,),
                comparisons=(),
                rankings=(),
                scores=(),
                id=f"{prompt.id or 'row'}/{record['row']}/{made['step']}",
                meta={**prompt.meta, "revision": provenance},
            )
        )
    return groups
