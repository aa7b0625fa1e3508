"""What `measure.json` says of models that answered the same prompts, read once and checked, for its page.

Every part is optional. What is not there is empty or None; nothing is made up in its place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trueup.errors import TrueupError
from trueup.reports.checked import (
    Interval,
    Json,
    as_array,
    as_interval,
    as_intervals,
    as_number,
    as_numbers,
    as_object,
    as_whole,
    load_json,
)
from trueup.reports.headline import label
from trueup.reports.numbers import plain, squeezed
from trueup.reports.record import Reply, Sample

RESULT = "measure.json"
DIVERSITY = {
    "distinct_1": "Distinct words",
    "distinct_2": "Distinct pairs of words",
    "entropy": "Entropy",
    "self_bleu": "Self-BLEU",
    "self_bleu_within": "Self-BLEU of a prompt's samples",
}
"Figures of diversity, as people say them."
ALIKE = ("self_bleu", "self_bleu_within")
"Those that are high where replies are alike."


@dataclass(frozen=True, slots=True, kw_only=True)
class Battles:
    """How often a model's reply beats, ties with and loses to the start's on the same prompt."""

    win: float | None
    tie: float | None
    lose: float | None
    win_rate: Interval | None
    "Ties count half."


@dataclass(frozen=True, slots=True, kw_only=True)
class BestOf:
    """Best of n samples: the most that it moves, in nats, and every judge's score."""

    n: float
    kl_bound: float | None
    scores: Mapping[str, Interval]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredModel:
    """One model; None or empty for what was not measured."""

    name: str
    path: str
    scores: Mapping[str, Interval]
    gain: Mapping[str, Interval]
    "By judge, over the start, paired by prompt."
    battles: Mapping[str, Battles]
    kl: Interval | None
    perplexity: Interval | None
    "Of its replies, under the start."
    length: Interval | None
    ended: Interval | None
    refused: Interval | None
    diversity: Mapping[str, Interval]
    tax: Mapping[str, Interval]
    exams: Mapping[str, Interval]
    curve: Sequence[BestOf]
    matrix: Mapping[str, Interval]
    "By other model, how often it wins by the judge that models are compared by."
    behind_best: Interval | None
    "The highest score minus its own, paired by prompt; None for the highest, and where nothing says."
    cost: Mapping[str, float]

    @property
    def said(self) -> str:
        """Its name as people say it, short enough for a sentence."""
        return squeezed(label(self.name), 60)

    @property
    def distance(self) -> Interval | None:
        """√KL to the start; ends below zero count as none."""
        if self.kl is None:
            return None
        ends = [None if end is None else math.sqrt(max(end, 0.0)) for end in (self.kl.low, self.kl.high)]
        return Interval(math.sqrt(max(self.kl.mean, 0.0)), *ends)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """A whole measurement: the start, if it was measured too, apart from the models that are compared."""

    title: str
    world: str
    split: str
    num_prompts: int | None
    samples_per_prompt: int | None
    start: str
    "Empty where there is none."
    truth: str
    "The judge that is believed; empty where none is."
    by: str
    "The judge that models are compared by: as the file has it, else the truth, a referee, the first."
    judges: tuple[str, ...]
    trained_on: Mapping[str, frozenset[str]]
    models: tuple[MeasuredModel, ...]
    "By gain, or by score, of the judge that they are compared by, the largest first."
    origin: MeasuredModel | None
    "What was measured of the start itself."
    samples: tuple[Sample, ...]
    notes: tuple[str, ...]

    @property
    def referees(self) -> tuple[str, ...]:
        """The judges that trained none of the models."""
        return tuple(j for j in self.judges if not self.trained_by(j))

    def trained_by(self, judge: str) -> list[MeasuredModel]:
        """The models that a judge trained: for them it is a proxy."""
        return [m for m in self.models if judge in self.trained_on.get(m.name, ())]

    def start_score(self, judge: str) -> Interval | None:
        """The start's own score, or what a model's score and its paired gain say that it was."""
        if self.origin is not None and judge in self.origin.scores:
            return self.origin.scores[judge]
        for m in self.models:
            if judge in m.scores and judge in m.gain:
                return Interval(m.scores[judge].mean - m.gain[judge].mean)
        return None


def load(folder: Path) -> Json:
    """What `measure.json` holds. Raises E801 where there is none."""
    found = load_json(folder / RESULT)
    if found is None:
        raise TrueupError("E801", f"no {RESULT}", where=str(folder), remedy="`trueup measure` writes it")
    return as_object(found, RESULT)


