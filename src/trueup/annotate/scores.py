"""What a judge says of the completions, once each, and what not finishing costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from annotated_types import Le

from trueup.engine.groups import Group, marked
from trueup.engine.method import Annotator, Handles

MissingEos = Annotated[float, Le(0)] | Literal["mask"] | None
"What becomes of a completion that hit the length limit: see `lowered`, `Finished`; None leaves it alone."


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Writes the mark `score`: the judge's number for each completion, `lowered` where it did not end.

    `score` in the log is the judge's, `score/trained` what is learned from; the share of completions that
    ended by themselves is `eos_rate`.
    """

    missing_eos: MissingEos = -1.0

    reads = frozenset[str]()
    writes = frozenset({"score"})

    def __call__(self, groups: list[Group], handles: Handles) -> list[Group]:
        """The groups with `score`."""
        assert handles.judge is not None, "this method needs a judge"
        judged = handles.judge(groups)
        trained = lowered(groups, judged, self.missing_eos)
        every = [c for group in groups for c in group.completions]
        handles.record(
            {
                "score": float(np.mean([score for row in judged for score in row])),
                "score/trained": float(np.mean([score for row in trained for score in row])),
                "eos_rate": float(np.mean([c.finished for c in every])),
                "completion_length": float(np.mean([c.num_supervised for c in every])),
            }
        )
        return marked(groups, "score", trained)


def lowered(
    groups: Sequence[Group], scores: Sequence[Sequence[float]], missing_eos: MissingEos
) -> list[list[float]]:
    """The scores with those of completions that hit the length limit lowered, whatever the judge's scale.

        s'(y) = min(s(y), min of s over the finished completions of the same prompt) + missing_eos

    So an unfinished completion is below every finished one of its prompt, and the judge's order among
    unfinished ones with nothing finished beside them stays. None and "mask" change nothing.
    (docs/decisions/0014-missing-eos.md)
    """
    if missing_eos is None or missing_eos == "mask":
        return [list(row) for row in scores]
    out = []
    for group, row in zip(groups, scores, strict=True):
        ended = [c.finished for c in group.completions]
        least = min((s for s, end in zip(row, ended, strict=True) if end), default=np.inf)
        out.append([s if end else min(s, least) + missing_eos for s, end in zip(row, ended, strict=True)])
    return out


@dataclass(frozen=True, kw_only=True)
class Finished:
    """Leaves out the completions that hit the length limit: they have no gradient.

    Logs their share as `masked`; a prompt without a finished completion is left out whole. (TRL's
    `mask_truncated_completions`; the overlong filtering of Yu et al. 2025.)
    """

    reads = frozenset[str]()
    writes = frozenset[str]()

    def __call__(self, groups: list[Group], handles: Handles) -> list[Group]:
        """The groups of finished completions."""
        ended = [c.finished for group in groups for c in group.completions]
        handles.record({"masked": 1.0 - float(np.mean(ended))})
        kept = [g.with_completions([c for c in g.completions if c.finished]) for g in groups]
        return [group for group in kept if group.completions]


def masked(missing_eos: MissingEos) -> tuple[Annotator, ...]:
    """The stage that `mask` asks for, if it does; last where advantages compare a prompt's completions."""
    return (Finished(),) if missing_eos == "mask" else ()


def scored(missing_eos: MissingEos) -> tuple[Annotator, ...]:
    """The scores, and of which completions where `mask` leaves some out; where each stands for itself."""
    return (Scores(missing_eos=missing_eos), *masked(missing_eos))
