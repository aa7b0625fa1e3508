"""Files in, groups out: every row is accepted or quarantined, and none disappears."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from html import escape
from itertools import chain, islice
from pathlib import Path
from typing import Any, final

from trueup.data import beside, detect
from trueup.data import quarantine as bad_rows
from trueup.data.columns import check_columns, check_found, rename, small
from trueup.data.fields import parse_cells
from trueup.data.formats import Format
from trueup.data.memory import name_of
from trueup.data.mend import Trim, check_roles, mended
from trueup.data.places import rows_of
from trueup.data.problems import Fault, Problem, printable, problem_of
from trueup.data.raw_rows import RawRow, decode
from trueup.data.sanity import Watch
from trueup.engine.groups import Group
from trueup.errors import TrueupError, counted

_Decoded = tuple[RawRow, dict[str, Any] | Fault]
Encode = Callable[[Group], Group]
Into = Callable[[Group], object]
_LOOK = 1000
"Rows that vote on the format before the first is read."
MOST_TOLD = 100_000
"Bad rows that are held to name them; all are counted, and all go into the quarantine."


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What became of the rows: `rows_in == accepted + quarantined`, always."""

    rows_in: int
    accepted: int
    quarantined: int
    blank: int = 0
    "Blank lines; they are no rows."
    groups: int = 0
    "Groups made; a row may hold several (Self-Instruct instances)."
    notes: tuple[str, ...] = ()
    "What is no error but worth knowing: duplicates, one-sided labels, text that looks like control tokens."
    unread: tuple[str, ...] = ()
    "Those notes that name columns and keys of messages which nothing trains on."

    def __post_init__(self) -> None:
        assert self.rows_in == self.accepted + self.quarantined, "a row was lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadResult:
    """The groups of a file, and what was seen on the way: the format and why, the counts, the bad rows."""

    groups: list[Group]
    "Empty where they went elsewhere, or nowhere (`check`)."
    path: str
    format: str
    why: str
    counts: Counts
    problems: list[Problem]
    "At most `MOST_TOLD`."

    @property
    def ok(self) -> bool:
        """Whether there are rows and none is bad."""
        return self.counts.rows_in > 0 and not self.counts.quarantined

    def render(self, *, limit: int | None = None) -> str:
        """The report as plain text; `limit` caps the rows shown, not those counted."""
        c = self.counts
        lines = [
            f"{printable(self.path)}: {self.format} ({self.why})",
            f"rows in {c.rows_in} = accepted {c.accepted} + quarantined {c.quarantined}"
            + (f"; {counted(c.blank, 'blank line')}" if c.blank else "")
            + (f"; {counted(c.groups, 'group')}" if c.groups != c.accepted else ""),
        ]
        lines += [f"note: {note}" for note in c.notes]
        if not c.rows_in:
            lines.append(str(_empty(self.path)))
        shown = self.problems if limit is None else self.problems[:limit]
        lines += [str(problem) for problem in shown]
        if len(shown) < c.quarantined:
            lines.append(f"... and {counted(c.quarantined - len(shown), 'more bad row')}")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.render(limit=50)

    def _repr_html_(self) -> str:
        return f'<pre style="white-space: pre-wrap">{escape(str(self))}</pre>'

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON values, without the groups."""
        counts, problems = asdict(self.counts), [problem.to_json() for problem in self.problems]
        said = {"path": self.path, "format": self.format, "why": self.why}
        del counts["unread"]  # They are among the notes.
        return {**said, **counts, "notes": list(self.counts.notes), "problems": problems}


def read(
    path_or_id: Any,
    *,
    format: str = "auto",
    columns: Mapping[str, str] | None = None,
    roles: Mapping[str, str] | None = None,
    trim: Trim = "none",
    needs: Sequence[str] = (),
    split: str = "train",
    limit: int | None = None,
    max_bad: float = 0.01,
    quarantine: Path | None = None,
    encode: Encode | None = None,
    into: Into | None = None,
) -> ReadResult:
    """The groups of a file, a folder, a Hugging Face dataset or rows in memory, with counts and problems.

    `format` names the format instead of detecting it; `columns` says which of the file's columns (or inner
    fields, `prompt.text`) stands for which of ours, `roles` which of its roles; `trim` leaves turns off that
    no answer follows, or no question precedes (`mend.mended`); `needs` decides between formats that fit
    alike; `limit` reads the first rows only; `quarantine` is the JSONL file that receives the bad rows with
    their original bytes; `encode` makes of each group the one that is kept, and raises Fault for one that
    cannot be used; `into` is given each kept group in place of the result. Raises TrueupError: E1xx for a
    file that cannot be read, E202 or E204 for a format that is unknown or ambiguous, E601 when more than
    `max_bad` of the rows are bad, E602 when no row is left.
    """
    return read_rows(
        rows_of(path_or_id, split),
        name_of(path_or_id),
        reading=Reading(format=format, columns=columns, roles=roles, trim=trim, needs=needs),
        limit=limit,
        max_bad=max_bad,
        quarantine=quarantine,
        encode=encode,
        into=into,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How rows are to be understood; see `read`."""

    format: str = "auto"
    columns: Mapping[str, str] | None = None
    roles: Mapping[str, str] | None = None
    trim: Trim = "none"
    needs: Sequence[str] = ()


