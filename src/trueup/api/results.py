"""What a run leaves, as an object: its model, its numbers, its report."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from trueup.api import shown
from trueup.api.models import Model
from trueup.api.rows import Groups, Source
from trueup.engine import inputs
from trueup.engine.groups import read_jsonl
from trueup.engine.inputs import Input
from trueup.errors import TrueupError
from trueup.reports import first_screen
from trueup.reports.which import report_of
from trueup.runs import meter
from trueup.runs.done import read_done
from trueup.runs.meter import Cost
from trueup.runs.one_stage import data_lines, held_out_lines, warning_lines
from trueup.settings.blocks import ModelSettings
from trueup.statistics.estimates import Estimate

if TYPE_CHECKING:
    import pandas


@final
@dataclass(frozen=True, kw_only=True)
class Report:
    """A report that was written: one HTML file that needs nothing else."""

    path: Path
    run: Path
    "The folder of the run, or comparison, that it is of."

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return f"report: {self.path}"

    def _repr_html_(self) -> str:
        return first_screen(self.run)


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """A finished run of a method or procedure, read from its folder.

    Where a path may stand it is what the run made: its model, or its groups.
    """

    folder: Path
    method: str
    output: Path
    "What it hands on: a model's folder, or a file of groups."
    metrics: Mapping[str, float]
    "The last step's numbers, and those of its end."
    held_out: Mapping[str, Estimate]
    "Each held-out metric of the finished model, with its 95 % interval over groups."
    cost: Cost
    inputs: tuple[Input, ...]
    "The objects that it was given, by digest; its files are in `inputs.json` too."

    @classmethod
    def of(cls, folder: str | os.PathLike[str]) -> Trained:
        """The run in a folder. Raises E847 where none has come to its end."""
        path = Path(folder)
        if not (path / "DONE.json").is_file():
            raise TrueupError("E847", "no finished run here", where=str(path), remedy="name a run's folder")
        done = read_done(path)
        return cls(
            folder=path,
            method=Path(done.method).stem,
            output=path / done.output,
            metrics=dict(done.metrics),
            held_out=_held_out(path),
            cost=Cost(
                tokens_trained=int(done.cost.get("tokens_trained", 0)),
                tokens_sampled=int(done.cost.get("tokens_sampled", 0)),
                seconds=done.cost.get("seconds", 0.0),
                peak_mib=done.cost.get("peak_mib", 0.0),
            ),
            inputs=tuple(item for item in inputs.read(path) if item.kind != "files"),
        )

    @property
    def model(self) -> Model:
        """The model that it made, loaded when it is first asked. Raises E847 for a run that makes none."""
        if not self.output.is_dir():
            raise TrueupError(
                "E847",
                f"{self.method} makes no model",
                where=str(self.folder),
                remedy=f"what it made is in {self.output.name}",
            )
        return Model(ModelSettings(path=str(self.output)))

    @property
    def groups(self) -> Groups:
        """The groups that it made (best-of-n, labels). Raises E847 for a run that makes none."""
        if self.output.suffix != ".jsonl":
            raise TrueupError(
                "E847", f"{self.method} makes no groups", where=str(self.folder), remedy="it makes .model"
            )
        return Groups(groups=tuple(read_jsonl(str(self.output))), source=str(self.output))

    @property
    def history(self) -> list[dict[str, Any]]:
        """Every line of metrics.jsonl: `step`, `phase` ("train", "eval" ...) and the numbers."""
        return meter.read(self.folder / meter.METRICS)

    def frame(self) -> pandas.DataFrame:
        """`history` as a frame, a row for each step and phase."""
        return shown.frame(self.history)

    def generate(
        self,
        prompts: str | Source,
        *,
        k: int = 1,
        temperature: float = 1.0,
        max_new_tokens: int = 128,
        top_k: int | None = None,
        top_p: float | None = None,
        plain: bool = False,
        seed: int = 0,
    ) -> Groups:
        """The prompts with `k` completions of the run's model each; see `Model.generate`."""
        return self.model.generate(
            prompts,
            k=k,
            temperature=temperature,
            max_new_tokens=max_new_tokens,
            top_k=top_k,
            top_p=top_p,
            plain=plain,
            seed=seed,
        )

    def score(self, groups: Source) -> list[list[float]]:
        """The reward model's score of each completion; see `Model.score`."""
        return self.model.score(groups)

    def report(self, out: str | os.PathLike[str] | None = None) -> Report:
        """The run's report, written to `out` or to `report.html` in its folder."""
        path = report_of(self.folder, None if out is None else Path(out))
        return Report(path=path, run=self.folder)

    def export(self, path: str | os.PathLike[str], *, adapter: bool = False) -> Path:
        """A new ordinary Hugging Face folder with the model and its card; `adapter` keeps LoRA apart."""
        from trueup.runs.export import export_run

        return export_run(self.folder, Path(path), merged=not adapter)

    def __fspath__(self) -> str:
        return str(self.output)

    def __str__(self) -> str:
        numbers = {k: v for k, v in self.metrics.items() if not k.startswith("loss/")}
        lines = [
            f"{self.method}: {self.output}",
            "  ".join(f"{name} {value:.4g}" for name, value in numbers.items()),
            *data_lines(self.folder),
            *held_out_lines(self.folder),
            *warning_lines(self.folder),
            *inputs.said_of(inputs.read(self.folder)),
        ]
        return "\n".join(line for line in lines if line)

    def __repr__(self) -> str:
        return f"<trueup run of {self.method} in {self.folder}>"

    def _repr_html_(self) -> str:
        return first_screen(self.folder)


def _held_out(folder: Path) -> dict[str, Estimate]:
    path = folder / "held_out.json"
    if not path.is_file():
        return {}
    rows: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return {name: Estimate.from_json(row) for name, row in rows.items()}
