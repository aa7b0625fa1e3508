"""What people give in the places of settings: paths, objects, results of other calls, made plain.

A path stays a path. Rows are written into the run's folder. A model in memory and a function get a reference
that stands for them while the call lasts, and a record of what they were.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trueup.api import models, rows
from trueup.api.models import Model
from trueup.data.memory import to_lines
from trueup.engine.inputs import FOLDER, Input
from trueup.errors import counted
from trueup.settings import config as configuration
from trueup.settings.held import OBJECT, holding


@dataclass(kw_only=True, eq=False)
class Given:
    """The objects of one call."""

    tokenizer: Any = None
    "Of models of transformers and peft."
    objects: dict[str, Any] = field(default_factory=dict)
    "By the reference that settings hold."
    inputs: list[Input] = field(default_factory=list)

    def holding(self) -> AbstractContextManager[None]:
        """Inside, the references stand for the objects."""
        return holding(self.objects)

    @contextmanager
    def files(self) -> Iterator[Callable[[Any], Path]]:
        """Inside, what is called with rows or a path gives the file that they lie in, for as long as that."""
        with tempfile.TemporaryDirectory(prefix="trueup-") as folder:

            def file_of(source: Any) -> Path:
                if isinstance(source, str | os.PathLike):
                    return Path(source)
                path = Path(folder) / f"{len(os.listdir(folder))}.jsonl"
                path.write_bytes(to_lines(rows.bare(source), "train"))
                return path

            yield file_of

    def plain(self, value: Any, place: str) -> Any:
        """A setting as plain data; `place` is its key, by which its object is known."""
        if value is None or isinstance(value, str | int | float):
            return value
        if isinstance(value, Mapping):
            return {str(key): self.plain(part, _below(place, str(key))) for key, part in value.items()}
        if isinstance(value, list | tuple):
            return [self.plain(v, f"{place}.{number}") for number, v in enumerate(value)]
        if _is_model(value):
            return self.model(value, place)
        if isinstance(value, os.PathLike):
            return os.fspath(value)
        return self.function(value, place) if callable(value) else value

    def model(self, value: Any, place: str) -> str:
        """A path, or the reference of a model in memory."""
        memory = models.in_memory(value, self.tokenizer)
        if memory is None:
            return models.path_of(value)
        reference = f"{OBJECT}{place}"
        self.objects[reference] = memory
        what = f"{memory.kind} with {memory.num_parameters:,} parameters"
        self.inputs.append(Input(name=place, kind="model", what=what, digest=memory.digest(), again=False))
        return reference

    def model_setting(self, value: Any, *, block: bool) -> Any:
        """What the setting `model` says of a model: a block of its settings, or its path alone."""
        if isinstance(value, Mapping):
            return self.plain(value, "model")
        path = self.model(value, "model")
        return {"path": path} if block else path

    def defaults_of(self, value: Any) -> dict[str, Any]:
        """How a model runs where nothing else is said: an object's precision, a `Model`'s settings."""
        inner = value.get("path") if isinstance(value, Mapping) else value
        if isinstance(inner, Model):
            said = configuration.resolved(inner.settings)
            return {key: said[key] for key in ("dtype", "device", "template")}
        memory = None if inner is None else models.in_memory(inner, self.tokenizer)
        return {} if memory is None else {"dtype": memory.dtype}

    def data_setting(self, value: Any, place: str, kept: dict[str, str], *, block: bool) -> Any:
        """What a data block says of rows, or of a path; `kept` receives the file that rows will lie in."""
        is_set = type(value).__module__.startswith("datasets")  # a DatasetDict is a mapping too
        said = dict(value) if isinstance(value, Mapping) and not is_set else {"path": value}
        source = said.pop("path", None)
        split = str(said.get("split", "train"))
        settings = self.plain(said, place)
        if isinstance(source, str | os.PathLike):
            settings["path"] = os.fspath(source)
        elif source is not None:
            kept[place] = self.rows(source, place, split)
            # The rows of this split alone lie in that file.
            settings |= {"path": kept[place], "split": "train"}
        return settings if block else settings["path"]

    def function(self, value: Any, place: str) -> str:
        """The reference of a person's function."""
        from trueup.judges.function import calling
        from trueup.judges.identity import identity

        found = identity(value)
        reference = found.reference
        while self.objects.get(reference, value) is not value:  # another function of that name
            reference += "'"
        calling(value, found.name)  # what is wrong with its signature is said before anything is made
        self.objects[reference] = value
        file = f"{FOLDER}/{place}.py" if found.source else ""
        place_of = f", {found.place.rpartition('/')[2]}" if found.place else ""
        self.inputs.append(
            Input(
                name=place,
                kind="function",
                what=f"{found.name} of {found.module}{place_of}",
                digest=found.digest,
                again=found.importable,
                file=file,
                content=found.source.encode(),
            )
        )
        return reference

    def rows(self, source: Any, place: str, split: str) -> str:
        """The name, below the run's folder, of the file that will hold the rows."""
        content = to_lines(rows.bare(source), split)
        count = content.count(b"\n")
        file = f"{FOLDER}/{place}.jsonl"
        self.inputs.append(
            Input(
                name=place,
                kind="rows",
                what=f"{rows.named(source)} of {counted(count, 'row')}",
                digest=hashlib.sha256(content).hexdigest(),
                again=True,
                file=file,
                content=content,
            )
        )
        return file


def _below(place: str, key: str) -> str:
    """The place of a key of a block; what stands in `path` is known by its block."""
    return place if key == "path" else f"{place}.{key}" if place else key


def _is_model(value: object) -> bool:
    """Whether a value is a model: ours, or a module of torch. Looks, and imports nothing."""
    torch = sys.modules.get("torch")
    return isinstance(value, Model) or (torch is not None and isinstance(value, torch.nn.Module))
