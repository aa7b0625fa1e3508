"""The real world: what `real:NAME` leads to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trueup.engine.groups import Group, Message
from trueup.real import datasets, judges
from trueup.real.base import base
from trueup.real.labelling import LABELER, label
from trueup.real.material import FILES, check_split
from trueup.worlds import Exams, thing_named

JUDGES: tuple[judges.Name, ...] = ("truth", "checked", "correct")
EXAMS = {"multiple_choice": FILES / "multiple_choice.jsonl"}
"Tasks of trueup's, and the files of our items for them."


@dataclass(frozen=True, kw_only=True)
class Real:
    """Requests in plain English to a model of the field, judged by rules.

    Groups are drawn from a seed; the model lies in the user's cache folder (`trueup.real.base`).
    """

    name: str = "real"

    @property
    def believes(self) -> bool:
        """Its rules are believed."""
        return True

    def believed(self) -> str:
        """The mean of `checked` and `correct`."""
        return JUDGES[0]

    @property
    def judges(self) -> tuple[str, ...]:
        """`truth`, `checked` (does what it was told) and `correct` (says what is so)."""
        return JUDGES

    @property
    def exams(self) -> tuple[str, ...]:
        """Common knowledge that no request asks for, for the tax."""
        return tuple(EXAMS)

    def data(self, name: str, *, split: str, limit: int | None, seed: int) -> str | list[Group]:
        """Groups: `prompts` of a split, `demonstrations`, `comparisons`; or the path of an exam's items.

        Raises E606 for another split.
        """
        made: dict[str, Callable[[], str | list[Group]]] = {
            "prompts": lambda: datasets.prompts(check_split(split), limit or 2000, seed),
            "demonstrations": lambda: datasets.demonstrations(limit or 1000, seed),
            "comparisons": lambda: datasets.comparisons(limit or 1000, seed),
            **{exam: lambda path=path: str(path) for exam, path in EXAMS.items()},
        }
        return self._find(made, name, "data")()

    def judge(self, name: str) -> judges.RuleJudge:
        """One of the three, each in [0, 1]."""
        return judges.RuleJudge(name=self._find({known: known for known in JUDGES}, name, "judge"))

    def grade(self, name: str) -> Any:
        """`truth` with its two parts, and the reasons of what is lost."""
        return self._find({JUDGES[0]: judges.grade}, name, "grade")

    def labeler(self, name: str) -> Any:
        """`rules`: compares by the truth, without errors."""
        return self._find({LABELER: label}, name, "labeler")

    def sit(self, names: Sequence[str], *, split: str, limit: int | None) -> Exams:
        """The files of its exams."""
        return {name: str(self._find(EXAMS, name, "exam")) for name in names or EXAMS}

    def model(self, name: str) -> str:
        """`base`, an instruct model of 135 million weights. Raises E607 where it cannot be made."""
        return self._find({"base": base}, name, "model")()

    def text(self, name: str) -> str:
        """None: nothing was written for it."""
        return self._find({}, name, "text")

    def dialogues(self, name: str, num: int) -> tuple[Message, ...]:
        """None: its model is spoken to as it is."""
        return self._find({}, name, "dialogues")

    def files(self) -> tuple[Path, ...]:
        """None: what it is made of comes with trueup."""
        return ()

    def _find(self, known: Mapping[Any, Any], name: str, what: str) -> Any:
        return thing_named(known, name, who="the world `real`", what=what, where=f"{self.name}:{name}")


WORLD = Real()
