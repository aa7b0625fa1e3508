"""The command that has completions judged: compared by a language model, or scored by any judge."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from trueup.commands.early import check_judge
from trueup.commands.options import Count, say
from trueup.errors import TrueupError


def judge(
    file: str,
    out: Path,
    /,
    *,
    by: str,
    how: Literal["apart", "averaged", "scores"] = "apart",
    num_comparisons: Count = 0,
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
    from trueup.engine.groups import Score, write_jsonl

    groups = read(file).groups
    if how != "scores" and not by.startswith("lm:"):
        raise TrueupError(
            "E792", f"{by!r} scores, it does not compare", where="by", remedy="use --how scores, or lm:MODEL"
        )
    check_judge(by)
    if how == "scores":
        from trueup.judges.open import open_judge

        judged = []
        for group, values in zip(groups, open_judge(by)(groups), strict=True):
            more = (Score(completion=i, value=value, judge=by) for i, value in enumerate(values))
            judged.append(replace(group, scores=(*group.scores, *more)))
        write_jsonl(str(out), judged)
        say(f"{sum(len(g.completions) for g in groups)} completions scored: {out}")
        return
    from trueup.judges.language_model import open_pairwise

    judged, account = open_pairwise(by).label(groups, num_comparisons=num_comparisons, orders=how, seed=seed)
    write_jsonl(str(out), judged)
    say(
        f"{account.pairs} pairs judged in both orders: {100 * account.inconsistent:.1f} % changed with the "
        f"order, {account.unread} could not be read, {account.identical} identical pairs left out; "
        f"{100 * account.mass:.1f} % of what the judge would say is a verdict",
        f"written: {out}",
    )
