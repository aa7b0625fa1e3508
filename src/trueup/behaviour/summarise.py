"""Summaries after "TL;DR:" (Radford et al. 2019), zero-shot or after demonstrations, by ROUGE (Lin 2004).

A prompt is the post and the cue on a line of its own; demonstrations stand before it, each in the same form
with its summary, a blank line between. With none of them the text is the zero-shot one.
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trueup.data.words import words
from trueup.engine.groups import Group, Message, Role, each
from trueup.engine.order import permutation
from trueup.errors import TrueupError, counted
from trueup.evals.rows import read_rows, text_of
from trueup.evals.tasks import Graded, Sampling, Task, sampling_task
from trueup.sources.sample import Decoding
from trueup.statistics.estimates import mean_ci

Floats = NDArray[np.float64]
CUE = "\nTL;DR:"
METRICS = ("rouge1", "rouge2", "rougeL")
DECODING = Decoding(max_new_tokens=100, top_k=2)
"As in Radford et al. (2019), section 3.6."
NUM_SENTENCES = 3
"How many sentences of what is written are kept: the same section."
_ROWS = "give rows {document, summary}"
_SENTENCE = re.compile(r".*?(?:[.!?](?=\s|$)|[。！？।؟۔])", flags=re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstration:
    """A document with its summary, to be shown before others."""

    document: str
    summary: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Summaries:
    """Written summaries and their F-measures against the references."""

    groups: Sequence[Group]
    scores: Mapping[str, Floats]
    "[num_documents], by `rouge1`, `rouge2`, `rougeL`"
    demonstrations: Sequence[Demonstration] = ()
    "What was shown before every document, in order."

    def to_json(self) -> dict[str, Any]:
        """The means with intervals, and the demonstrations as they were shown."""
        shown = [{"document": d.document, "summary": d.summary} for d in self.demonstrations]
        return {**{n: mean_ci(v).to_json() for n, v in self.scores.items()}, "demonstrations": shown}


def summary_item(
    document: str, summary: str, demonstrations: Sequence[Demonstration] = (), *, id: str = ""
) -> Group:
    """A document to be summarised, as plain text; the reference summary is `meta["summary"]`."""
    shown = "".join(f"{d.document.strip()}{CUE} {d.summary.strip()}\n\n" for d in demonstrations)
    return Group(
        prompt=(Message(Role.TEXT, f"{shown}{document.strip()}{CUE}"),), id=id, meta={"summary": summary}
    )


def read_summaries(path: Path | str) -> list[Demonstration]:
    """The documents of a file with their summaries: JSON Lines of `{"document": ..., "summary": ...}`.

    Raises E206 for a row without one of them, and what `read_rows` raises.
    """
    return [
        Demonstration(
            document=text_of(row, "document", where, remedy=_ROWS),
            summary=text_of(row, "summary", where, remedy=_ROWS),
        )
        for where, row in read_rows(path)
    ]


def few_shot(
    rows: Sequence[Demonstration], k: int, *, seed: int = 0, limit: int | None = None
) -> tuple[list[Group], tuple[Demonstration, ...]]:
    """(items, demonstrations): `k` rows chosen by the seed are shown before each of the others, in one order.

    Without demonstrations every row is an item. Raises E828 where no row is left to be summarised.
    """
    chosen = [int(i) for i in permutation(len(rows), seed, "demonstrations")[:k]]
    shown = tuple(rows[i] for i in chosen)
    others = [(i, row) for i, row in enumerate(rows) if i not in chosen][:limit]
    if not others:
        reason = f"{counted(len(rows), 'document')}, {k} of them shown"
        raise TrueupError("E828", reason, where="summaries", remedy="give more rows, or fewer `--shots`")
    return [summary_item(r.document, r.summary, shown, id=f"row {i}") for i, r in others], shown


def judged_summaries(drawn: Sequence[Group]) -> Summaries:
    """One summary of each document (`checked`), its first three sentences, and its ROUGE F-measures."""
    score = rouge()
    groups = each(drawn, lambda c: replace(c, text=first_sentences(c.text)))
    rows = [score(_reference(g), g.completions[0].text) for g in groups]
    scores = {name: np.array([row[name] for row in rows]) for name in METRICS}
    marked = [
        g.with_completions([g.completions[0].with_marks(**row)]) for g, row in zip(groups, rows, strict=True)
    ]
    return Summaries(groups=marked, scores=scores)


@functools.cache
def rouge() -> Callable[[str, str], dict[str, float]]:
    """(reference, summary) to the F-measures of ROUGE-1, ROUGE-2 and ROUGE-L.

    The package rouge-score counts. Words are those of `data.words`, since its own are ASCII alone; English
    ones are stemmed (Porter). Raises E811 where it is not installed.
    """
    try:
        scorer = importlib.import_module("rouge_score.rouge_scorer")
        tokenizers = importlib.import_module("rouge_score.tokenizers")
    except ImportError:
        raise TrueupError(
            "E811",
            "the package rouge-score is not installed",
            where="summaries",
            remedy="pip install 'trueup[rouge]'",
        ) from None
    found = scorer.RougeScorer(list(METRICS), tokenizer=_Words(tokenizers.DefaultTokenizer(use_stemmer=True)))
    return lambda reference, text: {n: float(s.fmeasure) for n, s in found.score(reference, text).items()}


@dataclass(frozen=True, slots=True)
class _Words:
    """What rouge-score asks for the words of a text; `english` is its own, which stems."""

    english: Any

    def tokenize(self, text: str) -> list[str]:
        """The words, those of ASCII as `english` has them."""
        return [
            one for word in words(text) for one in (self.english.tokenize(word) if word.isascii() else [word])
        ]


def summary_tasks(*, prefix: str = "", at_once: int | None = None) -> tuple[Task, ...]:
    """The tasks `rouge1`, `rouge2` and `rougeL`, one F-measure a document; the others stand beside it."""

    def task(name: str) -> Task:
        def grade(drawn: list[Group]) -> Graded:
            found = judged_summaries(drawn)
            beside = {other: float(found.scores[other].mean()) for other in METRICS if other != name}
            return Graded(values=found.scores[name], groups=found.groups, beside=beside)

        sampling = Sampling(
            metric=name.replace("rouge", "ROUGE-"),
            grade=grade,
            k=1,
            decoding=DECODING,
            ask=checked,
            at_once=at_once,
        )
        return sampling_task(prefix + name, 2, sampling)

    return tuple(task(name) for name in METRICS)


def checked(items: Sequence[Group]) -> list[Group]:
    """The documents. Raises E827 without one, E206 for one without a summary, E811 without rouge-score."""
    if not items:
        raise TrueupError("E827", "no documents to summarise", where="summaries", remedy="give some")
    for item in items:
        _reference(item)
    rouge()
    return list(items)


def first_sentences(text: str, num: int = NUM_SENTENCES) -> str:
    """The first sentences of a text, up to its first blank line; all of it where it has fewer."""
    text = text.strip().split("\n\n")[0]
    found = _SENTENCE.findall(text)
    return "".join(found[:num]).strip() if len(found) >= num else text


def _reference(item: Group) -> str:
    found = item.meta.get("summary")
    if not isinstance(found, str) or not found.strip():
        raise TrueupError(
            "E206", "no `summary` to compare with", where=f"group {item.id}", remedy="put it in meta"
        )
    return found
