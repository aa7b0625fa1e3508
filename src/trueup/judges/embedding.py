"""Embeddings as a judge: the cosine between a prompt's and a completion's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import cosine_similarity

from trueup.engine.groups import Group
from trueup.engine.method import Handles
from trueup.engine.packing import pack, split
from trueup.engine.room import fitting
from trueup.judges.reward_model import RewardModelJudge


@dataclass(frozen=True, kw_only=True, eq=False)
class EmbeddingJudge:
    """Scores a completion by cos(f(x), f(y)), each text read alone.

    Texts are encoded anew as `RewardModelJudge` does: what the policy left on the groups is not used.
    """

    reader: RewardModelJudge
    "Its network has an `embeddings` head; it says how texts are encoded."

    def __call__(self, groups: Sequence[Group]) -> list[list[float]]:
        """The cosines of every completion of every group."""
        encoded = [self.reader.encode(g) for g in groups]
        handles = Handles(
            networks={}, device=self.reader.device, microbatch_tokens=self.reader.microbatch_tokens
        )
        return fitting(lambda budget: self._cosines(encoded, budget), encoded, handles)

    def _cosines(self, groups: Sequence[Group], budget: int) -> list[list[float]]:
        out: list[list[float]] = []
        for micro in split(groups, budget):
            batch = pack(micro).to(self.reader.device)
            with torch.no_grad():
                said = self.reader.network(batch, ("embeddings",))
            assert said.embeddings is not None and said.prompt_embeddings is not None
            cosine = cosine_similarity(said.prompt_embeddings[batch.group], said.embeddings, dim=-1)
            sizes = [len(g.completions) for g in micro]
            out += [part.double().tolist() for part in cosine.split(sizes)]
        return out
