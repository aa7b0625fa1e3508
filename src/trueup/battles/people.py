"""People as judges: each round's pairs in a form to be filled in and as JSON lines, read back once they are.

A round of the folder `people/` is two files of the same pairs, `round-001.md` and `round-001.jsonl`. Either
may be filled in, or a copy of either with a person's name in its own, `round-001.ann.md`. A pair has an
answer where one file has; a round is read once every pair has.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trueup.battles.table import Bench, Duel, Game, Verdict
from trueup.engine import disk
from trueup.errors import TrueupError
from trueup.judges.wording import conversation_text
from trueup.reports.visible import visible

FOLDER = "people"
CHOICES = {"left": 1.0, "right": 0.0, "tie": 0.5, "skip": None}
"What may be answered, and what it says of the answer on the left; who skips says nothing."
_ANSWER = re.compile(r"^choice ([0-9a-f]{12}):[ \t]*(.*?)[ \t]*\r?$", re.MULTILINE)
_HEAD = """Which answer is better? Write after each `choice` below:

    left     the first of the two
    right    the second
    tie      neither
    skip     you cannot say

Save this file, or a copy of it with your name in its own, {stem}.NAME.md, and give the same command again.
"""


def ask(
    bench: Bench, duels: Sequence[Duel], folder: Path, judge: str, number: int
) -> dict[Duel, Verdict] | str:
    """What people said of some duels; where answers are missing, the files are there to be filled in, and the
    sentence that says so is given.

    Raises E438 for an answer that is none.
    """
    stem = f"round-{number:03}"
    by_id = {_id(bench, duel): duel for duel in duels}
    home = folder / FOLDER
    disk.make_folder(home)
    games: dict[Duel, dict[str, Game]] = {}
    for path in sorted(home.glob(f"{stem}.*")):
        person = path.stem.removeprefix(stem).strip(".")
        for found, choice, where in _answers(path):
            if found not in by_id or not choice:
                continue
            if choice not in CHOICES:
                remedy = f"write {', '.join(CHOICES)}"
                raise TrueupError("E438", f"{choice[:40]!r} is no answer", where=where, remedy=remedy)
            duel, win = by_id[found], CHOICES[choice]
            said = games.setdefault(duel, {})
            if win is not None:
                said[person] = Game(duel.first, win if duel.first == "a" else 1 - win, person)
    if len(games) == len(duels):
        return {duel: Verdict(judge=judge, games=tuple(games[duel].values())) for duel in duels}
    form = home / f"{stem}.md"
    _write(bench, by_id, form, _form, _HEAD.format(stem=stem))
    _write(bench, by_id, home / f"{stem}.jsonl", _lines, "")
    return (
        f"waiting for people: {len(games)} of {len(duels)} pairs answered; fill in {form} "
        f"(or {stem}.jsonl beside it), then give the same command again"
    )


def _id(bench: Bench, duel: Duel) -> str:
    said = (
        bench.prompts[duel.prompt].id,
        duel.sample,
        duel.a,
        duel.b,
        *(c.said for c in bench.two(duel).completions),
    )
    return hashlib.sha256("\x1f".join(map(str, said)).encode("utf-8", "surrogatepass")).hexdigest()[:12]


def _answers(path: Path) -> Iterator[tuple[str, str, str]]:
    """The pairs of a file with what was answered, empty where nothing was, and the place."""
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    if path.suffix == ".jsonl":
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                row = _row(line, f"{path}:{number}")
                choice = row.get("choice") or ""
                yield str(row.get("id", "")), str(choice).strip().lower(), f"{path}:{number}"
    elif path.suffix == ".md":
        for match in _ANSWER.finditer(text):
            number = text.count("\n", 0, match.start()) + 1
            yield match[1], match[2].strip().lower(), f"{path}:{number}"


def _row(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
        if isinstance(row, dict):
            return row
    except (ValueError, RecursionError):
        pass
    raise TrueupError("E438", "no JSON object", where=where, remedy="repair the line, or fill in the .md")


def _write(bench: Bench, by_id: Mapping[str, Duel], path: Path, make: Callable[..., str], head: str) -> None:
    """Nothing; the file has every pair, and what people have written into it."""
    if not path.exists():
        disk.write(path, head + "".join(make(bench, found, duel) for found, duel in by_id.items()))
        return
    there = {found for found, _, _ in _answers(path)}
    more = "".join(make(bench, found, duel) for found, duel in by_id.items() if found not in there)
    if more:
        ends = path.read_bytes()[-1:] in (b"\n", b"")
        disk.append(path, f"{'' if ends else chr(10)}{more}".encode("utf-8", "surrogatepass"), synced=True)


def _lines(bench: Bench, found: str, duel: Duel) -> str:
    left, right = _sides(bench, duel)
    prompt = conversation_text(bench.prompts[duel.prompt].prompt)
    row = {"id": found, "prompt": prompt, "left": left, "right": right, "choice": ""}
    return json.dumps(row, ensure_ascii=False) + "\n"


def _form(bench: Bench, found: str, duel: Duel) -> str:
    left, right = map(_indented, _sides(bench, duel))
    prompt = _indented(conversation_text(bench.prompts[duel.prompt].prompt))
    return f"\n----\n\nPrompt\n\n{prompt}\n\nLeft\n\n{left}\n\nRight\n\n{right}\n\nchoice {found}: \n"


def _sides(bench: Bench, duel: Duel) -> tuple[str, str]:
    texts = tuple(c.said for c in bench.two(duel).completions)
    return (texts[0], texts[1]) if duel.first == "a" else (texts[1], texts[0])


def _indented(text: str) -> str:
    """The text as a block of a form: no line of it can stand where an answer is read."""
    return "\n".join(f"    {line}" for line in (visible(text) or "(empty)").splitlines())
