"""Task files: an evaluation as a small versioned YAML, those that come with trueup and the user's own.

A file says where the items come from, how they are worded and how they are scored; `docs/evaluations.md`
lists the keys. Files are read as strictly as recipes are: an unknown key, a filter that does not exist or a
wording that lacks a part is an error that names the line.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge

from trueup.errors import TrueupError
from trueup.evals.answers import number_task
from trueup.evals.tasks import SCORES, ScoreName, Task, likelihood_task
from trueup.evals.templates import places
from trueup.settings import config
from trueup.settings.beside import beside
from trueup.settings.names import check_name

FAMILIES = {"truthfulqa-paper": ("truthfulqa_paper_mc1", "truthfulqa_paper_mc2")}
"Names that stand for several tasks; what is given by such a name is given to each."


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where rows come from."""

    path: str = ""
    "`world:NAME`, a file, a folder or a Hugging Face id; empty: the user names it."
    split: str = "test"
    fields: Mapping[str, str] = field(default_factory=dict)
    "Names to read in place of the wording's own: `{question: doc.query}`."
    columns: tuple[str, ...] = ()
    "The columns of a CSV file that has no line of names."


@dataclass(frozen=True, kw_only=True)
class TaskFile:
    """One evaluation, as its file says it."""

    name: str
    version: Annotated[int, Ge(1)]
    "Changes whenever the same model would get another number."
    about: str
    "One line: what is measured."
    reference: str
    "Author and year, with a link or number."
    score: Literal[ScoreName, "number"]
    items: Source = Source()
    demonstrations: Source = Source(split="train")
    "Where `--shots` draws from: rows of the same shape that are no items."
    before: str = ""
    "Text before every query: an instruction, or fixed demonstrations."
    before_of: str = ""
    "In its place the fixed demonstrations of a task of the installed lm-eval, by its name there."
    note: str = ""
    "One line that stands below every table with a figure of the task."
    query: str = ""
    "The prompt, with places for fields: `Q: {question}\\nA:`."
    choices: tuple[str, ...] = ()
    "The choices, where they are few and named here; each begins with its space."
    each: str = ""
    "The field that lists the choices, where every row has its own."
    choice: str = " {choice}"
    "How one entry of `each` is worded."
    answer: str | int | None = None
    "The right choice: its index, or the field that holds an index, or a letter, or an entry of `labels`."
    labels: str = ""
    "The field that lists the names by which `answer` calls the choices."
    flags: str = ""
    "The field of 0 and 1, one for each choice, where several may be true; the first true one is the answer."
    pair: tuple[str, str] | None = None
    "Two fields, in an order that a fair coin per item decides: `{first}`, `{second}`; `swapped` is 0 or 1."
    verdicts: tuple[str, str] = (" True", " False")
    "For `score: ranking`, whose query shows each `{choice}`: its choices' verdicts."
    together: Annotated[int, Ge(2)] | str | None = None
    "What must all be right for an exact match: so many rows on end, or those on end that share a field."
    max_new_tokens: Annotated[int, Ge(1)] = 256
    "For `score: number`: the longest answer."
    clean: Literal["no", "wikihow"] = "no"
    "`wikihow` takes HellaSwag's [brackets] out of the query and of the entries of `each`."
    form: Literal["text", "chat"] = "text"
    "`chat`: the query is a user's turn and the choices are whole replies."
    separator: str = "\n\n"
    "Stands between demonstrations, and before the query."

    def __post_init__(self) -> None:
        check_name(self.name, "a task", "name")
        for template in (self.before, self.query, self.choice, *self.choices):
            list(places(template))
        if self.before and self.before_of:
            raise ValueError("give either `before` or `before_of`")
        if self.score == "document":
            return
        if bool(self.choices) == bool(self.each):
            raise ValueError("give either `choices` or `each`")
        if not self.query:
            raise ValueError("give a `query`")
        if self.answer is None and not self.flags and len(self.choices) != 1:
            raise ValueError("give `answer`, or `flags` where several choices may be")
        if self.score == "number" and len(self.choices) != 1:
            raise ValueError("with `score: number` give one choice, the worked answer of a demonstration")
        if self.score == "ranking" and "choice" not in set(places(self.query)):
            raise ValueError("with `score: ranking` the query shows `{choice}`")

    def task(self) -> Task:
        """The evaluation as a value."""
        if self.score == "number":
            end = self.separator if self.form == "text" else ""
            return number_task(self.name, self.version, max_new_tokens=self.max_new_tokens, end=end)
        return likelihood_task(self.name, self.version, SCORES[self.score])


def expanded(names: Sequence[str]) -> list[str]:
    """The tasks that some names mean: a family's name stands for all of its tasks."""
    return [task for name in names for task in FAMILIES.get(name, (name,))]


def shipped() -> dict[str, Path]:
    """The task files that come with trueup, by name."""
    folder = Path(str(resources.files("trueup.evals") / "files"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def read_task(path: Path) -> TaskFile:
    """The task in a file, its items where the file lies. Raises E710 to E715 for what it says, E801."""
    task = config.build(TaskFile, config.read_yaml(path))
    items, pool = (
        replace(source, path=beside(path.parent, source.path)) for source in (task.items, task.demonstrations)
    )
    return replace(task, items=items, demonstrations=pool)


def find_task(name: str, also: tuple[str, ...] = ()) -> TaskFile:
    """The task of a name, or in a file by its path. Raises E745 for a name that is neither, nor in `also`."""
    files = shipped()
    if name in files:
        return read_task(files[name])
    if name.endswith((".yaml", ".yml")):
        return read_task(Path(name))
    known = sorted({*files, *FAMILIES, *also})
    near = difflib.get_close_matches(name, known, 1)
    raise TrueupError(
        "E745",
        f"there is no task {name!r}",
        where="tasks",
        remedy=f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}, or give a file",
    )
