"""SLiC-HF: calibrate the policy's sequence likelihoods by preferences, and stay close to a target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge

from trueup.annotate.ranks import Ranked, Stated
from trueup.annotate.scores import Scores
from trueup.engine.method import Beside, Method, Parts, Role
from trueup.errors import TrueupError
from trueup.objectives.calibration import Demonstrations, SLiC
from trueup.settings.blocks import DataSettings, LoopSettings, ModelSettings
from trueup.sources.files import beside_demonstrations, from_files, judged
from trueup.sources.sample import Decoding, from_policy
from trueup.update.adamw import AdamW

SUMMARY = "Hinge on sequence likelihoods of preferred over rejected, plus the likelihood of a target."
REFERENCES = ("zhao2023", "zhao2022")
FAMILY, UNIT, COPIES = "contrastive", "pair", 1
NEEDS = ("comparisons",)


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """What `sample_rank` samples for each prompt, and which of them are compared."""

    num_completions: Annotated[int, Ge(2)] = 8
    "m."
    decoding: Decoding = Decoding(temperature=0.7, top_k=40)
    pairs: Literal["all", "extremes", "tournament"] = "tournament"
    "Every two, best with worst, or rounds in which winners go on: m − 1 pairs."


@dataclass(frozen=True, kw_only=True)
class Config:
    """SLiC-HF: max(0, δ − log π(y⁺) + log π(y⁻)) − λ log π(y_ref), sums over tokens, no reference model."""

    model: ModelSettings = ModelSettings()
    "The policy; as it starts, and frozen, it also writes the candidates of `sample_rank`."
    data: DataSettings = DataSettings(path="world:comparisons")
    pairs: Literal["direct", "sample_rank"] = "direct"
    "direct: those in the data; sample_rank: those that a judge makes of the initial policy's samples."
    target: Literal["chosen", "best", "demonstrations"] = "chosen"
    "y_ref: the pair's y⁺, its group's best, or (none of the pairs) the data's rows without judgement."
    delta: float = 1.0
    "δ: the gap in nats at which a pair stops pushing."
    nll_weight: Annotated[float, Ge(0)] = 1.0
    "λ; at .1 completions grow, since sums without a reference prefer length."
    judge: str = ""
    "For sample_rank: `world:truth`, a reward model's folder, `stage:NAME` or FILE.py:FUNCTION."
    candidates: Candidates = Candidates()
    loop: LoopSettings = LoopSettings(epochs=1)
    update: AdamW = AdamW()
    seed: int = 0


def build(config: Config, parts: Parts) -> Method:
    """The method: files | samples, scored -> pairs and best -> hinge + λ NLL of the target."""
    sampling, c = config.pairs == "sample_rank", config.candidates
    if sampling and not config.judge:
        remedy = "name one: `--judge FOLDER`, a reward model's, or `--judge FILE.py:FUNCTION`"
        raise TrueupError("E730", "samples need a judge", where="judge", remedy=remedy)

    beside: tuple[Beside, ...] = ()
    if config.target == "demonstrations":
        beside = (beside_demonstrations(parts.groups, Demonstrations(), config.nll_weight),)
    if sampling:
        source, held_out = from_policy(
            parts,
            batch=config.loop.batch,
            num_completions=c.num_completions,
            decoding=c.decoding,
            network="reference",
        )
    else:
        source, held_out = from_files(parts, batch=config.loop.batch, keep=judged)
    return Method(
        name="slic_hf",
        source=source,
        held_out=held_out,
        annotate=(Scores(), Ranked(which=c.pairs)) if sampling else (Stated(),),
        objective=SLiC(
            delta=config.delta,
            nll_weight=config.nll_weight,
            target="none" if config.target == "demonstrations" else config.target,
        ),
        update=config.update,
        networks={"policy": Role(), **({"reference": Role(trained=False)} if sampling else {})},
        judge=config.judge if sampling else "",
        beside=beside,
    )
