"""`evaluate`: a model on tasks, and against another what was gained or lost."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, final

from rich.console import Console

from trueup.api import shown
from trueup.api.estimates import estimate_of, in_words, rows_of
from trueup.api.given import Given
from trueup.api.models import DType, GivenModel
from trueup.api.rows import Source
from trueup.evals.evaluation import evaluate_on
from trueup.evals.papers import Shots
from trueup.evals.printed import notes, table_of
from trueup.evals.scorecard import write_out
from trueup.sources.context import open_context
from trueup.statistics.estimates import Estimate

if TYPE_CHECKING:
    import pandas


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """A model's figures on tasks, and against another model what was gained or lost."""

    document: dict[str, Any]
    "As `eval.json` holds it."
    items: dict[str, list[dict[str, Any]]]
    "For each task, a row for each item."

    @property
    def figures(self) -> dict[str, Estimate]:
        """Each task's figure, with its interval over items; a task with several has them as `TASK METRIC`."""
        return {name: estimate_of(row["value"], items=row["items"]) for name, row in self._rows()}

    @property
    def differences(self) -> dict[str, Estimate]:
        """Each task's figure less the other model's, paired by item; {} where none was given."""
        return {
            name: estimate_of(row["difference"], items=row["items"])
            for name, row in self._rows()
            if row.get("difference") is not None
        }

    def frame(self) -> pandas.DataFrame:
        """A frame with a row for each figure."""
        return shown.frame(rows_of(self.figures))

    def write(self, folder: str | os.PathLike[str]) -> Path:
        """The folder with `eval.json` and, for every task, a line for each item."""
        write_out(Path(folder), self.document, self.items)
        return Path(folder)

    def __str__(self) -> str:
        text = StringIO()
        console = Console(file=text, highlight=False, markup=False, width=100, force_jupyter=False)
        console.print(table_of(self.document))
        return "\n".join([text.getvalue().strip("\n"), *self._notes()])

    def _repr_html_(self) -> str:
        other = self.differences
        rows = [
            (name, in_words(value), in_words(other[name]) if name in other else "")
            for name, value in self.figures.items()
        ]
        title = f"evaluation of {self.document['model']}"
        return shown.page(title, self._notes(), ("task", "value", "difference"), rows)

    def _rows(self) -> list[tuple[str, Mapping[str, Any]]]:
        rows = self.document["tasks"]
        names = [row["task"] for row in rows]
        return [(f"{r['task']} {r['metric']}" if names.count(r["task"]) > 1 else r["task"], r) for r in rows]

    def _notes(self) -> list[str]:
        return [line for row in self.document["tasks"] for line in notes(row, self.document)]


def evaluate(
    model: GivenModel,
    tasks: str | Sequence[str] = (),
    *,
    tokenizer: Any = None,
    against: GivenModel | None = None,
    world: str | os.PathLike[str] = "",
    data: Mapping[str, Source] | None = None,
    demonstrations: Mapping[str, Source] | None = None,
    shots: int = 0,
    draws: int = 1,
    limit: int | None = None,
    max_new_tokens: int | None = None,
    dialogues: int = 0,
    context: str = "world:hhh",
    template: str | None = None,
    split: Literal["train", "dev", "test"] = "test",
    engine: Literal["trueup", "lm-eval"] = "trueup",
    include: str | os.PathLike[str] | None = None,
    dtype: DType = "float32",
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
) -> Evaluation:
    """A model on tasks, with 95 % intervals; `against` another one also what differs, item by item.

    `tasks` are names or paths of task files; without any it sits the exams of `world`, by
    default of the one that the model's data came from. `data` and `demonstrations`
    say, by a task's name, where its items and its demonstrations are; `out` is a folder for `eval.json` and
    the items. The other settings are those of `trueup eval`.
    """
    given = Given(tokenizer=tokenizer)
    names = [tasks] if isinstance(tasks, str) else list(tasks)
    with given.files() as file_of:
        chosen = given.model(model, "model")
        other = None if against is None else given.model(against, "against")
        with given.holding():
            found = evaluate_on(
                chosen,
                [part.strip() for name in names for part in name.split(",") if part.strip()],
                data={name: str(file_of(rows)) for name, rows in (data or {}).items()},
                against=other,
                world=os.fspath(world),
                prefix=open_context(context, dialogues) if dialogues else (),
                template=template,
                split=split,
                limit=limit,
                shots=Shots(
                    num=shots,
                    draws=draws,
                    pools={name: str(file_of(rows)) for name, rows in (demonstrations or {}).items()},
                ),
                max_new_tokens=max_new_tokens,
                engine=engine,
                include=None if include is None else Path(include),
                dtype=dtype,
                seed=seed,
            )
    result = Evaluation(document=found.document, items=found.items)
    if out is not None:
        result.write(out)
    return result
