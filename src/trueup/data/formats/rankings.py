"""K-wise rankings: one prompt, K completions, and an order over them.

The order is written in one of four ways: `preference`, all pairs in the order (1,2), (1,3) ... (K-1,K) with
0 tie, 1 first, 2 second; `ranking`, indices from 0, best first, ties as inner lists; `ranks`, one rank a
completion, 1 best, equal for ties; `scores`, one number a completion, larger is better.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any, Literal

from trueup.data.fields import Row, as_text, filled, listed, number, required, text
from trueup.data.formats import reads
from trueup.data.formats.pairs import prompt_of
from trueup.data.problems import Fault, show
from trueup.engine.groups import Comparison, Completion, Group, Ranking, Role, Score
from trueup.errors import counted

_ORDERS = ("preference", "ranking", "ranks", "scores")
_MAX_PREDICTIONS = 16
_NUMBERED = tuple(f"prediction {number}" for number in range(1, _MAX_PREDICTIONS + 1))
_NEEDS = [
    f"{prompt}, {answers}, {order}"
    for prompt in ("prompt", "question")
    for answers in ("completions", "responses", ", ".join(_NUMBERED[:2]))
    for order in _ORDERS
]
_CHOICES: dict[int, Literal["a", "b", "tie"]] = {0: "tie", 1: "a", 2: "b"}


def _holds_objects(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(item, dict) for item in value)


@reads(*_NEEDS, may=", ".join(_NUMBERED), fits=lambda row: not _holds_objects(row.get("completions")))
def ranking(row: Row) -> tuple[Group]:
    """K-wise rankings: prompt, completions or prediction 1..K; preference, ranking, ranks or scores."""
    prompt_key = "question" if "prompt" not in row and "question" in row else "prompt"
    prompt = prompt_of(required(row, prompt_key), prompt_key, Role.TEXT)
    completions = tuple(Completion(text=said, source=source) for source, said in _answers(row))
    num = len(completions)
    judged = {name: listed(row, name) for name in _ORDERS if row.get(name) is not None}
    if not judged:
        remedy = 'add "preference", "ranking", "ranks" or "scores"'
        raise Fault("E203", "no order over the completions", field="preference", remedy=remedy)
    group = Group(
        prompt=prompt,
        completions=completions,
        comparisons=_comparisons(judged.get("preference"), num),
        rankings=_rankings(judged, num),
        scores=_scores(judged.get("scores"), num),
    )
    return (group,)


def _answers(row: Row) -> list[tuple[str, str]]:
    key = next((name for name in ("completions", "responses") if name in row), "")
    if key:
        found = [
            (f"{key}[{i}]", filled(as_text(v, f"{key}[{i}]"), f"{key}[{i}]", code="E402"))
            for i, v in enumerate(listed(row, key))
        ]
    else:
        present = [name for name in _NUMBERED if name in row]
        wanted = _NUMBERED[: max(len(present), 1)]
        found = [(name, filled(text(row, name), name, code="E402")) for name in wanted]
    if len(found) < 2:
        field, remedy = key or _NUMBERED[0], "an order needs at least two"
        raise Fault("E409", "fewer than two completions", field=field, found=str(len(found)), remedy=remedy)
    return found


def _comparisons(value: list[Any] | None, num: int) -> tuple[Comparison, ...]:
    if value is None:
        return ()
    pairs = list(combinations(range(num), 2))
    _same_length("preference", value, len(pairs), f"one for each of {counted(len(pairs), 'pair')}")
    made: list[Comparison] = []
    for index, ((a, b), choice) in enumerate(zip(pairs, value, strict=True)):
        if isinstance(choice, bool) or choice not in (0, 1, 2):
            reason, field = "is not 0 (tie), 1 (first) or 2 (second)", f"preference[{index}]"
            raise Fault("E408", reason, field=field, found=show(choice), remedy="write 0, 1 or 2")
        made.append(Comparison(a=a, b=b, choice=_CHOICES[int(choice)]))
    return tuple(made)


def _rankings(judged: dict[str, list[Any]], num: int) -> tuple[Ranking, ...]:
    made: list[Ranking] = []
    if "ranking" in judged:
        tiers = tuple(tuple(tier) if isinstance(tier, list) else (tier,) for tier in judged["ranking"])
        made.append(Ranking(tiers=check_tiers(tiers, num, "ranking")))
    if "ranks" in judged:
        ranks = judged["ranks"]
        _same_length("ranks", ranks, num, "one a completion")
        for index, rank in enumerate(ranks):
            number(rank, f"ranks[{index}]")
        tiers = tuple(tuple(i for i, r in enumerate(ranks) if r == level) for level in sorted(set(ranks)))
        made.append(Ranking(tiers=tiers))
    return tuple(made)


def check_tiers(
    tiers: tuple[tuple[Any, ...], ...], num: int, field: str, *, complete: bool = True
) -> tuple[tuple[int, ...], ...]:
    """The tiers, when every index is known and stands once. Raises Fault E405 or E406."""
    flat = [index for tier in tiers for index in tier]
    for value in flat:
        check_index(value, field, num, f"use 0 to {num - 1}, counting from 0")
    if len(set(flat)) != len(flat) or not all(tiers):
        reason, found = "an index stands twice, or a tier is empty", show(str(flat))
        raise Fault("E406", reason, field=field, found=found, remedy="name each completion once")
    if complete and len(flat) != num:
        reason, found = "the ranking leaves a completion out", f"{len(flat)} of {num}"
        remedy = "rank every completion; put equals into one inner list"
        raise Fault("E406", reason, field=field, found=found, remedy=remedy)
    return tiers


def check_index(value: Any, field: str, num: int, remedy: str = "") -> None:
    """None. Raises Fault E405 for what is no index of `num` completions."""
    remedy = remedy or f"name one of {counted(num, 'completion')}, counted from 0"
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < num:
        reason = "an index that no completion has"
        raise Fault("E405", reason, field=field, found=show(value), remedy=remedy)


def _scores(value: list[Any] | None, num: int) -> tuple[Score, ...]:
    if value is None:
        return ()
    _same_length("scores", value, num, "one a completion, null where there is none")
    found = [(i, number(v, f"scores[{i}]")) for i, v in enumerate(value) if v is not None]
    return tuple(Score(completion=i, value=v, judge="scores") for i, v in found)


def _same_length(field: str, value: list[Any], wanted: int, why: str) -> None:
    if len(value) != wanted:
        reason = f"has {counted(len(value), 'entry', 'entries')}, not {wanted}"
        raise Fault("E407", reason, field=field, remedy=f"write {why}")
