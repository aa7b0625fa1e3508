"""`measure`: models on the same held-out prompts, by judges of one's own."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from rich.console import Console

from trueup.api import rows, shown
from trueup.api.estimates import estimate_of
from trueup.api.given import Given
from trueup.api.models import GivenModel
from trueup.api.results import Report
from trueup.api.rows import Groups, Source
from trueup.api.training import GivenJudge
from trueup.data.memory import to_lines
from trueup.engine import disk
from trueup.engine.groups import read_jsonl
from trueup.engine.inputs import Input
from trueup.evals.printed import estimate
from trueup.measurement.document import SAMPLES
from trueup.measurement.names import check_place, named_exams, named_models
from trueup.measurement.plan import Asked, write_world
from trueup.measurement.printed import tables
from trueup.measurement.run import measure_in
from trueup.reports.which import report_of
from trueup.runs.recipe import Stage
from trueup.runs.references import strings
from trueup.runs.unchanged import Terms
from trueup.settings.held import OBJECT
from trueup.sources.sample import Decoding
from trueup.statistics.estimates import Estimate

if TYPE_CHECKING:
    import pandas

OUT = "runs/measure"


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """Models that were asked the same prompts: scores, wins, distance, tax, diversity, with intervals."""

    folder: Path
    document: dict[str, Any]
    "As `measure.json` holds it."

    @property
    def models(self) -> list[dict[str, Any]]:
        """Each model's row: `name`, `scores` and `gain` by judge, `battles`, `kl`, `tax`, `diversity` ..."""
        return self.document["models"]

    @property
    def gains(self) -> dict[str, Estimate]:
        """Each model's gain over the start, by the judge that orders the models; {} without a start."""
        by = self.document["by"]
        return {row["name"]: estimate_of(row["gain"][by]) for row in self.models if by in row["gain"]}

    @property
    def groups(self) -> Groups:
        """Every prompt once, with all models' completions, which name them, and the judges' scores."""
        path = self.folder / SAMPLES
        return Groups(groups=tuple(read_jsonl(str(path))), source=str(path))

    def frame(self) -> pandas.DataFrame:
        """A frame with a row for each model."""
        return shown.frame(self.models)

    def report(self, out: str | os.PathLike[str] | None = None) -> Report:
        """The measurement's page, written to `out` or in its folder."""
        return Report(path=report_of(self.folder, None if out is None else Path(out)), run=self.folder)

    def __str__(self) -> str:
        text = StringIO()
        console = Console(file=text, width=100, highlight=False, markup=False)
        for table in tables(self.document):
            console.print(table)
        return "\n".join([*self.document["headline"], text.getvalue().rstrip()])

    def _repr_html_(self) -> str:
        by = self.document["by"]
        rows = [
            (row["name"], *(estimate(e) if e else "–" for e in (row["scores"].get(by), row["kl"])))
            for row in self.models
        ]
        return shown.page("measured", self.document["headline"], ("model", str(by), "KL"), rows)


def measure(
    models: GivenModel | Sequence[GivenModel] | Mapping[str, GivenModel],
    *,
    against: GivenModel | None = None,
    tokenizer: Any = None,
    world: str | os.PathLike[str] = "",
    prompts: Source | None = None,
    judges: Mapping[str, GivenJudge] | None = None,
    truth: str = "",
    split: str = "test",
    num_prompts: int = 200,
    samples_per_prompt: int = 1,
    best_of: int = 1,
    margin: float = 0.0,
    exams: Sequence[str] | Mapping[str, str | os.PathLike[str]] = (),
    exam_items: int = 80,
    max_new_tokens: int = 128,
    template: str | None = None,
    seed: int = 0,
    out: str | os.PathLike[str] = OUT,
    say: Callable[[str], None] = print,
    accept_changed_inputs: bool = False,
    full_digests: bool = False,
) -> Measured:
    """Models on the same held-out prompts: scores, wins, KL, tax and diversity, with 95 % intervals.

    `models` is one, several, or several by name; `against` is the start that gains, wins, KL and tax are
    against. Prompts and judges are those of `world`, or `prompts` (a file, or rows) and `judges` by name
    (references, or functions), of which `truth` names the one that is believed. `exams` are names of the
    world's, or beside `prompts` their files by name. The same call goes on in `out` where it was stopped.
    The other settings are those of `trueup measure`.
    """
    folder, given = Path(out), Given(tokenizer=tokenizer)
    found, start = _named(models, against, given)
    plain = {name: given.plain(judge, f"judges.{name}") for name, judge in (judges or {}).items()}
    name = os.fspath(world)
    place = _prompts(prompts, folder)
    sat = named_exams(_spelt(exams))
    check_place(name, place, tuple(plain), sat)
    asked = Asked(
        models=found,
        start=start,
        world=write_world(folder, place, plain, truth, sat) if place else name,
        split=split,
        num_prompts=num_prompts,
        samples_per_prompt=samples_per_prompt,
        best_of=best_of,
        margin=margin,
        exams=tuple(sat),
        exam_items=exam_items,
        decoding=Decoding(max_new_tokens=max_new_tokens),
        template=template,
        seed=seed,
    )

    def of_stage(stage: Stage) -> list[Input]:
        named = set(strings(stage.settings))
        return [i for i in given.inputs if i.name.startswith("judges.") or f"{OBJECT}{i.name}" in named]

    with given.holding():
        terms = Terms(accept=accept_changed_inputs, whole=full_digests)
        said, _ = measure_in(folder, asked, say=say, terms=terms, given=of_stage)
    return Measured(folder=folder, document=said)


def _named(
    models: GivenModel | Sequence[GivenModel] | Mapping[str, GivenModel],
    against: GivenModel | None,
    given: Given,
) -> tuple[dict[str, str], tuple[str, str] | None]:
    """Models and the start by their names, objects by references."""
    if isinstance(models, Mapping):
        listed = [f"{name}={given.model(model, f'models.{name}')}" for name, model in models.items()]
    else:
        several = list(models) if isinstance(models, list | tuple) else [models]
        listed = [given.model(model, f"model-{place}") for place, model in enumerate(several, 1)]
    return named_models(listed, None if against is None else given.model(against, "start"))


def _spelt(exams: Sequence[str] | Mapping[str, str | os.PathLike[str]]) -> list[str]:
    """The exams as a command line spells them."""
    if isinstance(exams, Mapping):
        return [f"{name}={os.fspath(file)}" for name, file in exams.items()]
    return list(exams)


def _prompts(prompts: Source | None, folder: Path) -> str:
    """The file that prompts lie in: their own, or for rows one in the folder."""
    if prompts is None or isinstance(prompts, str | os.PathLike):
        return "" if prompts is None else os.fspath(prompts)
    disk.make_folder(folder)
    disk.write(folder / "prompts.jsonl", to_lines(rows.bare(prompts), "train"))
    return str(folder / "prompts.jsonl")
