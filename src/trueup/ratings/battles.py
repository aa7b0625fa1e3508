"""Battles: two models answered one prompt, and somebody said which answer was better.

Read from a battles file, from groups whose completions name their model, or from a table of scores.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any, TypeVar

from trueup import data
from trueup.data import fields
from trueup.data.places import rows_of
from trueup.data.problems import Fault, printable, show
from trueup.data.raw_rows import RawRow, decode
from trueup.engine import disk
from trueup.engine.groups import Group
from trueup.errors import TrueupError
from trueup.ratings.alpaca_eval import annotation, is_annotation
from trueup.ratings.arena import is_vote, vote
from trueup.ratings.battle import OUTCOMES, Battle
from trueup.ratings.style import STYLE, Style, style_of

_FIELDS = ("a", "b", "outcome", "first", "lengths", "style", "prompt", "judge", "weight")
_Made = TypeVar("_Made")
_SCORE_FIELDS = ("prompt", "model", "score", "length", "judge")


@dataclass(frozen=True, slots=True, kw_only=True)
class BattleSet:
    """The battles of a file, what kind of file it was, and what could not become a battle."""

    battles: tuple[Battle, ...]
    origin: str
    left_out: Mapping[str, int]
    "Reason -> how many verdicts or scores say nothing of two different models."


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelScore:
    """A judge gave one model's answer to one prompt a number; larger is better, None where it gave none."""

    prompt: str
    model: str
    score: float | None
    length: float | None = None
    judge: str = ""


def read_battles(path: str | Path, *, margin: float = 0.0) -> BattleSet:
    """The battles of a file: battles themselves, a table of scores, or any data that `data.read` takes.

    The first row tells: `a`, `b` and `outcome` are a battle, `model_a`, `model_b` and `winner` a vote of
    Chatbot Arena, `generator_1`, `generator_2` and `preference` an annotation of AlpacaEval, `model` and
    `score` a score, all else is left to `data.read`. Scores of one prompt by one judge become a battle of
    every two models, a tie within `margin`.
    Raises TrueupError E420 at the first row that is no battle or score (nothing is skipped), E424 if no
    battle is left.
    """
    keys = next(_each(path, lambda row: set(_values(row))), set())
    if is_vote(keys):
        votes = tuple(_each(path, lambda row: vote(_values(row))))
        kept = BattleSet(battles=votes, origin="votes", left_out={})
    elif is_annotation(keys):
        said = list(_each(path, lambda row: annotation(_values(row))))
        known = tuple(battle for battle in said if battle is not None)
        none = {"annotations without a preference": len(said) - len(known)}
        kept = BattleSet(battles=known, origin="annotations", left_out={k: n for k, n in none.items() if n})
    elif {"a", "b", "outcome"} <= keys:
        found = tuple(_each(path, _battle))
        kept = BattleSet(battles=found, origin="battles", left_out={})
    elif {"model", "score"} <= keys and "completions" not in keys:
        kept = battles_from_scores(_each(path, _score), margin=margin)
    else:
        kept = battles_from_groups(data.read(path).groups, margin=margin)
    if not kept.battles:
        why = "; ".join(f"{count} {reason}" for reason, count in kept.left_out.items())
        reason = f"no two models meet in the {kept.origin}" + (f": {why}" if why else "")
        remedy = "each completion names its model as `source`; docs/ratings.md shows the formats"
        raise TrueupError("E424", reason, where=printable(str(path)), remedy=remedy)
    return kept


def write_battles(path: Path, battles: Iterable[Battle]) -> int:
    """How many battles were written to `path`, one JSON object a line."""
    rows = [json.dumps(b.to_json(), ensure_ascii=False, allow_nan=False) + "\n" for b in battles]
    disk.write(path, "".join(rows))
    return len(rows)


def battles_from_groups(groups: Iterable[Group], *, margin: float = 0.0) -> BattleSet:
    """The battles that groups state: their comparisons and rankings, or where no group has any, their scores.

    The model is `Completion.source`, the length that of the text in characters. A verdict on two completions
    of one model, or of an unnamed one, says nothing of models and is counted in `left_out`. What one judge
    said of two completions in both orders shares the weight of one battle, as in `trueup battle`.
    """
    groups = list(groups)
    left_out: Counter[str] = Counter()
    judged = any(g.comparisons or g.rankings for g in groups)
    found: list[Battle] = []
    for place, group in enumerate(groups):
        prompt = group.id or f"group {place}"
        verdicts = _choices(group) if judged else _score_verdicts(group, margin)
        for a, b, win, shown, judge, weight in verdicts:
            one, other = group.completions[a], group.completions[b]
            if not one.source or not other.source:
                left_out["of a completion without `source`"] += 1
            elif one.source == other.source:
                left_out["between two answers of one model"] += 1
            else:
                found.append(
                    Battle(
                        a=one.source,
                        b=other.source,
                        win=win,
                        first="" if shown is None else "a" if shown[0] == a else "b",
                        lengths=(len(one.text), len(other.text)),
                        style=(style_of(one.text), style_of(other.text)),
                        prompt=prompt,
                        judge=judge,
                        weight=weight,
                    )
                )
    origin = "comparisons of groups" if judged else "scores of groups"
    return BattleSet(battles=tuple(found), origin=origin, left_out=dict(left_out))


