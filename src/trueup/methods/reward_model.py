"""A reward model: a scalar score learned from comparisons or rankings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from trueup.annotate.logprobs import measure
from trueup.groups import Group
from trueup.method import Handles, Method, Parts, Role
from trueup.objectives.reward_model import BradleyTerry
from trueup.settings import DataSettings, LoopSettings, ModelSettings
from trueup.sources.files import Everything, Files
from trueup.update.adamw import AdamW

SUMMARY = "Learn a score from comparisons or K-wise rankings."
REFERENCES = ("bradley1952", "ouyang2022")
FAMILY, UNIT, COPIES = "reward models", "group", 1
NEEDS = ("comparisons",)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Reward model: −log σ(r(chosen) − r(rejected)), averaged inside each prompt's group."""

    model: ModelSettings = ModelSettings()
    data: DataSettings = DataSettings(path="lab:comparisons")
    loop: LoopSettings = LoopSettings(epochs=1)
    update: AdamW = AdamW(lr=5e-4)
    margin: float = 0.0
    "How much one unit of stated strength widens the required gap."
    center: float = 0.0
    "Weight of the squared sum of a pair's scores."
    normalise: bool = True
    "Afterwards shift and scale the score to mean 0 and variance 1 on the training completions."
    seed: int = 0


def build(config: Config, parts: Parts) -> Method:
    """The method: files (pairs or K-wise) -> Bradley-Terry."""
    groups = [g for g in parts.groups if g.pairs()]
    return Method(
        name="reward_model",
        source=Files(groups=groups, batch=config.loop.batch),
        held_out=Everything(groups=[g for g in parts.held_out if g.pairs()]),
        objective=BradleyTerry(margin=config.margin, center=config.center),
        update=config.update,
        networks={"reward": Role(heads=("rewards",))},
        output="reward",
        finish=partial(normalise, groups) if config.normalise else None,
    )


def normalise(groups: Sequence[Group], handles: Handles) -> Mapping[str, float]:
    """Sets the score's gain and bias so that these groups' completions have mean 0 and variance 1.

    Comparisons fix a score up to a constant for each prompt, so its zero means nothing until it is set; a KL
    coefficient means something only against a known scale.
    """
    scores = measure(groups, "reward", "rewards", handles).double()
    mean, scale = float(scores.mean()), float(scores.std(correction=0))
    head = handles.networks["reward"].module.get_submodule("reward_head")
    gain = 1 / max(scale, 1e-6)
    head.get_buffer("gain").mul_(gain)
    head.get_buffer("bias").sub_(mean).mul_(gain)
    return {"score/mean_before": mean, "score/std_before": scale}
