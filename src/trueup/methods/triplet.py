"""Embeddings in which a prompt lies near its good completions: the triplet loss, or DSSM's softmax."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trueup.engine.method import Method, Parts, Role
from trueup.objectives.embedding import DSSM, Triplet
from trueup.settings.blocks import DataSettings, LoopSettings, ModelSettings
from trueup.sources.files import Everything, Files, with_pairs
from trueup.update.adamw import AdamW

SUMMARY = "Embed prompts near their chosen completions and far from the rejected; a judge by cosine."
REFERENCES = ("schroff2015", "huang2013")
FAMILY, UNIT, COPIES = "contrastive", "pair", 1
NEEDS = ("comparisons",)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Triplet: max(0, ‖f(x) − f(chosen)‖² − ‖f(x) − f(rejected)‖² + α), f a projected last hidden state."""

    model: ModelSettings = ModelSettings()
    data: DataSettings = DataSettings(path="world:comparisons")
    loop: LoopSettings = LoopSettings(epochs=1)
    update: AdamW = AdamW()
    loss: Literal["triplet", "dssm"] = "triplet"
    "dssm: softmax over γ · cosine of the chosen completion and those it was preferred to."
    margin: float = 0.2
    "α of the triplet loss."
    normalise: bool = True
    "Divide embeddings by their length; DSSM always does."
    semi_hard: bool = False
    "Triplet loss only where the order is right but the gap is short of the margin."
    gamma: float = 10.0
    "γ of DSSM."
    seed: int = 0


def build(config: Config, parts: Parts) -> Method:
    """The method: files (pairs) -> triplet or DSSM, on a network that embeds."""
    triplet = Triplet(margin=config.margin, normalise=config.normalise, semi_hard=config.semi_hard)
    return Method(
        name="triplet",
        source=Files(groups=with_pairs(parts.groups), batch=config.loop.batch),
        held_out=Everything(groups=with_pairs(parts.held_out)),
        objective=DSSM(gamma=config.gamma) if config.loss == "dssm" else triplet,
        update=config.update,
        networks={"embedder": Role(heads=("embeddings",))},
        output="embedder",
    )