def battles_from_scores(scores: Iterable[ModelScore], *, margin: float = 0.0) -> BattleSet:
    """A battle of every two models that one judge scored on one prompt; scores within `margin` tie.

    A score of None is counted in `left_out`. Raises TrueupError E420 where a judge scored a model twice on a
    prompt.
    """
    left_out: Counter[str] = Counter()
    tables: dict[tuple[str, str], dict[str, ModelScore]] = defaultdict(dict)
    for row in scores:
        if row.score is None:
            left_out["scores that are null"] += 1
            continue
        table = tables[row.prompt, row.judge]
        if row.model in table:
            reason = f"{row.model} has two scores on prompt {row.prompt!r}"
            remedy = "one score a model and prompt; name the judges apart if there are several"
            raise TrueupError("E420", reason, remedy=remedy)
        table[row.model] = row
    meetings = (two for table in tables.values() for two in combinations(table.values(), 2))
    found = tuple(_duel(one, other, margin) for one, other in meetings)
    return BattleSet(battles=found, origin="scores", left_out=dict(left_out))


def by_judge(found: BattleSet, judge: str) -> BattleSet:
    """The battles that one judge decided. Raises TrueupError E424 if there are none."""
    kept = tuple(battle for battle in found.battles if battle.judge == judge)
    if not kept:
        judges = ", ".join(sorted({battle.judge for battle in found.battles} - {""})[:8])
        remedy = f"the judges are: {judges}" if judges else "no verdict names its judge: leave `--judge` out"
        raise TrueupError("E424", f"no verdict of {judge}", where="judge", remedy=remedy)
    return replace(found, battles=kept)


# ------------------------------------------------------------------------------------------ the parts

_Verdict = tuple[int, int, float, tuple[int, int] | None, str, float]


def _choices(group: Group) -> Iterator[_Verdict]:
    looks: dict[tuple[str, frozenset[int]], list[tuple[int, int]]] = defaultdict(list)
    for c in group.comparisons:
        if c.shown is not None and c.labeler:
            looks[c.labeler, frozenset(c.shown)].append(c.shown)
    for c in group.comparisons:
        win = c.probability if c.probability is not None else OUTCOMES[c.choice]
        mine = looks[c.labeler, frozenset((c.a, c.b))]
        yield c.a, c.b, win, c.shown, c.labeler, 1 / len(mine) if len(set(mine)) > 1 else 1.0
    for ranking in group.rankings:
        for better, worse in combinations(ranking.tiers, 2):
            yield from ((a, b, 1.0, None, ranking.labeler, 1.0) for a in better for b in worse)
        for tier in ranking.tiers:
            yield from ((a, b, 0.5, None, ranking.labeler, 1.0) for a, b in combinations(tier, 2))


def _score_verdicts(group: Group, margin: float) -> Iterator[_Verdict]:
    by_judge: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for score in group.scores:
        by_judge[score.judge].append((score.completion, score.value))
    for judge, rows in by_judge.items():
        for (a, x), (b, y) in combinations(rows, 2):
            yield a, b, _compare(x, y, margin), None, judge, 1.0


def _compare(x: float, y: float, margin: float) -> float:
    return 0.5 if abs(x - y) <= margin else float(x > y)


def _duel(one: ModelScore, other: ModelScore, margin: float) -> Battle:
    assert one.score is not None and other.score is not None, "scores without a value were set aside"
    known = one.length is not None and other.length is not None
    return Battle(
        a=one.model,
        b=other.model,
        win=_compare(one.score, other.score, margin),
        lengths=(one.length or 0.0, other.length or 0.0) if known else None,
        prompt=one.prompt,
        judge=one.judge,
    )


def _each(path: str | Path, parse: Callable[[RawRow], _Made]) -> Iterator[_Made]:
    """What `parse` makes of every row of a file. Raises TrueupError at the first that it does not take."""
    for row in rows_of(path, "train"):
        if not row.blank:
            try:
                yield parse(row)
            except Fault as fault:
                reason = f"{fault.field}: {fault.reason}" if fault.field else fault.reason
                found = f" (found: {fault.found})" if fault.found else ""
                where = f"{row.file}:{row.line}"
                raise TrueupError(fault.code, reason + found, where=where, remedy=fault.remedy) from None


