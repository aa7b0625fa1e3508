"""Completions from a network, with the log-probs they were sampled at.

A sample depends on the seed, its prompt's index and its own index alone, not on how rows are batched: row
(i, j) draws its uniforms from a Philox counter at (i, j), and picks by inverting the distribution function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from trueup.engine.room import no_room, ran_out, release
from trueup.errors import TrueupError
from trueup.models.decode import decoder_for
from trueup.models.forward import LanguageModel, in_use
from trueup.models.parts import whole
from trueup.models.prepacked import prepacked

BLOCK = 128
"Tokens summed together before the distribution function is searched: two short searches, not a long one."


_LONGEST = 1 << 20
"New tokens at most: room for all of them is made before the first."


class Sampled(NamedTuple):
    """One completion as it was sampled."""

    tokens: np.ndarray
    "int32 [L], the stop token included."
    logprobs: np.ndarray
    "float32 [L], under the whole distribution at the sampling temperature, before any truncation."
    finished: bool
    "Whether a stop token ended it."


@dataclass(frozen=True, kw_only=True)
class Choice:
    """How the next token is chosen."""

    greedy: bool = False
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        if self.top_k is not None and self.top_k < 1:
            raise TrueupError(
                "E702", f"top_k must be at least 1, not {self.top_k}", remedy="1 or more, or none"
            )
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise TrueupError("E702", f"top_p must be in (0, 1], not {self.top_p}", remedy="1 leaves all in")


def generate(
    network: LanguageModel,
    prompts: Sequence[np.ndarray],
    *,
    k: int = 1,
    first: int = 0,
    max_new_tokens: int,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    stop_ids: Sequence[int] = (),
    seed: int = 0,
    greedy: bool = False,
    batch_tokens: int = 1 << 15,
    pulse: Callable[[], None] = lambda: None,
) -> list[list[Sampled]]:
    """K completions of each prompt, in order.

    The temperature is the network's own unless given. `first` is the first prompt's index among those of all
    ranks, which its samples depend on. `batch_tokens` bounds the tokens held at once: rows
    times the longest prompt plus `max_new_tokens`. `pulse` is called before each token and may raise.
    Raises E503 for an empty prompt, E560 for more than a million new tokens.
    """
    if max_new_tokens > _LONGEST:
        reason = f"{max_new_tokens} new tokens are more than any network's context"
        raise TrueupError("E560", reason, where="max_new_tokens", remedy="ask for fewer")
    for number, prompt in enumerate(prompts):
        if len(prompt) == 0:
            remedy = "begin it with the tokenizer's begin-of-text or end-of-text token"
            raise TrueupError("E503", "a prompt has no tokens", where=f"prompt {number}", remedy=remedy)
    if temperature is not None:
        network = network.with_temperature(temperature)
    choice = Choice(greedy=greedy, top_k=top_k, top_p=top_p)
    found: dict[tuple[int, int], Sampled] = {}
    batches = list(_batches(prompts, k, max_new_tokens, batch_tokens))
    work = {"rows": max(map(len, batches), default=0), "steps": max_new_tokens * len(batches)}
    with (
        in_use(network.module),
        whole(network.module),
        torch.inference_mode(),
        network.as_called(),
        prepacked(network.module, **work),
    ):

        def draw(rows: list[tuple[int, int]]) -> list[Sampled]:
            numbers = sorted({i for i, _ in rows})
            where = {number: place for place, number in enumerate(numbers)}
            return _sample(
                network,
                [prompts[i] for i in numbers],
                [where[i] for i, _ in rows],
                np.stack([_uniforms(seed, first + i, j, max_new_tokens) for i, j in rows]),
                choice,
                np.asarray(sorted(set(stop_ids)), np.int64),
                pulse,
            )

        for rows in batches:
            found.update(_in_halves(draw, rows, network.device))
    return [[found[i, j] for j in range(k)] for i in range(len(prompts))]


def _in_halves(
    draw: Callable[[list[tuple[int, int]]], list[Sampled]],
    rows: list[tuple[int, int]],
    device: torch.device | str,
) -> Iterator[tuple[tuple[int, int], Sampled]]:
    """Each row with its sample; where memory runs out over many rows, half of them at a time."""
    said = ""
    try:
        yield from zip(rows, draw(rows), strict=True)
        return
    except (RuntimeError, MemoryError) as error:
        if not ran_out(error):
            raise
        said = str(error)
    release(device)
    if len(rows) == 1:
        raise no_room(1, said)
    yield from _in_halves(draw, rows[: len(rows) // 2], device)
    yield from _in_halves(draw, rows[len(rows) // 2 :], device)


def _batches(
    prompts: Sequence[np.ndarray], k: int, max_new_tokens: int, batch_tokens: int
) -> Iterator[list[tuple[int, int]]]:
    """Rows (prompt, sample), prompts of like length together, within the bound or one row at a time."""
    rows: list[tuple[int, int]] = []
    longest = 0
    for i in sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), i)):
        for j in range(k):
            longest = max(longest, len(prompts[i]))
            if rows and (len(rows) + 1) * (longest + max_new_tokens) > batch_tokens:
                yield rows
                rows, longest = [], len(prompts[i])
            rows.append((i, j))
    if rows:
        yield rows


def _uniforms(seed: int, prompt: int, sample: int, count: int) -> np.ndarray:
    """The row's numbers in [0, 1), float64: a pure function of seed, prompt and sample."""
    key = np.array([seed & 0xFFFFFFFFFFFFFFFF, 0], np.uint64)
    counter = np.array([0, 0, sample, prompt], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter)).random(count)


