"""RRHF: rank responses, wherever they come from, by the policy's own length-normalised likelihood."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge

from trueup.annotate.ranks import Ranked, Stated
from trueup.annotate.scores import Scores
from trueup.errors import TrueupError
from trueup.groups import Group
from trueup.method import Method, Parts, Role, Source
from trueup.objectives.ranking import RRHF
from trueup.settings import DataSettings, LoopSettings, ModelSettings
from trueup.sources.files import Files
from trueup.sources.joined import Joined
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
    data: DataSettings = DataSettings(path="lab:comparisons")
    responses: Responses = Responses()
    judge: str = ""
    "Scores all responses: `lab:gold`, a reward model's folder ... Empty: the files say which is better."
    rank_weight: float = 1.0
    nll_weight: float = 1.0
    nll: Literal["sum", "mean"] = "sum"
    "Over the best response's tokens."
    length_penalty: float = 1.0
    "Exponent of the length that divides a log-probability; 1 is the mean over tokens."
    loop: LoopSettings = LoopSettings(epochs=1)
    update: AdamW = AdamW(lr=3e-4)
    seed: int = 0


def build(config: Config, parts: Parts) -> Method:
    """The method: files | policy | other models -> score or stated order -> rank hinge + NLL of the best."""
    r = config.responses
    others = {f"other_{i}": start for i, start in enumerate(r.others)}
    writers = {"policy": r.policy, "reference": r.initial, **dict.fromkeys(others, r.each)}
    writers = {name: k for name, k in writers.items() if k}
    if bool(writers) and not config.judge:
        raise TrueupError("E730", "samples need a judge", where="judge", remedy="name one: lab:gold")

    def source(groups: Sequence[Group], batch: int) -> Source:
        if not writers:
            return Files(groups=groups, batch=batch)
        return Joined(
            prompts=groups,
            batch=batch,
            writers=writers,
            decode=parts.decode,
            stop_ids=parts.stop_ids,
            keep=r.files,
            decoding=r.decoding,
        )

    def usable(group: Group) -> bool:
        """Whether there are responses, and an order of them unless there is only one, to be imitated."""
        if writers or config.judge:
            return bool(writers or group.completions)
        return bool(group.pairs() or group.scores) or len(group.completions) == 1

    groups, held_out = ([g for g in part if usable(g)] for part in (parts.groups, parts.held_out))
    frozen = {"reference": Role(trained=False)} if r.initial else {}
    return Method(
        name="rrhf",
        source=source(groups, config.loop.batch),
        held_out=source(held_out, len(held_out)) if held_out else None,
        annotate=(Scores(), Ranked()) if config.judge else (Stated(),),
        objective=RRHF(
            rank_weight=config.rank_weight,
            nll_weight=config.nll_weight,
            nll=config.nll,
            length_penalty=config.length_penalty,
        ),
        update=config.update,
        networks={
            "policy": Role(),
            **frozen,
            **{name: Role(trained=False, start=start) for name, start in others.items()},
        },
        judge=config.judge,
    )
