"""Imitation on preference pairs: learn the chosen completions, rank by likelihood."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trueup.engine.groups import Group, each
from trueup.engine.method import Method, Parts
from trueup.engine.views import mapped, where
from trueup.objectives.likelihood import Imitation
from trueup.settings.blocks import DataSettings, LoopSettings, ModelSettings
from trueup.sources.files import Everything, Files, demonstrations, preferred, with_pairs
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
    chosen = demonstrations(with_pairs(parts.groups))
    pairs = where(with_pairs(parts.held_out), lambda group: preferred(group).completions)
    return Method(
        name="imitation",
        source=Files(groups=weighted(chosen), batch=config.loop.batch, written=frozenset({"imitated"})),
        held_out=Everything(groups=weighted(pairs), written=frozenset({"imitated"})),
        objective=Imitation(),
        update=config.update,
    )


def weighted(groups: Sequence[Group]) -> Sequence[Group]:
    """The groups with the mark `imitated`: all tokens / imitated tokens on what is imitated, else 0.

    So the mean of marked losses over all of these groups' tokens is the mean over the imitated ones: 1 where
    everything is.
    """
    tokens = imitated = 0
    for group in groups:
        tokens += sum(c.num_supervised for c in group.completions)
        imitated += sum(c.num_supervised for c in preferred(group).completions)
    share = tokens / max(1, imitated)

    def marked(group: Group) -> Group:
        chosen = {id(c) for c in preferred(group).completions}
        return each([group], lambda c: c.with_marks(imitated=share if id(c) in chosen else 0.0))[0]

    return mapped(groups, marked)
