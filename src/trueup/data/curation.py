"""Files of prompts made fit to learn from: cleaned, split by user, redacted; each row that leaves says why.

References: Ouyang et al. 2022, section 3.2 (equal beginnings, 200 prompts a user, split by user, personal
data); Brown et al. 2020, appendix C (13-gram overlap with evaluations).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from trueup.data.cleaning import Hygiene
from trueup.data.hygiene import (
    Kept,
    cap_per_user,
    dedupe_by_prefix,
    drop_personal,
    kept,
    normalise,
    prompt_text,
    split_by_user,
)
from trueup.data.personal import Numbered, find_personal
from trueup.data.places import rows_of
from trueup.data.raw_rows import decode
from trueup.data.reader import read
from trueup.data.similar import drop_near_duplicates, drop_overlap, near_duplicates
from trueup.data.writer import write
from trueup.engine import disk
from trueup.engine.groups import Group, digest
from trueup.errors import TrueupError

_ROW = "trueup row"
"Under which a group's place is kept in `meta` while groups are split."


@dataclass(frozen=True, slots=True, kw_only=True)
class Curated:
    """What became of the prompts of files: rows_in = kept + sum(dropped) + unreadable."""

    rows_in: int
    kept: int
    dropped: Mapping[str, int]
    unreadable: int = 0
    "Rows that no group could be made of; they stand in `unreadable.jsonl` with their bytes."

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        return asdict(self)


def clean_files(
    files: Sequence[str], out: Path, how: Hygiene, *, against: Sequence[str] = (), seed: int = 0
) -> Curated:
    """What became of the files' prompts: `kept.jsonl` has those that stay, `dropped.jsonl` why others left.

    In this order: personal data, evaluations (`against`: an equal prompt, 13 words in a row), equal prompts,
    equal beginnings, near-duplicates, the cap. `dropped.jsonl` has each row's number among the readable ones,
    from 1, its id and the reason, and not its text: what left may be personal. Raises TrueupError E778 where
    `out` holds something, else as `read` does.
    """
    _fresh(out, files)
    held = [group for name in against for group in read(name).groups]
    groups: list[Group] = []
    unreadable = 0
    for number, name in enumerate(files):
        beside = out / ("unreadable.jsonl" if len(files) == 1 else f"unreadable-{number}.jsonl")
        counts = read(name, quarantine=beside, into=groups.append).counts
        unreadable += counts.quarantined
    left, rows, reasons = groups, list(range(1, len(groups) + 1)), dict[int, str]()
    for rule in _rules(how, held, seed):
        found: Kept = rule(left)
        left = found.groups
        reasons.update((rows[place], why) for place, why in found.reasons.items())
        rows = [row for place, row in enumerate(rows) if place not in found.reasons]
    write(out / "kept.jsonl", left)
    if how.personal == "ignore":
        ids = [group.id for group in groups]
    else:
        ids = [_pseudonym(group.id) for group in groups]
    gone = [{"row": row, "id": ids[row - 1], "reason": why} for row, why in sorted(reasons.items())]
    disk.write(out / "dropped.jsonl", "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in gone))
    done = Curated(
        rows_in=len(groups) + unreadable,
        kept=len(left),
        dropped=dict(Counter(reasons.values())),
        unreadable=unreadable,
    )
    disk.write(out / "counts.json", json.dumps(done.to_json(), indent=2, ensure_ascii=False) + "\n")
    return done


def split_files(
    files: Sequence[str], out: Path, fractions: Mapping[str, float], *, near: float = 0.8, seed: int = 0
) -> dict[str, Any]:
    """The number of groups and the digest of each split, which are in `out` as `train.jsonl` and so on.

    No user stands in two splits, and prompts whose word runs have Jaccard similarity `near` or more stay
    together, with all that their users wrote. Raises TrueupError E701 for bad fractions, E778 for a folder in
    use.
    """
    groups = [group for name in files for group in read(name).groups]
    owners = _owners(groups, near, seed)
    named = [
        replace(group, user=owner, meta={**group.meta, _ROW: row})
        for row, (group, owner) in enumerate(zip(groups, owners, strict=True))
    ]
    splits = split_by_user(named, fractions, seed=seed)
    _fresh(out, files)
    made: dict[str, Any] = {"seed": seed, "fractions": dict(fractions), "splits": {}}
    for name, members in splits.items():
        own = [groups[group.meta[_ROW]] for group in members]
        write(out / f"{name}.jsonl", own)
        made["splits"][name] = {"groups": len(own), "digest": digest(own)}
    disk.write(out / "split.json", json.dumps(made, indent=2) + "\n")
    return made


def redact_file(source: str, target: Path) -> dict[str, int]:
    """How many pieces of personal data were replaced, by kind; the rows are in `target`, their keys kept.

    A row a line, as JSON. Raises TrueupError E779 for a row that cannot be read: it might hold what is to be
    hidden, so nothing is written then.
    """
    if target.suffix.lower() != ".jsonl":
        raise TrueupError(
            "E779", "rows are written as JSON lines", where=str(target), remedy="--out FILE.jsonl"
        )
    counts = Counter[str]()
    lines: list[str] = []
    for row in rows_of(source, "train"):
        if row.blank:
            continue
        numbered = Numbered()
        try:
            values = decode(row)
        except Exception as error:
            where, remedy = f"{row.file}:{row.line}", f"trueup data check {source}"
            raise TrueupError("E779", "the row cannot be read", where=where, remedy=remedy) from error
        lines.append(json.dumps(numbered.within(values), ensure_ascii=False) + "\n")
        counts.update(numbered.counts)
    disk.write(target, "".join(lines))
    return dict(counts)


def _rules(how: Hygiene, held: Sequence[Group], seed: int) -> list[Any]:
    personal = {"drop": drop_personal, "redact": _redacted}.get(how.personal)
    rules = [
        personal,
        partial(drop_overlap, evaluation=held) if held else None,
        _drop_equal,
        partial(dedupe_by_prefix, num_chars=how.prefix),
        partial(drop_near_duplicates, threshold=how.near, seed=seed) if how.near is not None else None,
        partial(cap_per_user, most=how.per_user, seed=seed),
    ]
    return [rule for rule in rules if rule is not None]


def _drop_equal(groups: Sequence[Group]) -> Kept:
    seen: set[str] = set()
    reasons: dict[int, str] = {}
    for place, group in enumerate(groups):
        text = normalise(prompt_text(group))
        if text in seen:
            reasons[place] = "equal prompt"
        seen.add(text)
    return kept(groups, reasons)


def _redacted(groups: Sequence[Group]) -> Kept:
    made = []
    for group in groups:
        hide = Numbered()
        prompt = tuple(replace(message, content=hide(message.content)) for message in group.prompt)
        completions = tuple(replace(c, text=hide(c.text)) for c in group.completions)
        meta = hide.within(group.meta)
        named = replace(group, user=_pseudonym(group.user), id=_pseudonym(group.id))
        made.append(replace(named, prompt=prompt, completions=completions, meta=meta))
    return kept(made, {})


def _pseudonym(name: str) -> str:
    """The name, or a digest where it is itself personal: two users stay two, and nobody is named."""
    return f"hidden-{hashlib.sha256(name.encode()).hexdigest()[:16]}" if find_personal(name) else name


def _owners(groups: Sequence[Group], near: float, seed: int) -> list[str]:
    """Whose each group counts as: users that share a near-duplicate are one owner, named by the first."""
    above = list(range(len(groups)))

    def top(place: int) -> int:
        while above[place] != place:
            above[place] = above[above[place]]
            place = above[place]
        return place

    alike = (
        (i, j) for i, j, _ in near_duplicates([prompt_text(g) for g in groups], threshold=near, seed=seed)
    )
    for i, j in (*alike, *_same(group.user for group in groups)):
        first, second = sorted((top(i), top(j)))
        above[second] = first
    return [groups[at].user or normalise(prompt_text(groups[at])) for at in map(top, range(len(groups)))]


def _same(users: Iterable[str]) -> list[tuple[int, int]]:
    places: dict[str, list[int]] = defaultdict(list)
    for place, user in enumerate(users):
        if user:
            places[user].append(place)
    return [(members[0], other) for members in places.values() for other in members[1:]]


def _fresh(out: Path, files: Sequence[str]) -> None:
    if not files:
        raise TrueupError("E701", "no file is named", where="files", remedy="name at least one")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise TrueupError(
            "E778", "something stands there already", where=str(out), remedy="name a new folder with --out"
        )
    disk.make_folder(out)