def read_rows(
    rows: Iterable[RawRow],
    path: str,
    *,
    reading: Reading = Reading(),
    limit: int | None = None,
    max_bad: float | None = 0.01,
    quarantine: Path | None = None,
    encode: Encode | None = None,
    into: Into | None = None,
) -> ReadResult:
    """The groups of rows from anywhere, as `read` gives those of a file; `path` is what errors call it.

    With `max_bad` None neither bad rows, however many, nor no rows at all are an error.
    """
    if not 0.0 <= (max_bad or 0.0) <= 1.0:
        remedy = "give a fraction from 0 to 1"
        raise TrueupError("E701", f"max_bad is {max_bad}", where="max_bad", remedy=remedy)
    if limit is not None and limit < 1:
        raise TrueupError("E701", f"limit is {limit}", where="limit", remedy="give a number from 1 up")
    columns, roles = check_columns(reading.columns), check_roles(reading.roles)
    mapped = frozenset(theirs.partition(".")[0] for theirs in columns.values())
    where, groups = printable(path), list[Group]()
    scan = _Scan(into=into or groups.append, mapped=mapped)
    known, why = None if reading.format == "auto" else detect.named(reading.format), "named, not detected"
    reading = replace(reading, columns=columns, roles=roles)
    decoded = ((row, _decoded(row, reading, scan.watch)) for row in islice(_rows_only(rows, scan), limit))
    head, samples = _head(decoded)
    check_found(columns, samples, where)
    if known is None:
        no_row = None, "no row could be read"
        known, why = detect.detect(samples, where, reading.needs) if samples else no_row
    with bad_rows.writing(quarantine) as put:
        for row, values in chain(head, decoded):
            _take(scan, known, row, values, put, encode)
    counts, name = scan.counts(), known.name if known else "unknown"
    if max_bad is not None:
        _check_counts(scan, counts, max_bad, where, quarantine)
    return ReadResult(groups=groups, path=path, format=name, why=why, counts=counts, problems=scan.problems)


def check(
    path_or_id: Any,
    *,
    format: str = "auto",
    columns: Mapping[str, str] | None = None,
    roles: Mapping[str, str] | None = None,
    trim: Trim = "none",
    split: str = "train",
    limit: int | None = None,
    quarantine: Path | None = None,
    encode: Encode | None = None,
) -> ReadResult:
    """What `read` says, however many rows are bad: only a file that cannot be read at all raises.

    Groups are not kept, so that a file may be larger than memory.
    """
    return read_rows(
        rows_of(path_or_id, split),
        name_of(path_or_id),
        reading=Reading(format=format, columns=columns, roles=roles, trim=trim),
        limit=limit,
        max_bad=None,
        quarantine=quarantine,
        encode=encode,
        into=lambda group: None,
    )


@final
@dataclass(slots=True)
class _Scan:
    """What has become of the rows so far."""

    into: Into
    mapped: frozenset[str] = frozenset()
    "Columns inside which a map reads."
    problems: list[Problem] = field(default_factory=list)
    kinds: Counter[tuple[str, str]] = field(default_factory=Counter)
    "Of all bad rows, by code and reason."
    accepted: int = 0
    refused: int = 0
    made: int = 0
    blank: int = 0
    watch: Watch = field(default_factory=Watch)

    def counts(self) -> Counts:
        return Counts(
            rows_in=self.accepted + self.refused,
            accepted=self.accepted,
            quarantined=self.refused,
            blank=self.blank,
            groups=self.made,
            notes=self.watch.notes(),
            unread=self.watch.unread_notes(),
        )


def _rows_only(rows: Iterable[RawRow], scan: _Scan) -> Iterator[RawRow]:
    for row in rows:
        scan.watch.raw(row)
        if row.blank:
            scan.blank += 1
        else:
            yield row


