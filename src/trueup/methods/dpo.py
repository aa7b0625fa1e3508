"""Direct preference optimisation: fit preferences with the policy's own log-ratios, no reward model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from trueup.annotate.logprobs import Measure
from trueup.engine.method import Method, Parts, Role
from trueup.objectives.pairwise import DPO, Divergence
from trueup.settings.blocks import DataSettings, LoopSettings, ModelSettings
from trueup.sources.files import Everything, Files, with_pairs
from trueup.update.adamw import AdamW

SUMMARY = "Fit preferences directly with the policy's log-ratios to a reference."
REFERENCES = ("rafailov2023", "chowdhury2024", "liu2023", "wang2023f", "pang2024")
FAMILY, UNIT, COPIES = "contrastive", "pair", 2
NEEDS = ("comparisons", "reference")


@dataclass(frozen=True, kw_only=True)
class Config:
    """DPO: −log σ(β [h(chosen) − h(rejected)]), h = log π − log ρ summed over tokens."""

    model: ModelSettings = ModelSettings()
    "The policy, and frozen as it starts, the reference."
    data: DataSettings = DataSettings(path="world:comparisons")
    loop: LoopSettings = LoopSettings(epochs=1)
    update: AdamW = AdamW()
    beta: float = 0.1
    "Strength of the pull to the reference."
    loss: Literal["sigmoid", "robust", "hinge"] = "sigmoid"
    "`robust` undoes `label_smoothing`'s share of flips on average; `hinge` is RSO's, with a margin of 1."
    label_smoothing: Annotated[float, Ge(0), Lt(0.5)] = 0.0
    "Share of labels assumed to be flipped; above 0 the sigmoid loss is conservative DPO."
    divergence: Divergence = "reverse_kl"
    "What the pull to the reference measures; another one makes it f-DPO."
    alpha: Annotated[float, Gt(0), Le(1)] = 0.5
    "α of `divergence: alpha`: towards 0 it is reverse_kl, at 1 forward_kl."
    nll_weight: Annotated[float, Ge(0)] = 0.0
    "Weight of the mean −log π of a chosen token beside the loss (RPO; the paper: 1)."
    reference_free: bool = False
    "Compare log-probabilities themselves; no reference is kept."
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises ValueError for a divergence from a reference that is not kept."""
        if self.reference_free and self.divergence != "reverse_kl":
            raise ValueError("`divergence` needs a reference: reference_free")


def build(config: Config, parts: Parts) -> Method:
    """The method: files -> reference log-probs -> DPO; without a reference, files -> DPO."""
    reference = Measure(network="reference", want="logprobs", column="ref_logprobs")
    frozen = {} if config.reference_free else {"reference": Role(trained=False)}
    return Method(
        name="dpo",
        source=Files(groups=with_pairs(parts.groups), batch=config.loop.batch),
        held_out=Everything(groups=with_pairs(parts.held_out)),
        annotate=() if config.reference_free else (reference,),
        objective=DPO(
            beta=config.beta,
            divergence=config.divergence,
            alpha=config.alpha,
            nll_weight=config.nll_weight,
            loss=config.loss,
            label_smoothing=config.label_smoothing,
            reference_free=config.reference_free,
        ),
        update=config.update,
        networks={"policy": Role(), **frozen},
    )
