"""Preferences on a policy's own samples: by simulated labelers, a language model that judges, or a score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from trueup.engine.groups import Comparison, Group, write_jsonl
from trueup.engine.method import Role
from trueup.engine.order import derive, permutation
from trueup.errors import TrueupError
from trueup.judges import Judge
from trueup.judges.language_model import PREFIX, open_pairwise
from trueup.judges.open import open_judge
from trueup.models.opening import open_chat, open_network, pick_device
from trueup.runs import meter as metering
from trueup.runs.recipe import Done
from trueup.settings.blocks import DataSettings, ModelSettings
from trueup.sources.open import open_groups
from trueup.sources.sample import Decoding, sample_groups
from trueup.worlds import door_of, open_world

SUMMARY = "Sample from a policy and let a world's labelers, or a language model, compare the samples."
OUTPUT = "groups.jsonl"
PEOPLE = "people"
SCORE = "score:"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Preference collection on the policy's own samples."""

    model: ModelSettings = ModelSettings()
    "The policy that is sampled."
    data: DataSettings = DataSettings(path="world:prompts", held_out=0.0)
    num_completions: int = 4
    "Samples per prompt."
    labeler: str = "world:crowd"
    """Who compares: a labeler of a world, a language model by `lm:MODEL` or `lm:openai:URL?model=NAME`, or a
    judge's scores by `score:JUDGE`: `score:stage:reward`."""
    kind: Literal["comparisons", "ranking"] = "comparisons"
    num_comparisons: int = 2
    "Comparisons per prompt, of different pairs."
    decoding: Decoding = Decoding()
    seed: int = 0


def run(config: Config, folder: Path, *, stop_requested: Callable[[], str]) -> Done:
    """The labelled groups, in `groups.jsonl`."""
    chat = open_chat(config.model)
    opened = open_groups(config.data, chat, seed=config.seed)
    device = pick_device(config.model.device)
    network = open_network(Role(trained=False), config.model, device, seed=config.seed)
    meter = metering.Meter(folder)
    sampled = sample_groups(
        opened.train,
        network,
        decode=chat.decode,
        stop_ids=chat.stop_ids,
        k=config.num_completions,
        decoding=config.decoding,
        seed=derive(config.seed, "label"),
    )
    labelled, judged = _label(config, sampled)
    write_jsonl(str(folder / OUTPUT), labelled)
    tokens = sum(c.num_tokens for g in sampled for c in g.completions)
    cost = meter.spend(0, tokens_trained=0, tokens_sampled=tokens)
    pairs = sum(len(g.pairs()) for g in labelled)
    metrics = {"pairs": pairs, "groups": len(labelled), **judged}
    meter.write(0, metrics, phase="label")
    return Done(output=OUTPUT, metrics=metrics, cost=vars(cost))


def _label(config: Config, sampled: list[Group]) -> tuple[list[Group], dict[str, float]]:
    """The groups with judgements, and what there is to say of a language model's."""
    labeler: Any = config.labeler
    door = door_of(labeler)
    if door is not None:
        labeler = open_world(door.world).labeler(door.name)
    if not isinstance(labeler, str):
        return labeler(sampled, config.seed, config.kind, num_comparisons=config.num_comparisons), {}
    if labeler == PEOPLE:
        raise TrueupError(
            "E704",
            "people label outside of a run",
            where="labeler",
            remedy="let `trueup generate` write the groups, have them labelled, and give that file as data",
        )
    if not labeler.startswith((PREFIX, SCORE)):
        raise TrueupError(
            "E704",
            f"no labeler {labeler!r}",
            where="labeler",
            remedy="use a world's, by WORLD:NAME, a language model, lm:MODEL, or a judge, score:JUDGE",
        )
    if config.kind != "comparisons":
        raise TrueupError(
            "E704", "models compare, they do not rank", where="kind", remedy="use kind: comparisons"
        )
    if labeler.startswith(SCORE):
        judge = open_judge(labeler.removeprefix(SCORE), device=str(pick_device(config.model.device)))
        return by_score(sampled, judge, config.num_comparisons, config.seed, labeler), {}
    judge = open_pairwise(labeler)
    labelled, account = judge.label(sampled, num_comparisons=config.num_comparisons, seed=config.seed)
    return labelled, account.metrics()


def by_score(groups: list[Group], judge: Judge, num: int, seed: int, name: str) -> list[Group]:
    """The groups with up to `num` comparisons of different texts each: the higher score wins, equals tie."""
    made = []
    for place, (group, scores) in enumerate(zip(groups, judge(groups), strict=True)):
        texts = [c.text for c in group.completions]
        pairs = [(a, b) for a, b in combinations(range(len(texts)), 2) if texts[a] != texts[b]]
        order = permutation(len(pairs), seed, "score", group.id or place)[:num]
        comparisons = tuple(_won(*pairs[int(i)], scores, name) for i in order)
        made.append(replace(group, comparisons=(*group.comparisons, *comparisons)))
    return made


def _won(a: int, b: int, scores: list[float], name: str) -> Comparison:
    tie = scores[a] == scores[b]
    choice: Literal["a", "b", "tie"] = "tie" if tie else "a" if scores[a] > scores[b] else "b"
    return Comparison(a=a, b=b, choice=choice, labeler=name)
