"""What a battle's page shows, as plain values: the board, who judged, how often who met, effects, samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from trueup.battles.table import Table, Verdict
from trueup.errors import TrueupError
from trueup.judges.wording import conversation_text
from trueup.ratings.battle import Battle
from trueup.ratings.design import Control
from trueup.ratings.fit import fit_ratings
from trueup.ratings.leaderboard import effect_of, notes
from trueup.settings.secret import clean

MOST_SAMPLES = 24
"Duels whose texts the page has."


def told(table: Table, board: dict[str, Any], *, why: str, waiting: str) -> dict[str, Any]:
    """Everything that `reports.battle` needs."""
    config, names = table.bench.config, [row["model"] for row in board["models"]]
    battles = table.battles()
    met = Counter(frozenset((duel.a, duel.b)) for duel, _ in table.fought)
    return {
        "board": board,
        "notes": notes(board),
        "why": why,
        "waiting": waiting,
        "settings": config.fixed() | {"battles": config.battles, "until": config.until},
        "duels": len(table.fought),
        "prompts": len({duel.prompt for duel, _ in table.fought}),
        "met": [[met[frozenset((a, b))] for b in names] for a in names],
        "judges": [_judge(table, name) for name in config.by],
        "answers": {name: _answers(table, name) for name in names},
        "effects": [_effect(battles, control, config.prior) for control in ("position", "length")],
        "samples": _samples(table),
    }


def _judge(table: Table, name: str) -> dict[str, Any]:
    """What became of one judge's duels."""
    said = [v for _, verdicts in table.fought for v in verdicts if v.judge == name]
    both = [v for v in said if len(v.games) == 2 and not v.alike and {g.first for g in v.games} == {"a", "b"}]
    games = [g for v in said if not v.alike for g in v.games if g.first]
    firsts = [g.win if g.first == "a" else 1 - g.win for g in games]
    return {
        "name": name,
        "reference": clean(table.bench.config.by[name]),
        "duels": len(said),
        "unread": sum(not v.games for v in said),
        "alike": sum(v.alike for v in said),
        "ties": sum(v.win == 0.5 for v in said),
        "swapped": len(both),
        "inconsistent": sum(v.games[0].win != v.games[1].win for v in both) / len(both) if both else None,
        "first": sum(firsts) / len(firsts) if firsts else None,
        "people": sorted({g.labeler for g in games if g.labeler}),
        "agrees": _agreement(table, name),
    }


def _agreement(table: Table, name: str) -> dict[str, Any]:
    """How often each other judge favoured the same side, of the duels in which both favoured one."""
    found: dict[str, list[bool]] = {}
    for _, verdicts in table.fought:
        sides = {v.judge: v.win > 0.5 for v in verdicts if v.win not in (None, 0.5) and v.win is not None}
        for other, side in sides.items():
            if other != name and name in sides:
                found.setdefault(other, []).append(side == sides[name])
    return {other: {"share": sum(same) / len(same), "n": len(same)} for other, same in found.items()}


def _answers(table: Table, name: str) -> dict[str, Any]:
    texts = [c for one in table.bench.answers[name] for c in one]
    return {
        "reference": clean(table.bench.config.models[name]),
        "answers": len(texts),
        "characters": sum(len(c.text) for c in texts) / len(texts),
        "finished": sum(c.finished for c in texts) / len(texts),
    }


def _effect(battles: Sequence[Battle], control: Control, prior: float) -> dict[str, Any]:
    """What a control does to verdicts, by a fit of its own; why not, where it cannot be said."""
    known = [b for b in battles if control != "position" or b.first]
    try:
        fitted = fit_ratings(known, alpha=prior, controls=(control,))
    except TrueupError as error:
        return {"name": control, "said": "", "reason": error.reason}
    (effect,) = fitted.effects
    numbers = {"points": effect.points, "low": effect.low, "high": effect.high, "unit": effect.unit}
    return {"name": control, "said": effect_of({"name": control, **numbers}), "reason": "", **numbers}


def _samples(table: Table) -> list[dict[str, Any]]:
    """Some duels with their texts: of every pair the first, then the second of every pair ..."""
    by_pair: dict[tuple[str, str], list[int]] = {}
    for at, (duel, _) in enumerate(table.fought):
        by_pair.setdefault((duel.a, duel.b), []).append(at)
    turns = sorted((turn, at) for places in by_pair.values() for turn, at in enumerate(places))
    found = []
    for _, at in turns[:MOST_SAMPLES]:
        duel, verdicts = table.fought[at]
        one, other = table.bench.two(duel).completions
        found.append(
            {
                "prompt": conversation_text(table.bench.prompts[duel.prompt].prompt),
                "a": {"model": duel.a, "text": one.said},
                "b": {"model": duel.b, "text": other.said},
                "verdicts": [{"judge": v.judge, "said": _said(v, duel.a, duel.b)} for v in verdicts],
            }
        )
    return found


def _said(verdict: Verdict, a: str, b: str) -> str:
    if verdict.win is None:
        return "said nothing"
    if verdict.alike:
        return "the same text"
    if verdict.win == 0.5:
        split = len({game.win for game in verdict.games}) > 1
        return "a tie: another in each order" if split and len(verdict.games) == 2 else "a tie"
    return a if verdict.win > 0.5 else b
