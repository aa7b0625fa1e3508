"""Preferences on a policy's own samples: by people, simulated ones, a language model, or any judge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge

from trueup.engine.groups import Group, read_jsonl, write_jsonl
from trueup.engine.method import Role
from trueup.engine.order import derive
from trueup.errors import TrueupError
from trueup.judges.labelling import compared_by_scores, ranked_by_comparisons, ranked_by_scores
from trueup.judges.language_model import PREFIX, open_pairwise
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
    labeler = _labeler(config)
    meter = metering.Meter(folder)
    sampled = _kept(config, folder) if labeler == PEOPLE else _sample(config)
    labelled, judged = _label(config, labeler, sampled, folder)
    write_jsonl(str(folder / OUTPUT), labelled)
    tokens = sum(c.num_tokens for g in sampled for c in g.completions)
    cost = meter.spend(0, tokens_trained=0, tokens_sampled=tokens)
    pairs = sum(len(g.pairs()) for g in labelled)
    rankings = sum(len(g.rankings) for g in labelled)
    metrics = {"pairs": pairs, "groups": len(labelled), "rankings": rankings, **judged}
    meter.write(0, metrics, phase="label")
    return Done(output=OUTPUT, metrics=metrics, cost=vars(cost))


def _labeler(config: Config) -> Any:
    """Who labels: a function of a world, `people`, or a judge's reference; E704 for what cannot be asked."""
    door = door_of(config.labeler)
    labeler: Any = config.labeler
    if door is not None:
        labeler = open_world(door.world).labeler(door.name)
    if labeler == PEOPLE and config.kind != "ranking":
        raise TrueupError(
            "E704",
            "people rank all completions of a prompt",
            where="kind",
            remedy="`--kind ranking`; with `--num_completions 2` a ranking is a comparison",
        )
    return labeler


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


def _label(
    config: Config, labeler: Any, sampled: list[Group], folder: Path
) -> tuple[list[Group], dict[str, float]]:
    """The groups with judgements, and what there is to say of who judged."""
    number, ranks = config.num_comparisons, config.kind == "ranking"
    if not isinstance(labeler, str):
        return labeler(sampled, config.seed, config.kind, num_comparisons=number), {}
    if labeler == PEOPLE:
        return ranked_by_people(sampled, folder, seed=config.seed)
    if labeler.startswith(PREFIX):
        judge = open_pairwise(labeler)
        labelled, account = judge.label(sampled, num_comparisons=0 if ranks else number, seed=config.seed)
        return (ranked_by_comparisons(labelled) if ranks else labelled), account.metrics()
    scores = open_judge(labeler, device=str(pick_device(config.model.device)))(sampled)
    if ranks:
        return ranked_by_scores(sampled, scores, labeler), {}
    return compared_by_scores(sampled, scores, labeler, num_comparisons=number, seed=config.seed), {}
