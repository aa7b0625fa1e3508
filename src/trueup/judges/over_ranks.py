"""A judge among the ranks of a run: each asks about a share, or the first asks for all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trueup.engine.groups import Group
from trueup.engine.ranks import Ranks
from trueup.judges import Judge
from trueup.judges.embedding import EmbeddingJudge
from trueup.judges.reward_model import RewardModelJudge
from trueup.judges.stepwise import StepwiseJudge


@dataclass(frozen=True, kw_only=True, eq=False)
class OverRanks:
    """The judge's scores on every rank, each given once.

    A network scores a share of the groups on each rank. What may see a whole step at once, or answer twice
    in two ways (a function, a server, a language model), rank 0 alone asks while the others wait.
    """

    judge: Judge
    ranks: Ranks

    def __call__(self, groups: Sequence[Group]) -> list[list[float]]:
        """The scores of every completion of every group."""
        if not isinstance(self.judge, RewardModelJudge | EmbeddingJudge | StepwiseJudge):
            return self.ranks.first(self.judge(groups) if self.ranks.leads else None)
        share = self.ranks.mine([len(group.completions) for group in groups])
        own = self.judge(list(groups[share.start : share.stop])) if share else []
        return [scores for part in self.ranks.values(own) for scores in part]


def over_ranks(judge: Judge, ranks: Ranks) -> Judge:
    """The judge itself where there is one rank."""
    return judge if ranks.count == 1 else OverRanks(judge=judge, ranks=ranks)
