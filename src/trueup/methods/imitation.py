"""Imitation on preference pairs: learn the chosen completions, rank by likelihood."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trueup.engine.groups import Group, marked
from trueup.engine.method import Method, Parts
from trueup.objectives.likelihood import Imitation
from trueup.settings.blocks import DataSettings, LoopSettings, ModelSettings
from trueup.sources.files import Everything, Files, demonstrations, preferred
from trueup.update.adamw import AdamW

SUMMARY = "Imitate the chosen completions; rank held-out pairs by mean log-probability."
REFERENCES = ("askell2021",)
FAMILY, UNIT, COPIES = "supervised", "token", 1
NEEDS = ("comparisons",)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Imitation: −log π(y_t) over the chosen completions; held-out pairs are ranked by mean log π(y_t)."""

    model: ModelSettings = ModelSettings()
    data: DataSettings = DataSettings(path="world:comparisons")
    loop: LoopSettings = LoopSettings(epochs=1)
    update: AdamW = AdamW()
    seed: int = 0


def build(config: Config, parts: Parts) -> Method:
    """The method: files (chosen only) -> NLL; whole pairs are held out, to be ranked."""
    chosen = demonstrations([g for g in parts.groups if g.pairs()])
    pairs = [g for g in parts.held_out if g.pairs() and preferred(g).completions]
    return Method(
        name="imitation",
        source=Files(groups=weighted(chosen), batch=config.loop.batch, written=frozenset({"imitated"})),
        held_out=Everything(groups=weighted(pairs), written=frozenset({"imitated"})),
        objective=Imitation(),
        update=config.update,
    )


def weighted(groups: Sequence[Group]) -> list[Group]:
    """The groups with the mark `imitated`: all tokens / imitated tokens on what is imitated, else 0.

    So the mean of marked losses over all of these groups' tokens is the mean over the imitated ones: 1 where
    everything is.
    """
    kept = [{id(c) for c in preferred(group).completions} for group in groups]
    every = [
        (c.num_supervised, id(c) in chosen)
        for g, chosen in zip(groups, kept, strict=True)
        for c in g.completions
    ]
    imitated = sum(size for size, is_chosen in every if is_chosen)
    share = sum(size for size, _ in every) / max(1, imitated)
    weights = [
        [share if id(c) in chosen else 0.0 for c in group.completions]
        for group, chosen in zip(groups, kept, strict=True)
    ]
    return marked(groups, "imitated", weights)
