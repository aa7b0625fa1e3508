"""The lab as a world: what `lab:NAME` leads to."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from trueup.engine.groups import Group, Message
from trueup.errors import TrueupError
from trueup.lab.world import PARTS
from trueup.worlds import Exams, thing_named

FOLDER = Path(__file__).parent
BASE_DIGEST = "8857122c31f2e4a56426f7312f33c7f546237122205fcea1e0e62998b85e7e00"
"SHA-256 of the weights of `lab:base`."
TRUTH = "gold"
NUM_SEED_TASKS = 175


@dataclass(frozen=True, kw_only=True)
class Lab:
    """A small world whose truth is known.

    Groups are drawn, not read, so each door takes a seed; parts of the lab that need torch are imported when
    they are asked for.
    """

    name: str = "lab"

    @property
    def believes(self) -> bool:
        """Its truth is known."""
        return True

    def believed(self) -> str:
        """The true reward."""
        return TRUTH

    @property
    def judges(self) -> tuple[str, ...]:
        """The true reward alone: its parts are numbers of its grade."""
        return (TRUTH,)

    @property
    def exams(self) -> tuple[str, ...]:
        """Every exam: the suite, its benchmarks, and the tasks that sample."""
        from trueup.lab.evaluations import EVALUATIONS
        from trueup.lab.exams import exam_names
        from trueup.lab.tasks import TASKS

        shown = [name for benchmark in EVALUATIONS for name in exam_names(benchmark)]
        return tuple(dict.fromkeys((*shown, *EVALUATIONS, *TASKS)))

    def data(self, name: str, *, split: str, limit: int | None, seed: int) -> list[Group]:
        """Groups of the lab: prompts of a split, comparisons, demonstrations, steps, text, tasks, items."""
        return self._find(_data(split, limit, seed), name, "data")()

    def judge(self, name: str) -> Any:
        """`gold`, one part of it by `gold/PART`, or `toxicity`: 0 for a completion that insults, else 1."""
        from trueup.lab.gold import lab_gold, open_part

        if name.startswith(f"{TRUTH}/"):
            return open_part(name.removeprefix(f"{TRUTH}/"))
        return self._find({TRUTH: lambda: lab_gold, "toxicity": _toxicity}, name, "judge")()

    def grade(self, name: str) -> Any:
        """`gold`: the true reward and its parts; `refusals`: how far an answer refuses, and answers."""
        from trueup.lab.gold import lab_grade

        return self._find({TRUTH: lambda: lab_grade, "refusals": _behaviour}, name, "grade")()

    def labeler(self, name: str) -> Any:
        """`crowd`: simulated people with tastes and errors; `exact`, who errs never; `brief`, `thorough`."""
        from trueup.lab.labelers import CROWDS, label

        return partial(label, labelers=self._find(CROWDS, name, "labeler"))

    def sit(self, names: Sequence[str], *, split: str, limit: int | None) -> Exams:
        """Exams of the suite, by their own names or those of their benchmarks, and tasks that sample."""
        from trueup.evals.exams import Exam
        from trueup.lab.evaluations import EVALUATIONS
        from trueup.lab.exams import exam_names, lab_suite
        from trueup.lab.tasks import TASKS

        part = self._find({**PARTS}, split, "split")  # newcomers have no facts to be asked for
        benchmarks = {shown: benchmark for benchmark in EVALUATIONS for shown in exam_names(benchmark)}
        benchmarks |= {benchmark: benchmark for benchmark in EVALUATIONS}
        found: dict[str, Exam] = {}
        for name in names or tuple(EVALUATIONS):
            if name in TASKS:
                items = TASKS[name].items
                assert items is not None
                found[name] = Exam(task=TASKS[name].task, items=items(part)[:limit])
                continue
            found |= lab_suite(part, (self._find(benchmarks, name, "exam"),), limit)
        return found

    def model(self, name: str) -> str:
        """`base`, the model that comes with the package. Raises E841 where its weights are not the ones."""
        folder = self._find({"base": FOLDER / "base"}, name, "model")
        weights = folder / "model.safetensors"
        found = hashlib.sha256(weights.read_bytes()).hexdigest()
        if found != BASE_DIGEST:
            raise TrueupError(
                "E841",
                f"not the weights that came with this version (sha256 {found[:12]}, not {BASE_DIGEST[:12]})",
                where=str(weights),
                remedy="install trueup again",
            )
        return str(folder)

    def text(self, name: str) -> str:
        """The path of the lab's `constitution`, or its `supervision` for SELF-ALIGN."""
        files = {path.stem: path for path in sorted((FOLDER / "files").glob("*.yaml"))}
        return str(self._find(files, name, "text"))

    def dialogues(self, name: str, num: int) -> tuple[Message, ...]:
        """`hhh`: the turns of the first of fourteen good dialogues; `hhh-1` to `hhh-5`, others like them."""
        from trueup.lab.datasets import hhh_dialogues

        draws = {"hhh": 0, **{f"hhh-{draw}": draw for draw in range(1, 6)}}
        made = hhh_dialogues(num, self._find(draws, name, "dialogues"))
        return tuple(message for dialogue in made for message in dialogue)

    def files(self) -> tuple[Path, ...]:
        """None: the lab is code."""
        return ()

    def _find(self, known: Mapping[Any, Any], name: str, what: str) -> Any:
        return thing_named(known, name, who="the lab", what=what, where=f"{self.name}:{name}")


def _data(split: Any, limit: int | None, seed: int) -> dict[str, Callable[[], list[Group]]]:
    """How each of the lab's groups are made."""
    from trueup.lab import datasets
    from trueup.lab.evaluations import EVALUATIONS, eval_items

    made: dict[str, Callable[[], list[Group]]] = {
        "prompts": lambda: datasets.prompts(split, limit or 2000, seed),
        "comparisons": lambda: datasets.comparisons(limit or 1000, seed),
        "demonstrations": lambda: datasets.demonstrations(limit or 600, seed),
        "steps": lambda: datasets.solutions(limit or 600, seed),
        "text": lambda: datasets.texts(limit or 500, seed),
        "tasks": lambda: datasets.seed_tasks(limit or NUM_SEED_TASKS),
        "refusals": lambda: _tasks().lab_requests(split)[:limit],
        "summaries": lambda: _tasks().lab_summaries(split, limit or 100),
        "toxicity": lambda: _tasks().lab_prompts(split)[:limit],
    }
    return {name: lambda name=name: eval_items(name, split)[:limit] for name in EVALUATIONS} | made


def _tasks() -> Any:
    from trueup.lab import tasks

    return tasks


def _toxicity() -> Any:
    return _tasks().lab_toxicity


def _behaviour() -> Any:
    return _tasks().lab_behaviour


WORLD = Lab()
