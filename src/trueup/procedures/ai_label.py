"""RL-CAI's labels: a model compares pairs of a policy's samples by the principles of a constitution.

FOLDER/
  labels.jsonl    a line a prompt: both samples, the principles, what was said in each order, the label
  groups.jsonl    pairs with soft labels, as `reward_model` and `dpo` read them
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, final

import numpy as np
from annotated_types import Ge, Lt

from trueup.constitution.comparison import CLAMP, Duel, Feedback, Grade, Opinion, agreement
from trueup.constitution.journal import Journal, fill, tally
from trueup.constitution.opening import (
    Model,
    charges,
    complete_fitting,
    open_model,
    open_prompts,
    room,
    tokens_in,
)
from trueup.constitution.principles import Form, read_constitution
from trueup.constitution.revision import unless_forged
from trueup.engine.groups import Comparison, Completion, Group, digest, write_jsonl
from trueup.engine.order import derive
from trueup.errors import TrueupError
from trueup.runs import meter as metering
from trueup.runs.recipe import Done
from trueup.settings.blocks import DataSettings
from trueup.settings.schema import Word
from trueup.sources.sample import Decoding
from trueup.worlds import truth_about

SUMMARY = "Let a model compare pairs of samples by a constitution; soft labels for a reward model or DPO."
REFERENCES = ("bai2022b",)
OUTPUT = "groups.jsonl"
KEEPS = LABELS = "labels.jsonl"
LETTERS = 8
"Room kept for a label, in tokens."
PARTS = ("gold", "harmless", "helpful")
"What of a world's truth the labels are compared with."


@dataclass(frozen=True, kw_only=True)
class Config:
    """AI feedback: two samples of each prompt, labelled by σ of the order-averaged log-odds."""

    model: str = "world:base"
    "Whose samples are compared; empty compares the first two completions that the data brings."
    judge: str = "world:base"
    "Who compares: a folder, an id, `stage:NAME`, or a server by `openai:URL?model=NAME`."
    template: Word | None = None
    "A chat template by name, where a local model brings none."
    constitution: str = "world:constitution"
    "`general`, a YAML file, or a world's own."
    form: Form = "chat"
    "`text` writes the question out for a pretrained model to continue."
    principles: Annotated[int, Ge(1)] = 1
    "Principles drawn for each pair; above 1 the label is the mean over them."
    chains: Annotated[int, Ge(0)] = 0
    "Chains of thought for each question; the label is the mean over them."
    clamp: Annotated[float, Ge(0), Lt(0.5)] | None = None
    "c: labels stay in [c, 1 − c]; unless given, 0.4 with chains and 0 without."
    examples: Annotated[int, Ge(0)] = 2
    "Comparisons of the constitution before each question; fewer where they do not fit."
    data: DataSettings = DataSettings(path="world:prompts", held_out=0.0)
    kinds: tuple[str, ...] = ()
    "Of requests that say their kind only those of these kinds: `[harmful, toxic_start]`."
    decoding: Decoding = Decoding(max_new_tokens=48)
    "How the samples are drawn."
    reasoning: Decoding = Decoding(max_new_tokens=48)
    "How the chains are drawn."
    batch: Annotated[int, Ge(1)] = 64
    "Prompts that are sampled and compared together, and written together."
    device: Word = "auto"
    seed: int = 0


def run(config: Config, folder: Path, *, stop_requested: Callable[[], str]) -> Done:
    """`labels.jsonl` and `groups.jsonl`; goes on after the last whole batch that was written."""
    desk = Desk(config, folder)
    meter = metering.Meter(folder)
    records = fill(desk.journal, desk.records, label="compare", stop_requested=stop_requested)
    groups = [
        group_of(record, desk.prompts[record["row"]], desk.lineage) for record in records if "label" in record
    ]
    if not groups:
        raise TrueupError(
            "E823",
            f"none of {len(records)} pairs got a label",
            where=str(folder / LABELS),
            remedy="its lines say why each was dropped",
        )
    write_jsonl(str(folder / OUTPUT), groups)
    metrics = {
        "pairs": float(len(groups)),
        **account(records),
        **agreements(groups, truth_about(config.data.path)),
        **desk.charges(),
    }
    meter.write(0, metrics, phase="label")
    cost = meter.spend(0, tokens_trained=0, tokens_sampled=desk.tokens(records))
    return Done(output=OUTPUT, metrics=metrics, cost=vars(cost))


@final
class Desk:
    """What a run works with: prompts, the policy, the judge and its questions, and where it is written."""

    def __init__(self, config: Config, folder: Path) -> None:
        self.config = config
        constitution = read_constitution(config.constitution)
        self.prompts = open_prompts(config.data, config.kinds, seed=config.seed, folder=folder)
        self.policy: Model | None = None
        "None where the data brings the completions."
        if config.model:
            self.policy = open_model(config.model, device=config.device, template=config.template)
        judge = open_model(config.judge, device=config.device, template=config.template)
        clamp = config.clamp if config.clamp is not None else CLAMP if config.chains else 0.0
        asked = {name: getattr(config, name) for name in ("form", "principles", "chains", "examples")}
        self.lineage = {
            "policy": self.policy.author._asdict() if self.policy else None,
            "judge": judge.author._asdict(),
            "constitution": {"name": constitution.name, "digest": constitution.digest},
            "seed": config.seed,
        }
        self.feedback = Feedback(
            answerer=judge.answerer,
            constitution=constitution,
            **asked,
            clamp=clamp,
            reasoning=config.reasoning,
            seed=config.seed,
            fits=room(judge.answerer, LETTERS + (config.reasoning.max_new_tokens if config.chains else 0)),
        )
        made_by = {
            **self.lineage,
            **asked,
            "clamp": clamp,
            "prompts": digest(self.prompts),
            "decoding": dataclasses.asdict(config.decoding),
            "reasoning": dataclasses.asdict(config.reasoning),
        }
        self.journal = Journal(
            path=folder / LABELS, total=len(self.prompts), batch=config.batch, made_by=made_by
        )

    def records(self, rows: range) -> list[dict[str, Any]]:
        """What became of some rows: two completions each, and the label, or why there is none."""
        records = [{"row": row, "pair": pair} for row, pair in self._pairs(rows)]
        judged: list[dict[str, Any]] = []
        duels: list[Duel] = []
        for record in records:
            reason = dropped(record["pair"])
            if not reason:
                prompt = self.prompts[record["row"]].prompt
                duel = Duel(record["row"], prompt, *(said["text"] for said in record["pair"]))
                room = unless_forged(lambda duel=duel: self.feedback.has_room(duel))
                if room:
                    judged.append(record)
                    duels.append(duel)
                    continue
                reason = "forged role" if room is None else "overlong"
            record["dropped"] = reason
        for record, opinion in zip(judged, self.feedback.judge(duels), strict=True):
            record |= _said(opinion)
        return records

    def _pairs(self, rows: range) -> list[tuple[int, list[dict[str, Any]]]]:
        if self.policy is None:
            return [(row, [_shown(c) for c in self.prompts[row].completions[:2]]) for row in rows]
        drawn = complete_fitting(
            self.policy.answerer,
            [self.prompts[row].prompt for row in rows],
            decoding=self.config.decoding,
            k=2,
            seed=derive(self.config.seed, "pairs", rows.start),
        )
        name = self.policy.author.name
        return [
            (row, [_shown(answer.completion(name)) for answer in answers])
            for row, answers in zip(rows, drawn, strict=True)
        ]

    def charges(self) -> dict[str, float]:
        """What servers were asked."""
        asked = [self.feedback.answerer, *([self.policy.answerer] if self.policy else [])]
        return charges(*asked)

    def tokens(self, records: Sequence[Mapping[str, Any]]) -> int:
        """How many tokens were sampled."""
        texts = [said["text"] for record in records for said in record["pair"]]
        chains = [text for record in records for text in record.get("reasons", ())]
        sampled = tokens_in(self.policy.answerer, texts) if self.policy else 0
        return sampled + tokens_in(self.feedback.answerer, chains)


def dropped(pair: Sequence[Mapping[str, Any]]) -> str:
    """Why a pair cannot be compared; "" where it can."""
    if len(pair) < 2:
        return "no pair"
    return "identical" if pair[0]["text"].strip() == pair[1]["text"].strip() else ""


def _shown(completion: Completion) -> dict[str, Any]:
    return {"text": completion.text, "finished": completion.finished, "source": completion.source}


def _said(opinion: Opinion) -> dict[str, Any]:
    """What an opinion leaves in a record; without a label, why."""
    label = {"dropped": "unread"} if opinion.probability is None else {"label": opinion.probability}
    said = {name: value for name, value in opinion._asdict().items() if name != "probability" and value}
    return {**label, **said}


def group_of(record: Mapping[str, Any], prompt: Group, lineage: Mapping[str, Any]) -> Group:
    """A labelled pair with its provenance."""
    p = record["label"]
    choice: Literal["a", "b", "tie"] = "tie" if p == 0.5 else "a" if p > 0.5 else "b"
    comparison = Comparison(
        a=0, b=1, choice=choice, probability=p, labeler=f"constitution:{lineage['judge']['name']}"
    )
    provenance = {**lineage, "row": record["row"], "prompt": prompt.id, "principles": record["principles"]}
    return replace(
        prompt,
        completions=tuple(Completion(**said) for said in record["pair"]),
        comparisons=(comparison,),
        rankings=(),
        scores=(),
        id=f"{prompt.id or 'row'}/{record['row']}",
        meta={**prompt.meta, "label": provenance},
    )


def account(records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """What became of the pairs, how often the orders disagree, and how sure the labels are."""
    read = [r for r in records if "label" in r]
    sides = [(np.mean(r["shown_first"]) - 0.5, np.mean(r["shown_second"]) - 0.5) for r in read]
    numbers = tally("dropped", (r["dropped"] for r in records if "dropped" in r))
    numbers["judge/inconsistent"] = float(np.mean([np.sign(a) != np.sign(b) for a, b in sides]))
    numbers["judge/mass"] = float(np.mean([r.get("mass", 0.0) for r in read]))
    numbers["label/confidence"] = float(np.mean([abs(r["label"] - 0.5) + 0.5 for r in read]))
    return numbers


def agreements(groups: Sequence[Group], truth: Grade | None) -> dict[str, float]:
    """How often the labels prefer what the world's truth prefers, and over how many pairs."""
    numbers: dict[str, float] = {}
    if truth is None:
        return numbers
    for part in PARTS:
        found = agreement(groups, part, truth)
        if found is not None:
            numbers |= {f"agreement/{part}": found[0], f"agreement/{part}_pairs": float(found[1])}
    return numbers
