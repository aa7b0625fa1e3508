"""Everything that battles say of models, as plain values: ratings, online Elo, win rates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from trueup.ratings.battles import Battle, BattleSet
from trueup.ratings.elo import CENTRE, SCALE, STEP, elo_over_orders, online_elo
from trueup.ratings.fit import Ratings
from trueup.ratings.wins import PairWins, pair_wins, turn_around

ORDERS = 50
"Random orders of the battles in which the online rule is tried."
_MANY = {"headers": "many headers", "lists": "many list items", "bold": "much bold"}
_RULES = {
    "half": "half a win each",
    "davidson": "Davidson's ν = {:.3f}",
    "rao-kupper": "Rao and Kupper's η = {:.3f}",
}


def leaderboard(found: BattleSet, ratings: Ratings, *, seed: int = 0) -> dict[str, Any]:
    """The ratings with their making, online Elo beside them, and every pair's win rate, as JSON values."""
    battles = found.battles
    elo, low, high = _elo(battles, [m.model for m in ratings.models], seed)
    pairs = pair_wins(battles, level=ratings.level)
    return {
        "origin": found.origin,
        "left_out": dict(found.left_out),
        "battles": ratings.num_battles,
        ratings.cluster + "s": ratings.num_clusters,
        "ties": {"rule": ratings.ties, "share": ratings.tie_share, "parameter": ratings.tie_parameter},
        "prior": ratings.alpha,
        "anchor": ratings.anchor,
        "scale": {"points_per_nat": SCALE, "centre": CENTRE, "elo_step": STEP, "elo_orders": ORDERS},
        "intervals": {
            "rule": ratings.intervals,
            "level": ratings.level,
            "over": ratings.cluster + "s",
            "failed_resamples": ratings.resamples_failed,
        },
        "models": [
            asdict(m) | {"elo": elo[place], "elo_low": low[place], "elo_high": high[place]}
            for place, m in enumerate(ratings.models)
        ],
        "effects": [asdict(e) for e in ratings.effects],
        # Both ways round, so that a reader finds every row by its first name.
        "win_rates": [_pair(seen) for pair in pairs for seen in (pair, turn_around(pair))],
    }


def against(board: dict[str, Any], model: str) -> list[dict[str, Any]]:
    """The win rates of the other models against `model`, in the order of the board."""
    found = {row["a"]: row for row in board["win_rates"] if row["b"] == model}
    return [found[m["model"]] for m in board["models"] if m["model"] in found]


def notes(board: dict[str, Any]) -> list[str]:
    """What a reader of the table should know, in plain sentences."""
    ties, how, scale = board["ties"], board["intervals"], board["scale"]
    over = how["over"]
    on_prompts = f" on {board[over]:,} prompts" if over == "prompts" else ""
    said = [
        f"{len(board['models'])} models, {board['battles']:,} battles{on_prompts}, from {board['origin']}; "
        f"{100 * ties['share']:.1f} % ties, {_RULES[ties['rule']].format(ties['parameter'])}."
    ]
    said += [f"Left out: {count:,} {reason}." for reason, count in board["left_out"].items()]
    centre = board["anchor"] or "the average model"
    said.append(
        f"{scale['centre']:.0f} points are {centre}; 400 more are odds of ten to one. "
        f"{100 * how['level']:g} % intervals ({how['rule']}) over {over}; "
        "a rank counts the models whose whole interval lies above."
    )
    if board["prior"]:
        said.append(f"A prior of strength {board['prior']:g} draws ratings towards the average.")
    said += [effect_of(effect) for effect in board["effects"]]
    if how["failed_resamples"]:
        said.append(f"{how['failed_resamples']} resamples without a finite maximum were left out.")
    said.append(
        f"Online Elo (K = {scale['elo_step']:g}) in the order of the file, and its range over "
        f"{scale['elo_orders']} random orders; the ratings do not depend on the order."
    )
    return said


def effect_of(effect: dict[str, Any]) -> str:
    """What a control that was taken out is worth, as a sentence."""
    worth = f"worth {effect['points']:+.0f} points [{effect['low']:+.0f}, {effect['high']:+.0f}]"
    if effect["name"] == "position":
        return f"Taken out: being shown first is {worth}."
    # The control is (l_a - l_b)/(l_a + l_b) = u, so a is (1 + u)/(1 - u) times as long.
    u = effect["unit"]
    many = "as long" if effect["name"] == "length" else f"as {_MANY[effect['name']]}"
    times = f"{(1 + u) / (1 - u):.2f} times {many}" if u < 1 else f"any {effect['name']} against none"
    return f"Taken out: an answer {times} is {worth}."


def _elo(
    battles: Sequence[Battle], names: list[str], seed: int
) -> tuple[list[float], list[float], list[float]]:
    """Online Elo in the order of the file, and its lowest and highest value over random orders."""
    place = {name: at for at, name in enumerate(names)}
    a, b = [place[battle.a] for battle in battles], [place[battle.b] for battle in battles]
    wins = [battle.win for battle in battles]
    drawn = elo_over_orders(a, b, wins, len(names), orders=ORDERS, seed=seed)
    return online_elo(a, b, wins, len(names)), drawn.min(axis=0).tolist(), drawn.max(axis=0).tolist()


def _pair(pair: PairWins) -> dict[str, Any]:
    return {
        "a": pair.a,
        "b": pair.b,
        "win_rate": pair.rate.estimate.to_json(),
        "battles": pair.battles,
        "prompts_both_orders": pair.swapped,
        "inconsistent": pair.rate.inconsistent,
    }
