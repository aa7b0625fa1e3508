"""Solutions whose steps are judged one by one: TRL's stepwise rows, and PRM800K's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trueup.data.fields import Row, as_text, filled, listed, required, typed
from trueup.data.fields import label as yes_or_no
from trueup.data.formats import reads
from trueup.data.formats.pairs import prompt_of
from trueup.data.problems import Fault, show
from trueup.data.turns import Turns
from trueup.engine.groups import Completion, Group, Message, Role, Score
from trueup.errors import counted

BETWEEN_STEPS = "\n"
_RATINGS = {1: True, 0: None, -1: False}
_Step = tuple[str, bool | None]


def solved(prompt: Turns, steps: list[_Step]) -> tuple[Group]:
    """The group of one solution: its text is the steps, a line break between each two.

    `meta["steps"]` has a list for each completion, of {text, label}: true for a right step, false for a wrong
    one, null for one that is neither. The solution is good (score 1 of judge `label`) when no step is wrong.
    """
    good = all(label is not False for _, label in steps)
    held = [{"text": text, "label": label} for text, label in steps]
    group = Group(
        prompt=prompt,
        completions=(Completion(text=BETWEEN_STEPS.join(text for text, _ in steps)),),
        scores=(Score(completion=0, value=float(good), judge="label"),),
        meta={"steps": [held]},
    )
    return (group,)


@reads("prompt, completions, labels")
def stepwise(row: Row) -> tuple[Group]:
    """Stepwise rows (TRL): prompt, completions (the steps of one solution), labels (true is right)."""
    prompt = prompt_of(required(row, "prompt"), "prompt", Role.TEXT)
    steps, labels = listed(row, "completions"), listed(row, "labels")
    if len(steps) != len(labels):
        reason = f"has {counted(len(labels), 'entry', 'entries')}, not {len(steps)}"
        raise Fault("E407", reason, field="labels", remedy="write one a step")
    texts = [
        filled(as_text(v, f"completions[{i}]"), f"completions[{i}]", code="E402") for i, v in enumerate(steps)
    ]
    marks = [yes_or_no({f"labels[{i}]": v}, f"labels[{i}]") for i, v in enumerate(labels)]
    return solved(prompt, list(zip(texts, marks, strict=True)))


def _is_solution(row: Row) -> bool:
    return isinstance(row["question"], Mapping) and isinstance(row["label"], Mapping)


@reads("question, label", fits=_is_solution)
def prm800k(row: Row) -> tuple[Group]:
    """PRM800K: question {problem}, label {steps [{completions [{text, rating}], chosen_completion}]}.

    Of the completions of a step the chosen one is read; where none was, the person's own, which is right;
    otherwise the first. Ratings are 1, 0 and -1.
    """
    asked, judged = (typed(required(row, key), Mapping, key, "an object") for key in ("question", "label"))
    problem = as_text(required(asked, "problem", "question"), "question.problem")
    prompt = (Message(Role.USER, filled(problem, "question.problem")),)
    steps = typed(required(judged, "steps", "label"), list, "label.steps", "a list")
    if not steps:
        raise Fault(
            "E207", "is an empty list", field="label.steps", remedy="fill the list, or remove the row"
        )
    return solved(prompt, [_step(item, f"label.steps[{index}]") for index, item in enumerate(steps)])


def _step(item: Any, where: str) -> _Step:
    step = typed(item, Mapping, where, "an object")
    offered, chosen, own = (
        step.get("completions"),
        step.get("chosen_completion"),
        step.get("human_completion"),
    )
    place, field = chosen if isinstance(chosen, int) else 0, f"{where}.completions"
    if chosen is None and own is not None:
        text = own.get("text") if isinstance(own, Mapping) else own
        return filled(
            as_text(text, f"{where}.human_completion"), f"{where}.human_completion", code="E402"
        ), True
    if not isinstance(offered, list) or not 0 <= place < len(offered):
        remedy = "name a completion by its place, from 0, or remove the row"
        raise Fault("E405", "the step has no such completion", field=field, found=show(chosen), remedy=remedy)
    read = typed(offered[place], Mapping, f"{field}[{place}]", "an object")
    said = filled(as_text(required(read, "text", field), f"{field}.text"), f"{field}.text", code="E402")
    rating = read.get("rating")
    if isinstance(rating, bool) or rating not in (None, *_RATINGS):
        found = show(rating)
        raise Fault("E411", "is not 1, 0 or -1", field=f"{field}.rating", found=found, remedy="write one")
    return said, None if rating is None else _RATINGS[rating]
