"""How much better a token turned out than expected."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trueup.engine.groups import Completion, Group, each, joined_column
from trueup.engine.method import Handles


def gae(rewards: np.ndarray, values: np.ndarray, gamma: float, lam: float) -> np.ndarray:
    """Advantages [L] of one completion, by generalised advantage estimation.

    δ_t = r_t + γ V_{t+1} − V_t,  A_t = Σ_k (γλ)^k δ_{t+k},  with V after the last token 0.

    Example: V = (.5, .2), r = (0, 1), γ = 1, λ = .95 gives δ = (−.3, .8) and A = (.46, .8).
    Reference: Schulman et al. 2016, equation 16.
    """
    following = np.append(values[1:], 0.0)
    delta = rewards + gamma * following - values
    advantages = np.zeros_like(delta)
    running = 0.0
    for t in range(len(delta) - 1, -1, -1):
        running = delta[t] + gamma * lam * running
        advantages[t] = running
    return advantages


@dataclass(frozen=True, kw_only=True)
class GAE:
    """Writes `advantages` and `returns` = advantages + values, before any whitening."""

    gamma: float = 1.0
    "Discount."
    lam: float = 0.95
    "λ: 1 trusts what happened, 0 trusts the critic."

    reads = frozenset({"rewards", "old_values"})
    writes = frozenset({"advantages", "returns"})

    def __call__(self, groups: list[Group], handles: Handles) -> list[Group]:
        """The groups with both columns; logs how much of the returns the critic explains."""

        def estimated(c: Completion) -> Completion:
            values = c.columns["old_values"]
            advantages = gae(c.columns["rewards"], values, self.gamma, self.lam)
            return c.with_columns(advantages=advantages, returns=advantages + values)

        out = each(groups, estimated)
        returns, values = joined_column(out, "returns"), joined_column(out, "old_values")
        spread = float(returns.var())
        explained = 1 - float(((returns - values) ** 2).mean()) / spread if spread > 0 else 0.0
        handles.record({"value/explained_variance": explained, "returns": float(returns.mean())})
        return out


@dataclass(frozen=True, kw_only=True)
class ReturnsToGo:
    """Writes `advantages` = the discounted rewards from each token on: no critic, no baseline.

    A_t = Σ_{k≥t} γ^{k−t} r_k

    Reference: Hu 2025 (REINFORCE++).
    """

    gamma: float = 1.0
    "Discount."

    reads = frozenset({"rewards"})
    writes = frozenset({"advantages"})

    def __call__(self, groups: list[Group], handles: Handles) -> list[Group]:
        """The groups with `advantages`; logs their mean as `returns`."""

        def summed(c: Completion) -> Completion:
            rewards = c.columns["rewards"]
            return c.with_columns(advantages=gae(rewards, np.zeros_like(rewards), self.gamma, 1.0))

        out = each(groups, summed)
        handles.record({"returns": float(joined_column(out, "advantages").mean())})
        return out


@dataclass(frozen=True, kw_only=True)
class Whiten:
    """Rewrites a column to unit variance over all tokens of the step.

    x ← (x − μ) / √(var + 1e-8), plus μ again with `keep_mean`. The variance is the population's; the batch is
    the whole step, never a microbatch. References: Ziegler et al. 2019 (code); Huang et al. 2024.
    """

    column: str = "advantages"
    keep_mean: bool = False

    @property
    def reads(self) -> frozenset[str]:
        """The column."""
        return frozenset({self.column})

    @property
    def writes(self) -> frozenset[str]:
        """The column."""
        return frozenset({self.column})

    def __call__(self, groups: list[Group], handles: Handles) -> list[Group]:
        """The groups with the column whitened."""
        values = joined_column(groups, self.column)
        mean, scale = float(values.mean()), float(np.sqrt(values.var() + 1e-8))
        shift = mean if self.keep_mean else 0.0
        return each(
            groups, lambda c: c.with_columns(**{self.column: (c.columns[self.column] - mean) / scale + shift})
        )
