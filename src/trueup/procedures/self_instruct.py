"""SELF-ALIGN, stage 1: a model writes tasks, first freely, then under hints of what is hard to answer well.

FOLDER/
  rounds.jsonl   a line a round: the rows it keeps, every text it drops and why
  groups.jsonl   the tasks as prompts without completions, each with its lineage
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge

from trueup.constitution.journal import Journal, tally
from trueup.constitution.opening import Model, charges, complete_fitting, open_model, tokens_in
from trueup.engine.groups import Group, write_jsonl
from trueup.errors import TrueupError
from trueup.runs import meter as metering
from trueup.runs.recipe import Done
from trueup.runs.signals import Interrupted
from trueup.selfalign.asking import show
from trueup.selfalign.instruct import Limits, Round, Tasks, asked_seed
from trueup.selfalign.supervision import Supervision, read_supervision
from trueup.settings.schema import Word
from trueup.sources.sample import Decoding

SUMMARY = "Let a model write tasks, freely and about what is hard to answer."
REFERENCES = ("sun2023", "wang2023")
OUTPUT = "groups.jsonl"
KEEPS = ROUNDS = "rounds.jsonl"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Self-instruct: lists of tasks that the model continues, filtered."""

    model: str = "world:base"
    "Who writes: a base model, by folder, id, `stage:NAME`, or a server by `openai:URL?model=NAME`."
    supervision: str = "world:supervision"
    "`general`, a YAML file, or a world's own."
    num_tasks: Annotated[int, Ge(0)] = 500
    "New tasks without a hint."
    num_topics: Annotated[int, Ge(0)] = 100
    "Topics to look for, over all question types."
    num_hinted: Annotated[int, Ge(0)] = 500
    "New tasks under hints of a question type and a topic."
    rounds: Annotated[int, Ge(1)] = 40
    "At most so many rounds for each of the three, however little they found."
    lists: Annotated[int, Ge(1)] = 16
    "Lists in a round, asked together."
    shown: Annotated[int, Ge(1)] = 5
    "Items that a list begins with."
    new: Annotated[int, Ge(1)] = 5
    "New items that a list is to be continued by."
    decoding: Decoding = Decoding(temperature=1.0, top_p=0.98, max_new_tokens=384)
    hinted_top_p: float | None = 0.95
    "Of topics and of tasks under hints."
    device: Word = "auto"
    seed: int = 0


def run(config: Config, folder: Path, *, stop_requested: Callable[[], str]) -> Done:
    """`groups.jsonl`; goes on after the last round that was written. E823 where no task came."""
    supervision = read_supervision(config.supervision)
    model = open_model(config.model, device=config.device, template=None)
    made_by = {
        "model": model.author._asdict(),
        "supervision": supervision.digest,
        "limits": dataclasses.asdict(_limits(config)),
        "decoding": dataclasses.asdict(config.decoding),
        "hinted_top_p": config.hinted_top_p,
        "seed": config.seed,
    }
    most = 3 * config.rounds + 1
    journal = Journal(path=folder / ROUNDS, total=most, batch=1, made_by=made_by)
    meter = metering.Meter(folder)
    records, texts = write_tasks(config, supervision, model, journal, stop_requested)
    rows = [row for record in records if record["phase"] != "topics" for row in record["rows"]]
    metrics = counts(records, supervision)
    if not rows:
        raise TrueupError(
            "E823",
            f"no task was kept: {metrics}",
            where=str(folder / ROUNDS),
            remedy="its lines say why each was dropped; can this model continue a list at all?",
        )
    lineage = {"model": made_by["model"], "supervision": supervision.digest, "seed": config.seed}
    write_jsonl(str(folder / OUTPUT), [_group(n, row, supervision, lineage) for n, row in enumerate(rows)])
    metrics |= charges(model.answerer)
    meter.write(0, metrics, phase="self_instruct")
    show("self-instruct", metrics)
    cost = meter.spend(0, tokens_trained=0, tokens_sampled=tokens_in(model.answerer, texts))
    return Done(output=OUTPUT, metrics=metrics, cost=vars(cost))


def write_tasks(
    config: Config,
    supervision: Supervision,
    model: Model,
    journal: Journal,
    stop_requested: Callable[[], str],
) -> tuple[list[dict[str, Any]], list[str]]:
    """The records of all rounds, those on disk first, and the texts that were written just now."""
    state = Tasks(supervision, _limits(config), config.seed)
    records = journal.resume()
    for record in records:
        state.replay(record)
    texts: list[str] = []
    while (asked := state.next()) is not None:
        if stop_requested():
            raise Interrupted(len(records), stop_requested())
        drawn = complete_fitting(
            model.answerer,
            [one.prompt for one in asked.lists],
            decoding=_decoding(config, asked),
            stop=asked.stop,
            seed=asked_seed(config.seed, asked),
        )
        answers = [said[0] if said else None for said in drawn]
        record = state.take(asked, answers)
        journal.add([record])
        records.append(record)
        texts += [answer.text for answer in answers if answer is not None]
    return records, texts


def counts(records: Sequence[Mapping[str, Any]], supervision: Supervision) -> dict[str, float]:
    """How many texts each phase kept, how many each filter dropped, and what people had written.

    `on_topic` is the share of tasks under hints that name their topic: whether the model minds a hint at all.
    """
    dropped = tally("dropped", (one["reason"] for record in records for one in record["dropped"]))
    kept = tally("kept", (record["phase"] for record in records for _ in record["rows"]))
    written = {
        "seeds": float(len(supervision.seeds)),
        "question_types": float(len(supervision.question_types)),
    }
    hinted = [row for record in records if record["phase"] == "hinted" for row in record["rows"]]
    named = [row["topic"].casefold() in row["text"].casefold() for row in hinted]
    on_topic = {"on_topic": sum(named) / len(named)} if named else {}
    return {**written, **dropped, **kept, **on_topic}


def _limits(config: Config) -> Limits:
    return Limits(
        num_tasks=config.num_tasks,
        num_topics=config.num_topics,
        num_hinted=config.num_hinted,
        rounds=config.rounds,
        lists=config.lists,
        shown=config.shown,
        new=config.new,
    )


def _decoding(config: Config, asked: Round) -> Decoding:
    if asked.phase == "tasks":
        return config.decoding
    return dataclasses.replace(config.decoding, top_p=config.hinted_top_p)


def _group(
    number: int, row: Mapping[str, Any], supervision: Supervision, lineage: Mapping[str, Any]
) -> Group:
    about = {name: value for name, value in row.items() if name != "text"}
    return Group(
        prompt=supervision.asked(row["text"]),
        id=f"task-{number}",
        source=f"self-instruct/{row['phase']}",
        meta={"lineage": {**lineage, **about}},
    )
