"""What a model says of a dump's tokens: exact log-probs, the same at other temperatures, and dtype noise.

    log π_β(y) = β ℓ_y - log Σ_v exp(β ℓ_v),   ℓ = log π at the row's own temperature,   β = T_row / T

Everything is taken once, from one forward pass of the packed rows; checks then work on numpy arrays. The
noise of a precision is what the same weights say in it, less the exact numbers: one draw of what rounding
does to these very tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from trueup.chat import Chat
from trueup.doctor.dump import Row
from trueup.engine.groups import Completion, Group
from trueup.engine.packing import pack, split
from trueup.models.forward import LanguageModel, packed_states, padded_states

Precision = Literal["bfloat16", "float32"]
NODES = np.cos((2 * np.arange(23) + 1) * np.pi / 46) * np.log(4)
"Chebyshev nodes of log β: temperatures from a quarter of the row's to four times it."
TOP = 256
"So many of the likeliest ids are kept of each distribution: a nucleus is sought among them."
ROW_TOKENS = 4096
"Tokens of one forward pass."
_LOGITS = 1 << 24


@dataclass(frozen=True, kw_only=True, eq=False)
class Opened:
    """A model as the doctor uses it."""

    chat: Chat | None
    "What reads the rows' messages, where they have any."
    exact: LanguageModel
    "In a precision whose rounding is far below what is looked for."
    rounded: LanguageModel
    "In the precision that the dump's log-probs are allowed to have."
    precision: Precision = "bfloat16"


@dataclass(frozen=True, kw_only=True, eq=False)
class Scan:
    """What the model says of T tokens of some rows, in the order of the rows."""

    rows: Sequence[Row]
    owner: np.ndarray
    "Which of `rows` a token is of [T]."
    place: np.ndarray
    "Its index among the row's attended ids [T]."
    at: np.ndarray
    "Its index among the row's ids [T]."
    exact: np.ndarray
    "log π(y) at the row's temperature [T]."
    noise: np.ndarray
    "What rounding to the allowed precision adds to it [T]."
    table: np.ndarray
    "log π_β(y) at the nodes of log β [T, J]."
    top: np.ndarray
    "The log-probs of the likeliest ids, falling [T, C]."
    rank: np.ndarray
    "How many ids are likelier than y [T]."
    share: np.ndarray
    "Var of log π(y) where every logit has a variance of 1: (1 - p_y)² + Σ_{v≠y} p_v² [T]."
    precision: str

    def at_temperature(self, log_beta: float, index: np.ndarray | slice = slice(None)) -> np.ndarray:
        """log π_β(y) at some tokens, from the nodes by barycentric interpolation, to 1e-5 nats."""
        return self.table[index] @ _weights(log_beta)

    def top_at(self, log_beta: float, index: np.ndarray, most: int = TOP) -> np.ndarray:
        """The log-probs of the likeliest ids at another temperature, at some tokens [n, C]."""
        beta = np.exp(log_beta)
        moved = self.at_temperature(log_beta, index) - beta * self.exact[index]
        return beta * self.top[index, :most].astype(float) + moved[:, None]

    @cached_property
    def sigma(self) -> np.ndarray:
        """The size of rounding's noise at each token [T]: σ² = share · Σ noise² / Σ share."""
        return np.sqrt(np.maximum(self.share * (self.noise**2).sum() / self.share.sum(), 1e-10))


class _Part(NamedTuple):
    exact: Tensor
    table: Tensor
    top: Tensor
    rank: Tensor
    share: Tensor


def scan(opened: Opened, rows: Sequence[Row], wanted: Sequence[np.ndarray]) -> Scan | None:
    """What the model says of the wanted tokens of each row, bool [L]; None where there are none.

    A row's first attended id and padding are never scored.
    """
    picked = [(row, _scored(row, want)) for row, want in zip(rows, wanted, strict=True)]
    picked = [(row, places) for row, places in picked if len(places)]
    if not picked:
        return None
    groups = [_group(row, places) for row, places in picked]
    temperature = np.concatenate([np.full(len(places), row.temperature or 1.0) for row, places in picked])
    parts = list(_pass(opened.exact, groups, temperature, whole=True))
    said = {name: _joined([getattr(p, name) for p in parts], name != "top") for name in _Part._fields}
    rough = _joined([part.exact for part in _pass(opened.rounded, groups, temperature, whole=False)])
    return Scan(
        rows=[row for row, _ in picked],
        owner=np.concatenate([np.full(len(places), k) for k, (_, places) in enumerate(picked)]),
        place=np.concatenate([places for _, places in picked]),
        at=np.concatenate([row.real[places] for row, places in picked]),
        noise=rough - said["exact"],
        precision=opened.precision,
        **said,
    )


