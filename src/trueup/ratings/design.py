"""Battles as the rows of a regression: who met, controls, how often, and which rows share a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array

from trueup.errors import TrueupError
from trueup.ratings.battles import Battle
from trueup.ratings.likelihood import Design, Floats, TieRule, gauge

Control = Literal["length", "position", "style", "headers", "lists", "bold"]
"What may be taken out of verdicts; `style` stands for the last three of them."
Integers = NDArray[np.int64]
_STYLE: tuple[Control, ...] = ("headers", "lists", "bold")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Distinct battles, how much each weighs, and what was drawn at random."""

    names: tuple[str, ...]
    a: Integers
    b: Integers
    design: Design
    weights: Floats
    "Of each row; a row stands for all equal battles."
    membership: csr_array
    "What each cluster adds to each row's weight: [clusters, rows]."
    cluster: Literal["prompt", "battle"]
    controls: tuple[Control, ...]
    units: tuple[float, ...]
    "What one step of each control is, in its own measure."
    num_clusters: int
    "How many prompts, or battles where no prompt is named."
    tie_share: float


def rows_of_battles(
    battles: Sequence[Battle], *, ties: TieRule, alpha: float, controls: Sequence[Control]
) -> Rows:
    """The rows of a regression for `battles`.

    Without controls equal battles are one row. The columns are the models (+1 for a, -1 for b), the
    controls, and with a rule for ties that has any to explain, an empty one for η. Raises TrueupError E424
    for no battle, E425 for a control that is not known of every battle or does not vary, E427 for soft
    outcomes where ties have a probability of their own.
    """
    if not battles:
        raise TrueupError("E424", "there are no battles", remedy="docs/ratings.md shows the formats")
    names = tuple(sorted({name for battle in battles for name in (battle.a, battle.b)}))
    place = {name: at for at, name in enumerate(names)}
    a = np.array([place[battle.a] for battle in battles], np.int64)
    b = np.array([place[battle.b] for battle in battles], np.int64)
    win = np.array([battle.win for battle in battles], np.float64)
    weight = np.array([battle.weight for battle in battles], np.float64)
    soft = (win > 0) & (win < 1) & (win != 0.5)
    if ties != "half" and soft.any():
        at = int(np.flatnonzero(soft)[0])
        reason = (
            f"battle {at + 1} ended in {battles[at].win:g}, but {ties} gives ties a probability of their own"
        )
        raise TrueupError("E427", reason, remedy="use --ties half, which takes probabilities")
    clusters, cluster = _clusters(battles)
    tied = float(weight[win == 0.5].sum() / weight.sum())
    controls = each_control(battles, controls)
    columns, units = _controls(battles, controls)
    if not columns:
        a, b, win, which = _distinct(a, b, win)
    else:
        which = np.arange(len(battles))
    count = max(clusters) + 1
    membership = coo_array((weight, (clusters, which)), shape=(count, len(a))).tocsr()
    # Without a tie all three rules are one, and η would run off to minus infinity.
    rule: TieRule = ties if tied > 0 else "half"
    x = np.zeros((len(a), len(names) + len(columns) + (rule != "half")))
    each = np.arange(len(a))
    x[each, a], x[each, b] = 1.0, -1.0
    for at, column in enumerate(columns, len(names)):
        x[:, at] = column
    rows = Rows(
        names=names,
        a=a,
        b=b,
        design=Design(x=x, y=win, centred=len(names), rule=rule, alpha=alpha),
        weights=np.asarray(membership.sum(axis=0), np.float64).reshape(-1),
        membership=membership,
        cluster=cluster,
        num_clusters=count,
        controls=controls,
        units=units,
        tie_share=tied,
    )
    if columns:
        _check_controls(rows)
    return rows


def _distinct(a: Integers, b: Integers, win: Floats) -> tuple[Integers, Integers, Floats, Integers]:
    """Equal battles as one, whichever of the two models was called a: the rows, and each battle's row."""
    turned = a > b
    table = np.stack([np.where(turned, b, a), np.where(turned, a, b), np.where(turned, 1 - win, win)])
    rows, which = np.unique(table, axis=1, return_inverse=True)
    return rows[0].astype(np.int64), rows[1].astype(np.int64), rows[2], which.reshape(-1)


def _clusters(battles: Sequence[Battle]) -> tuple[list[int], Literal["prompt", "battle"]]:
    """The cluster of each battle: its prompt; a battle that names none stands for itself."""
    seen: dict[str | int, int] = {}
    found = [seen.setdefault(battle.prompt or at, len(seen)) for at, battle in enumerate(battles)]
    return found, "prompt" if any(battle.prompt for battle in battles) else "battle"


def _controls(
    battles: Sequence[Battle], controls: Sequence[Control]
) -> tuple[list[Floats], tuple[float, ...]]:
    columns: list[Floats] = []
    units: list[float] = []
    for control in controls:
        known = np.array([_control(battle, control) for battle in battles], np.float64)
        missing = np.flatnonzero(np.isnan(known))
        if len(missing):
            field = {"length": "lengths", "position": "first"}.get(control, "style")
            reason = f"{len(missing)} of {len(battles)} battles lack `{field}`, first battle {missing[0] + 1}"
            remedy = "every battle must, or leave the control out"
            raise TrueupError("E425", reason, where=f"control {control}", remedy=remedy)
        unit = 1.0 if control == "position" else float(np.sqrt(np.mean(known**2)))
        if unit == 0:
            what = "all lengths are equal" if control == "length" else f"no two answers differ in {control}"
            raise TrueupError("E425", what, where=f"control {control}", remedy="leave the control out")
        columns.append(known / unit)
        units.append(unit)
    return columns, tuple(units)


def each_control(battles: Sequence[Battle], controls: Sequence[Control]) -> tuple[Control, ...]:
    """The controls, each once, `style` as those of its three in which some answers differ.

    Raises E425 where all answers have one style.
    """
    found: list[Control] = []
    for control in controls:
        if control != "style":
            found.append(control)
            continue
        differ: list[Control] = [c for c in _STYLE if any(_control(b, c) != 0 for b in battles)]
        if not differ:
            reason = "no two answers differ in headers, lists or bold"
            raise TrueupError("E425", reason, where="control style", remedy="leave the control out")
        found += differ
    return tuple(dict.fromkeys(found))


def _control(battle: Battle, control: Control) -> float:
    """Antisymmetric in a and b: the share by which a has more of something, or +1 where a was shown first."""
    if control == "position":
        return {"a": 1.0, "b": -1.0, "": np.nan}[battle.first]
    two = battle.lengths
    if control != "length":
        two = None if battle.style is None else tuple(getattr(style, control) for style in battle.style)
    if two is None:
        return np.nan
    of_a, of_b = two
    return (of_a - of_b) / (of_a + of_b) if of_a + of_b > 0 else 0.0


def _check_controls(rows: Rows) -> None:
    size = len(rows.names) + len(rows.controls)
    x = rows.design.x[:, :size]
    gram = (x.T * rows.weights) @ x / rows.weights.sum() + gauge(rows.design)[:size, :size]
    if rows.design.alpha == 0 and np.linalg.eigvalsh(gram).min() < 1e-10:
        reason = "what it does cannot be told apart from the ratings of the models"
        remedy = "let each model come first, and second, against several others; or leave the control out"
        raise TrueupError("E425", reason, where=f"control {' and '.join(rows.controls)}", remedy=remedy)
