"""Running a network one token at a time: many rows together, each prompt's keys and values computed once.

`Cached` keeps keys and values; `Recomputed` runs whole sequences again at each step, for architectures whose
attention cannot be taken over. Both give the same hidden states.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, final

import numpy as np
import torch
from torch import Tensor, nn

from trueup.engine.groups import Group
from trueup.engine.packing import pack
from trueup.models import attention
from trueup.models.forward import LanguageModel, run, run_padded
from trueup.models.kernels import Rule
from trueup.models.known_layers import Stepper, known
from trueup.models.layout import layout_of

GROWTH = 64
"Steps by which the cache grows: most completions end long before the limit."
SHRINKS = 0.75
"Share of the cache that the rows left have to fit before it is copied."
TRIAL = 8
"Fewest new tokens that are worth a step made twice, to see whether the library's modules can be left out."
CLOSE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 6e-2, torch.float16: 2e-2}
"Largest difference that it allows, as a share of the largest state."
READS = 8
"What it costs to read a key, in scores of one row (float32, on a CPU with AVX-512)."


class Decoder(Protocol):
    """Rows of sequences that grow together, by `limit` tokens at most; `begin` and `advance` give the last
    states [B, d]."""

    def begin(self, prompts: Sequence[np.ndarray], prompt_of: Sequence[int], limit: int) -> Tensor: ...

    def advance(self, tokens: Tensor) -> Tensor: ...

    def retain(self, rows: Tensor) -> None: ...


def decoder_for(network: LanguageModel) -> Decoder:
    """The decoder that the network's architecture allows."""
    return Cached(network) if network.packs else Recomputed(network)


