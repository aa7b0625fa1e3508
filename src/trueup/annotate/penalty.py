"""A coefficient on how far a step moves the policy, and the controllers that set it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from trueup.annotate.logprobs import measure
from trueup.engine.groups import Group, each, joined_column
from trueup.engine.method import Handles


@dataclass(frozen=True, kw_only=True)
class Penalty:
    """Writes the mark `penalty`: the coefficient c of this step, the same on every completion.

    c is `handles.state["penalty"]`: `initial` on the first step, afterwards what a controller makes of it.
    """

    initial: float = 1.0

    reads = frozenset[str]()
    writes = frozenset({"penalty"})

    def __call__(self, groups: list[Group], handles: Handles) -> list[Group]:
        """The groups with `penalty`."""
        penalty = handles.state.setdefault("penalty", self.initial)
        handles.record({"penalty": penalty})
        return each(groups, lambda c: c.with_marks(penalty=penalty))


@dataclass(frozen=True, kw_only=True)
class MovePenalty:
    """Moves c by how far the step has moved the policy; takes effect from the next step on.

    KL = mean_t (e^u_t − 1 − u_t),  u_t = log π_new(y_t) − log π_old(y_t)    k3 of KL(π_old ‖ π_new)

    fixed      c ← c
    adaptive   c ← c / 2 where KL < δ / 1.5,  2 c where KL > 1.5 δ
    dual       c ← max(0, c + η (KL − δ))    a gradient step on the multiplier of the constraint KL ≤ δ

    It runs after a step's last update, on the tokens that the old policy wrote.
    References: Schulman et al. 2017, section 4 (adaptive); Schulman 2020 (k3).
    """

    form: Literal["fixed", "adaptive", "dual"] = "adaptive"
    target: float = 0.01
    "δ, nats a token."
    rate: float = 10.0
    "η: how far one nat a token beyond the target moves the coefficient of `dual`."

    reads = frozenset({"old_logprobs", "penalty"})
    "The penalty that the step used."
    writes = frozenset[str]()

    def __call__(self, groups: list[Group], handles: Handles) -> list[Group]:
        """The same groups; `handles.state["penalty"]` has moved."""
        old = joined_column(groups, "old_logprobs")
        u = measure(groups, "policy", "logprobs", handles).double().cpu().numpy() - old
        kl = float((np.expm1(u) - u).mean())
        handles.record({"step_kl": kl})
        handles.state["penalty"] = self.moved(handles.state["penalty"], kl)
        return groups

    def moved(self, penalty: float, kl: float) -> float:
        """The coefficient after a step that moved the policy by `kl`."""
        if self.form == "dual":
            return max(0.0, penalty + self.rate * (kl - self.target))
        if self.form == "adaptive" and kl < self.target / 1.5:
            return penalty / 2
        if self.form == "adaptive" and kl > 1.5 * self.target:
            return penalty * 2
        return penalty
