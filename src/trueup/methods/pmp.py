"""Preference-model pretraining: a score learned from plentiful rankings, before people's comparisons."""

from __future__ import annotations

from dataclasses import dataclass

from trueup.annotate.scale import accuracy_by_source
from trueup.engine.groups import Message
from trueup.engine.groups import Role as Speaker
from trueup.engine.method import Method, Objective, Parts, Role
from trueup.objectives.mix import Sum
from trueup.objectives.reward_model import BradleyTerry, Imitation
from trueup.settings.blocks import DataSettings, LoopSettings, ModelSettings
from trueup.sources.files import Everything, with_pairs
from trueup.sources.judged import binarised, with_imitate
from trueup.sources.shares import by_share
from trueup.update.adamw import AdamW

SUMMARY = "Pretrain a preference model on quality tags made from ranked data."
REFERENCES = ("askell2021", "bai2022a", "bradley1952")
FAMILY, UNIT, COPIES = "reward models", "group", 1
NEEDS = ("comparisons",)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Preference-model pretraining: −log σ(r(good, A) − r(bad, A)), tags exchanged for the worse B."""

    model: ModelSettings = ModelSettings()
    data: DataSettings = DataSettings(path="world:comparisons")
    loop: LoopSettings = LoopSettings(epochs=1)
    update: AdamW = AdamW()
    binarise: bool = True
    "Two comparisons of tags for each pair; false compares the pair itself, as `reward_model` does."
    good: str = "GOOD: "
    bad: str = "BAD: "
    lm_weight: float = 0.0
    "Weight of the language-modelling loss on the better completion."
    mix_power: float = 1.0
    "Sources are drawn ∝ (number of rows)^τ."
    seed: int = 0


def build(config: Config, parts: Parts) -> Method:
    """The method: files (pairs or K-wise) -> quality tags -> Bradley-Terry."""
    train, held_out = with_pairs(parts.groups), with_pairs(parts.held_out)
    if config.binarise:
        good, bad = (parts.prompt_ids((Message(Speaker.TEXT, tag),)) for tag in (config.good, config.bad))
        train, held_out = binarised(train, good, bad), binarised(held_out, good, bad)
    else:
        train, held_out = with_imitate(train), with_imitate(held_out)
    written = frozenset({"imitate"})
    objective: Objective = BradleyTerry()
    if config.lm_weight:
        objective = Sum(((1.0, objective), (config.lm_weight, Imitation())))
    return Method(
        name="pmp",
        source=by_share(train, config.loop.batch, power=config.mix_power, written=written),
        held_out=Everything(groups=held_out, written=written),
        objective=objective,
        update=config.update,
        networks={"reward": Role(heads=("logprobs", "rewards") if config.lm_weight else ("rewards",))},
        output="reward",
        finish=lambda handles: accuracy_by_source(held_out, handles),
    )