def parse(record: Json) -> Measurement:
    """The measurement in a file's value. Raises E203 where something in it is of another kind."""
    start, truth = _text(record.get("start")), _text(record.get("truth"))
    rows = [
        _model(row, place) for place, row in enumerate(as_array(record.get("models"), f"{RESULT} models"))
    ]
    given = [str(name) for name in as_array(record.get("judges"), f"{RESULT} judges")]
    heard = [judge for m in rows for judge in (*m.scores, *m.gain)]
    judges = tuple(judge for judge in dict.fromkeys([truth, *given, *heard]) if judge)
    trained = as_object(record.get("trained_on"), f"{RESULT} trained_on")
    trained_on = {
        str(name): frozenset(map(str, as_array(by, f"{RESULT} trained_on"))) for name, by in trained.items()
    }
    by = _text(record.get("by")) or _first_judge(truth, judges, trained_on)
    return Measurement(
        title=_text(record.get("title")),
        world=_text(record.get("world")),
        split=_text(record.get("split")),
        num_prompts=as_whole(record.get("num_prompts"), f"{RESULT} num_prompts"),
        samples_per_prompt=as_whole(record.get("samples_per_prompt"), f"{RESULT} samples_per_prompt"),
        start=start,
        truth=truth,
        by=by,
        judges=judges,
        trained_on=trained_on,
        models=tuple(sorted((m for m in rows if m.name != start), key=lambda m: _place(m, by))),
        origin=next((m for m in rows if m.name == start), None),
        samples=tuple(
            _sample(row, f"{RESULT} samples [{i}]")
            for i, row in enumerate(as_array(record.get("samples"), f"{RESULT} samples"))
        ),
        notes=tuple(str(note) for note in as_array(record.get("notes"), f"{RESULT} notes")),
    )


def _first_judge(truth: str, judges: Sequence[str], trained_on: Mapping[str, frozenset[str]]) -> str:
    partial = frozenset().union(*trained_on.values())
    return truth or next((j for j in judges if j not in partial), "") or next(iter(judges), "")


def _place(m: MeasuredModel, by: str) -> tuple[int, float]:
    """Gains before scores before neither, the largest first."""
    if by in m.gain:
        return (0, -m.gain[by].mean)
    return (1, -m.scores[by].mean) if by in m.scores else (2, 0.0)


def _model(row: Any, place: int) -> MeasuredModel:
    row = as_object(row, f"{RESULT} models [{place}]")
    path = _text(row.get("path"))
    name = _text(row.get("name")) or path or f"model {place + 1}"
    where = f"{RESULT} models.{name}"

    def one(key: str) -> Interval | None:
        return as_interval(row.get(key), f"{where}.{key}")

    def by_name(key: str) -> dict[str, Interval]:
        return as_intervals(row.get(key), f"{where}.{key}")

    battles = as_object(row.get("battles"), f"{where}.battles")
    return MeasuredModel(
        name=name,
        path=path,
        scores=by_name("scores"),
        gain=by_name("gain"),
        battles={str(judge): _battles(found, f"{where}.battles.{judge}") for judge, found in battles.items()},
        kl=one("kl"),
        perplexity=one("perplexity"),
        length=one("length"),
        ended=one("ended"),
        refused=one("refused"),
        diversity=by_name("diversity"),
        tax=by_name("tax"),
        exams=by_name("exams"),
        curve=tuple(_best_of(p, f"{where}.curve") for p in as_array(row.get("curve"), f"{where}.curve")),
        matrix=by_name("matrix"),
        behind_best=one("behind_best"),
        cost=as_numbers(row.get("cost"), f"{where}.cost", ("tokens_sampled", "seconds")),
    )


def _battles(value: Any, where: str) -> Battles:
    value = as_object(value, where)
    shares = as_numbers(value, where, ("win", "tie", "lose"))
    return Battles(
        win=shares.get("win"),
        tie=shares.get("tie"),
        lose=shares.get("lose"),
        win_rate=as_interval(value.get("win_rate"), f"{where}.win_rate"),
    )


def _best_of(value: Any, where: str) -> BestOf:
    value = as_object(value, where)
    scores = {name: given for name, given in value.items() if name not in ("n", "kl_bound")}
    return BestOf(
        n=as_number(value.get("n"), f"{where}.n") or 1.0,
        kl_bound=as_number(value.get("kl_bound"), f"{where}.kl_bound"),
        scores=as_intervals(scores, where),
    )


def _sample(row: Any, where: str) -> Sample:
    """One prompt; what judges said of a reply stands with it as its reasons do."""
    row = as_object(row, where)
    messages = [as_object(m, f"{where}.prompt") for m in as_array(row.get("prompt"), f"{where}.prompt")]
    replies = as_object(row.get("replies"), f"{where}.replies")
    return Sample(
        prompt=tuple((_text(m.get("role")), _text(m.get("content"))) for m in messages),
        kind="",
        replies={str(name): _reply(value, f"{where}.replies.{name}") for name, value in replies.items()},
    )


def _reply(value: Any, where: str) -> Reply:
    value = as_object(value, where)
    scores = as_numbers(value.get("scores"), f"{where}.scores")
    said = tuple(f"{judge} {plain(score)}" for judge, score in scores.items())
    return Reply(text=_text(value.get("text")), gold=None, reasons=said)


def _text(value: Any) -> str:
    return "" if value is None else str(value)
