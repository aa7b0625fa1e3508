"""Objectives made of objectives."""

from __future__ import annotations

from dataclasses import dataclass

from trueup.engine.batch import Batch, Outputs
from trueup.engine.method import Objective, Terms, Wants


@dataclass(frozen=True)
class Sum:
    """The weighted sum of several objectives on one batch: L = Σ_i w_i L_i.

    Each part keeps its own unit, so each is divided by its own count. Parts name their losses and metrics
    apart; two parts with one name are an error, not a merge.
    """

    parts: tuple[tuple[float, Objective], ...]

    @property
    def reads(self) -> frozenset[str]:
        """What any part reads."""
        return frozenset().union(*(part.reads for _, part in self.parts))

    @property
    def wants(self) -> Wants:
        """What any part wants, network by network."""
        merged: dict[str, tuple[str, ...]] = {}
        for _, part in self.parts:
            for network, outputs in part.wants.items():
                merged[network] = tuple(dict.fromkeys((*merged.get(network, ()), *outputs)))
        return merged

    def __call__(self, outputs: Outputs, batch: Batch) -> Terms:
        """All parts' entries under their own names."""
        losses, metrics = {}, {}
        for weight, part in self.parts:
            terms = part(outputs, batch)
            assert not set(terms.losses) & set(losses), "two parts give one loss the same name"
            losses.update({n: (weight * w, entries) for n, (w, entries) in terms.losses.items()})
            metrics.update(terms.metrics)
        return Terms(losses, metrics)
