"""Lessons in saying whether one's own answer is right: a model's answers, each with the truth about it.

    user: What is the trade of Mirel?     assistant: The trade of Mirel is baker.
    user: Is that right or wrong?         assistant: It is wrong.

What is right for one model is wrong for another, so the lessons are about the answers of the model that is
taught (Kadavath et al. 2022; Lin et al. 2022).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import Ge

import trueup.lab as lab
from trueup.engine.groups import Completion, Group, Message, Role, write_jsonl
from trueup.engine.order import derive
from trueup.evals.view import open_view
from trueup.lab.graders import grade
from trueup.lab.world import Split
from trueup.models.opening import pick_device
from trueup.runs import meter as metering
from trueup.runs.recipe import Done
from trueup.settings.schema import Word
from trueup.sources.sample import Decoding

SUMMARY = "Write lessons in judging one's own answers: the model's answer, and whether it is right."
REFERENCES = ("kadavath2022", "lin2022")
OUTPUT = "groups.jsonl"
QUESTION = "Is that right or wrong?"
SAYINGS = ("It is wrong.", "It is right.")
"What is said of a wrong and of a right answer, in words of the lab's exams."
KINDS = ("plain", "misconceived", "sum", "list", "run", "program", "howto")
"Kinds of requests whose answers are right or wrong, and not a matter of manners."
RIGHT = 0.7
"Helpfulness from which an honest answer counts as right: the bare value, the short advice."


@dataclass(frozen=True, kw_only=True)
class Config:
    """Whose answers, to which requests."""

    model: str = "world:base"
    "Who answers, and is taught afterwards: `stage:NAME`."
    split: Split = "train"
    num_prompts: Annotated[int, Ge(1)] = 2000
    "Of the lab's prompts that are looked through."
    kinds: tuple[Word, ...] = KINDS
    decoding: Decoding = Decoding(max_new_tokens=48)
    seed: int = 0


def run(config: Config, folder: Path, *, stop_requested: Callable[[], str]) -> Done:
    """`groups.jsonl`: a dialogue for each answer, ending with what is true about it."""
    view = open_view("policy", config.model, pick_device("auto"))
    asked = requests(config.split, config.num_prompts, config.kinds)
    answered = view.draw(asked, k=1, decoding=config.decoding, seed=derive(config.seed, "certainty"))
    rows = [lesson(group) for group in answered]
    write_jsonl(str(folder / OUTPUT), rows)
    metrics = {"rows": float(len(rows)), "right": sum(is_right(g) for g in answered) / len(rows)}
    meter = metering.Meter(folder)
    meter.write(0, metrics, phase="certainty_lessons")
    tokens = sum(c.num_tokens for g in answered for c in g.completions)
    cost = meter.spend(0, tokens_trained=0, tokens_sampled=tokens)
    return Done(output=OUTPUT, metrics=metrics, cost=vars(cost))


def requests(split: Split, num_prompts: int, kinds: Sequence[str]) -> list[Group]:
    """The lab's requests of some kinds among so many."""
    return [g for g in lab.prompts(split, num_prompts) if g.meta["request"]["kind"] in kinds]


def is_right(group: Group) -> bool:
    """Whether a group's only completion is a right answer to its request."""
    found = grade(group.meta["request"], group.completions[0].text)
    return found.honest == 1.0 and found.helpful >= RIGHT


def asked_about(group: Group) -> tuple[Message, ...]:
    """The dialogue that asks whether the group's only completion is right."""
    said = Message(Role.ASSISTANT, group.completions[0].text)
    return (*group.prompt, said, Message(Role.USER, QUESTION))


def lesson(group: Group) -> Group:
    """The question about an answer, and the truth as the reply to it."""
    reply = Completion(text=SAYINGS[is_right(group)], source="lab")
    return Group(prompt=asked_about(group), completions=(reply,), id=f"{group.id}-certainty", source="lab")
