"""Chatbot Arena's votes as battles: two models and who won; the conversations only for their lengths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trueup.data.formats.arena import CHOICES, winner_of
from trueup.data.problems import Fault, show
from trueup.ratings.battle import OUTCOMES, Battle
from trueup.ratings.style import style_of

_IDS = ("question_id", "conversation_id", "id", "prompt")


def is_vote(keys: set[str]) -> bool:
    """Whether rows with these fields are votes: two models, and a winner or its flag."""
    return {"model_a", "model_b"} <= keys and bool({"winner", "winner_tie"} & keys)


def vote(row: Mapping[str, Any]) -> Battle:
    """The battle of one row; both bad is a tie. Raises Fault E420 (no two models), E408 (no verdict)."""
    names = [row.get(side) for side in ("model_a", "model_b")]
    for side, name in zip(("model_a", "model_b"), names, strict=True):
        if not isinstance(name, str) or not name:
            raise Fault(
                "E420", "is not a model's name", field=side, found=show(name), remedy="name the model"
            )
    if names[0] == names[1]:
        found, remedy = show(names[1]), "leave it out"
        raise Fault("E420", "a model does not meet itself", field="model_b", found=found, remedy=remedy)
    one, other = (_said(row, side) for side in ("a", "b"))
    lengths = sum(map(len, one)), sum(map(len, other))
    return Battle(
        a=str(names[0]),
        b=str(names[1]),
        win=OUTCOMES[CHOICES[winner_of(row)]],
        lengths=lengths if all(lengths) else None,
        style=(style_of("\n".join(one)), style_of("\n".join(other))) if all(lengths) else None,
        prompt=next((str(row[key]) for key in _IDS if row.get(key) is not None), ""),
        judge=str(row.get("judge") or ""),
    )


def _said(row: Mapping[str, Any], side: str) -> list[str]:
    """What a model said, turn by turn; empty where it is not there."""
    said, turns = row.get(f"response_{side}"), row.get(f"conversation_{side}")
    if isinstance(said, str):
        return [said]
    turns = [t for t in turns if isinstance(t, Mapping)] if isinstance(turns, list) else []
    texts = (t.get("content") for t in turns if t.get("role") == "assistant")
    return [text for text in texts if isinstance(text, str)]
