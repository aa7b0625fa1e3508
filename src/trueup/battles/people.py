"""People as judges: each round's pairs in a form to be filled in, and as JSON lines for a program; read back.

A round of the folder `people/` is two files of the same pairs, `round-001.md` and `round-001.jsonl`. Either may
be filled in, or a copy of either with a person's name in its own, `round-001.ann.md`. A pair has an answer
where one file has; a round is read once every pair has.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from trueup.battles.table import Bench, Duel, Game, Verdict
from trueup.engine import disk
from trueup.errors import TrueupError
from trueup.judges.wording import conversation_text

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
) -> dict[Duel, Verdict] | None:
    """What people said of some duels; None, with the files to fill in written, where answers are missing.

    Raises E438 for an answer that is none.
    """
    stem = f"round-{number:03}"
    by_id = {_id(bench, duel): duel for duel in duels}
    home = folder / FOLDER
    disk.make_folder(home)
    games: dict[Duel, list[Game]] = {}
    answered: set[Duel] = set()
    for path in sorted(home.glob(f"{stem}*")):
        person = path.name.removeprefix(stem).rpartition(".")[0].strip(".")
        for found, choice, where in _answers(path):
            duel = by_id.get(found)
            if duel is None or not choice:
                continue
            if choice not in CHOICES:
                raise _no_answer(choice, where)
            answered.add(duel)
            win = CHOICES[choice]
            if win is not None:
                games.setdefault(duel, []).append(
                    Game(duel.first, win if duel.first == "a" else 1 - win, person)
                )
    if len(answered) == len(duels):
        return {duel: Verdict(judge=judge, games=_once(games.get(duel, []))) for duel in duels}
    _write(bench, by_id, home / f"{stem}.md", _form)
    _write(bench, by_id, home / f"{stem}.jsonl", _lines)
    return None


def waiting(folder: Path, number: int) -> str:
    """The sentence that says what is waited for."""
    home, stem = folder / FOLDER, f"round-{number:03}"
    answers: dict[str, bool] = {}
    for path in sorted(home.glob(f"{stem}*")):
        for found, choice, _ in _answers(path):
            answers[found] = answers.get(found, False) or bool(choice)
    done = sum(answers.values())
    return (
        f"waiting for people: {done} of {len(answers)} pairs answered; fill in {home / f'{stem}.md'} "
        f"(or {stem}.jsonl beside it), then give the same command again"
    )


def _id(bench: Bench, duel: Duel) -> str:
    said = (bench.prompts[duel.prompt].id, duel.sample, duel.a, duel.b, *(c.said for c in bench.two(duel).completions))
    return hashlib.sha256("\x1f".join(map(str, said)).encode("utf-8", "surrogatepass")).hexdigest()[:12]


def _once(games: Sequence[Game]) -> tuple[Game, ...]:
    """One game a person: the form and the lines of one person may both be filled in, alike."""
    return tuple({game.labeler: game for game in games}.values())


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


def _no_answer(choice: str, where: str) -> TrueupError:
    return TrueupError("E438", f"{choice[:40]!r} is no answer", where=where, remedy=f"write {', '.join(CHOICES)}")


def _write(bench: Bench, by_id: dict[str, Duel], path: Path, make: Any) -> None:
    """Nothing; the file is there, as it was where a person has begun to fill it in."""
    if not path.exists():
        disk.write(path, make(bench, by_id, path.stem))


def _lines(bench: Bench, by_id: dict[str, Duel], stem: str) -> str:
    rows = []
    for found, duel in by_id.items():
        left, right = _sides(bench, duel)
        prompt = conversation_text(bench.prompts[duel.prompt].prompt)
        rows.append({"id": found, "prompt": prompt, "left": left, "right": right, "choice": ""})
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _form(bench: Bench, by_id: dict[str, Duel], stem: str) -> str:
    parts = [_HEAD.format(stem=stem)]
    for number, (found, duel) in enumerate(by_id.items(), 1):
        left, right = _sides(bench, duel)
        prompt = conversation_text(bench.prompts[duel.prompt].prompt)
        parts.append(f"## {number} of {len(by_id)}\n\nPrompt\n\n{_indented(prompt)}\n")
        parts.append(f"Left\n\n{_indented(left)}\n\nRight\n\n{_indented(right)}\n\nchoice {found}: \n")
    return "\n".join(parts)


def _sides(bench: Bench, duel: Duel) -> tuple[str, str]:
    texts = tuple(c.said for c in bench.two(duel).completions)
    return (texts[0], texts[1]) if duel.first == "a" else (texts[1], texts[0])


def _indented(text: str) -> str:
    """The text as a block of a form: no line of it can stand where an answer is read."""
    return "\n".join(f"    {line}" for line in (text or "(empty)").splitlines())