def _decoded(row: RawRow, reading: Reading, watch: Watch) -> dict[str, Any] | Fault:
    try:
        values = rename(decode(row), reading.columns or {})
        if names := small(tuple(values)):
            values = {names.get(key, key): value for key, value in values.items()}
            watch.capitals.update(names)
        values = parse_cells(values) if row.cells else values
        return mended(values, reading.roles or {}, reading.trim)
    except Fault as fault:
        return fault


def _head(decoded: Iterator[_Decoded]) -> tuple[list[_Decoded], list[dict[str, Any]]]:
    """The first rows, up to `_LOOK` that can be decoded, and those rows' fields."""
    head: list[_Decoded] = []
    samples: list[dict[str, Any]] = []
    for item in decoded:
        head.append(item)
        if isinstance(item[1], dict):
            samples.append(item[1])
        if len(samples) == _LOOK:
            break
    return head, samples


def _take(
    scan: _Scan,
    known: Format | None,
    row: RawRow,
    values: dict[str, Any] | Fault,
    put: bad_rows.Put,
    encode: Encode | None,
) -> None:
    try:
        if isinstance(values, Fault):
            raise values
        assert known is not None, "a row that decodes votes, and a vote gives a format or raises"
        parsed = known.parse(values)
        if known.name not in beside.PLAIN:
            parsed = beside.with_columns(parsed, values)
        made = [_finished(group, known, row, values, k) for k, group in enumerate(parsed)]
        made = made if encode is None else [encode(group) for group in made]
        scan.watch.groups(made, row.line)
        scan.watch.keys(values, _understood(known) | scan.mapped)
    except Fault as fault:
        problem = problem_of(fault, file=row.file, line=row.line, byte=row.byte)
        scan.refused += 1
        scan.kinds[problem.code, problem.reason] += 1
        if len(scan.problems) < MOST_TOLD:
            scan.problems.append(problem)
        put(problem, row)
    else:
        scan.accepted += 1
        scan.made += len(made)
        for group in made:
            scan.into(group)


@cache
def _understood(known: Format) -> frozenset[str]:
    """The columns that are read in rows of this format."""
    own = known.keys | {"id", "user", "user_id"}
    return own if known.name in beside.PLAIN else own | beside.READ


def _finished(group: Group, known: Format, row: RawRow, values: dict[str, Any], k: int) -> Group:
    """The group with its id, user, source and the row's other fields."""
    if known.name == "group":
        return group if group.id else replace(group, id=f"{row.file}:{row.line}")
    name = _word(values, "id") or f"{row.file}:{row.line}"
    others = (key for key in values if key not in known.keys and key not in ("id", "user", "user_id"))
    meta = {**group.meta, **{key: values[key] for key in others if values[key] is not None}}
    user = _word(values, "user", "user_id")
    return replace(group, id=f"{name}/{k}" if k else name, user=user, source=row.file, meta=meta)


def _word(values: Mapping[str, Any], *names: str) -> str:
    for name in names:
        if isinstance(value := values.get(name), str | int) and str(value):
            return str(value)
    return ""


def _check_counts(scan: _Scan, counts: Counts, max_bad: float, where: str, saved: Path | None) -> None:
    """None. Raises TrueupError E601 where too many rows are bad, E602 where there is none."""
    kinds = scan.kinds
    if counts.quarantined > max_bad * counts.rows_in:
        parts = [f"{count} x {code} {reason}" for (code, reason), count in kinds.most_common(4)]
        parts += [counted(len(kinds) - 4, "more kind")] if len(kinds) > 4 else []
        share = f"{counts.quarantined / counts.rows_in:.1%}; the limit is {max_bad:.1%}"
        rows = counted(counts.rows_in, "row is", "rows are")
        reason = f"{counts.quarantined} of {rows} bad ({share}): {'; '.join(parts)}"
        see = (
            f"see {saved}"
            if saved is not None
            else "`trueup data check`, with --model for what a template refuses, lists them all"
        )
        remedy = f"mend the rows ({see}), or allow more: --data.max_bad, of `data convert` --max-bad"
        raise TrueupError("E601", f"{reason}. The first: {scan.problems[0]}", where=where, remedy=remedy)
    if not counts.accepted:
        if counts.rows_in:
            reason = f"no row is left: {counts.rows_in} read, {counts.quarantined} bad"
            remedy = "`trueup data check` names each with its remedy"
            raise TrueupError("E602", reason, where=where, remedy=remedy)
        raise _empty(where)


def _empty(where: str) -> TrueupError:
    return TrueupError("E602", "no rows", where=where, remedy="the file is empty: check the path")
