"""What is there to look at: settings, data as a model reads them, reports, citations, models for others."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any, final

from rich.console import Console
from rich.text import Text

from trueup.api.models import GivenModel
from trueup.api.results import Report, Trained
from trueup.api.rows import Source
from trueup.api.training import GivenJudge, planned
from trueup.chat.preview import render_preview
from trueup.citations import cite as bibtex
from trueup.errors import TrueupError, counted
from trueup.models.opening import open_chat
from trueup.reports.which import report_of
from trueup.runs.export import export_run, methods_of, references_of
from trueup.sources.open import open_groups


def config(
    method: str | os.PathLike[str] | ModuleType,
    *,
    model: GivenModel | Mapping[str, Any] | None = None,
    tokenizer: Any = None,
    data: Source | Mapping[str, Any] | None = None,
    prompts: Source | Mapping[str, Any] | None = None,
    judge: GivenJudge | None = None,
    out: str | os.PathLike[str] | None = None,
    world: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Every setting of a run as `fit` would use it, as plain values, defaults written out; nothing is run."""
    plan = planned(
        method, model=model, tokenizer=tokenizer, data=data, prompts=prompts, judge=judge, out=out,
        world=world, settings=settings,
    )  # fmt: skip
    return plan.stage.settings


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Preview:
    """Rows as a model will read them: what is trained on in colour, control tokens marked."""

    rows: tuple[str, ...]
    "As plain text."
    html: tuple[str, ...]
    counts: str
    "What became of all rows."
    notes: tuple[str, ...] = ()
    "What the template was made to do, and what of the rows nothing trains on."

    def __str__(self) -> str:
        return "\n".join([*self.rows, *(f"note: {note}" for note in self.notes), self.counts])

    def _repr_html_(self) -> str:
        said = "".join(f"<p>{escape(text)}</p>" for text in (*self.notes, self.counts))
        return "".join(self.html) + said


def preview(
    method: str | os.PathLike[str] | ModuleType,
    *,
    num: int = 3,
    model: GivenModel | Mapping[str, Any] | None = None,
    tokenizer: Any = None,
    data: Source | Mapping[str, Any] | None = None,
    prompts: Source | Mapping[str, Any] | None = None,
    out: str | os.PathLike[str] | None = None,
    world: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> Preview:
    """The first rows of a run's data as the model will read them. Raises E728 for what reads none."""
    plan = planned(
        method, model=model, tokenizer=tokenizer, data=data, prompts=prompts, judge=None, out=out,
        world=world, settings=settings,
    )  # fmt: skip
    chosen = plan.stage.config
    if not {"data", "model"} <= vars(chosen).keys() or isinstance(chosen.model, str):
        raise TrueupError(
            "E728",
            f"{plan.stage.name} reads no data",
            where="preview",
            remedy="trueup.config shows what it reads",
        )
    with plan.given.holding(), plan.in_place() as in_place:
        chat = open_chat(chosen.model)
        needs = vars(plan.stage.module).get("NEEDS", ())
        opened = open_groups(in_place(chosen.data), chat, seed=chosen.seed, needs=needs)
    shown = [_both(render_preview(chat, group)) for group in opened.train[:num]]
    return Preview(
        rows=tuple(text for text, _ in shown),
        html=tuple(html for _, html in shown),
        counts=f"{counted(opened.rows_in, 'row')}: {len(opened.train)} to train on, "
        f"{len(opened.held_out)} held out, "
        f"{opened.quarantined} bad, {opened.overlong} longer than {chosen.data.max_tokens} tokens",
        notes=(*chat.notes, *opened.unread),
    )


def _both(text: Text) -> tuple[str, str]:
    """Rich text as plain text and as HTML."""
    console = Console(file=StringIO(), record=True, width=100, force_jupyter=False)
    console.print(text)
    return text.plain, console.export_html(inline_styles=True, code_format="<pre>{code}</pre>")


def report(run: str | os.PathLike[str] | Trained, *, out: str | os.PathLike[str] | None = None) -> Report:
    """The report of a run, comparison or measurement, by its folder: one HTML file that needs no other."""
    folder = run.folder if isinstance(run, Trained) else Path(run)
    return Report(path=report_of(folder, None if out is None else Path(out)), run=folder)


def export(
    run: str | os.PathLike[str] | Trained, out: str | os.PathLike[str], *, adapter: bool = False
) -> Path:
    """A run's model as a new ordinary Hugging Face folder with a model card; `adapter` keeps LoRA apart."""
    folder = run.folder if isinstance(run, Trained) else Path(run)
    return export_run(folder, Path(out), merged=not adapter)


def cite(run: str | os.PathLike[str] | Trained) -> str:
    """BibTeX for what a run used, or for a method by its name."""
    folder = run.folder if isinstance(run, Trained) else Path(run)
    return bibtex(references_of(methods_of(folder) or [os.fspath(folder)]))
