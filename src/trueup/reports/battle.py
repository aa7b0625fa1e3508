"""A battle's folder in, one self-contained HTML file out: who leads, who beat whom, who judged, the texts.

Everything comes from `battle.json`, which `trueup battle` writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trueup.errors import TrueupError, counted
from trueup.reports.checked import Json, as_array, as_number, as_object, load_json
from trueup.reports.leaderboard import shown as board_shown
from trueup.reports.numbers import percent
from trueup.reports.page import page, write_page

RESULT = "battle.json"
PAGE = "battle.html"
_WORDS = {"order": "to decide the order", "width": "to narrow the intervals", "uniform": "alike"}


@dataclass(frozen=True, slots=True)
class Cell:
    """How often one model beat another; its title says over how many battles."""

    text: str
    title: str
    battles: int
    strength: int
    "From -5, always lost, to 5: how it is tinted."


def write_battle(folder: Path, out: Path | None = None) -> Path:
    """The path of the page written of a battle: `out`, or `battle.html` in its folder.

    Raises E801 where there is no battle, E202 where its file says something else.
    """
    found = load_json(folder / RESULT)
    if found is None:
        remedy = "`trueup battle` writes it once two models have met often enough"
        raise TrueupError("E801", f"no {RESULT}", where=str(folder), remedy=remedy)
    return write_page(render(as_object(found, RESULT)), out if out is not None else folder / PAGE)


def render(record: Json) -> str:
    """The page."""
    try:
        return page("battle.html.j2", **_shown(record))
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        remedy = "give `trueup battle` the same command again; nothing is asked twice"
        raise TrueupError("E202", f"damaged: {error!r}", where=RESULT, remedy=remedy) from None


def _shown(record: Json) -> dict[str, Any]:
    board, settings = record["board"], record["settings"]
    names = [row["model"] for row in board["models"]]
    by = " and ".join(judge["name"] for judge in record["judges"])
    details = [
        f"{counted(record['duels'], 'battle')} on {counted(record['prompts'], 'prompt')}, judged by {by}; "
        f"who met next was chosen {_WORDS.get(settings['pairing'], settings['pairing'])}.",
        record["waiting"] or f"It ended because {_ended(record['why'])}.",
    ]
    return {
        **board_shown(board, record["notes"]),
        "details": details,
        "names": names,
        "matrix": _matrix(board, record["met"], names),
        "judges": [_judge(row) for row in record["judges"]],
        "agreement": _agreement(record["judges"]),
        "answers": [_answers(name, record["answers"][name]) for name in names],
        "effects": [_effect(row) for row in record["effects"]],
        "samples": record["samples"],
        "duels": record["duels"],
        "settings": [(key, _plain(value)) for key, value in settings.items()],
    }


def _ended(why: str) -> str:
    return why[:1].lower() + why[1:] if why else "it was stopped"


def _matrix(board: Mapping[str, Any], met: Sequence[Sequence[int]], names: Sequence[str]) -> list[list[Cell]]:
    rates = {(row["a"], row["b"]): row["win_rate"]["mean"] for row in board["win_rates"]}
    rows = []
    for i, a in enumerate(names):
        row = []
        for j, b in enumerate(names):
            rate = rates.get((a, b))
            if rate is None:
                row.append(Cell("", "never met" if i != j else "", 0, 0))
                continue
            title = f"{a} beat {b} in {100 * rate:.1f} % of {counted(met[i][j], 'battle')}"
            row.append(Cell(percent(rate), title, met[i][j], round(10 * (rate - 0.5))))
        rows.append(row)
    return rows


def _judge(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Name, reference, duels, ties, unread, alike, share that changed with the order, share of first."""
    changed = row["inconsistent"]
    return (
        row["name"] + (f" ({', '.join(row['people'])})" if row["people"] else ""),
        row["reference"],
        str(row["duels"]),
        str(row["ties"]),
        str(row["unread"]),
        str(row["alike"]),
        "–" if changed is None else f"{percent(changed)} of {row['swapped']}",
        "–" if row["first"] is None else percent(row["first"]),
    )


def _agreement(judges: Sequence[Mapping[str, Any]]) -> list[str]:
    said = []
    for at, judge in enumerate(judges):
        for other in judges[at + 1 :]:
            both = as_object(judge["agrees"].get(other["name"]), RESULT)
            share = as_number(both.get("share"), RESULT)
            if share is not None:
                names = f"{judge['name']} and {other['name']}"
                over = f"{counted(both['n'], 'battle')} in which neither saw a tie"
                said.append(f"{names} favoured the same answer in {percent(share)} of the {over}.")
    return said


def _answers(name: str, row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        name,
        row["reference"],
        str(row["answers"]),
        f"{row['characters']:.0f}",
        percent(row["finished"]),
    )


def _effect(row: Mapping[str, Any]) -> str:
    name = {"position": "The place", "length": "Length"}[row["name"]]
    return (
        f"{name}: {row['said'].removeprefix('Taken out: ')}" if row["said"] else f"{name}: {row['reason']}."
    )


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} = {part}" for key, part in value.items())
    return ", ".join(map(str, as_array(value, RESULT))) if isinstance(value, list) else str(value)
