"""What a judge says of the completions, once each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trueup.engine.groups import Group, each, marked
from trueup.engine.method import Handles


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Writes the mark `score`: the judge's number for each completion.

    A completion that hit the length limit without its stop token has its score replaced by `missing_eos`
    (None: left as it is); the share that did stop is logged as `eos_rate`.
    """

    missing_eos: float | None = -1.0

    reads = frozenset[str]()
    writes = frozenset({"score"})

    def __call__(self, groups: list[Group], handles: Handles) -> list[Group]:
        """The groups with `score`."""
        assert handles.judge is not None, "this method needs a judge"
        judged = handles.judge(groups)
        out = marked(groups, "score", judged)
        every = [c for group in out for c in group.completions]
        handles.record(
            {
                "score": float(np.mean([c.marks["score"] for c in every])),
                "eos_rate": float(np.mean([c.finished for c in every])),
                "completion_length": float(np.mean([c.num_supervised for c in every])),
            }
        )
        if self.missing_eos is None:
            return out
        missing = float(self.missing_eos)
        return each(out, lambda c: c if c.finished else c.with_marks(score=missing))
