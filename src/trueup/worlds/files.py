"""A world in a YAML file: what a person holds of their own, by the names that runs ask for.

    prompts: {train: train.jsonl, dev: dev.jsonl, test: test.jsonl}
    comparisons: pairs.jsonl
    judges: {grade: grade.py:score, reward: runs/reward_model/model, referee: lm:http://127.0.0.1:8000#my-judge}
    truth: grade
    labelers: {panel: people, referee: referee}
    exams: {lambada: lambada.jsonl, mine: my-exam.yaml}

Paths are relative to the file, wherever a command is typed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from annotated_types import MinLen

from trueup.errors import TrueupError
from trueup.settings import config as configuration
from trueup.settings.beside import beside, paths_in
from trueup.worlds.world import Exams, thing_named

SPLITS = ("train", "dev", "test")
RESERVED = frozenset({"gold", "proxy", "length", "ended", "kl", "reference_nll", "entropy"})
"What measurements call their own numbers; the judge that is believed may be called gold."
Place = Annotated[str, MinLen(1)]


@dataclass(frozen=True, kw_only=True)
class Described:
    """What a world's file may say."""

    prompts: Mapping[str, Place] | Place
    "Prompts alone, by split: `{train: a.jsonl, dev: b.jsonl, test: c.jsonl}`; one file serves every split."
    comparisons: Place = ""
    demonstrations: Place = ""
    data: Mapping[str, Place] = field(default_factory=dict)
    "Further groups by name: `{labels: marks.jsonl}`."
    base: Place = ""
    "The model that runs start from which name none: a Hugging Face folder or id."
    judges: Mapping[str, Place] = field(default_factory=dict)
    "References of judges by name, as `judge` takes them."
    truth: str = ""
    "The judge that is believed; empty where none is."
    labelers: Mapping[str, Place] = field(default_factory=dict)
    "Who compares or ranks completions: `people`, or the name of one of `judges`."
    exams: Mapping[str, Place] = field(default_factory=dict)
    "A task of trueup's and its items, or a name and its task file."
    dialogues: Place = ""
    "Good dialogues to put before a prompt: a file of demonstrations."
    texts: Mapping[str, Place] = field(default_factory=dict)
    "What was written for it: `{constitution: mine.yaml, supervision: ours.yaml}`."

    def __post_init__(self) -> None:
        if self.truth and self.truth not in self.judges:
            there = f"it names {', '.join(self.judges)}" if self.judges else "it names none"
            raise ValueError(f"`truth` is {self.truth!r}, which `judges` does not name: {there}")
        taken = sorted(RESERVED & self.judges.keys() - ({"gold"} if self.truth == "gold" else set()))
        if taken:
            raise ValueError(
                f"a judge may not be called {taken[0]!r}: a measurement has a number of that name"
            )
        for name, who in self.labelers.items():
            if who != "people" and who not in self.judges:
                raise ValueError(f"the labeler {name!r} is {who!r}: neither `people` nor one of `judges`")


@dataclass(frozen=True, kw_only=True)
class WorldFile:
    """The world that a file describes."""

    name: str
    said: Described

    @property
    def believes(self) -> bool:
        """Whether the file names a `truth`."""
        return bool(self.said.truth)

    @property
    def judges(self) -> tuple[str, ...]:
        """The names of its judges, the believed one first."""
        names = tuple(self.said.judges)
        return tuple(sorted(names, key=lambda name: name != self.said.truth))

    @property
    def exams(self) -> tuple[str, ...]:
        """The names of its exams."""
        return tuple(self.said.exams)

    def data(self, name: str, *, split: str, limit: int | None, seed: int) -> str:
        """The path of its groups; which rows are taken is the reader's business."""
        if name == "prompts":
            prompts = self.said.prompts
            return self._path(prompts if isinstance(prompts, str) else self._of(prompts, split, "split"))
        own = {"comparisons": self.said.comparisons, "demonstrations": self.said.demonstrations}
        known = {key: place for key, place in {**own, **self.said.data}.items() if place}
        return self._path(self._of(known, name, "data", also=("prompts",)))

    def judge(self, name: str) -> str:
        """The reference of a judge."""
        return self._path(self._of(self.said.judges, name, "judge"))

    def grade(self, name: str) -> None:
        """None: a judge of a file gives one number."""
        return None

    def labeler(self, name: str) -> str:
        """`people`, or the reference of the judge that labels."""
        who = self._of(self.said.labelers, name, "labeler")
        return who if who == "people" else self.judge(who)

    def sit(self, names: Sequence[str], *, split: str, limit: int | None) -> Exams:
        """The paths of its exams."""
        return {name: self._path(self._of(self.said.exams, name, "exam")) for name in names or self.exams}

    def model(self, name: str) -> str:
        """The model that runs start from."""
        return self._path(self._of({"base": self.said.base} if self.said.base else {}, name, "model"))

    def text(self, name: str) -> str:
        """The path of its constitution, or its supervision."""
        return self._path(self._of(self.said.texts, name, "text"))

    def dialogues(self, name: str, num: int) -> str:
        """The path of its dialogues, by whichever name."""
        known = {name: self.said.dialogues} if self.said.dialogues else {}
        return self._path(self._of(known, name, "dialogues"))

    def files(self) -> tuple[Path, ...]:
        """The file itself, and everything in it that is there as a file or folder."""
        said = self.said
        prompts = (said.prompts,) if isinstance(said.prompts, str) else said.prompts.values()
        named = (*prompts, said.comparisons, said.demonstrations, said.base, said.dialogues)
        named += tuple(p for part in (said.data, said.judges, said.exams, said.texts) for p in part.values())
        paths = (Path(path) for place in named if place for path in paths_in(self._path(place)))
        return (Path(self.name), *dict.fromkeys(path for path in paths if path.exists()))

    def believed(self) -> str:
        """The name of the judge that is believed. Raises E762 where none is."""
        if not self.said.truth:
            some = next(iter(self.said.judges), "")
            told = (
                f"name one as its `truth`: write `truth: {some}` into it; to learn from one without "
                f"believing it, say `judge: {self.name}:{some}`"
            )
            none = 'write one into it, `judges: {grade: "grade.py:score"}`, and `truth: grade`'
            raise TrueupError(
                "E762", "this world believes no judge", where=self.name, remedy=told if some else none
            )
        return self.said.truth

    def _of(self, known: Mapping[str, str], name: str, what: str, also: tuple[str, ...] = ()) -> str:
        return thing_named(known, name, who="this world", what=what, where=self.name, also=also)

    def _path(self, place: str) -> str:
        """A path from where the command runs; a reference that is no path, or an id, as it is."""
        return beside(Path(self.name).parent, place)


def read_world(name: str) -> WorldFile:
    """The world in a YAML file. Raises E801 for a missing file, E7xx for one that says something else."""
    if not Path(name).exists():
        raise TrueupError(
            "E801", "no such file", where=f"world {name}", remedy="give the path of a world's YAML"
        )
    return WorldFile(
        name=name, said=configuration.build(Described, configuration.read_yaml(Path(name)), where=name)
    )
