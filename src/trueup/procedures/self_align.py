"""SELF-ALIGN, stage 2: a base model answers by the principles, thinking first; only the answers are kept.

FOLDER/
  answers.jsonl  a line a prompt: the completion, its thoughts, the rules it names, the answer or its fault
  groups.jsonl   question and answer under the short header, as `sft` engraves them; no principle, no thought
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge

from trueup.answerers import Answer
from trueup.constitution.journal import Journal
from trueup.constitution.opening import charges, open_model, open_prompts
from trueup.engine.groups import Completion, Group, digest, write_jsonl
from trueup.engine.order import permutation
from trueup.errors import TrueupError
from trueup.runs import meter as metering
from trueup.runs.recipe import Done
from trueup.selfalign.asking import Asking, kept, reasons, show
from trueup.selfalign.filters import MIN_CHARS, filter_answer
from trueup.selfalign.supervision import Supervision, read_supervision
from trueup.selfalign.thoughts import read_thoughts
from trueup.settings.blocks import DataSettings
from trueup.settings.schema import Word
from trueup.sources.sample import Decoding

SUMMARY = "Let a base model answer by written principles, thinking first; keep the answers."
REFERENCES = ("sun2023",)
OUTPUT = "groups.jsonl"
KEEPS = ANSWERS = "answers.jsonl"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Principle-driven answers: principles, exemplars with thoughts, then the question, continued."""

    model: str = "world:base"
    "Who answers: a base model, by folder, id, or a server by `openai:URL?model=NAME`."
    supervision: str = "world:supervision"
    "`general`, a YAML file, or a world's own."
    data: DataSettings = DataSettings(path="world:prompts", held_out=0.0)
    "The questions: `stage:NAME` of `self_instruct`. Dialogues of several turns are left out, and counted."
    min_chars: Annotated[int, Ge(1)] = MIN_CHARS
    "Shortest answer that is kept."
    identity: Annotated[int, Ge(0)] = 1
    "How often each pair about the assistant itself is added."
    decoding: Decoding = Decoding(temperature=0.5, top_p=0.95, max_new_tokens=256)
    batch: Annotated[int, Ge(1)] = 64
    "Questions that are asked together, and written together."
    device: Word = "auto"
    seed: int = 0


def run(config: Config, folder: Path, *, stop_requested: Callable[[], str]) -> Done:
    """`groups.jsonl`, shuffled; goes on after the last whole batch. E823 where no answer was kept."""
    supervision = read_supervision(config.supervision)
    prompts = open_prompts(config.data, (), seed=config.seed, folder=folder)
    jobs = [group for group in prompts if len(group.prompt) == 1]
    model = open_model(config.model, device=config.device, template=None)
    lineage = {
        "model": model.author._asdict(),
        "supervision": supervision.digest,
        "seed": config.seed,
    }
    made_by = {
        **lineage,
        "prompts": digest(jobs),
        "min_chars": config.min_chars,
        "decoding": dataclasses.asdict(config.decoding),
    }
    journal = Journal(path=folder / ANSWERS, total=len(jobs), batch=config.batch, made_by=made_by)
    meter = metering.Meter(folder)
    asking = Asking(
        name="self-align",
        model=model,
        decoding=config.decoding,
        journal=journal,
        seed=config.seed,
        stop=(supervision.dialogue.user,),
    )
    records = asking.records(
        [supervision.thinking(group.prompt[0].content) for group in jobs],
        lambda answer: record_of(answer, supervision, config.min_chars),
        stop_requested,
    )
    groups = rows_of(records, jobs, supervision, lineage)
    metrics = {"dropped/several_turns": float(len(prompts) - len(jobs)), **counts(records, supervision)}
    if not groups:
        raise TrueupError(
            "E823",
            f"no answer was kept: {metrics}",
            where=str(folder / ANSWERS),
            remedy="its lines say why; can this model follow the form of thoughts and answer at all?",
        )
    groups += identity_rows(supervision, config.identity)
    order = permutation(len(groups), config.seed, "self-align", "shuffle")
    write_jsonl(str(folder / OUTPUT), [groups[int(i)] for i in order])
    metrics["rows"] = float(len(groups))
    metrics |= charges(model.answerer)
    meter.write(0, metrics, phase="self_align")
    show("self-align", metrics)
    cost = meter.spend(0, tokens_trained=0, tokens_sampled=asking.tokens(records))
    return Done(output=OUTPUT, metrics=metrics, cost=vars(cost))


def rows_of(
    records: Sequence[Mapping[str, Any]],
    jobs: Sequence[Group],
    supervision: Supervision,
    lineage: Mapping[str, Any],
) -> list[Group]:
    """Question and kept answer under the short header: what the base is trained on, and nothing else."""
    rows: list[Group] = []
    for record in kept(records):
        job = jobs[record["row"]]
        answered = {**lineage, "row": record["row"], "rules": record["rules"]}
        rows.append(
            Group(
                prompt=supervision.asked(job.prompt[0].content, supervision.header),
                completions=(Completion(text=record["answer"], source="self-align"),),
                id=job.id,
                source="self-align",
                meta={**job.meta, "answered": answered},
            )
        )
    return rows


def identity_rows(supervision: Supervision, times: int) -> list[Group]:
    """What the assistant says of itself, as people wrote it, `times` times over."""
    return [
        Group(
            prompt=supervision.asked(pair.query, supervision.header),
            completions=(Completion(text=pair.answer, source="identity"),),
            id=f"identity-{number}-{time}",
            source="identity",
        )
        for time in range(times)
        for number, pair in enumerate(supervision.identity)
    ]


def counts(records: Sequence[Mapping[str, Any]], supervision: Supervision) -> dict[str, float]:
    """How many answers were kept, and dropped for each reason; how many followed the form at all."""
    unlike = ("dropped/opening", "dropped/no_answer", "dropped/no_room")
    dropped = reasons(records)
    followed = len(records) - sum(dropped.get(name, 0.0) for name in unlike)
    return {
        "principles": float(len(supervision.principles)),
        "exemplars": float(len(supervision.exemplars)),
        "prompts": float(len(records)),
        "follows_form": followed / max(len(records), 1),
        "names_rules": sum(bool(record.get("rules")) for record in records) / max(len(records), 1),
        "kept/answers": float(len(kept(records))),
        **dropped,
    }


def record_of(answer: Answer, supervision: Supervision, min_chars: int) -> dict[str, Any]:
    """What a completion says: its thoughts, the rules they name, and the filtered answer or its fault."""
    found = read_thoughts(
        answer.text, supervision.dialogue, len(supervision.principles), stopped=answer.finish == "stop"
    )
    record: dict[str, Any] = {"rules": list(found.rules)}
    if found.reason:
        return {**record, "rejected": found.reason}
    filtered = filter_answer(found.answer, supervision, ended=found.ended, min_chars=min_chars)
    record |= {"thoughts": found.analysis, "answer": filtered.text}
    return {**record, "rejected": filtered.reason} if filtered.reason else record