def _scored(row: Row, want: np.ndarray) -> np.ndarray:
    found = np.flatnonzero(want[row.real])
    return found[found > 0]


def _group(row: Row, places: np.ndarray) -> Group:
    ids = row.ids[row.real].astype(np.int32)
    chosen = np.zeros(len(ids), bool)
    chosen[places] = True
    rest = Completion(text="", tokens=ids[1:], supervised=chosen[1:])
    return Group(prompt=(), prompt_tokens=ids[:1], completions=(rest,))


def _pass(
    network: LanguageModel, groups: Sequence[Group], temperature: np.ndarray, *, whole: bool
) -> Iterator[_Part]:
    start = 0
    with torch.no_grad(), network.as_called():
        for run in split(groups, ROW_TOKENS):
            batch = pack(run).to(network.device)
            states = (
                packed_states(network.body, batch) if network.packs else padded_states(network.body, batch)
            )
            heat = torch.from_numpy(temperature[start : start + len(batch.targets)]).to(network.device)
            start += len(batch.targets)
            size = max(1, _LOGITS // (network.head.weight.shape[0] * 4))
            for rows in (slice(a, a + size) for a in range(0, len(batch.targets), size)):
                z = network.next_logits(states.rows.index_select(0, states.at[rows]))
                yield _said(z / heat[rows, None].to(z.dtype), batch.targets[rows], whole=whole)


def _said(z: Tensor, targets: Tensor, *, whole: bool) -> _Part:
    z = torch.log_softmax(z, -1)
    own = z.gather(1, targets[:, None])
    none = z.new_zeros(len(z), 0)
    if not whole:
        return _Part(own[:, 0], none, none, none[:, :0], none[:, :0])
    betas = torch.exp(torch.from_numpy(NODES)).to(z)
    table = torch.cat([b * own - torch.logsumexp(b * z, -1, keepdim=True) for b in betas], 1)
    p = z.exp()
    share = 1 - 2 * p.gather(1, targets[:, None])[:, 0] + (p * p).sum(1)
    top = z.topk(min(TOP, z.shape[1]), -1).values
    return _Part(own[:, 0], table, top, (z > own).sum(1), share.clamp(min=1e-8))


def _joined(parts: Sequence[Tensor], wide: bool = True) -> np.ndarray:
    return torch.cat(list(parts)).to("cpu", torch.float64 if wide else torch.float32).numpy()


def _weights(x: float) -> np.ndarray:
    """What barycentric interpolation at Chebyshev's nodes gives each node."""
    gap = x - NODES
    if (near := np.abs(gap) < 1e-12).any():
        return near.astype(float)
    k = np.arange(len(NODES))
    terms = (-1.0) ** k * np.sin((2 * k + 1) * np.pi / (2 * len(NODES))) / gap
    return terms / terms.sum()


def open_model(path: str, *, template: str | None, precision: Precision, device: str) -> Opened:
    """The model of a folder or id, in the two precisions, and its chat. Raises what loading raises."""
    from trueup.models.load import load
    from trueup.models.opening import model_path, open_policy
    from trueup.settings.blocks import ModelSettings

    exact: Any = "float32" if precision == "bfloat16" else "float64"
    settings = ModelSettings(path=path, template=template, dtype=exact, device=device)
    chat, network = open_policy(settings)
    rounded = load(model_path(path), dtype=precision, device=str(network.device), tokenizer=chat.tokenizer)
    rounded.module.requires_grad_(False).eval()
    return Opened(chat=chat, exact=network, rounded=rounded, precision=precision)
