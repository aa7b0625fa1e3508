"""Groups sampled from the policy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch

from trueup.engine.groups import Completion, Group
from trueup.engine.method import Handles, Network, Parts
from trueup.engine.order import derive, draw
from trueup.engine.ranks import ALONE, Ranks
from trueup.errors import TrueupError
from trueup.models.forward import LanguageModel
from trueup.models.generate import Sampled, generate


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How completions are drawn; reinforcement learning samples plainly, so top_k and top_p are off."""

    temperature: float = 1.0
    "Divides the logits, wherever a log-probability is taken."
    max_new_tokens: int = 64
    "Longest completion, end token included."
    top_k: int | None = None
    top_p: float | None = None
    greedy: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """Yields `batch` prompts a step, each with K fresh completions of the policy, or of another network.

    Every sample is a function of the seed, the step, the prompt's place in the step and the completion's
    place in the group; how rows are batched plays no part. Completions carry `sampled_logprobs`.
    """

    prompts: Sequence[Group]
    batch: int
    decode: Callable[[np.ndarray], str]
    "Token ids of a completion to the text a person sees."
    stop_ids: tuple[int, ...]
    num_completions: int = 1
    decoding: Decoding = Decoding()
    network: str = "policy"
    "Who writes the completions, and is named as their source."
    under: Callable[[Group], Group] | None = None
    "What the writer reads in place of each group; the completions stand under the group's own prompt."

    def __post_init__(self) -> None:
        """Raises E604 when there is no prompt."""
        if not self.prompts:
            raise TrueupError("E604", "no prompt to sample from", where="data", remedy="give more rows")

    @property
    def writes(self) -> frozenset[str]:
        """`sampled_logprobs`."""
        return frozenset({"sampled_logprobs"})

    def __call__(self, step: int, handles: Handles) -> list[Group]:
        """The groups of step `step`, sampled from the network as it is now."""
        chosen = draw(len(self.prompts), self.batch, step, handles.seed, handles.epochs)
        return self.complete([self.prompts[i] for i in chosen], step, handles)

    def complete(self, prompts: Sequence[Group], step: int, handles: Handles) -> list[Group]:
        """The prompts of step `step` with fresh completions."""
        drawn = draw_groups(
            prompts if self.under is None else [self.under(p) for p in prompts],
            self.network,
            handles,
            decode=self.decode,
            stop_ids=self.stop_ids,
            k=self.num_completions,
            decoding=self.decoding,
            seed=derive(handles.seed, "sample", step),
        )
        if self.under is None:
            return drawn
        return [
            replace(g, prompt=p.prompt, prompt_tokens=p.prompt_tokens)
            for g, p in zip(drawn, prompts, strict=True)
        ]


def from_policy(
    parts: Parts, *, batch: int, num_completions: int, decoding: Decoding, network: str = "policy"
) -> tuple[Sample, Sample | None]:
    """The policy's completions of a method's prompts, and of all held-out prompts where there are any.

    Another `network` may write them.
    """

    def of(prompts: Sequence[Group], size: int) -> Sample:
        return Sample(
            prompts=prompts,
            batch=size,
            decode=parts.decode,
            stop_ids=parts.stop_ids,
            num_completions=num_completions,
            decoding=decoding,
            network=network,
        )

    return of(parts.groups, batch), of(parts.held_out, len(parts.held_out)) if parts.held_out else None


def draw_groups(
    prompts: Sequence[Group],
    network: str,
    handles: Handles,
    *,
    decode: Callable[[np.ndarray], str],
    stop_ids: tuple[int, ...],
    k: int,
    decoding: Decoding,
    seed: int,
) -> list[Group]:
    """As `sample_groups`, from a network of a run: the policy's completions by the run's sampler, if any."""
    how = {"decode": decode, "stop_ids": stop_ids, "k": k, "decoding": decoding, "seed": seed}
    if network == "policy" and handles.sampler is not None:
        return handles.sampler(prompts, handles=handles, **how)
    return sample_groups(prompts, handles.networks[network], name=network, ranks=handles.ranks, **how)


def sample_groups(
    prompts: Sequence[Group],
    network: Network,
    *,
    decode: Callable[[np.ndarray], str],
    stop_ids: tuple[int, ...],
    k: int,
    decoding: Decoding,
    seed: int,
    name: str = "policy",
    ranks: Ranks = ALONE,
) -> list[Group]:
    """The prompts, each with K sampled completions in place of any it had, judgements dropped.

    Each of the ranks samples for a share of the prompts, and all have the completions of all.
    """
    encoded = [p.prompt_tokens for p in prompts if p.prompt_tokens is not None]
    share = ranks.mine([len(tokens) + k * decoding.max_new_tokens for tokens in encoded])
    drawn = generate(
        cast(LanguageModel, network),
        encoded[share.start : share.stop],
        first=share.start,
        k=k,
        max_new_tokens=decoding.max_new_tokens,
        temperature=decoding.temperature,
        top_k=decoding.top_k,
        top_p=decoding.top_p,
        greedy=decoding.greedy,
        stop_ids=stop_ids,
        seed=seed,
    )
    return grouped(prompts, _of_all(drawn, k, ranks), decode, name)


def grouped(
    prompts: Sequence[Group],
    drawn: Sequence[Sequence[Sampled]],
    decode: Callable[[np.ndarray], str],
    name: str,
) -> list[Group]:
    """The prompts, each with the completions that were drawn for it, judgements dropped."""
    return [
        Group(
            prompt=prompt.prompt,
            prompt_tokens=prompt.prompt_tokens,
            completions=tuple(_completion(s, decode, name) for s in samples),
            id=prompt.id,
            user=prompt.user,
            source=prompt.source,
            meta=prompt.meta,
        )
        for prompt, samples in zip(prompts, drawn, strict=True)
    ]


def _of_all(drawn: list[list[Sampled]], k: int, ranks: Ranks) -> list[list[Sampled]]:
    """The samples of all ranks, K of each prompt."""
    if ranks.count == 1:
        return drawn
    own = [sample for samples in drawn for sample in samples]
    lengths = ranks.joined(torch.tensor([len(s.tokens) for s in own])).tolist()
    finished = ranks.joined(torch.tensor([s.finished for s in own])).tolist()
    tokens, logprobs = (
        ranks.joined(torch.from_numpy(np.concatenate([s[part] for s in own]) if own else np.empty(0)))
        .split(lengths) for part in (0, 1)
    )  # fmt: skip
    every = [
        Sampled(ids.numpy(), said.numpy(), ended)
        for ids, said, ended in zip(tokens, logprobs, finished, strict=True)
    ]
    return [every[start : start + k] for start in range(0, len(every), k)]


def _completion(sampled: Sampled, decode: Callable[[np.ndarray], str], name: str) -> Completion:
    return Completion(
        text=decode(sampled.tokens),
        tokens=sampled.tokens,
        finished=sampled.finished,
        source=name,
        columns={"sampled_logprobs": np.asarray(sampled.logprobs, np.float64)},
    )