@final
class Cached:
    """Rows whose keys and values are kept, those of a prompt's rows together.

        keys, values [G, Hkv, n + T·K, D]     queries [G, Hkv, g·K, D]

    A group's prompt lies flush to the right of its first n slots, once; then come K slots a step, of which
    row j sees only the j-th. A group has at most K rows, and a row a cell of the grid [G, K]: cells without a
    row do the work of one, and nobody reads it. The slots of a step are equally far from every row, so that a
    sliding window is the slots from one on.
    """

    def __init__(self, network: LanguageModel) -> None:
        self._body: nn.Module = network.body
        self._device = network.device
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []
        self._rules: list[Rule] = []
        self._own: Stepper | None = None
        self._tries = False
        self._longest = self._used = self._width = 0
        self._masks: dict[int, Tensor | None] = {}
        self._cells = np.zeros(0, np.int64)
        self._seats: tuple[Tensor, Tensor] | None = None
        self._pad = self._positions = torch.zeros(0, dtype=torch.int64)

    def begin(self, prompts: Sequence[np.ndarray], prompt_of: Sequence[int], limit: int) -> Tensor:
        """Runs each prompt once and gives every group its prompt's keys and values."""
        batch = pack([Group(prompt=(), prompt_tokens=p) for p in prompts]).to(self._device)
        packing = attention.Packing(layout_of(batch), keep=[])
        with attention.attending(packing):
            hidden = run(self._body, input_ids=batch.tokens[None], position_ids=batch.positions[None])
        assert packing.keep is not None
        starts, lengths = np.array([span.prompt for span in batch.spans]).T
        self._longest = self._used = longest = int(lengths.max())
        self._tries = limit >= TRIAL and torch.device(self._device).type == "cpu"
        self._width, groups, self._cells = seated(prompt_of, widest(longest, limit))
        pad = longest - lengths[groups]
        slots = starts[groups][:, None] + np.maximum(np.arange(longest)[None, :] - pad[:, None], 0)
        self._pad = torch.from_numpy(pad).to(self._device)
        index = torch.from_numpy(slots.reshape(-1)).to(self._device)
        self._keys = [self._spread(key, index, slots.shape) for key, _ in packing.keep]
        self._values = [self._spread(value, index, slots.shape) for _, value in packing.keep]
        rows = list(prompt_of)
        self._positions = torch.from_numpy(lengths[rows])[:, None].to(self._device)
        self._sit()
        ends = torch.from_numpy((starts + lengths - 1)[rows]).to(self._device)
        return hidden[0].index_select(0, ends)

    def _spread(self, x: Tensor, index: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Rows [S, H, D] of the prompts as slots [G, H, n, D] with room to grow."""
        cache = x.new_zeros(shape[0], x.shape[1], shape[1] + GROWTH * self._width, x.shape[2])
        cache[:, :, : shape[1]] = x.index_select(0, index).unflatten(0, shape).transpose(1, 2)
        return cache

    def _sit(self) -> None:
        """Works out which row each cell reads, and which cell each row: None when they are the same."""
        count = len(self._pad) * self._width
        self._seats = None
        if not np.array_equal(self._cells, np.arange(count)):
            source = np.zeros(count, np.int64)
            source[self._cells] = np.arange(len(self._cells))
            first, second = (torch.from_numpy(x).to(self._device) for x in (source, self._cells))
            self._seats = first, second

    def advance(self, tokens: Tensor) -> Tensor:
        """Appends a token to every row; gives the states after it."""
        if self._used == self._keys[0].shape[2]:
            more = (0, 0, 0, GROWTH * self._width)
            for cache in (self._keys, self._values):
                cache[:] = [nn.functional.pad(x, more) for x in cache]
            self._masks = {}
        if self._own is not None:
            hidden = self._own.forward(tokens, self._positions, self._look)
        else:
            hidden = self._by_library(tokens)
            if self._tries:
                self._try(tokens, hidden)
        self._positions = self._positions + 1
        self._used += self._width
        return hidden

    def _by_library(self, tokens: Tensor) -> Tensor:
        self._rules = []
        with attention.attending(self):
            return run(self._body, input_ids=tokens[:, None], position_ids=self._positions)[:, -1]

    def _try(self, tokens: Tensor, expected: Tensor) -> None:
        """Makes the step again without the library's modules, which are left out if it comes to the same."""
        self._tries = False
        own = known(self._body)
        if own is None:
            return
        gap = (own.forward(tokens, self._positions, self._look) - expected).abs().max()
        if bool(gap <= CLOSE[expected.dtype] * expected.abs().max()):
            self._own = own
        else:
            self._by_library(tokens)  # The keys in the cache are to be its own again.

    def attend(self, query: Tensor, key: Tensor, value: Tensor, rule: Rule) -> Tensor:
        """One layer's attention for one new token a row: query [B, H, 1, D] gives [B, 1, H, D]."""
        self._rules.append(rule)
        q, k, v = query[:, :, 0], key[:, :, 0], value[:, :, 0]
        return self._look(len(self._rules) - 1, q, k, v).unsqueeze(1)

    def _look(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """What query [B, H, D] finds in a layer's cache after key and value [B, Hkv, D] are put into it."""
        keys, values, rule = self._keys[layer], self._values[layer], self._rules[layer]
        num_groups, num_keys, _, _ = keys.shape
        begin, end = self._first(rule.window), self._used + self._width
        if self._seats is not None:
            query, key, value = (x.index_select(0, self._seats[0]) for x in (query, key, value))
        grid = (num_groups, self._width, num_keys, -1)
        keys[:, :, self._used : end] = key.view(grid).transpose(1, 2)
        values[:, :, self._used : end] = value.view(grid).transpose(1, 2)
        # Query heads that share a key head become the query length, as a group's rows do: no key is repeated.
        heads = query.shape[1] // num_keys
        q = query.view(num_groups, self._width, num_keys, heads, -1).permute(0, 2, 3, 1, 4)
        q = q.reshape(num_groups, num_keys, heads * self._width, -1)
        mask = self._mask(q)
        mask = None if mask is None else mask[..., begin:end]
        k, v = keys[:, :, begin:end], values[:, :, begin:end]
        if rule.softcap is None:
            out = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=rule.scale)
        else:
            out = attention.capped(q, k, v, mask, rule.scale, rule.softcap)
        out = out.view(num_groups, num_keys, heads, self._width, -1).permute(0, 3, 1, 2, 4)
        out = out.reshape(num_groups * self._width, num_keys * heads, -1)
        return out if self._seats is None else out.index_select(0, self._seats[1])

    @property
    def _steps(self) -> int:
        """How many tokens every row has got since its prompt."""
        return (self._used - self._longest) // self._width

    def _first(self, window: int | None) -> int:
        """The first slot that a window reaches: that of the prompt's, or the first of a step's."""
        if window is None:
            return 0
        step = self._steps - window + 1
        return self._longest + step * self._width if step > 0 else max(0, self._longest + step)

    def _mask(self, q: Tensor) -> Tensor | None:
        """Additive [G or 1, 1, g·K, slots with room], or None when every row sees every slot."""
        heads = q.shape[2] // self._width
        if heads not in self._masks:
            slots = torch.arange(self._keys[0].shape[2], device=q.device)
            own = torch.arange(self._width, device=q.device)[:, None]
            hidden = (slots >= self._longest) & ((slots - self._longest) % self._width != own)
            hidden = hidden.repeat(heads, 1)[None]
            if bool(self._pad.any()):
                hidden = hidden | (slots < self._pad[:, None])[:, None]
            bias = torch.zeros(hidden.shape, dtype=q.dtype, device=q.device)
            bias = bias.masked_fill_(hidden, float("-inf"))[:, None]
            self._masks[heads] = bias if bool(hidden.any()) else None
        return self._masks[heads]

    def retain(self, rows: Tensor) -> None:
        """Drops every row that is not listed.

        Its cell stays until three quarters of the cache hold the rest: dropping one copies what is left.
        """
        kept = rows.cpu().numpy()
        self._positions = self._positions.index_select(0, rows)
        self._cells = self._cells[kept]
        of = self._cells // self._width
        groups, place, counts = np.unique(of, return_inverse=True, return_counts=True)
        slots = self._longest + self._steps * int(counts.max())
        if len(groups) * slots <= SHRINKS * len(self._pad) * self._used:
            self._shrink(groups, place, counts)
        self._sit()

    def _shrink(self, groups: np.ndarray, place: np.ndarray, counts: np.ndarray) -> None:
        """Nothing; keeps these groups alone, as wide as the fullest. `place` is each row's among them."""
        steps, old, width = self._steps, self._width, int(counts.max())
        rank = np.empty_like(place)
        rank[np.argsort(self._cells)] = np.arange(len(place)) - np.repeat(counts.cumsum() - counts, counts)
        columns = np.zeros((len(groups), width), np.int64)
        columns[place, rank] = self._cells % old
        kept, own = (torch.from_numpy(x).to(self._device) for x in (groups, columns))
        self._cells, self._width, self._masks = place * width + rank, width, {}
        self._pad = self._pad.index_select(0, kept)
        end, self._used = self._used, self._longest + steps * width
        for cache in (self._keys, self._values):
            for layer, x in enumerate(cache):
                fresh = x.new_zeros(len(groups), x.shape[1], self._used + GROWTH * width, x.shape[3])
                fresh[:, :, : self._longest] = x[:, :, : self._longest].index_select(0, kept)
                slots = x[:, :, self._longest : end].unflatten(2, (steps, old))[kept[:, None], :, :, own]
                fresh[:, :, self._longest : self._used] = slots.permute(0, 2, 3, 1, 4).flatten(2, 3)
                cache[layer] = fresh


def widest(prompt: int, limit: int) -> int:
    """The most rows worth a group of their own, for prompts so long and so many new tokens at most.

    A group of K reads its prompt once and not K times, and scores T·K own slots a row and not T: a row costs
    about READS·n/K + T·K scores, least at K = √(READS·n / T); T is taken to be half of the limit.
    """
    return max(1, round((READS * prompt / (limit / 2)) ** 0.5))


def seated(prompt_of: Sequence[int], most: int) -> tuple[int, np.ndarray, np.ndarray]:
    """Cells to a group, the prompt of each group [G], and each row's cell [B].

    Rows of a prompt are dealt to as few groups as have room for them, evenly.
    """
    found: dict[int, list[int]] = {}
    for row, prompt in enumerate(prompt_of):
        found.setdefault(prompt, []).append(row)
    parts = [
        (prompt, part)
        for prompt, rows in found.items()
        for part in np.array_split(rows, -(-len(rows) // most))
    ]
    width = max(len(part) for _, part in parts)
    cells = np.zeros(len(prompt_of), np.int64)
    for group, (_, part) in enumerate(parts):
        cells[part] = group * width + np.arange(len(part))
    return width, np.array([prompt for prompt, _ in parts]), cells


@final
class Recomputed:
    """Rows run from their beginning at every step, padded on the right: slow, and right for any decoder."""

    def __init__(self, network: LanguageModel) -> None:
        self._body: nn.Module = network.body
        self._device = network.device
        self._rows: list[Tensor] = []

    def begin(self, prompts: Sequence[np.ndarray], prompt_of: Sequence[int], limit: int) -> Tensor:
        """Runs every row's prompt."""
        tokens = [torch.from_numpy(p.astype(np.int64)).to(self._device) for p in prompts]
        self._rows = [tokens[i] for i in prompt_of]
        return self._run()

    def advance(self, tokens: Tensor) -> Tensor:
        """Appends a token to every row; gives the states after it."""
        self._rows = [torch.cat([row, tokens[i : i + 1]]) for i, row in enumerate(self._rows)]
        return self._run()

    def retain(self, rows: Tensor) -> None:
        """Drops every row that is not listed."""
        self._rows = [self._rows[i] for i in rows.tolist()]

    def _run(self) -> Tensor:
        hidden, length = run_padded(self._body, self._rows)
        ends = [number * length + len(row) - 1 for number, row in enumerate(self._rows)]
        return hidden[torch.tensor(ends, device=self._device)]
