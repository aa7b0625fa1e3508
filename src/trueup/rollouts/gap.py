"""How far a server's log-probs are from the trainer's, and what is said where that is too far."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from trueup.annotate.logprobs import measure
from trueup.doctor.dump import Row
from trueup.doctor.served import Cause, cause_of
from trueup.engine.groups import Group, joined_column
from trueup.engine.method import Handles
from trueup.engine.packing import spread
from trueup.errors import TrueupError
from trueup.models.forward import LanguageModel, in_use

NARROW, WIDE = 0.1, 0.001
"Nats a token: the mean gap that a policy in bfloat16 may have, and one in float32 or wider."
SHOWN = 64
"So many completions are looked at for the cause."
_STALE = "Start the server afresh; on vLLM, is --max-loras at least 1, and is anybody else loading adapters?"


def limit_of(network: LanguageModel, max_gap: float | None) -> float:
    """The mean gap above which a run ends."""
    if max_gap is not None:
        return max_gap
    return NARROW if network.dtype in (torch.bfloat16, torch.float16) else WIDE


def recomputed(groups: Sequence[Group], network: LanguageModel, handles: Handles) -> list[Group]:
    """The groups with `recomputed_logprobs`, what the network says of their tokens, without dropout."""
    with in_use(network.module):
        said = measure(
            groups, "policy", "logprobs", replace(handles, networks={**handles.networks, "policy": network})
        )
    return spread(groups, recomputed_logprobs=said)


@dataclass(frozen=True, kw_only=True)
class Recomputed:
    """States that a server's groups come with `recomputed_logprobs`, for the check of a method's chain."""

    reads = frozenset({"sampled_logprobs"})
    writes = frozenset({"recomputed_logprobs"})

    def __call__(self, groups: list[Group], handles: Handles) -> list[Group]:
        """The groups as they are."""
        return groups


def gaps_of(groups: Sequence[Group]) -> np.ndarray:
    """log μ(y_t) − log π(y_t) at every token, sampler less trainer."""
    return joined_column(groups, "sampled_logprobs") - joined_column(groups, "recomputed_logprobs")


def compare(
    groups: Sequence[Group],
    network: LanguageModel,
    handles: Handles,
    *,
    limit: float,
    others: Callable[[], Mapping[str, LanguageModel]],
) -> None:
    """Nothing; logs the gaps. Raises E875, with the cause, where their mean size is above the limit.

    `others` gives policies that the server may have sampled from by mistake, by what they are.
    """
    gap = np.abs(gaps_of(groups))
    handles.record({"sampler_gap": float(gap.max()), "sampler_gap_mean": float(gap.mean())})
    if gap.mean() <= limit:
        return
    few = _few(groups)
    cause = _stale(few, handles, others(), max(limit, float(gap.mean()) / 10)) or cause_of(
        [_row(line, *one, network.temperature) for line, one in enumerate(_pairs(few), 1)], network
    )
    raise TrueupError(
        "E875",
        f"the server's log-probs are {gap.mean():.2g} nats a token from ours on average, {gap.max():.2g} at "
        f"most, over the limit of {limit:g}. Cause: {cause.kind}. {cause.says.rstrip('.')}",
        where="sampler.max_gap",
        remedy=cause.remedy,
    )


def _stale(
    groups: Sequence[Group], handles: Handles, others: Mapping[str, LanguageModel], near: float
) -> Cause | None:
    """That the server sampled from one of the other policies, where its log-probs are that one's."""
    for name, network in others.items():
        gap = np.abs(gaps_of(recomputed(groups, network, handles))).mean()
        if gap <= near:
            says = f"The server's log-probs are those of {name}, to {gap:.2g} nats a token"
            return Cause("stale weights", says, _STALE)
    return None


def _pairs(groups: Sequence[Group]) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    found = []
    for group in groups:
        for completion in group.completions:
            assert group.prompt_tokens is not None and completion.tokens is not None
            said = completion.columns["sampled_logprobs"]
            found.append((group.prompt_tokens, completion.tokens, np.asarray(said, float)))
    return found


def _few(groups: Sequence[Group]) -> list[Group]:
    kept: list[Group] = []
    for group in groups:
        if sum(len(g.completions) for g in kept) >= SHOWN:
            break
        kept.append(group)
    return kept


def _row(line: int, prompt: np.ndarray, tokens: np.ndarray, said: np.ndarray, temperature: float) -> Row:
    nothing = np.full(len(prompt), np.nan)
    return Row(
        line=line,
        ids=np.concatenate([prompt, tokens]).astype(np.int64),
        sampler=np.concatenate([nothing, said]),
        temperature=temperature,
    )