def _sample(
    network: LanguageModel,
    prompts: Sequence[np.ndarray],
    prompt_of: Sequence[int],
    uniforms: np.ndarray,
    choice: Choice,
    stop_ids: np.ndarray,
    pulse: Callable[[], None],
) -> list[Sampled]:
    num_rows, limit = uniforms.shape
    tokens = np.zeros((num_rows, limit), np.int32)
    logprobs = np.zeros((num_rows, limit), np.float32)
    lengths = np.full(num_rows, limit)
    finished = np.zeros(num_rows, bool)
    rows = np.arange(num_rows)
    draws = torch.from_numpy(uniforms).to(network.device)
    decoder = decoder_for(network)
    hidden = decoder.begin(prompts, prompt_of, limit)
    for step in range(limit):
        pulse()
        index = torch.from_numpy(rows).to(network.device)
        picked, scores = pick(network.next_logits(hidden), draws[index, step], choice)
        now = picked.cpu().numpy()
        tokens[rows, step], logprobs[rows, step] = now, scores.cpu().numpy()
        ended = np.isin(now, stop_ids) & ~finished[rows]
        lengths[rows[ended]] = step + 1
        finished[rows[ended]] = True
        alive = np.flatnonzero(~finished[rows])
        if len(alive) == 0 or step + 1 == limit:
            break
        if len(alive) < len(rows):
            kept = torch.from_numpy(alive).to(network.device)
            decoder.retain(kept)
            picked, rows = picked.index_select(0, kept), rows[alive]
        hidden = decoder.advance(picked)
    return [
        Sampled(tokens[r, : lengths[r]].copy(), logprobs[r, : lengths[r]].copy(), bool(finished[r]))
        for r in range(num_rows)
    ]


def pick(
    z: Float[Tensor, "B V"], uniforms: Float[Tensor, " B"], choice: Choice
) -> tuple[Int[Tensor, " B"], Float[Tensor, " B"]]:
    """Next tokens and their log-probs under the whole distribution of logits z."""
    if not choice.greedy and choice.top_k is None and choice.top_p in (None, 1):
        p = torch.softmax(z, -1)
        token = inverse_cdf(p, uniforms)
        return token, p.gather(1, token[:, None])[:, 0].log()
    lse = torch.logsumexp(z, -1)
    if choice.greedy:
        token = z.argmax(-1)
    else:
        # Not a softmax, which rounds otherwise: where the nucleus ends may be a tie.
        token = inverse_cdf(_truncate((z - lse[:, None]).exp_(), choice), uniforms)
    return token, z.gather(1, token[:, None])[:, 0] - lse


def _truncate(p: Tensor, choice: Choice) -> Tensor:
    """Probabilities with those outside top-k and the nucleus set to 0, not renormalised."""
    if choice.top_k is not None and choice.top_k < p.shape[1]:
        best = torch.topk(p, choice.top_k, dim=-1)
        p = torch.zeros_like(p).scatter_(1, best.indices, best.values)
    if choice.top_p is not None and choice.top_p < 1:
        ordered, order = torch.sort(p, dim=-1, descending=True, stable=True)
        before = ordered.double().cumsum(-1) - ordered.double()
        keep = before < choice.top_p * ordered.double().sum(-1, keepdim=True)
        p = torch.zeros_like(p).scatter_(1, order, ordered * keep)
    return p


def inverse_cdf(p: Float[Tensor, "B V"], uniforms: Float[Tensor, " B"]) -> Int[Tensor, " B"]:
    """The first token whose cumulative probability exceeds u times the total; never one of probability 0.

    p need not sum to 1. It is added up over blocks in its own precision, then over their sums and within the
    block that is hit in float64.
    """
    vocabulary = p.shape[1]
    whole = vocabulary // BLOCK
    sums = p[:, : whole * BLOCK].unflatten(1, (whole, BLOCK)).sum(-1)
    if vocabulary % BLOCK:
        sums = torch.cat([sums, p[:, whole * BLOCK :].sum(-1, keepdim=True)], 1)
    cumulative = sums.double().cumsum(-1)
    target = uniforms.double() * cumulative[:, -1]
    block = _first_above(cumulative, target)
    before = nn.functional.pad(cumulative, (1, 0)).gather(1, block[:, None])[:, 0]
    columns = block[:, None] * BLOCK + torch.arange(BLOCK, device=p.device)
    inside = p.gather(1, columns.clamp_max(vocabulary - 1)).double() * (columns < vocabulary)
    return block * BLOCK + _first_above(inside.cumsum(-1), target - before)


def _first_above(cumulative: Tensor, target: Tensor) -> Tensor:
    """Where a running sum first exceeds the target; its last increase, if rounding lets it never do so.

    The first place where nothing is a number.
    """
    first = (cumulative <= target[:, None]).sum(-1)
    last = (cumulative < cumulative[:, -1:]).sum(-1)
    return torch.minimum(first, last)
