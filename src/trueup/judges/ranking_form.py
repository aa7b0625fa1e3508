"""Rankings by people: what they are asked lies in two files, a form for the hand and JSON lines for programs.

    rank.txt      every prompt with its completions as A, B, C ..., and a line `ranking:` to fill in
    rank.jsonl    the same; `"ranking": "B > A = C"` may be filled in here instead

The letters stand for the different texts of a prompt, in an order of their own for each. An answer names
every letter once, best first, with `=` between equals; `skip` is one too.
"""

from __future__ import annotations

import hashlib
import json
import re
import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from trueup.engine import disk
from trueup.engine.groups import Group, Ranking, message_to_json
from trueup.engine.order import permutation
from trueup.errors import TrueupError, counted, printable

FORM, ROWS = "rank.txt", "rank.jsonl"
SKIP = "skip"
PEOPLE = "people"
MOST = len(string.ascii_uppercase)
_HEAD = """\
# {count} to rank. After each `ranking:` write its letters, best first: B > A = C
# Equals are joined by =. What cannot be ranked: skip. Lines that begin with | are quoted; leave them.
# Who ranks may be named here:
labeler:
"""
_ITEM = re.compile(r"\[\d+ of \d+\] ([0-9a-f]{12}(?:-\d+)?)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One prompt as people are asked it."""

    id: str
    "Of the prompt and of what was said: an answer to other completions is not taken for one to these."
    group: Group
    texts: tuple[str, ...]
    "The different texts, A first."

    @property
    def letters(self) -> str:
        """The letters that an answer names."""
        return string.ascii_uppercase[: len(self.texts)]

    def ranking(self, tiers: Sequence[str], labeler: str) -> Ranking:
        """The ranking that tiers of letters state: completions of one text share its tier."""
        held = {
            text: [i for i, c in enumerate(self.group.completions) if c.said == text] for text in self.texts
        }
        places = dict(zip(self.letters, self.texts, strict=True))
        return Ranking(
            tiers=tuple(tuple(i for letter in tier for i in held[places[letter]]) for tier in tiers),
            labeler=labeler,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What somebody wrote of one item, and where."""

    where: str
    item: str
    text: str
    labeler: str
    shown: Any = None
    "The completions that stood beside it, where the file has them."


def ranked_by_people(
    groups: Sequence[Group], folder: Path, *, seed: int
) -> tuple[list[Group], dict[str, float]]:
    """The groups with their rankings, and how many were skipped; writes the form where there is none.

    A group whose completions all say the same is not asked and comes back as it was. Raises E783 while
    answers are missing, with how many; E784 for answers that cannot be meant, each by its line.
    """
    items = items_of(groups, seed)
    if not (folder / FORM).exists():  # It is written last, so that a kill between the two leaves no half.
        if not (folder / ROWS).exists():
            disk.write(folder / ROWS, "".join(_row(item) for item in items))
        disk.write(folder / FORM, _form(items))
    found, skipped = _rankings(items, folder)
    waiting = [item for item in items if item.id not in found and item.id not in skipped]
    if waiting:
        raise TrueupError(
            "E783",
            f"{len(waiting)} of {counted(len(items), 'prompt')} wait to be ranked by people",
            where=str(folder / FORM),
            remedy="write after each `ranking:` its letters, best first, as B > A = C, then run the same "
            f"command again (programs fill in {ROWS} beside it)",
        )
    named = {id(item.group): item.id for item in items}
    labelled = [replace(g, rankings=(*g.rankings, *found.get(named.get(id(g), ""), ()))) for g in groups]
    metrics = {"asked": float(len(items)), "skipped": float(len(skipped))}
    agreed = agreement(found.values())
    return labelled, metrics | ({} if agreed is None else {"agreement": agreed})


def agreement(rankings: Iterable[Sequence[Ranking]]) -> float | None:
    """Of the pairs that two labelers both ordered strictly, the share ordered alike; None where none was."""
    same = [
        ((a, b) in second)
        for of_a_prompt in rankings
        for one, other in combinations(of_a_prompt, 2)
        for first, second in [(_ordered(one), _ordered(other))]
        for a, b in first
        if (a, b) in second or (b, a) in second
    ]
    return sum(same) / len(same) if same else None


def _ordered(ranking: Ranking) -> set[tuple[int, int]]:
    return {(a, b) for up, down in combinations(ranking.tiers, 2) for a in up for b in down}


def items_of(groups: Sequence[Group], seed: int) -> list[Item]:
    """What people are asked of the groups, in their order. E704 for more completions than letters."""
    found: list[Item] = []
    times: dict[str, int] = {}
    for group in groups:
        texts = list(dict.fromkeys(c.said for c in group.completions))
        if len(texts) < 2:
            continue
        if len(texts) > MOST:
            raise TrueupError(
                "E704",
                f"{len(texts)} completions of a prompt, and people rank {MOST} at most",
                where="num_completions",
                remedy="4 to 9 are usual",
            )
        name = _digest(group, sorted(texts))
        times[name] = times.get(name, 0) + 1
        order = permutation(len(texts), seed, "form", name)
        found.append(
            Item(
                id=name if times[name] == 1 else f"{name}-{times[name]}",
                group=group,
                texts=tuple(texts[i] for i in order),
            )
        )
    return found


def _digest(group: Group, texts: Sequence[str]) -> str:
    said = [group.id, [message_to_json(m) for m in group.prompt], list(texts)]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:12]


# ------------------------------------------------------------------------------------------ writing


def _row(item: Item) -> str:
    row = {
        "item": item.id,
        "prompt": [message_to_json(m) for m in item.group.prompt],
        "completions": dict(zip(item.letters, item.texts, strict=True)),
        "ranking": "",
    }
    return json.dumps(row, ensure_ascii=False) + "\n"


def _form(items: Sequence[Item]) -> str:
    lines = [_HEAD.format(count=counted(len(items), "prompt"))]
    for number, item in enumerate(items, 1):
        lines.append(f"[{number} of {len(items)}] {item.id}")
        for message in item.group.prompt:
            lines += [f"{message.role}", *_quoted(message.content)]
        for letter, text in zip(item.letters, item.texts, strict=True):
            lines += [letter, *_quoted(text)]
        lines += ["ranking:", ""]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> list[str]:
    """Every line behind a bar, so that no text can pass for an answer; what is not printable is escaped."""
    return [f"| {line}" for line in printable(text, keep="\n").split("\n")]


# ------------------------------------------------------------------------------------------ reading


def _rankings(items: Sequence[Item], folder: Path) -> tuple[dict[str, list[Ranking]], set[str]]:
    """Of every item that was answered its rankings, and the items that were skipped. E784 for bad answers."""
    known = {item.id: item for item in items}
    tiers: dict[tuple[str, str], tuple[str, ...]] = {}
    bad: list[str] = []
    for answer in [*_in_form(folder / FORM, bad), *_in_rows(folder / ROWS, bad)]:
        item = known.get(answer.item)
        fault, said = _read(answer, item)
        if not fault and tiers.setdefault((answer.item, answer.labeler), said) != said:
            fault = f"{answer.labeler} ranked {answer.item} twice, and differently"
        if fault:
            bad.append(f"{answer.where}: {fault}")
    if bad:
        more = f"; and {len(bad) - 5} more" if len(bad) > 5 else ""
        raise TrueupError(
            "E784",
            "; ".join(bad[:5]) + more,
            where=str(folder),
            remedy="repair these lines, then run the same command again; nothing else of the files is lost",
        )
    found: dict[str, list[Ranking]] = {}
    for (name, labeler), said in tiers.items():
        if said:
            found.setdefault(name, []).append(known[name].ranking(said, labeler))
    return found, {name for name, _ in tiers if name not in found}


def _read(answer: Answer, item: Item | None) -> tuple[str, tuple[str, ...]]:
    """What is wrong with an answer, or the tiers of letters that it states; none of `skip`."""
    if item is None:
        return (f"no prompt here is {answer.item!r}" if answer.item else "no prompt stands above it"), ()
    if answer.shown is not None and answer.shown != dict(zip(item.letters, item.texts, strict=True)):
        return f"the completions of {item.id} are not those that were asked about", ()
    if answer.text.casefold() == SKIP:
        return "", ()
    tiers = [[part.strip() for part in tier.split("=")] for tier in answer.text.upper().split(">")]
    named = [letter for tier in tiers for letter in tier]
    if sorted(named) != sorted(item.letters):
        return f"{answer.text!r} does not name each of {', '.join(item.letters)} once", ()
    return "", tuple("".join(sorted(tier)) for tier in tiers)


def _lines(path: Path, bad: list[str]) -> Iterator[tuple[str, str]]:
    """Place and text of every line of a file; none where it is gone."""
    if not path.exists():
        return
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        bad.append(f"{path.name}:{line}: not UTF-8; save the file as UTF-8")
        return
    for number, line in enumerate(text.split("\n"), 1):
        yield f"{path.name}:{number}", line.rstrip("\r").strip()


def _in_form(path: Path, bad: list[str]) -> list[Answer]:
    """The answers of a form that was filled in."""
    found: list[Answer] = []
    item, labeler = "", PEOPLE
    for where, line in _lines(path, bad):
        head = _ITEM.fullmatch(line)
        key, colon, said = line.partition(":")
        key = key.strip().lower()
        if head:
            item = head[1]
        elif colon and key == "labeler":
            labeler = said.strip() or PEOPLE
        elif colon and key == "ranking":
            if said.strip():
                found.append(Answer(where=where, item=item, text=said.strip(), labeler=labeler))
        elif (
            line and line[0] not in "#|" and not re.fullmatch(r"[A-Z]|system|user|assistant|tool|text", line)
        ):
            bad.append(f"{where}: what is {printable(line[:40])!r}? An answer stands behind `ranking:`")
    return found


def _in_rows(path: Path, bad: list[str]) -> list[Answer]:
    """The answers of the JSON lines; several of one item by labelers of different names are several."""
    found: list[Answer] = []
    for where, line in _lines(path, bad):
        if not line:
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            bad.append(f"{where}: no JSON")
            continue
        fault = _shape(row)
        if fault:
            bad.append(f"{where}: {fault}")
        elif said := (row.get("ranking") or "").strip():
            found.append(
                Answer(
                    where=where,
                    item=row["item"],
                    text=said,
                    labeler=(row.get("labeler") or "").strip() or PEOPLE,
                    shown=row.get("completions"),
                )
            )
    return found


def _shape(row: Any) -> str:
    """What is wrong with the shape of a row; "" for nothing."""
    if not isinstance(row, Mapping):
        return "no JSON object"
    if not isinstance(row.get("item"), str):
        return "no text under `item`"
    wrong = [key for key in ("ranking", "labeler") if not isinstance(row.get(key), str | None)]
    return f"no text under `{wrong[0]}`" if wrong else ""
