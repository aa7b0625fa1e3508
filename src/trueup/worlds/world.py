"""What every world offers, each thing asked for by its name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from trueup.engine.groups import Group, Message
from trueup.errors import TrueupError

Exams = Mapping[str, Any]
"By name: `trueup.evals.papers.Exam`, ready to be sat, or the path of a task file or of its items."


class World(Protocol):
    """What a policy is trained for, asked and measured by.

    A door gives what it leads to, or a reference to it, which is opened as if a person had written it: a
    file's path, a judge as `judge` names them. So a world in a file needs to know no reader and no model.
    Every door raises E761 for a name that the world does not have.
    """

    @property
    def name(self) -> str:
        """As it is written before a door: `lab`, or the path of its file."""
        ...

    @property
    def believes(self) -> bool:
        """Whether one of its judges is believed."""
        ...

    def believed(self) -> str:
        """The name of the judge that is believed. Raises E762 where none is."""
        ...

    @property
    def judges(self) -> tuple[str, ...]:
        """The names of the judges that completions are measured by, the believed one first."""
        ...

    @property
    def exams(self) -> tuple[str, ...]:
        """The names of its exams."""
        ...

    def data(self, name: str, *, split: str, limit: int | None, seed: int) -> str | list[Group]:
        """Groups, or the path of them: `prompts` of a split, `comparisons`, `demonstrations` ..."""
        ...

    def judge(self, name: str) -> Any:
        """A judge, or its reference."""
        ...

    def grade(self, name: str) -> Any:
        """A function (group, text) to all numbers that a judge gives; None for a judge that gives one."""
        ...

    def labeler(self, name: str) -> Any:
        """A function (groups, seed, kind, num_comparisons=...) to labelled groups, or a reference."""
        ...

    def sit(self, names: Sequence[str], *, split: str, limit: int | None) -> Exams:
        """Its exams of some names, or all, on the first `limit` items of each."""
        ...

    def model(self, name: str) -> str:
        """The folder or id of one of its models; `base` is where a run starts that names none."""
        ...

    def text(self, name: str) -> str:
        """The path of what was written for it: a `constitution`, a `supervision`."""
        ...

    def dialogues(self, name: str, num: int) -> str | tuple[Message, ...]:
        """The first `num` of some good dialogues, to put before a prompt, or the path of them."""
        ...

    def files(self) -> tuple[Path, ...]:
        """The files and folders that it is made of, which a run's digest covers; none of a built-in one."""
        ...


def thing_named(
    known: Mapping[Any, Any], name: str, *, who: str, what: str, where: str, also: Sequence[str] = ()
) -> Any:
    """What a world has under a name. Raises E761 for one that it has not, with the nearest, or all there are.

    `who` is the world in words, `also` are names that lead elsewhere and are offered too.
    """
    if name in known:
        return known[name]
    there = (*also, *known)
    near = difflib.get_close_matches(name, there, 1)
    raise TrueupError(
        "E761",
        f"{who} has no {what} {name!r}",
        where=where,
        remedy=f"did you mean {near[0]!r}?" if near else f"it has {', '.join(there) or 'none'}",
    )
