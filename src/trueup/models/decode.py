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
from trueup.models.layout import layout_of

GROWTH = 64
"Slots by which the cache grows: most completions end long before the limit."


class Decoder(Protocol):
    """Rows of sequences that grow together; `begin` and `advance` give the last states [B, d]."""

    def begin(self, prompts: Sequence[np.ndarray], prompt_of: Sequence[int]) -> Tensor: ...

    def advance(self, tokens: Tensor) -> Tensor: ...

    def retain(self, rows: Tensor) -> None: ...


def decoder_for(network: LanguageModel) -> Decoder:
    """The decoder that the network's architecture allows."""
    return Cached(network) if network.packs else Recomputed(network)


@final
class Cached:
    """Rows whose keys and values are kept, one slot a token, prompts flush to the right of their slots."""

    def __init__(self, network: LanguageModel) -> None:
        self._body: nn.Module = network.body
        self._device = network.device
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []
        self._layer = 0
        self._used = 0
        self._masks: dict[int | None, Tensor | None] = {}
        self._pad = torch.zeros(0, dtype=torch.int64)

    def begin(self, prompts: Sequence[np.ndarray], prompt_of: Sequence[int]) -> Tensor:
        """Runs each prompt once and gives every row a copy of its prompt's keys and values."""
        batch = pack([Group(prompt=(), prompt_tokens=p) for p in prompts]).to(self._device)
        packing = attention.Packing(layout_of(batch), keep=[])
        with attention.attending(packing):
            hidden = run(self._body, input_ids=batch.tokens[None], position_ids=batch.positions[None])
        starts = np.array([span.prompt[0] for span in batch.spans])[list(prompt_of)]
        lengths = np.array([span.prompt[1] for span in batch.spans])[list(prompt_of)]
        longest = int(lengths.max())
        pad = longest - lengths
        slots = starts[:, None] + np.maximum(np.arange(longest)[None, :] - pad[:, None], 0)
        self._pad = torch.from_numpy(pad).to(self._device)
        self._used = longest
        rows = torch.from_numpy(slots.reshape(-1)).to(self._device)
        assert packing.keep is not None
        self._keys = [self._spread(key, rows, slots.shape) for key, _ in packing.keep]
        self._values = [self._spread(value, rows, slots.shape) for _, value in packing.keep]
        ends = torch.from_numpy(starts + lengths - 1).to(self._device)
        return hidden[0].index_select(0, ends)

    def _spread(self, x: Tensor, rows: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Rows [S, H, D] of the prompts as slots [B, H, M, D] with room to grow."""
        cache = x.new_zeros(shape[0], x.shape[1], shape[1] + GROWTH, x.shape[2])
        cache[:, :, : shape[1]] = x.index_select(0, rows).unflatten(0, shape).transpose(1, 2)
        return cache

    def advance(self, tokens: Tensor) -> Tensor:
        """Appends a token to every row; gives the states after it."""
        if self._used == self._keys[0].shape[2]:
            self._keys = [nn.functional.pad(x, (0, 0, 0, GROWTH)) for x in self._keys]
            self._values = [nn.functional.pad(x, (0, 0, 0, GROWTH)) for x in self._values]
        self._layer = 0
        self._masks = {}
        positions = (self._used - self._pad)[:, None]
        with attention.attending(self):
            hidden = run(self._body, input_ids=tokens[:, None], position_ids=positions)
        self._used += 1
        return hidden[:, -1]

    def attend(self, query: Tensor, key: Tensor, value: Tensor, rule: Rule) -> Tensor:
        """One layer's attention for one new token a row: query [B, H, 1, D] gives [B, 1, H, D]."""
        keys, values = self._keys[self._layer], self._values[self._layer]
        self._layer += 1
        keys[:, :, self._used] = key[:, :, 0]
        values[:, :, self._used] = value[:, :, 0]
        end = self._used + 1
        b, h, _, d = query.shape
        # Query heads that share a key head become the query length, so keys are never repeated.
        q = query.reshape(b, keys.shape[1], h // keys.shape[1], d)
        mask = self._mask(rule.window, q)
        k, v = keys[:, :, :end], values[:, :, :end]
        if rule.softcap is None:
            out = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=rule.scale)
        else:
            out = attention.capped(q, k, v, mask, rule.scale, rule.softcap)
        return out.reshape(b, 1, h, out.shape[-1])

    def _mask(self, window: int | None, q: Tensor) -> Tensor | None:
        """Additive [B, 1, 1, slots], or None when every row sees every slot; one for all layers of a step."""
        if window not in self._masks:
            slots = torch.arange(self._used + 1, device=q.device)
            hidden = slots[None, :] < self._pad[:, None]
            if window is not None:
                hidden = hidden | (slots[None, :] <= self._used - window)
            bias = torch.zeros(hidden.shape, dtype=q.dtype, device=q.device)
            bias = bias.masked_fill_(hidden, float("-inf"))[:, None, None, :]
            self._masks[window] = bias if bool(hidden.any()) else None
        return self._masks[window]

    def retain(self, rows: Tensor) -> None:
        """Drops every row that is not listed."""
        self._keys = [x.index_select(0, rows) for x in self._keys]
        self._values = [x.index_select(0, rows) for x in self._values]
        self._pad = self._pad.index_select(0, rows)


@final
class Recomputed:
    """Rows run from their beginning at every step, padded on the right: slow, and right for any decoder."""

    def __init__(self, network: LanguageModel) -> None:
        self._body: nn.Module = network.body
        self._device = network.device
        self._rows: list[Tensor] = []

    def begin(self, prompts: Sequence[np.ndarray], prompt_of: Sequence[int]) -> Tensor:
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
