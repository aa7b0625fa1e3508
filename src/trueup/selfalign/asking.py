"""Asking a model about many prompts, a batch at a time, every batch on disk before the next begins."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from trueup.answerers import Answer, Conversation
from trueup.constitution.journal import Journal, fill, tally
from trueup.constitution.opening import Model, complete_fitting, tokens_in
from trueup.engine.order import derive
from trueup.selfalign.filters import NO_ROOM
from trueup.sources.sample import Decoding


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
    ) -> list[dict[str, Any]]:
        """What `read` makes of every answer, in order, beside its text; those on disk first.

        A record says `rejected`, and has no text, where its prompt and answer do not fit the model.
        """

        def made(rows: range) -> list[dict[str, Any]]:
            drawn = complete_fitting(
                self.model.answerer,
                prompts[rows.start : rows.stop],
                decoding=self.decoding,
                stop=self.stop,
                seed=derive(self.seed, self.name, rows.start),
            )
            return [
                {"row": row, **({"text": said[0].text, **read(said[0])} if said else {"rejected": NO_ROOM})}
                for row, said in zip(rows, drawn, strict=True)
            ]

        return fill(self.journal, made, label=self.name, stop_requested=stop_requested)

    def tokens(self, records: Sequence[Mapping[str, Any]]) -> int:
        """How many tokens were sampled for some records."""
        return tokens_in(self.model.answerer, [record["text"] for record in records if "text" in record])


def reasons(records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """How many records were rejected for each reason, as `dropped/REASON`."""
    return tally("dropped", (record["rejected"] for record in records if "rejected" in record))


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
