"""Preferences on a policy's own samples: by people, simulated ones, a language model, or any judge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from annotated_types import Ge

from trueup.engine.groups import Group, read_jsonl, write_jsonl
from trueup.engine.method import Role
from trueup.engine.order import derive
from trueup.errors import TrueupError
from trueup.judges.labelling import compared_by_scores, ranked_by_comparisons, ranked_by_scores
from trueup.judges.language_model import PREFIX, PairwiseJudge, open_pairwise
from trueup.judges.open import open_judge
from trueup.judges.ranking_form import PEOPLE, ranked_by_people
from trueup.models.opening import open_chat, open_network, pick_device
from trueup.runs import meter as metering
from trueup.runs.recipe import Done
from trueup.settings.blocks import DataSettings, ModelSettings
from trueup.sources.open import open_groups
from trueup.sources.sample import Decoding, sample_groups
from trueup.worlds import door_of, open_world

SUMMARY = "Sample from a policy and let people, a world's labelers or any judge compare or rank the samples."
OUTPUT = "groups.jsonl"
SAMPLED = "sampled.jsonl"
"What people are asked about, kept until they have answered."
Labels: TypeAlias = "Callable[[list[Group]], tuple[list[Group], dict[str, float]]]"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Preference collection on the policy's own samples."""

    model: ModelSettings = ModelSettings()
    "The policy that is sampled."
    data: DataSettings = DataSettings(path="world:prompts", held_out=0.0)
    num_completions: Annotated[int, Ge(2)] = 4
    "Samples per prompt."
    labeler: str = "world:crowd"
    "Who judges: `people`, a world's labeler, a language model (`lm:MODEL`), or any judge that scores."
    kind: Literal["comparisons", "ranking"] = "comparisons"
    "Of pairs, or one ranking of all completions of a prompt."
    num_comparisons: int = 2
    "Comparisons per prompt, of different pairs."
    decoding: Decoding = Decoding()
    seed: int = 0


def run(config: Config, folder: Path, *, stop_requested: Callable[[], str]) -> Done:
    """The labelled groups, in `groups.jsonl`.

    Where people rank, the samples are kept, a form is written, and the stage ends with E783 until it is
    filled in; then it goes on, to the bytes that it would have written with the answers there at once.
    """
    by, label = _labels(
        config, folder
    )  # Before anything is sampled: a judge that is not there costs nothing.
    meter = metering.Meter(folder)
    sampled = _kept(config, folder) if by == PEOPLE else _sample(config)
    labelled, judged = label(sampled)
    write_jsonl(str(folder / OUTPUT), labelled)
    tokens = sum(c.num_tokens for g in sampled for c in g.completions)
    cost = meter.spend(0, tokens_trained=0, tokens_sampled=tokens)
    counts = {"pairs": sum(len(g.pairs()) for g in labelled), "groups": len(labelled)}
    metrics = {**counts, "rankings": sum(len(g.rankings) for g in labelled), **judged}
    meter.write(0, metrics, phase="label")
    return Done(output=OUTPUT, metrics=metrics, cost=vars(cost))


def _labels(config: Config, folder: Path) -> tuple[Any, Labels]:
    """Who judges, and how: groups to the groups with judgements and what there is to say of who made them."""
    door, seed, number = door_of(config.labeler), config.seed, config.num_comparisons
    ranks = config.kind == "ranking"
    by: Any = open_world(door.world).labeler(door.name) if door is not None else config.labeler
    if not isinstance(by, str):
        return by, lambda groups: (by(groups, seed, config.kind, num_comparisons=number), {})
    if by == PEOPLE:
        if not ranks:
            raise TrueupError(
                "E704",
                "people rank all completions of a prompt",
                where="kind",
                remedy="`--kind ranking`; with `--num_completions 2` a ranking is a comparison",
            )
        return by, lambda groups: ranked_by_people(groups, folder, seed=seed)
    if by.startswith(PREFIX):
        return by, partial(_by_language_model, config, open_pairwise(by))
    judge = open_judge(by, device=str(pick_device(config.model.device)))
    if ranks:
        return by, lambda groups: (ranked_by_scores(groups, judge(groups), by), {})
    return by, lambda groups: (
        compared_by_scores(groups, judge(groups), by, num_comparisons=number, seed=seed),
        {},
    )


def _by_language_model(
    config: Config, judge: PairwiseJudge, groups: list[Group]
) -> tuple[list[Group], dict[str, float]]:
    """Pairs compared in both orders, all of them where a ranking is asked for."""
    ranks = config.kind == "ranking"
    labelled, account = judge.label(
        groups, num_comparisons=0 if ranks else config.num_comparisons, seed=config.seed
    )
    return (ranked_by_comparisons(labelled) if ranks else labelled), account.metrics()


def _sample(config: Config) -> list[Group]:
    chat = open_chat(config.model)
    opened = open_groups(config.data, chat, seed=config.seed)
    device = pick_device(config.model.device)
    return sample_groups(
        opened.train,
        open_network(Role(trained=False), config.model, device, seed=config.seed),
        decode=chat.decode,
        stop_ids=chat.stop_ids,
        k=config.num_completions,
        decoding=config.decoding,
        seed=derive(config.seed, "label"),
    )


def _kept(config: Config, folder: Path) -> list[Group]:
    """The samples as the folder keeps them; drawn where it does not yet."""
    path = folder / SAMPLED
    if not path.exists():
        write_jsonl(str(path), _sample(config))
    return read_jsonl(str(path))
