"""The command that has completions judged: compared by a language model, or scored by any judge."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from trueup.commands.early import check_judge
from trueup.commands.options import Count, say


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
    from trueup.engine.groups import write_jsonl

    groups = read(file).groups
    check_judge(by)
    from trueup.judges.labelling import judge_groups, sentence

    said = judge_groups(groups, by, how=how, num_comparisons=num_comparisons, seed=seed)
    write_jsonl(str(out), said.groups)
    say(*([f"{sentence(said)}: {out}"] if said.account is None else [sentence(said), f"written: {out}"]))
