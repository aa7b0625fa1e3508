"""The command that has completions judged: compared by a language model, or scored by any judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter, validators
from rich.console import Console

from trueup.engine.groups import Group, Score, write_jsonl
from trueup.errors import TrueupError

NotNegative = Annotated[int, Parameter(validator=validators.Number(gte=0))]


def judge(
    file: str,
    out: Path,
    /,
    *,
    by: str,
    how: Literal["apart", "averaged", "scores"] = "apart",
    num_comparisons: NotNegative = 0,
    seed: int = 0,
) -> None:
    """Have the completions of a data file judged, and write its groups with the judgements.

    `trueup rank OUT` then rates the models that wrote them.

    Parameters
    ----------
    file
        Prompts with completions, in any format that `trueup data check` knows.
    out
        The new file, groups as JSON lines.
    by
        A language model, `lm:MODEL` or `lm:openai:URL?model=NAME`; for scores any judge.
    how
        `apart` writes what the judge chose in each of the two orders, `averaged` one soft label of both,
        `scores` a number for each completion.
    num_comparisons
        Pairs to compare for each prompt; 0 is all.
    seed
        Which pairs they are.
    """
    from trueup.data import read
    from trueup.judges.language_model import PREFIX, open_pairwise

    groups = read(file).groups
    console = Console(highlight=False, markup=False, soft_wrap=True)
    if how == "scores":
        from trueup.judges.open import open_judge

        judged = with_scores(groups, open_judge(by)(groups), by)
        write_jsonl(str(out), judged)
        console.print(f"{sum(len(g.completions) for g in groups)} completions scored: {out}")
        return
    if not by.startswith(PREFIX):
        raise TrueupError(
            "E792", f"{by!r} scores, it does not compare", where="by", remedy="use --how scores, or lm:MODEL"
        )
    judged, account = open_pairwise(by).label(groups, num_comparisons=num_comparisons, orders=how, seed=seed)
    write_jsonl(str(out), judged)
    console.print(
        f"{account.pairs} pairs judged in both orders: {100 * account.inconsistent:.1f} % changed with the "
        f"order, {account.unread} could not be read, {account.identical} identical pairs left out; "
        f"{100 * account.mass:.1f} % of what the judge would say is a verdict"
    )
    console.print(f"written: {out}")


def with_scores(groups: Sequence[Group], scores: Sequence[Sequence[float]], by: str) -> list[Group]:
    """The groups with a score of every completion."""
    return [
        replace(
            group,
            scores=(*group.scores, *(Score(completion=i, value=v, judge=by) for i, v in enumerate(values))),
        )
        for group, values in zip(groups, scores, strict=True)
    ]
