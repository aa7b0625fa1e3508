"""Asking a model about many prompts, a batch at a time, every batch on disk before the next begins."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from trueup import meter as metering
from trueup.answerers import Answer, Conversation
from trueup.constitution.journal import Journal
from trueup.constitution.opening import Model, room
from trueup.order import derive
from trueup.signals import Interrupted
from trueup.sources.sample import Decoding

NO_ROOM = "no room"
"Why a prompt was not asked: it and its answer do not fit the model."


@dataclass(frozen=True, kw_only=True)
class Asking:
    """One answer to each prompt. A sample depends on the seed, its batch and its place in it."""

    name: str
    model: Model
    decoding: Decoding
    journal: Journal
    seed: int
    stop: tuple[str, ...] = ()

    def records(
        self,
        prompts: Sequence[Conversation],
        read: Callable[[Answer], Mapping[str, Any]],
        stop_requested: Callable[[], str],
    ) -> tuple[list[dict[str, Any]], list[str]]:
        """What `read` makes of every answer, in order, and the texts that were written just now.

        Rows on disk come first. A row says `rejected` where its prompt and answer do not fit the model.
        """
        records = self.journal.resume()
        texts: list[str] = []
        with metering.progress(len(prompts), self.name) as progressed:
            progressed(len(records), "")
            while len(records) < len(prompts):
                if stop_requested():
                    raise Interrupted(len(records), stop_requested())
                start = len(records)
                said = self._said(prompts[start : start + self.journal.batch], start)
                made = [
                    {"row": start + i, **({"rejected": NO_ROOM} if answer is None else read(answer))}
                    for i, answer in enumerate(said)
                ]
                self.journal.add(made)
                records += made
                texts += [answer.text for answer in said if answer is not None]
                progressed(len(made), "")
        return records, texts

    def _said(self, prompts: Sequence[Conversation], start: int) -> list[Answer | None]:
        fits = room(self.model.answerer, self.decoding.max_new_tokens)
        fitting = [place for place, prompt in enumerate(prompts) if fits(prompt)]
        drawn = self.model.answerer.complete(
            [prompts[place] for place in fitting],
            decoding=self.decoding,
            stop=self.stop,
            seed=derive(self.seed, self.name, start),
        )
        answers = {place: found[0] for place, found in zip(fitting, drawn, strict=True)}
        return [answers.get(place) for place in range(len(prompts))]


def reasons(records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """How many records were rejected for each reason, as `dropped/REASON`."""
    found: dict[str, float] = {}
    for record in records:
        if "rejected" in record:
            name = f"dropped/{record['rejected'].replace(' ', '_')}"
            found[name] = found.get(name, 0.0) + 1.0
    return dict(sorted(found.items()))


def show(name: str, metrics: Mapping[str, float]) -> None:
    """Nothing; a line on stderr, beside the progress, says what a stage kept and what each filter dropped."""
    told = [
        f"{key.partition('/')[2]} {value:g}" for key, value in metrics.items() if key.startswith("dropped/")
    ]
    held = [f"{key.partition('/')[2]} {value:g}" for key, value in metrics.items() if key.startswith("kept/")]
    line = f"{name}: kept {', '.join(held) or 'nothing'}; dropped {', '.join(told) or 'nothing'}"
    Console(stderr=True, highlight=False, markup=False, soft_wrap=True).print(line)


def kept(records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The records that nothing rejected."""
    return [record for record in records if "rejected" not in record]
