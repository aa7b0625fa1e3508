"""SL-CAI's data: a model answers, critiques and revises its own answers by a constitution.

FOLDER/
  transcripts.jsonl   a line a prompt: the answer, every step's principle, critique and revision
  groups.jsonl        the revisions alone, one a row, as `sft` reads them
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, final

from annotated_types import Ge

from trueup.answerers import Answer, Conversation
from trueup.constitution.comparison import Grade
from trueup.constitution.journal import Journal, fill, tally
from trueup.constitution.opening import charges, open_model, open_prompts, room, tokens_in
from trueup.constitution.principles import Form, read_constitution
from trueup.constitution.revision import Kind, Plan, advance, rows_of, talk
from trueup.engine.groups import Group, digest, write_jsonl
from trueup.engine.order import derive
from trueup.errors import TrueupError
from trueup.runs import meter as metering
from trueup.runs.recipe import Done
from trueup.settings.blocks import DataSettings
from trueup.settings.schema import Word
from trueup.sources.sample import Decoding
from trueup.worlds import truth_about

SUMMARY = "Let a model critique and revise its own answers by a constitution."
REFERENCES = ("bai2022b",)
OUTPUT = "groups.jsonl"
KEEPS = TRANSCRIPTS = "transcripts.jsonl"
PARTS = ("harmless", "helpful", "honest", "evasive")
"What a world's truth says of every step."


@dataclass(frozen=True, kw_only=True)
class Config:
    """Critique and revision of a model's own answers, S steps, each by a principle drawn at random."""

    model: str = "world:base"
    "Who answers: a folder, an id, `stage:NAME`, or a server by `openai:URL?model=NAME`."
    reviser: str = ""
    "Who critiques and revises; empty is the model itself."
    template: Word | None = None
    "A chat template by name, where a local model brings none."
    constitution: str = "world:constitution"
    "`general`, a YAML file, or a world's own."
    form: Form = "chat"
    "`text` writes everything out for a pretrained model to continue; the answer itself is always chat."
    steps: Annotated[int, Ge(0)] = 4
    "Revisions of each answer; 0 keeps the answers themselves, the helpful half of the mix."
    use_steps: Annotated[int, Ge(1)] | None = None
    "Hand on the revisions of the first so many steps; all of them when empty."
    critique: bool = True
    "False revises directly, without a critique."
    examples: Annotated[int, Ge(0)] = 2
    "Transcripts of the constitution before each request; fewer where they do not fit."
    data: DataSettings = DataSettings(path="world:prompts", held_out=0.0)
    kinds: tuple[str, ...] = ()
    "Of requests that say their kind only those of these kinds: `[harmful, toxic_start]`."
    num_completions: Annotated[int, Ge(1)] = 1
    "Answers to each prompt, each revised by itself."
    decoding: Decoding = Decoding(max_new_tokens=48)
    batch: Annotated[int, Ge(1)] = 64
    "Prompts that are walked through together, and written together."
    device: Word = "auto"
    seed: int = 0


def run(config: Config, folder: Path, *, stop_requested: Callable[[], str]) -> Done:
    """`transcripts.jsonl` and `groups.jsonl`; goes on after the last whole batch that was written."""
    desk = Desk(config, folder)
    meter = metering.Meter(folder)
    records = fill(desk.journal, desk.records, label="revise", stop_requested=stop_requested)
    groups = [
        group
        for record in records
        for group in rows_of(record, desk.jobs[record["row"]], config.use_steps, desk.lineage)
    ]
    if not groups:
        raise TrueupError(
            "E823",
            f"none of {len(records)} answers came to a row",
            where=str(folder / TRANSCRIPTS),
            remedy="its lines say why each was rejected",
        )
    write_jsonl(str(folder / OUTPUT), groups)
    metrics = {
        "prompts": float(len(records)),
        "rows": float(len(groups)),
        **rejections(records),
        **by_step(records, desk.jobs, truth_about(config.data.path)),
        **charges(desk.writer.answerer, desk.reviser.answerer),
    }
    meter.write(0, metrics, phase="revise")
    cost = meter.spend(0, tokens_trained=0, tokens_sampled=desk.tokens(records))
    return Done(output=OUTPUT, metrics=metrics, cost=vars(cost))