def _values(row: RawRow) -> dict[str, Any]:
    values = decode(row)
    if all(key[:1].isupper() for key in values):  # a spreadsheet's header
        values = {key.lower(): value for key, value in values.items()}
    return _from_cells(values) if row.cells else values


def _from_cells(row: Mapping[str, Any]) -> dict[str, Any]:
    """A CSV row, all strings, with its numbers and lists read; an empty cell is no value."""
    found: dict[str, Any] = {key: cell for key, cell in row.items() if cell != ""}
    for key in ("outcome", "weight", "score", "length", "lengths", "style"):
        if key in found and found[key] not in OUTCOMES:
            try:
                found[key] = json.loads(found[key])
            except ValueError:
                continue  # What it is then, the field's own check says.
    return found


def _battle(raw: RawRow) -> Battle:
    row = _values(raw)
    _known_fields(row, _FIELDS)
    a, b = _name(row, "a"), _name(row, "b")
    if a == b:
        raise Fault("E420", "a model does not meet itself", field="b", found=show(b), remedy="leave it out")
    first = row.get("first", "")
    if first not in ("a", "b", ""):
        raise Fault("E420", "neither a nor b", field="first", found=show(first), remedy='write "a" or "b"')
    lengths = row.get("lengths")
    if lengths is not None:
        if not isinstance(lengths, Sequence) or len(lengths) != 2:
            found, remedy = show(lengths), "[of a, of b]"
            raise Fault("E420", "not two lengths", field="lengths", found=found, remedy=remedy)
        lengths = (_number(lengths[0], "lengths", 0.0), _number(lengths[1], "lengths", 0.0))
    weight = _number(row.get("weight", 1.0), "weight", 0.0)
    if weight == 0:
        raise Fault("E420", "a battle that counts nothing", field="weight", found="0", remedy="leave it out")
    return Battle(
        a=a,
        b=b,
        win=_outcome(row.get("outcome")),
        first=first,
        lengths=lengths,
        style=_style(row.get("style")),
        prompt=_text(row, "prompt"),
        judge=_text(row, "judge"),
        weight=weight,
    )


def _style(given: Any) -> tuple[Style, Style] | None:
    if given is None:
        return None
    counts = given if isinstance(given, Mapping) and given.keys() == set(STYLE) else {}
    if not counts or not all(isinstance(two, Sequence) and len(two) == 2 for two in counts.values()):
        found, remedy = show(given), '{"headers": [of a, of b], "lists": [...], "bold": [...]}'
        raise Fault("E420", "no style of two answers", field="style", found=found, remedy=remedy)
    sides = [Style(*(_number(counts[name][side], "style", 0.0) for name in STYLE)) for side in (0, 1)]
    return sides[0], sides[1]


def _score(raw: RawRow) -> ModelScore:
    row = _values(raw)
    _known_fields(row, _SCORE_FIELDS)
    score, length = row.get("score"), row.get("length")
    if not _text(row, "prompt"):
        raise Fault("E420", "missing", field="prompt", remedy="scores of one prompt meet; name it")
    return ModelScore(
        prompt=_text(row, "prompt"),
        model=_name(row, "model"),
        score=None if score is None else _number(score, "score", -math.inf),
        length=None if length is None else _number(length, "length", 0.0),
        judge=_text(row, "judge"),
    )


def _outcome(value: Any) -> float:
    if isinstance(value, str) and value in OUTCOMES:
        return OUTCOMES[value]
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1:
        return float(value)
    remedy = 'write "a", "b" or "tie", or a number from 0 to 1: the probability that a is better'
    raise Fault("E420", "no outcome of a battle", field="outcome", found=show(value), remedy=remedy)


def _known_fields(row: Mapping[str, Any], known: Sequence[str]) -> None:
    strange = [key for key in row if key not in known]
    if strange:
        remedy = f"there are: {', '.join(known)}"
        raise Fault("E420", "no field of such a row", field=strange[0], remedy=remedy)


def _name(row: Mapping[str, Any], field: str) -> str:
    value = _text(row, field)
    if not value:
        raise Fault("E420", "missing", field=field, remedy="name the model")
    return value


def _text(row: Mapping[str, Any], field: str) -> str:
    value = row.get(field, "")
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise Fault("E420", "not a text", field=field, found=show(value), remedy="write a string")
    return value


def _number(value: Any, field: str, low: float) -> float:
    try:
        found = fields.number(value, field)
    except Fault:
        found = math.nan
    if not found >= low:
        remedy = "see docs/ratings.md"
        raise Fault("E420", "not a number it can be", field=field, found=show(value), remedy=remedy)
    return found
