"""RRHF: rank responses, wherever they come from, by the policy's own length-normalised likelihood."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge

from trueup.annotate.ranks import Ranked, Stated
from trueup.annotate.scores import Scores
from trueup.engine.groups import Group
from trueup.engine.method import Method, Parts, Role
from trueup.errors import TrueupError
from trueup.objectives.ranking import RRHF
from trueup.settings.blocks import DataSettings, LoopSettings, ModelSettings
from trueup.sources.files import from_files, judged
from trueup.sources.joined import joined
from trueup.sources.sample import Decoding
from trueup.update.adamw import AdamW

SUMMARY = "Order responses of any origin by the policy's mean log-probability, and imitate the best."
REFERENCES = ("yuan2023",)
FAMILY, UNIT, COPIES = "contrastive", "group", 1
NEEDS = ("comparisons",)


@dataclass(frozen=True, kw_only=True)
class Responses:
    """Where the k responses to a prompt come from."""

    files: bool = True
    "The data's own completions."
    policy: Annotated[int, Ge(0)] = 0
    "How many the policy writes, as it is at that step."
    initial: Annotated[int, Ge(0)] = 0
    "How many the policy writes as the run starts."
    others: tuple[str, ...] = ()
    "Further models with the policy's tokenizer, each by its folder or id."
    each: Annotated[int, Ge(1)] = 1
    "How many each of these writes."
    decoding: Decoding = Decoding(temperature=0.8)


@dataclass(frozen=True, kw_only=True)
class Config:
    """RRHF: Σ_{r_i < r_j} max(0, p_i − p_j) − log π(best), p the mean token log-probability."""

    model: ModelSettings = ModelSettings()
    data: DataSettings = DataSettings(path="world:comparisons")
    responses: Responses = Responses()
    judge: str = ""
    "Scores all responses: `world:truth`, a reward model's folder ... Empty: the files say which is better."
    rank_weight: float = 1.0
    nll_weight: float = 1.0
    nll: Literal["sum", "mean"] = "sum"
    "Over the best response's tokens."
    length_penalty: float = 1.0
    "Exponent of the length that divides a log-probability; 1 is the mean over tokens."
    loop: LoopSettings = LoopSettings(epochs=1)
    update: AdamW = AdamW()
    seed: int = 0


def build(config: Config, parts: Parts) -> Method:
    """The method: files | policy | other models -> score or stated order -> rank hinge + NLL of the best."""
    r = config.responses
    others = {f"other_{i}": start for i, start in enumerate(r.others)}
    writers = {"policy": r.policy, "reference": r.initial, **dict.fromkeys(others, r.each)}
    writers = {name: k for name, k in writers.items() if k}
    if bool(writers) and not config.judge:
        remedy = "name one: `--judge FOLDER`, a reward model's, or `--judge FILE.py:FUNCTION`"
        raise TrueupError("E730", "samples need a judge", where="judge", remedy=remedy)

    batch = config.loop.batch
    if writers:
        source, held_out = joined(parts, batch=batch, writers=writers, keep=r.files, decoding=r.decoding)
    else:
        source, held_out = from_files(parts, batch=batch, keep=written if config.judge else in_order)
    networks = {"policy": Role(), **({"reference": Role(trained=False)} if r.initial else {})}
    networks |= {name: Role(trained=False, start=start) for name, start in others.items()}
    return Method(
        name="rrhf",
        source=source,
        held_out=held_out,
        annotate=(Scores(), Ranked()) if config.judge else (Stated(),),
        objective=RRHF(
            rank_weight=config.rank_weight,
            nll_weight=config.nll_weight,
            nll=config.nll,
            length_penalty=config.length_penalty,
        ),
        update=config.update,
        networks=networks,
        judge=config.judge,
    )


def written(group: Group) -> bool:
    """Whether there is a response that a judge could score."""
    return bool(group.completions)


def in_order(group: Group) -> bool:
    """Whether the responses have an order, or there is only one, to be imitated."""
    return judged(group) or len(group.completions) == 1
