"""Rows in, groups out: `read`, `check` and `convert` on files and on objects."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, final, overload

from trueup import data
from trueup.api import shown
from trueup.data import Counts, Problem, ReadResult
from trueup.data.mend import Trim
from trueup.engine.groups import Group
from trueup.errors import counted

if TYPE_CHECKING:
    import pandas

Source: TypeAlias = str | os.PathLike[str] | Iterable[Any]
"A path or an id, rows as dictionaries, a frame of pandas or polars, a data set, groups."
_FIRST = 6


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Groups:
    """Groups in order, and what became of the rows that they were read from."""

    groups: tuple[Group, ...]
    source: str = ""
    "Where they came from: a path, `DataFrame`, a model."
    format: str = ""
    "The rows' format, by the name that `read` takes."
    why: str = ""
    "What showed the format."
    counts: Counts | None = None
    "What became of the rows; None for groups that were not read."
    problems: tuple[Problem, ...] = ()
    "Every bad row."

    def __len__(self) -> int:
        return len(self.groups)

    def __iter__(self) -> Iterator[Group]:
        return iter(self.groups)

    @overload
    def __getitem__(self, place: int) -> Group: ...

    @overload
    def __getitem__(self, place: slice) -> tuple[Group, ...]: ...

    def __getitem__(self, place: int | slice) -> Group | tuple[Group, ...]:
        return self.groups[place]

    @property
    def texts(self) -> list[list[str]]:
        """The completions' texts, a list for each group."""
        return [[completion.text for completion in group.completions] for group in self.groups]

    def frame(self) -> pandas.DataFrame:
        """A frame with a row for each completion: prompt, text, scores by judge, the row's other columns."""
        return shown.frame(row for group in self.groups for row in _rows(group))

    def write(self, path: str | os.PathLike[str]) -> Path:
        """The file that was written: `.jsonl` or `.parquet`."""
        data.write(Path(path), self.groups)
        return Path(path)

    def __str__(self) -> str:
        lines = [self._head(), *(str(problem) for problem in self.problems[:_FIRST])]
        for group in self.groups[:_FIRST]:
            lines += [f"  {_asked(group)}", *(f"    -> {c.text}" for c in group.completions)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        lines = [self._head(), *(str(problem) for problem in self.problems[:_FIRST])]
        rows = [(_asked(group), c.text) for group in self.groups[:_FIRST] for c in group.completions]
        return shown.page("groups", lines, ("prompt", "completion"), rows)

    def _head(self) -> str:
        what = counted(len(self), "group") + (f" from {self.source}" if self.source else "")
        if self.counts is None:
            return what
        kept = f"{self.counts.accepted} of {counted(self.counts.rows_in, 'row')} accepted"
        return f"{what}: {self.format} ({self.why}), {kept}"


def _asked(group: Group) -> str:
    return group.prompt[-1].content if group.prompt else ""


def _rows(group: Group) -> Iterator[dict[str, Any]]:
    for place, completion in enumerate(group.completions):
        scores = {s.judge: s.value for s in group.scores if s.completion == place}
        yield {
            **group.meta,
            "id": group.id,
            "prompt": _asked(group),
            "completion": completion.text,
            "writer": completion.source,
            "finished": completion.finished,
            **completion.marks,
            **scores,
        }


def read(
    source: Source,
    *,
    format: str = "auto",
    columns: Mapping[str, str] | None = None,
    roles: Mapping[str, str] | None = None,
    trim: Trim = "none",
    split: str = "train",
    limit: int | None = None,
    max_bad: float = 0.01,
    quarantine: str | os.PathLike[str] | None = None,
) -> Groups:
    """The groups of a file, a folder, a data set's id, or rows in memory.

    In memory: dictionaries, a frame of pandas or polars, an Arrow table, a data set of `datasets`, groups; a
    text alone, or a list of messages, is a prompt. `format` names the format instead of detecting it,
    `columns` the source's names for ours, `roles` its names of roles (`{"bing": "assistant"}`); `trim` leaves
    off turns behind the last answer (`end`), also answers before the first question (`both`); `quarantine` is
    a file for the bad rows. Raises TrueupError as for files: E601 when more than `max_bad` of the rows are
    bad, E202 or E204 for a format that is not known.
    """
    found = data.read(
        bare(source),
        format=format,
        columns=columns,
        roles=roles,
        trim=trim,
        split=split,
        limit=limit,
        max_bad=max_bad,
        quarantine=None if quarantine is None else Path(quarantine),
    )
    return Groups(
        groups=tuple(found.groups),
        source=named(source),
        format=found.format,
        why=found.why,
        counts=found.counts,
        problems=tuple(found.problems),
    )


def check(
    source: Source,
    *,
    format: str = "auto",
    columns: Mapping[str, str] | None = None,
    roles: Mapping[str, str] | None = None,
    trim: Trim = "none",
    split: str = "train",
    limit: int | None = None,
    quarantine: str | os.PathLike[str] | None = None,
) -> ReadResult:
    """What format the rows are in, and every bad one with its remedy; nothing is raised for bad rows.

    No group is kept, so that the data may be larger than memory.
    """
    return data.check(
        bare(source),
        format=format,
        columns=columns,
        roles=roles,
        trim=trim,
        split=split,
        limit=limit,
        quarantine=None if quarantine is None else Path(quarantine),
    )


def convert(
    source: Source,
    target: str | os.PathLike[str],
    *,
    format: str = "auto",
    columns: Mapping[str, str] | None = None,
    roles: Mapping[str, str] | None = None,
    trim: Trim = "none",
    split: str = "train",
    max_bad: float = 0.01,
) -> ReadResult:
    """What became of the rows of any readable data, whose groups are in a `.jsonl` or `.parquet` file then.

    Bad rows stand beside it. No group is kept, so that the data may be larger than memory.
    """
    with data.writing(target) as put:
        return data.read(
            bare(source),
            format=format,
            columns=columns,
            roles=roles,
            trim=trim,
            split=split,
            max_bad=max_bad,
            quarantine=Path(target).with_suffix(".quarantine.jsonl"),
            into=put,
        )


def named(source: object) -> str:
    """What a source is called where its rows are spoken of."""
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    return type(source).__name__


def bare(source: Source) -> Any:
    """The source as the reader takes it: a path stays what it was, text or path."""
    if isinstance(source, Groups):
        return source.groups
    return Path(source) if isinstance(source, os.PathLike) else source


def as_groups(source: Source | Sequence[Group]) -> list[Group]:
    """The groups themselves where groups are given, else those that are read."""
    if isinstance(source, Groups):
        return list(source.groups)
    if isinstance(source, list | tuple) and source and all(isinstance(item, Group) for item in source):
        return list(source)
    return list(read(source).groups)
