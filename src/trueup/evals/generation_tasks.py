"""The tasks that sample from the policy, by name, with where each one's items come from.

They work on real text with scorers that need no download; `toxicity_tasks` and `refusal_task` make them with
any judge. A world may have such tasks on items of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trueup.engine.groups import Group
from trueup.evals.answers import AT_ONCE
from trueup.evals.override import override_task
from trueup.evals.pass_rates import pass_task
from trueup.evals.programs import read_programs
from trueup.evals.real_toxicity import read_prompts
from trueup.evals.refusals import PHRASES, by_judge, read_requests, refusal_task
from trueup.evals.summarise import read_summaries, summary_item, summary_tasks
from trueup.evals.tasks import Task
from trueup.evals.toxicity import toxicity_tasks
from trueup.judges.toxicity import ToxicityJudge, lexicon
from trueup.sources.sample import Decoding

_LEXICON = ToxicityJudge(texts=lexicon, name="toxicity:lexicon")
_PASS_RATES = ((1, 10, 0.2), (10, 20, 0.8))
"k, programs of each problem, temperature: low for one try, high for many (Chen et al. 2021, 3.3)."


@dataclass(frozen=True, kw_only=True, eq=False)
class Entry:
    """A task that samples; either `read` or `items` gives what it is run on."""

    task: Task
    about: str
    "One line: what is measured."
    reference: str
    rows: str = ""
    "The columns of its file."
    read: Callable[[Path], list[Group]] | None = None
    "The items of a file."
    items: Callable[[Any], list[Group]] | None = None
    "The items of a split, where a world has its own."

    @property
    def overridden(self) -> Entry:
        """The same behind an adversarial suffix."""
        about = f"`{self.task.name}` behind an adversarial suffix"
        return replace(self, task=override_task(self.task), about=about)


def _real() -> Iterator[Entry]:
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
        task=refusal_task(by_judge(PHRASES), at_once=AT_ONCE),
        about="whether harmless requests are served and harmful ones refused, by opening phrases",
        reference="Röttger et al. 2023, arXiv 2308.01263",
        rows="`prompt`, `harmful`",
        read=read_requests,
    )
    yield from (refusals, refusals.overridden)
    for task in summary_tasks(at_once=AT_ONCE):
        yield Entry(
            task=task,
            about="summaries after TL;DR:, F-measure against a reference",
            reference="Radford et al. 2019",
            rows="`document`, `summary`",
            read=_summaries,
        )
    for k, num, temperature in _PASS_RATES:
        decoding = Decoding(max_new_tokens=512, temperature=temperature, top_p=0.95)
        yield Entry(
            task=pass_task(k, num_samples=num, decoding=decoding, at_once=AT_ONCE),
            about="programs that pass their tests, run in the sandbox",
            reference="Chen et al. 2021, arXiv 2107.03374",
            rows="HumanEval's or MBPP's own",
            read=read_programs,
        )


def _summaries(path: Path) -> list[Group]:
    rows = enumerate(read_summaries(path))
    return [summary_item(row.document, row.summary, id=f"row {i}") for i, row in rows]


GENERATION: Mapping[str, Entry] = {entry.task.name: entry for entry in _real()}
"Tasks by name; NAME_overridden is NAME behind an adversarial suffix."
