"""Toys that are small enough to be checked exactly: networks, groups, and a judge.

`trueup.testing` checks objectives and methods on them; a method's own tests may too.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from trueup.engine.batch import Batch, Outputs
from trueup.engine.groups import Comparison, Completion, Group, Message, Ranking, Role, each
from trueup.engine.method import Network
from trueup.engine.packing import pack, spread
from trueup.models.load import from_modules
from trueup.models.logprob import top_of, with_rest

VOCABULARY = 16
STOP = 0
"The end token of every toy completion; it stands nowhere else."
LAST_OF_PROMPT = VOCABULARY - 1
PROMPT_ONLY = slice(VOCABULARY // 2, LAST_OF_PROMPT)
"Tokens that stand inside prompts and nowhere else, never at a prompt's end."


@final
class StandIn(nn.Module):
    """A network small enough to differentiate exactly: logits by the last token and its position.

    logits(s) = table[last token] + place[position mod 8],  V(s) = value[last token],  r(x, y) likewise,
    f(text) = embedding[last token before the end, length mod 8].
    Everything is float64, so that what should be equal is equal to 1e-10.
    """

    def __init__(self, seed: int = 0, vocabulary: int = VOCABULARY) -> None:
        super().__init__()
        draw = np.random.default_rng(seed).normal
        self.table = nn.Parameter(torch.from_numpy(draw(size=(vocabulary, vocabulary))))
        self.place = nn.Parameter(torch.from_numpy(draw(size=(8, vocabulary))))
        self.value = nn.Parameter(torch.from_numpy(draw(size=vocabulary)))
        self.reward = nn.Parameter(torch.from_numpy(draw(size=(vocabulary, 8))))
        self.embedding = nn.Parameter(torch.from_numpy(draw(size=(vocabulary, 8, 3))))

    @property
    def module(self) -> nn.Module:
        """Itself: it holds the parameters."""
        return self

    def forward(self, batch: Batch, want: Sequence[str]) -> Outputs:
        state, place = batch.tokens[batch.at], batch.positions[batch.at] % 8
        table = torch.log_softmax(self.table[state] + self.place[place], -1)
        ends = [start + length - 1 for (start, length), _ in batch.spans]
        lengths = [length % 8 for span in batch.spans for _, length in span.completions]
        said = {
            "logprobs": table.gather(1, batch.targets[:, None]).squeeze(1),
            "entropy": -(table.exp() * table).sum(-1),
            "values": self.value[state],
            "rewards": self.reward[batch.tokens[batch.last - 1], batch.positions[batch.last] % 8],
            "distributions": table,
            "embeddings": self.embedding[batch.tokens[batch.last - 1], lengths],
            "prompt_embeddings": self.embedding[batch.tokens[ends], batch.positions[ends] % 8],
        }
        if "embeddings" in want:
            want = (*want, "prompt_embeddings")
        return Outputs(**{n: said[n] for n in plain(want)}, **listed_in(table, batch, want))


def plain(want: Sequence[str]) -> list[str]:
    """What is wanted beside listed log-probabilities."""
    return [name for name in want if name != "listed" and not name.startswith("top:")]


def listed_in(table: Tensor, batch: Batch, want: Sequence[str]) -> dict[str, Tensor]:
    """The listed outputs that are wanted, from the log-probabilities [T, V] of every id."""
    found: dict[str, Tensor] = {}
    for name in want:
        if name == "listed":
            found["listed"] = with_rest(table, batch.columns["listed_ids"].long())
        elif name.startswith("top:"):
            top = top_of(table, int(name.removeprefix("top:")))
            found.update(listed=top.logprobs, listed_ids=top.ids)
    return found


def toy_groups(count: int = 7, *, seed: int = 0) -> list[Group]:
    """Encoded groups of uneven shape: prompts of 2 to 6 tokens, 2 to 4 completions, comparisons and rankings.

    Every third group has a tied comparison beside a plain one, every third a soft label, and one completion
    in four has tokens that no loss may touch. `meta["steps"]` calls each half of a completion right or wrong,
    in the text that `spelled` gives.
    """
    rng = np.random.default_rng(seed)
    return [_toy_group(rng, number) for number in range(count)]


def _toy_group(rng: np.random.Generator, number: int) -> Group:
    inside = rng.integers(PROMPT_ONLY.start, PROMPT_ONLY.stop, rng.integers(1, 6))
    prompt = np.append(inside, LAST_OF_PROMPT).astype(np.int32)
    completions, steps = [], []
    for k in range(2 + number % 3):
        body = rng.integers(1, PROMPT_ONLY.start, rng.integers(1, 7))
        tokens = np.append(body, STOP).astype(np.int32)
        supervised = np.arange(len(tokens)) % 3 != 1 if (number + k) % 4 == 3 else None
        completions.append(Completion(text=f"{number}.{k}", tokens=tokens, supervised=supervised))
        halves = [spelled(half) for half in np.array_split(body, 2) if len(half)]
        steps.append([{"text": half, "label": (number + k + i) % 3 > 0} for i, half in enumerate(halves)])
    if number % 3 == 0:
        judged: dict[str, Any] = {
            "comparisons": (
                Comparison(a=1, b=0, choice="a", strength=2.0),
                Comparison(a=0, b=1, choice="tie"),
            )
        }
    elif number % 3 == 1:
        judged = {"comparisons": (Comparison(a=0, b=2, choice="a", probability=0.75),)}
    else:
        judged = {"rankings": (Ranking(tiers=((2,), (0, 3), (1,))),)}
    message = Message(Role.TEXT, str(number))
    return Group(
        id=str(number),
        prompt=(message,),
        prompt_tokens=prompt,
        completions=tuple(completions),
        meta={"steps": steps},
        **judged,
    )


def spelled(ids: Sequence[int] | np.ndarray) -> str:
    """The text of toy tokens: their numbers."""
    return " ".join(map(str, ids))


def toy_prompt_ids(messages: Sequence[Message]) -> np.ndarray:
    """Prompt tokens for any messages: a few of their bytes as tokens that stand only inside prompts."""
    said = "".join(message.content for message in messages).encode()[-6:]
    inside = [PROMPT_ONLY.start + byte % (PROMPT_ONLY.stop - PROMPT_ONLY.start) for byte in said]
    return np.array([*inside, LAST_OF_PROMPT], np.int32)


def shuffled(group: Group, order: Sequence[int]) -> Group:
    """The same group with its completions in another order: `order[i]` is the old place of the new i-th."""
    place = {old: new for new, old in enumerate(order)}
    return replace(
        group,
        completions=tuple(group.completions[old] for old in order),
        comparisons=tuple(replace(c, a=place[c.a], b=place[c.b]) for c in group.comparisons),
        rankings=tuple(
            replace(r, tiers=tuple(tuple(place[i] for i in tier) for tier in r.tiers)) for r in group.rankings
        ),
    )


_TEACHER = {
    "teacher_distributions": ("distributions", "distributions"),
    "teacher_listed": ("top:3", "listed"),
    "listed_ids": ("top:3", "listed_ids"),
}
"column of a teacher -> what a network is asked for, and the part of its answer."


def with_columns(
    groups: Sequence[Group], names: frozenset[str], *, policy: Network, seed: int
) -> list[Group]:
    """The groups with every name as a column and as a mark.

    Names that end in `logprobs` hold what `policy` says of the tokens, the columns of a teacher its
    distributions, whole or by three listed ids; the others are random normal numbers.
    """
    rng = np.random.default_rng(seed)
    out = list(groups)
    for name in sorted(names):
        asked = ("logprobs", "logprobs") if name.endswith("logprobs") else _TEACHER.get(name)
        if asked is not None:
            with torch.no_grad():
                said = policy(pack(out).to("cpu", torch.float64), (asked[0],))
            out = spread(out, **{name: getattr(said, asked[1])})
            continue

        def drawn(c: Completion, name: str = name) -> Completion:
            column, mark = rng.normal(size=c.num_supervised), float(rng.normal())
            return c.with_columns(**{name: column}).with_marks(**{name: mark})

        out = each(out, drawn)
    return out


def nearby(policy: StandIn, seed: int) -> StandIn:
    """A copy of the policy a little while ago: close enough that some ratios are clipped and some are not."""
    other = copy.deepcopy(policy)
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in other.parameters():
            p.add_(0.2 * torch.randn(p.shape, generator=noise, dtype=p.dtype))
    return other


def tiny_network(heads: Sequence[Any] = ("logprobs",), *, trained: bool = True, seed: int = 0) -> Network:
    """A random two-layer Llama over the toy vocabulary, the same one at every call with that seed."""
    network = from_modules(tiny_llama(seed), None, heads=heads)
    network.module.requires_grad_(trained)
    return network


def tiny_llama(seed: int = 0) -> LlamaForCausalLM:
    """The decoder of `tiny_network`, a few thousand weights."""
    torch.manual_seed(seed)
    settings = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=32,
        bos_token_id=None,
        eos_token_id=STOP,
        pad_token_id=None,
    )
    return LlamaForCausalLM(settings)


def share_of_even_tokens(groups: Sequence[Group]) -> list[list[float]]:
    """The toy judge: the share of even tokens in each completion, the end token left out."""
    return [[_even(c) for c in group.completions] for group in groups]


def _even(completion: Completion) -> float:
    assert completion.tokens is not None, "encode the group first"
    body = completion.tokens[completion.tokens != STOP]
    return float(np.mean(body % 2 == 0)) if len(body) else 0.0
