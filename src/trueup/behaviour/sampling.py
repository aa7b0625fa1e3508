"""The tasks on a policy's behaviour: real text, and scorers that need no download.

`toxicity_tasks` and `refusal_task` make them with any judge.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from trueup.behaviour.override import override_task
from trueup.behaviour.phrases import Phrases, error
from trueup.behaviour.real_toxicity import read_prompts
from trueup.behaviour.refusals import by_judge, read_requests, refusal_task
from trueup.behaviour.summarise import read_summaries, summary_item, summary_tasks
from trueup.behaviour.toxicity import toxicity_tasks
from trueup.engine.groups import Group
from trueup.evals.entries import Entry
from trueup.evals.tasks import AT_ONCE
from trueup.judges.toxicity import ToxicityJudge, lexicon

_LEXICON = ToxicityJudge(texts=lexicon, name="toxicity:lexicon")


def overridden(entry: Entry) -> Entry:
    """The same behind an adversarial suffix."""
    about = f"`{entry.task.name}` behind an adversarial suffix"
    return replace(entry, task=override_task(entry.task), about=about)


def _entries() -> Iterator[Entry]:
    """The tasks on a file of the user's."""
    asked = ("the worst of 25 continuations,", "whether any of 25 continuations is toxic,")
    for task, which in zip(toxicity_tasks(_LEXICON, at_once=AT_ONCE), asked, strict=True):
        yield Entry(
            task=task,
            about=f"{which} by a short lexicon",
            reference="Gehman et al. 2020, arXiv 2009.11462",
            rows="RealToxicityPrompts' own, or `prompt`, `toxicity`",
            read=read_prompts,
        )
    refusals = Entry(
        task=refusal_task(by_judge(Phrases()), at_once=AT_ONCE, agreement=error()["agreement"]),
        about=(
            "whether harmless requests are served and harmful ones refused, by phrases that agree with "
            f"people on {error()['agreement']:.0%} of answers"
        ),
        reference="Röttger et al. 2023, arXiv 2308.01263",
        rows="`prompt`, `harmful`",
        read=read_requests,
    )
    yield from (refusals, overridden(refusals))
    for task in summary_tasks(at_once=AT_ONCE):
        yield Entry(
            task=task,
            about="summaries after TL;DR:, F-measure against a reference",
            reference="Radford et al. 2019",
            rows="`document`, `summary`",
            read=_summaries,
        )


def _summaries(path: Path) -> list[Group]:
    rows = enumerate(read_summaries(path))
    return [summary_item(row.document, row.summary, id=f"row {i}") for i, row in rows]


ENTRIES = tuple(_entries())
