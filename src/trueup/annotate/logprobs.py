"""What networks say of the tokens, written down before learning starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trueup.engine.groups import Group, each, joined_column
from trueup.engine.method import Handles
from trueup.engine.packing import pack, spread
from trueup.engine.prefixes import share_prefix
from trueup.engine.room import fitting, passes
from trueup.engine.views import View, mapped
from trueup.errors import TrueupError

Floats = NDArray[np.float64]


def measure(groups: Sequence[Group], network: str, want: str, handles: Handles) -> Tensor:
    """One output of one network over all groups, without gradient, in `pack`'s order.

    `want` names a field of `Outputs`. Peak memory is one microbatch's, whatever the number of groups; each
    rank measures its share and learns the others'.
    """
    own = fitting(lambda budget: _measured(groups, network, want, handles, budget), groups, handles)
    return handles.ranks.joined(own)


def _measured(groups: Sequence[Group], network: str, want: str, handles: Handles, budget: int) -> Tensor:
    parts = []
    with torch.no_grad():
        for micro, real in passes(groups, handles, budget):
            batch = pack(micro).to(handles.device, handles.dtype)
            said = getattr(handles.networks[network](batch, (want,)), want)
            parts += [said] if real else []
    return torch.cat(parts) if parts else torch.empty(0, device=handles.device)


def spread_over(groups: View, **columns: Tensor) -> View:
    """As `spread`, of groups that are not in memory: what is held is the tensors."""
    sizes = (sum(c.num_supervised for c in group.completions) for group in groups)
    ends = np.cumsum(np.fromiter(sizes, np.int64, len(groups)))
    held = {name: tensor.detach().cpu() for name, tensor in columns.items()}

    def at(place: int) -> Group:
        own = slice(int(ends[place - 1]) if place else 0, int(ends[place]))
        return spread([groups.at(place)], **{name: tensor[own] for name, tensor in held.items()})[0]

    return View(len(groups), at)


def token_logprobs(groups: Sequence[Group], network: str, handles: Handles) -> list[list[Floats]]:
    """log π(y_t | x, y_<t) of every supervised token: by group, by completion, float64 [L]."""
    refuse_empty(groups)

    def whole(budget: int) -> Tensor:
        return _measured(share_prefix(groups, budget), network, "logprobs", handles, budget)

    found = handles.ranks.joined(fitting(whole, groups, handles))
    return by_completion(groups, found.double().cpu().numpy())


def choice_logprobs(groups: Sequence[Group], network: str, handles: Handles) -> list[Floats]:
    """log π(choice | prompt) = Σ_t log π(y_t | x, y_<t) of every choice: by group, float64 [K]."""
    tokens = token_logprobs(groups, network, handles)
    return [np.array([choice.sum() for choice in choices]) for choices in tokens]


def by_completion(groups: Sequence[Group], flat: NDArray[np.floating]) -> list[list[Floats]]:
    """Numbers [T] in `pack`'s order, cut by group and completion."""
    sizes = [completion.num_supervised for group in groups for completion in group.completions]
    parts = iter(np.split(np.asarray(flat, np.float64), np.cumsum(sizes)))
    return [[next(parts) for _ in group.completions] for group in groups]


def refuse_empty(groups: Sequence[Group]) -> None:
    """Nothing; raises E502 for a completion that has no tokens to score."""
    for group in groups:
        if any(c.num_supervised == 0 for c in group.completions):
            raise TrueupError(
                "E502",
                "a choice has no tokens to score",
                where=f"group {group.id}",
                remedy="leave the item out",
            )


@dataclass(frozen=True, kw_only=True)
class Measure:
    """Writes one network's per-token output as a column: `ref_logprobs`, `old_values` ...

    With `under`, the network sees each group as that function gives it: the same completions after another
    prompt (a teacher's instructions), aligned token by token.
    """

    network: str
    want: str
    "A field of `Outputs` with one row a token."
    column: str
    under: Callable[[Group], Group] | None = None

    reads = frozenset[str]()

    @property
    def writes(self) -> frozenset[str]:
        """The column."""
        return frozenset({self.column})

    def __call__(self, groups: list[Group], handles: Handles) -> list[Group]:
        """The groups with the column."""
        seen = groups if self.under is None else [self.under(group) for group in groups]
        return spread(groups, **{self.column: measure(seen, self.network, self.want, handles)})

    def over(self, groups: View, handles: Handles) -> View:
        """The same of groups that are not in memory."""
        seen = groups if self.under is None else mapped(groups, self.under)
        return spread_over(groups, **{self.column: measure(seen, self.network, self.want, handles)})


@dataclass(frozen=True, kw_only=True)
class OldLogprobs:
    """Writes the log-probabilities of the policy that sampled, and logs how far sampler and trainer differ.

    With `by="trainer"` they are recomputed by the very forward pass that learns, so the first ratio is 1 to
    rounding; where a server sampled, that was done when its log-probs were compared, and the column
    `recomputed_logprobs` is taken. With `by="sampler"` the ones recorded while sampling are used, which saves
    a pass; the gap is then measured on the first `probe` groups of each step.
    """

    by: Literal["trainer", "sampler"] = "trainer"
    probe: int = 8

    reads = frozenset({"sampled_logprobs"})
    writes = frozenset({"old_logprobs"})

    def __call__(self, groups: list[Group], handles: Handles) -> list[Group]:
        """The groups with `old_logprobs`."""
        checked = groups if self.by == "trainer" else groups[: self.probe]
        if all("recomputed_logprobs" in c.columns for group in checked for c in group.completions):
            recomputed = torch.from_numpy(joined_column(checked, "recomputed_logprobs"))
        else:
            recomputed = measure(checked, "policy", "logprobs", handles)
        sampled = joined_column(checked, "sampled_logprobs")
        gap = np.abs(recomputed.double().cpu().numpy() - sampled)
        handles.record({"sampler_gap": float(gap.max())})
        if self.by == "trainer":
            return spread(groups, old_logprobs=recomputed)
        return each(groups, lambda c: c.with_columns(old_logprobs=c.columns["sampled_logprobs"]))
