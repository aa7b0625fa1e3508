"""From one score a completion to one reward a token, and the controllers of the pull to the reference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trueup.engine.groups import Completion, Group, each
from trueup.engine.method import Handles


def sequence_kl(group: Group) -> list[float]:
    """Σ_t [log π_old(y_t) − log ρ(y_t)] of each completion: the k1 estimate of the sequence KL, in nats."""
    return [float((c.columns["old_logprobs"] - c.columns["ref_logprobs"]).sum()) for c in group.completions]


@dataclass(frozen=True, kw_only=True)
class KLReward:
    """Writes the column `rewards`: the score at the last token, minus the KL penalty at every token.

    r_t = −β (log π_old(y_t) − log ρ(y_t)) + 1{t is last} · score

    The k1 estimator in the reward gives exactly ∇KL(π‖ρ). Nothing here carries a gradient. β is
    `handles.state["beta"]`, which `beta` sets on the first step and a controller may move afterwards.
    References: Ziegler et al. 2019, equation 2; Schulman 2020 (k1).
    """

    beta: float

    reads = frozenset({"old_logprobs", "ref_logprobs", "score"})
    writes = frozenset({"rewards"})

    def __call__(self, groups: list[Group], handles: Handles) -> list[Group]:
        """The groups with `rewards`."""
        beta = handles.state.setdefault("beta", self.beta)

        def rewarded(c: Completion) -> Completion:
            rewards = -beta * (c.columns["old_logprobs"] - c.columns["ref_logprobs"])
            rewards[-1] += c.marks["score"]
            return c.with_columns(rewards=rewards)

        out = each(groups, rewarded)
        kl = [value for group in groups for value in sequence_kl(group)]
        total = [float(c.columns["rewards"].sum()) for g in out for c in g.completions]
        handles.record({"kl": float(np.mean(kl)), "beta": beta, "reward": float(np.mean(total))})
        return out


@dataclass(frozen=True, kw_only=True)
class AdaptiveKL:
    """Moves β so that the measured KL approaches a target; takes effect from the next step on.

    β ← β (1 + clip(KL / target − 1, ±0.2) · n / horizon)

    KL is the mean over the step's n completions of the summed k1.
    Reference: Ziegler et al. 2019, section 2.2.
    """

    target: float = 6.0
    "The KL to approach, nats per completion."
    horizon: int = 10_000
    "Completions over which a full correction acts."

    reads = frozenset({"old_logprobs", "ref_logprobs", "rewards"})
    "The rewards, because they used the present β."
    writes = frozenset[str]()

    def __call__(self, groups: list[Group], handles: Handles) -> list[Group]:
        """The same groups; `handles.state["beta"]` has moved."""
        kl = [value for group in groups for value in sequence_kl(group)]
        error = float(np.clip(np.mean(kl) / self.target - 1, -0.2, 0.2))
        handles.state["beta"] *= 1 + error * len(kl) / self.horizon
        return groups
