"""Many runs at once: `run` a recipe, `compare` methods, `reproduce` claims, mix a `soup`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, final

from trueup.api import shown
from trueup.api.models import GivenModel, Model, path_of
from trueup.api.results import Report, Trained
from trueup.api.training import GivenJudge, fit
from trueup.claims import reproduce as the_claims
from trueup.claims.measure import measure_claims
from trueup.comparison.cluster import read_cluster
from trueup.comparison.plan import read_comparison
from trueup.comparison.run import compare_in
from trueup.errors import TrueupError, counted
from trueup.reports import first_screen, render_summary
from trueup.reports.comparison import load as load_comparison
from trueup.reports.which import report_of
from trueup.runs.recipe import plan, run_recipe
from trueup.runs.shipped import default_folder, open_recipe, recipe_path, refuse_other_kind
from trueup.runs.signals import stop_requests
from trueup.runs.unchanged import Terms
from trueup.settings.blocks import ModelSettings
from trueup.soups.picture import sentences
from trueup.soups.write import named, prompts_block, write_mixture

if TYPE_CHECKING:
    import pandas

CLAIMS = Path("runs/claims")


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """A recipe whose stages are done."""

    folder: Path
    stages: dict[str, Trained]
    "What each stage made, by its name."

    @property
    def summary(self) -> dict[str, Any] | None:
        """What its evaluation wrote: policies with their numbers; None where the recipe evaluates nothing."""
        path = self.folder / "summary.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def report(self, out: str | os.PathLike[str] | None = None) -> Report:
        """The run's report, written to `out` or to `report.html` in its folder."""
        return Report(path=report_of(self.folder, None if out is None else Path(out)), run=self.folder)

    def __str__(self) -> str:
        summary = self.summary
        lines = [] if summary is None else [render_summary(summary)]
        return "\n".join(
            [*lines, f"{counted(len(self.stages), 'stage')} in {self.folder}: {', '.join(self.stages)}"]
        )

    def _repr_html_(self) -> str:
        return first_screen(self.folder)


def run(
    recipe: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str] | None = None,
    world: str | os.PathLike[str] | None = None,
    say: Callable[[str], None] = print,
    accept_changed_inputs: bool = False,
    full_digests: bool = False,
    **changes: Any,
) -> Run:
    """The run of a recipe, every stage done; what was done before is skipped, what was cut short goes on.

    `recipe` is a YAML file or the name of one that comes with trueup (`"demo"`); settings are changed by the
    stage's name, `sft={"loop": {"epochs": 2}}`, `seed=1` is that of all. `say` is told of every stage.
    `accept_changed_inputs` and `full_digests` are those of `fit`.
    """
    name = os.fspath(recipe)
    given = {**changes, **({} if world is None else {"world": os.fspath(world)})}
    chosen = open_recipe(name, given, where="run")
    folder = default_folder(name) if out is None else Path(out)
    with stop_requests() as stop_requested:
        terms = Terms(accept=accept_changed_inputs, whole=full_digests)
        run_recipe(chosen, folder, stop_requested=stop_requested, say=say, terms=terms)
    return Run(folder=folder, stages={s.name: Trained.of(s.folder) for s in plan(chosen, folder)})


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Compared:
    """Methods on one start, one budget and the same seeds."""

    folder: Path
    document: dict[str, Any]
    "As `comparison.json` holds it."

    @property
    def methods(self) -> list[dict[str, Any]]:
        """Each method's row: `method`, `gain` with its interval, `gold`, `kl`, `tax`, cost ..."""
        return self.document["methods"]

    def frame(self) -> pandas.DataFrame:
        """A frame with a row for each method."""
        return shown.frame(self.methods)

    def report(self, out: str | os.PathLike[str] | None = None) -> Report:
        """The comparison's page, written to `out` or to `comparison.html` in its folder."""
        return Report(path=report_of(self.folder, None if out is None else Path(out)), run=self.folder)

    def __str__(self) -> str:
        return (self.folder / "comparison.md").read_text(encoding="utf-8").strip()

    def _repr_html_(self) -> str:
        return first_screen(self.folder)


def compare(
    recipe: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str] | None = None,
    world: str | os.PathLike[str] | None = None,
    workers: int = 2,
    cluster: str = "",
    say: Callable[[str], None] = print,
    accept_changed_inputs: bool = False,
    full_digests: bool = False,
    **changes: Any,
) -> Compared:
    """Methods compared on the same data, model, seeds and budget: what each gained and what it cost.

    `recipe` is a YAML file or the name of a comparison that comes with trueup; `world` is your own, a YAML
    file; `changes` are the comparison's keys, as `seeds=[1, 2]` or `methods={"dpo": {"beta": 0.2}}`. Runs are
    processes, `workers` of them at once, here or on a `cluster` (`"slurm:--partition=P"`, `"ray:auto"`), so
    no objects travel into them. `accept_changed_inputs` and `full_digests` are those of `fit`.
    """
    where = read_cluster(cluster)
    path = recipe_path(os.fspath(recipe))
    refuse_other_kind(path, needed="methods", other="stages", taken_by="run")
    comparison = read_comparison(path, {**changes, **({} if world is None else {"world": os.fspath(world)})})
    folder = Path("runs") / comparison.name if out is None else Path(out)
    terms = Terms(accept=accept_changed_inputs, whole=full_digests)
    compare_in(folder, comparison, workers=workers, cluster=where, say=say, terms=terms)
    return Compared(folder=folder, document=dict(load_comparison(folder)))


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Reproduced:
    """Claims of the field, measured again."""

    folder: Path
    claims: list[dict[str, Any]]
    "Each with `name`, `claim`, `verdict` (None: not measured) and its `effects`."

    @property
    def verdicts(self) -> dict[str, str | None]:
        """What was found of each claim: one of `trueup.claims.finding.WORST`; None: not measured."""
        return {row["name"]: row["verdict"] for row in self.claims}

    def frame(self) -> pandas.DataFrame:
        """A frame with a row for each claim."""
        return shown.frame(self.claims)

    def __str__(self) -> str:
        return "\n".join(f"{name}: {claim} {verdict}" for name, claim, verdict in self._rows())

    def _repr_html_(self) -> str:
        return shown.page("claims", [], ("claim", "what it says", "verdict"), self._rows())

    def _rows(self) -> list[tuple[str, str, str]]:
        rows = self.claims
        return [(r["name"], r["claim"], the_claims.verdict_of(r) or "not measured") for r in rows]


