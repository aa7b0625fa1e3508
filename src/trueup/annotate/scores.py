"""What a judge says of the completions, once each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trueup.engine.groups import Group
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
        out, raw, finished, lengths = [], [], [], []
        for group, values in zip(groups, judged, strict=True):
            completions = []
            for completion, value in zip(group.completions, values, strict=True):
                raw.append(value)
                finished.append(completion.finished)
                lengths.append(completion.num_supervised)
                if not completion.finished and self.missing_eos is not None:
                    value = self.missing_eos
                completions.append(completion.with_marks(score=float(value)))
            out.append(group.with_completions(completions))
        handles.record(
            {
                "score": float(np.mean(raw)),
                "eos_rate": float(np.mean(finished)),
                "completion_length": float(np.mean(lengths)),
            }
        )
        return out
