"""A reward model: a scalar score learned from comparisons or rankings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from trueup.annotate.scale import accuracy_by_source, set_scale
from trueup.engine.method import Handles, Method, Objective, Parts, Role
from trueup.objectives.listwise import Choice, PlackettLuce
from trueup.objectives.mix import Sum
from trueup.objectives.reward_model import BradleyTerry, Imitation
from trueup.settings.blocks import DataSettings, LoopSettings, ModelSettings
from trueup.sources.files import Everything, with_pairs
from trueup.sources.judged import ordered, with_imitate
from trueup.sources.shares import by_share
from trueup.sources.zero import Zero
from trueup.update.adamw import AdamW

SUMMARY = "Learn a score from comparisons, choices or K-wise rankings."
REFERENCES = ("bradley1952", "ouyang2022", "plackett1975", "ziegler2019", "touvron2023", "radford2018")
FAMILY, UNIT, COPIES = "reward models", "group", 1
NEEDS = ("comparisons",)


@dataclass(frozen=True, kw_only=True)
class Normalise:
    """Where the score's zero and unit lie afterwards."""

    to: Literal["none", "mean", "scale"] = "scale"
    "`mean` shifts the score to mean 0, `scale` also to variance 1."
    on: Literal["completions", "demonstrations", "samples"] = "completions"
    "The training completions, the rows that nobody judged, or samples of the model it starts from."
    limit: int | None = 4096
    "Rows that it is measured on at most, drawn by the seed; the mean is then off by some .011 of a unit."

    def __post_init__(self) -> None:
        """Raises ValueError where there would be nothing to measure on."""
        if self.limit is not None and self.limit < 2:
            raise ValueError("`limit` is 2 or more, or null")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Reward model: −log σ(r(chosen) − r(rejected)), averaged inside each prompt's group."""

    model: ModelSettings = ModelSettings()
    data: DataSettings = DataSettings(path="world:comparisons")
    loop: LoopSettings = LoopSettings(epochs=1)
    update: AdamW = AdamW()
    loss: Literal["bradley_terry", "plackett_luce", "choice"] = "bradley_terry"
    "All pairs of a group, a ranking as successive choices, or the choice of the best alone."
    margin: float | tuple[float, ...] = 0.0
    "Gap demanded for a unit of stated strength, or a table by strength: `[0.33, 0.67, 1]`."
    center: float = 0.0
    "Weight of the squared sum of a pair's scores; like `margin`, for Bradley-Terry alone."
    lm_weight: float = 0.0
    "Weight of the language-modelling loss on the preferred completion; GPT-1 has 0.5."
    mix_power: float = 1.0
    "Sources are drawn ∝ (number of rows)^τ; 1 is every row alike, 0 every source."
    normalise: Normalise = Normalise()
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises ValueError for settings of a loss that another one would leave out."""
        if self.loss != "bradley_terry" and (self.margin or self.center):
            raise ValueError(f"no `margin` or `center` with loss: {self.loss}")


def build(config: Config, parts: Parts) -> Method:
    """The method: files (pairs, choices or K-wise) -> the likelihood of the labels."""
    pairwise = config.loss == "bradley_terry"
    arranged = with_pairs if pairwise else ordered
    train, held_out = (with_imitate(arranged(groups)) for groups in (parts.groups, parts.held_out))
    written = frozenset({"imitate"}) if pairwise else frozenset({"imitate", "tier"})
    zero = Zero(on=config.normalise.on, limit=config.normalise.limit, train=train, parts=parts)
    objectives: dict[str, Objective] = {
        "bradley_terry": BradleyTerry(margin=config.margin, center=config.center),
        "plackett_luce": PlackettLuce(),
        "choice": Choice(),
    }
    objective = objectives[config.loss]
    if config.lm_weight:
        objective = Sum(((1.0, objective), (config.lm_weight, Imitation())))
    networks = {"reward": Role(heads=("logprobs", "rewards") if config.lm_weight else ("rewards",))}
    if config.normalise.on == "samples":
        networks["policy"] = Role(trained=False)

    def finish(handles: Handles) -> Mapping[str, float]:
        """Sets the score's scale; the accuracies by source."""
        found = dict(accuracy_by_source(held_out, handles))
        if config.normalise.to != "none":
            found.update(set_scale(zero(handles), config.normalise.to, handles))
        return found

    return Method(
        name="reward_model",
        source=by_share(train, config.loop.batch, power=config.mix_power, written=written),
        held_out=Everything(groups=held_out, written=written),
        objective=objective,
        update=config.update,
        networks=networks,
        output="reward",
        finish=finish,
    )