def reproduce(
    claim: str | Sequence[str] | None = None,
    *,
    seeds: Sequence[int] = (),
    decide: bool = False,
    out: str | os.PathLike[str] = CLAIMS,
    workers: int = 2,
    cluster: str = "",
    say: Callable[[str], None] = print,
    accept_changed_inputs: bool = False,
    full_digests: bool = False,
    **changes: Any,
) -> Reproduced:
    """A claim of the field measured again, several, or `"all"`; without a name, what is known of each.

    `seeds` are those of its runs, its own without them; `changes` settings of its recipe by the stage's name.
    With `decide` those that stay undecided are given the seeds that the spread of the first asks for.
    `workers` and `cluster` are those of `compare`.
    `accept_changed_inputs` and `full_digests` are those of `fit`.
    """
    folder = Path(out)
    if claim is None:
        return Reproduced(folder=folder, claims=the_claims.listing(folder))
    terms = Terms(accept=accept_changed_inputs, whole=full_digests)
    rows = measure_claims(
        claim,
        folder,
        seeds=seeds,
        overrides=changes,
        decide=decide,
        workers=workers,
        cluster=read_cluster(cluster),
        say=say,
        terms=terms,
    )
    return Reproduced(folder=folder, claims=rows)


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Soup:
    """A mixture of models that were trained from one start."""

    folder: Path
    model: Model
    front: dict[str, Any] | None
    "The front of the mixtures that were measured, as `front.json` holds it; None where none was."

    def __str__(self) -> str:
        return "\n".join([*(sentences(self.front) if self.front else ()), f"model: {self.model}"])

    def _repr_html_(self) -> str:
        return shown.page(f"soup {self.folder.name}", str(self).splitlines())


def soup(
    experts: Sequence[GivenModel],
    *,
    out: str | os.PathLike[str],
    weights: Sequence[float] = (),
    start: GivenModel | None = None,
    adapter: bool = False,
    judges: Mapping[str, GivenJudge] | None = None,
    morl: Mapping[str, GivenModel] | None = None,
    prefer: Sequence[float] = (),
    search: Literal["grid", "dirichlet", "bayes"] = "grid",
    tries: int = 11,
    steps: int = 4,
    prompts: str | os.PathLike[str] = "world:prompts",
    validation: str | os.PathLike[str] = "world:prompts",
    num_prompts: int = 200,
    seed: int = 0,
    accept_changed_inputs: bool = False,
    full_digests: bool = False,
) -> Soup:
    """Models that were trained from one start, mixed into one: θ = θ₀ + Σ wᵢ (θᵢ − θ₀).

    Without `judges`, the mixture of the given weights (all alike without any), written to `out`. With rewards
    by name, mixtures are searched for and measured: `front` is what they reach, `model` the one that the
    validation prompts chose. The other settings are those of `trueup soup`, `accept_changed_inputs` and
    `full_digests` those of `fit`.
    """
    folder, paths = Path(out), [_folder_of(expert) for expert in experts]
    origin = "" if start is None else _folder_of(start)
    if not judges:
        made = write_mixture(paths, folder, weights, start=origin, adapter=adapter)
        return Soup(folder=folder, model=Model(ModelSettings(path=str(made))), front=None)
    if weights or adapter:
        raise TrueupError(
            "E736",
            "with judges the weights are searched for, and whole weights are written",
            where="weights" if weights else "adapter",
            remedy="leave it out, or the judges",
        )
    trained = fit(
        "soup",
        out=folder,
        experts=dict(named(paths)),
        start=origin,
        judges=dict(judges),
        morl={name: _folder_of(model) for name, model in (morl or {}).items()},
        preference=list(prefer),
        search=search,
        tries=tries,
        steps=steps,
        seed=seed,
        accept_changed_inputs=accept_changed_inputs,
        full_digests=full_digests,
        data=prompts_block(os.fspath(prompts), "test", num_prompts),
        validation=prompts_block(os.fspath(validation), "dev", num_prompts),
    )
    found = json.loads((trained.folder / "front.json").read_text(encoding="utf-8"))
    return Soup(folder=trained.folder, model=trained.model, front=found)


def _folder_of(model: GivenModel) -> str:
    """The folder of a model whose weights are read from there."""
    if isinstance(model, str | os.PathLike):
        return path_of(model)
    raise TrueupError(
        "E754", "experts are read from folders", where="soup", remedy="save the model, then name its folder"
    )
