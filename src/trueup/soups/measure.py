"""A policy's own completions of some prompts under several judges, one row of rewards for each prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from trueup.chat import Chat
from trueup.engine.groups import Group
from trueup.errors import TrueupError, counted
from trueup.evals.policies import sampled_kl
from trueup.evals.view import PolicyView
from trueup.judges import Judge
from trueup.models.forward import LanguageModel
from trueup.settings.names import check_name
from trueup.sources.sample import Decoding

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Answered:
    """What the completions of one policy were worth."""

    rewards: Floats
    "[num_prompts, K], samples of a prompt averaged."
    kl: float | None
    length: float
    tokens: int
    "Tokens sampled."


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Bench:
    """Prompts, judges and a seed that all policies of one comparison share."""

    prompts: Sequence[Group]
    judges: Mapping[str, Judge]
    chat: Chat
    decoding: Decoding
    samples_per_prompt: int
    seed: int
    reference: LanguageModel | None = None
    "The start, from which KL is measured on plain samples."

    def __call__(self, network: LanguageModel, name: str) -> Answered:
        """The rewards of a policy. Raises E901 for a score that is not finite."""
        view = self._view(network, name)
        drawn = view.draw(self.prompts, k=self.samples_per_prompt, decoding=self.decoding, seed=self.seed)
        columns = []
        for judge_name, judge in self.judges.items():
            scores = np.asarray(judge(drawn), np.float64)
            if not np.isfinite(scores).all():
                where, remedy = f"judge {judge_name}, policy {name}", "repair the judge, or leave it out"
                raise TrueupError("E901", "a score is not finite", where=where, remedy=remedy)
            columns.append(scores.mean(axis=1))
        kl = None
        if self.reference is not None:
            kl = float(sampled_kl(drawn, view, self._view(self.reference, "start")).mean())
        tokens = [c.num_tokens for g in drawn for c in g.completions]
        return Answered(
            rewards=np.stack(columns, axis=1), kl=kl, length=float(np.mean(tokens)), tokens=sum(tokens)
        )

    def _view(self, network: LanguageModel, name: str) -> PolicyView:
        return PolicyView(
            name=name,
            network=network,
            chat=self.chat,
            context=network.config.max_position_embeddings,
            device=network.device,
        )


def experts_of(models: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """The names and the models.

    Raises E736 for fewer than two, E770 for a name that is not plain, E801 for a folder that is not there.
    """
    if len(models) < 2:
        raise TrueupError("E736", counted(len(models), "expert"), where="experts", remedy="name two or more")
    for name, model in models.items():
        check_name(name, "an expert", f"experts.{name}")
        if model.startswith((".", "/")) and not Path(model).is_dir():
            raise TrueupError("E801", "no such folder", where=f"experts.{name}: {model}", remedy="check it")
    return list(models), list(models.values())
