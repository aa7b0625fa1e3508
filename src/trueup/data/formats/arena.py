"""Chatbot Arena: two models' answers to one prompt, and who won."""

from __future__ import annotations

from typing import Any, Literal

from trueup.data import strict_json, turns
from trueup.data.fields import Row, as_text, filled, optional_text, required
from trueup.data.formats import reads
from trueup.data.problems import Fault, show
from trueup.data.turns import Turns
from trueup.engine.groups import Comparison, Group, Message, Role, Score
from trueup.errors import counted

Winner = Literal["a", "b", "tie", "both bad"]
_WINNERS: dict[str, Winner] = {
    **{"model_a": "a", "a": "a", "model_b": "b", "b": "b", "tie": "tie"},
    **dict.fromkeys(("tie (bothbad)", "bothbad", "both_bad", "both bad"), "both bad"),
}
_FLAGS: dict[str, Winner] = {"winner_model_a": "a", "winner_model_b": "b", "winner_tie": "tie"}
FLAGS = ", ".join(_FLAGS)
CHOICES: dict[Winner, Literal["a", "b", "tie"]] = {"a": "a", "b": "b", "tie": "tie", "both bad": "tie"}
"The comparison that each verdict is."


def winner_of(row: Row) -> Winner:
    """Who won, of a `winner` column or of three flags. Raises Fault E408 for a verdict that is none."""
    if "winner" in row:
        word = as_text(required(row, "winner"), "winner")
        found = _WINNERS.get(word.strip().lower())
        if found is None:
            remedy = 'write "model_a", "model_b", "tie" or "tie (bothbad)"'
            raise Fault("E408", "is no verdict", field="winner", found=show(word), remedy=remedy)
        return found
    set_ = [key for key in _FLAGS if str(required(row, key)) in ("1", "1.0", "True", "true")]
    if len(set_) != 1:
        remedy = "set one of the three to 1"
        raise Fault(
            "E408",
            "is no verdict",
            field="winner_tie",
            found=counted(len(set_), "flag") + " set",
            remedy=remedy,
        )
    return _FLAGS[set_[0]]


@reads(
    "conversation_a, conversation_b, winner",
    f"prompt, response_a, response_b, {FLAGS}",
    "prompt, response_a, response_b, winner",
    may="model_a, model_b, judge",
)
def arena(row: Row) -> tuple[Group]:
    """Chatbot Arena: conversation_a, conversation_b, model_a, model_b, winner (model_a, tie ...).

    A tie gives no pair; where both were bad each answer has score 0 of judge `label`. Conversations that part
    before their last answer are no pair (E410).
    """
    winner = winner_of(row)
    if "conversation_a" in row:
        sides = [turns.conversation(required(row, key), key) for key in ("conversation_a", "conversation_b")]
        prompt, said = _parted(*sides)
    else:
        prompt = (Message(Role.USER, _single(row, "prompt")),)
        said = [_single(row, key) for key in ("response_a", "response_b")]
    names = [optional_text(row, key) or key for key in ("model_a", "model_b")]
    judged = Comparison(a=0, b=1, choice=CHOICES[winner], labeler=str(row.get("judge") or ""))
    bad = winner == "both bad"
    group = Group(
        prompt=prompt,
        completions=tuple(turns.completion(t, n) for t, n in zip(said, names, strict=True)),
        comparisons=(judged,),
        scores=tuple(Score(completion=i, value=0.0, judge="label") for i in (0, 1) if bad),
    )
    return (group,)


def _parted(one: Turns, other: Turns) -> tuple[Turns, list[Message]]:
    """The prompt that both conversations share, and their last answers."""
    roles = {side[-1].role for side in (one, other)}
    if one[:-1] != other[:-1] or roles != {Role.ASSISTANT}:
        reason, found = (
            "the two part before their last answers",
            f"{len(one)} and {counted(len(other), 'turn')}",
        )
        remedy = "keep the turns up to the first answers, or leave such rows out"
        raise Fault("E410", reason, field="conversation_b", found=found, remedy=remedy)
    return turns.as_prompt(one[:-1], "conversation_a"), [one[-1], other[-1]]


def _single(row: Row, key: str) -> str:
    """The text of a field; beside flags it is a list of one, written as JSON."""
    value: Any = required(row, key)
    if "winner" not in row and isinstance(value, str):
        try:
            value = strict_json.loads(value.encode("utf-8", "surrogatepass"))
        except Fault as fault:
            fault.field, fault.offset = key, 0
            raise
    if isinstance(value, list):
        if len(value) != 1:
            found, remedy = counted(len(value), "turn"), "keep rows of one turn"
            raise Fault("E410", "is not one turn", field=key, found=found, remedy=remedy)
        value = value[0]
    return filled(as_text(value, key), key, code="E402")
