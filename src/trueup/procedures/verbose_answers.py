"""SELF-ALIGN, stage 4: the engraved model answers at length under an extensive context, to be cloned.

FOLDER/
  answers.jsonl  a line a prompt: the completion, the answer or why it is none
  groups.jsonl   every kept answer under both headers, the short one and the extensive one
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge

from trueup.answerers import Answer, Conversation
from trueup.constitution.journal import Journal
from trueup.constitution.opening import charges, open_model, open_prompts
from trueup.engine.groups import Completion, Group, digest, write_jsonl
from trueup.errors import TrueupError
from trueup.runs import meter as metering
from trueup.runs.recipe import Done
from trueup.selfalign.asking import Asking, kept, reasons, show
from trueup.selfalign.filters import filter_answer
from trueup.selfalign.supervision import Supervision, read_supervision
from trueup.settings.blocks import DataSettings
from trueup.settings.schema import Word
from trueup.sources.context import open_context
from trueup.sources.sample import Decoding

SUMMARY = "Let an engraved model answer at length under a context, for verbose cloning."
REFERENCES = ("sun2023", "askell2021")
OUTPUT = "groups.jsonl"
KEEPS = ANSWERS = "answers.jsonl"
MIN_CHARS = 128


@dataclass(frozen=True, kw_only=True)
class Config:
    """Verbose cloning's data: what a model says under an extensive context, to be said without it."""

    model: str = "world:base"
    "The engraved model: `stage:NAME`, a folder, an id, or a server."
    template: Word | None = None
    "A chat template by name, where a local model brings none."
    supervision: str = "world:supervision"
    "`general`, a YAML file, or a world's own: its `header`, and `verbose` or `verbose_context`."
    data: DataSettings = DataSettings(path="world:prompts", held_out=0.0)
    "The questions. Dialogues of several turns are left out, and counted."
    min_chars: Annotated[int, Ge(1)] = MIN_CHARS
    both_headers: bool = True
    "Every answer under the short header and under the extensive one; false is the short one alone."
    decoding: Decoding = Decoding(temperature=0.3, top_p=0.7, max_new_tokens=512)
    batch: Annotated[int, Ge(1)] = 64
    device: Word = "auto"
    seed: int = 0


def run(config: Config, folder: Path, *, stop_requested: Callable[[], str]) -> Done:
    """`groups.jsonl`; goes on after the last whole batch. E823 where no answer was kept."""
    supervision = read_supervision(config.supervision)
    prompts = open_prompts(config.data, (), seed=config.seed, folder=folder)
    jobs = [group for group in prompts if len(group.prompt) == 1]
    model = open_model(config.model, device=config.device, template=config.template)
    short, extensive = contexts(supervision)
    lineage = {"model": model.author._asdict(), "supervision": supervision.digest, "seed": config.seed}
    made_by = {
        **lineage,
        "prompts": digest(jobs),
        "min_chars": config.min_chars,
        "decoding": dataclasses.asdict(config.decoding),
    }
    journal = Journal(path=folder / ANSWERS, total=len(jobs), batch=config.batch, made_by=made_by)
    meter = metering.Meter(folder)
    asking = Asking(name="verbose", model=model, decoding=config.decoding, journal=journal, seed=config.seed)
    records = asking.records(
        [(*extensive, *group.prompt) for group in jobs],
        lambda answer: record_of(answer, supervision, config.min_chars),
        stop_requested,
    )
    heads = dict.fromkeys((short, extensive) if config.both_headers else (short,))
    groups = [
        _group(record, jobs[record["row"]], head, lineage) for record in kept(records) for head in heads
    ]
    metrics = {
        "prompts": float(len(records)),
        "kept/answers": float(len(kept(records))),
        "rows": float(len(groups)),
        "dropped/several_turns": float(len(prompts) - len(jobs)),
        **reasons(records),
    }
    if not groups:
        raise TrueupError(
            "E823", f"no answer was kept: {metrics}", where=str(folder / ANSWERS), remedy="its lines say why"
        )
    write_jsonl(str(folder / OUTPUT), groups)
    metrics |= charges(model.answerer)
    meter.write(0, metrics, phase="verbose_answers")
    show("verbose", metrics)
    cost = meter.spend(0, tokens_trained=0, tokens_sampled=asking.tokens(records))
    return Done(output=OUTPUT, metrics=metrics, cost=vars(cost))


def contexts(supervision: Supervision) -> tuple[Conversation, Conversation]:
    """What stands before a question, in short and at length. E702 for a supervision without the latter."""
    short = supervision.asked("", supervision.header)[:-1]
    if supervision.verbose_context:
        turns = open_context(supervision.verbose_context, supervision.verbose_dialogues)
        return short, (*short, *turns)
    if not supervision.verbose:
        raise TrueupError(
            "E702",
            "there is nothing extensive to answer under",
            where="supervision verbose",
            remedy="write it",
        )
    return short, supervision.asked("", supervision.verbose)[:-1]


def record_of(answer: Answer, supervision: Supervision, min_chars: int) -> dict[str, Any]:
    """What a completion comes to: the filtered answer, or its fault."""
    found = filter_answer(answer.text, supervision, ended=answer.finish == "stop", min_chars=min_chars)
    record = {"answer": found.text}
    return {**record, "rejected": found.reason} if found.reason else record


def _group(record: Mapping[str, Any], job: Group, head: Conversation, lineage: Mapping[str, Any]) -> Group:
    return Group(
        prompt=(*head, *job.prompt),
        completions=(Completion(text=record["answer"], source="verbose"),),
        id=job.id,
        source="verbose",
        meta={**job.meta, "verbose": {**lineage, "row": record["row"]}},
    )