@final
class Desk:
    """What a run works with: prompts, the models, what they are asked, and where it is written."""

    def __init__(self, config: Config, folder: Path) -> None:
        self.config = config
        constitution = read_constitution(config.constitution)
        prompts = open_prompts(config.data, config.kinds, seed=config.seed, folder=folder)
        self.jobs = [group for group in prompts for _ in range(config.num_completions)]
        "One a row: each prompt as often as it is answered."
        self.writer = self.reviser = open_model(config.model, device=config.device, template=config.template)
        if config.reviser:
            self.reviser = open_model(config.reviser, device=config.device, template=config.template)
        self.lineage = {
            "writer": self.writer.author._asdict(),
            "reviser": self.reviser.author._asdict(),
            "constitution": {"name": constitution.name, "digest": constitution.digest},
            "seed": config.seed,
        }
        asked = {name: getattr(config, name) for name in ("steps", "critique", "form", "examples")}
        self.plan = Plan(
            constitution=constitution,
            **asked,
            seed=config.seed,
            fits=room(self.reviser.answerer, config.decoding.max_new_tokens),
            answerable=room(self.writer.answerer, config.decoding.max_new_tokens),
        )
        made_by = {
            **self.lineage,
            **asked,
            "prompts": digest(self.jobs),
            "decoding": dataclasses.asdict(config.decoding),
        }
        self.journal = Journal(
            path=folder / TRANSCRIPTS, total=len(self.jobs), batch=config.batch, made_by=made_by
        )

    def records(self, rows: range) -> list[dict[str, Any]]:
        """What became of some rows: each answered, criticised and revised."""
        talks = [talk(row, self.jobs[row].prompt, self.plan) for row in rows]
        return advance(talks, partial(self._answer, rows.start))

    def _answer(self, start: int, number: int, kind: Kind, asked: list[Conversation]) -> list[Answer]:
        who = self.writer if kind == "answer" else self.reviser
        drawn = who.answerer.complete(
            asked,
            decoding=self.config.decoding,
            stop=self.plan.stop(kind),
            seed=derive(self.config.seed, "revise", start, number, kind),
        )
        return [answers[0] for answers in drawn]

    def tokens(self, records: Sequence[Mapping[str, Any]]) -> int:
        """How many tokens were sampled."""
        answers = [record["text"] for record in records if "text" in record]
        kinds = ("critique", "text")
        texts = [made[kind] for r in records for made in r["steps"] for kind in kinds if kind in made]
        if self.reviser is self.writer:
            return tokens_in(self.writer.answerer, [*answers, *texts])
        return tokens_in(self.writer.answerer, answers) + tokens_in(self.reviser.answerer, texts)


def rejections(records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """How many answers and steps were rejected, for each reason."""
    made = (one for record in records for one in (record, *record["steps"]))
    return tally("rejected", (one["rejected"] for one in made if "rejected" in one))


def by_step(
    records: Sequence[Mapping[str, Any]], jobs: Sequence[Group], truth: Grade | None
) -> dict[str, float]:
    """The world's truth about the answer as it stood after each step: `harmless/0` to `harmless/S`."""
    if truth is None:
        return {}
    sums: defaultdict[str, float] = defaultdict(float)
    counts: defaultdict[str, int] = defaultdict(int)
    for record in records:
        if "rejected" in record:
            continue
        text = record["text"]
        for step, made in enumerate(({}, *record["steps"])):
            text = made.get("text", text)
            found = truth(jobs[record["row"]], text)
            for part in PARTS:
                sums[f"{part}/{step}"] += found[part]
                counts[f"{part}/{step}"] += 1
    return {name: sums[name] / counts[name] for name in sorted(sums)}
