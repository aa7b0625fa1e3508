"""The fused kernel's algebra: its operators, answered by the CPU's flash kernels, give what `Blocks` gives.

The kernel's own code runs, cumulative lengths included; only the two operators behind it are stood in for.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from tiny_models import FAMILIES, alone, gradients, largest_gap, ragged
from trueup.engine.batch import Batch
from trueup.engine.groups import Completion, Group
from trueup.engine.packing import pack
from trueup.models import from_modules, rows
from trueup.models.attention import shared_prefix
from trueup.models.kernels import Blocks, Flash, Rule, Saved
from trueup.models.layout import build
from trueup.models.rows import ByPiece, agrees, choose
from trueup.models.varlen import Varlen

aten = torch.ops.aten


class Fused:
    """torch's operators for ragged sequences, one of them at a time on a CPU; wrong in one way on request."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.fault = ""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, *rest: Any, scale: float) -> tuple[Tensor, ...]:
        query_ends, key_ends, longest, longest_key, dropout, causal, debug = rest
        self._check(q, k, query_ends, key_ends, longest, longest_key)
        assert dropout == 0 and not debug
        self.calls.append("forward")
        out, lse = torch.empty_like(q), q.new_empty(q.shape[1], q.shape[0])
        for mine, theirs in _parts(query_ends, key_ends):
            ask = [x[part].transpose(0, 1)[None] for x, part in ((q, mine), (k, theirs), (v, theirs))]
            o, part = aten._scaled_dot_product_flash_attention_for_cpu(*ask, 0.0, causal, scale=scale)
            out[mine], lse[:, mine] = o[0].transpose(0, 1), part[0]
        if self.fault == "forward":
            out[0] *= 1.5
        return out, lse, *(q.new_empty(0) for _ in range(3))

    def backward(self, grad: Tensor, *rest: Any, scale: float) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v, out, lse, query_ends, key_ends, longest, longest_key, dropout, causal, *_ = rest
        self._check(q, k, query_ends, key_ends, longest, longest_key)
        assert dropout == 0 and grad.is_contiguous() and lse.shape == q.shape[1::-1]
        self.calls.append("backward")
        found = [torch.empty_like(x) for x in (q, k, v)]
        for mine, theirs in _parts(query_ends, key_ends):
            places = (mine, mine, theirs, theirs, mine)
            ask = [x[p].transpose(0, 1)[None] for x, p in zip((grad, q, k, v, out), places, strict=True)]
            parts = aten._scaled_dot_product_flash_attention_for_cpu_backward(
                *ask, lse[:, mine][None], 0.0, causal, scale=scale
            )
            for total, part, place in zip(found, parts, (mine, theirs, theirs), strict=True):
                total[place] = part[0].transpose(0, 1)
        if self.fault == "backward":
            found[1][0] = 0
        return found[0], found[1], found[2]

    def _check(self, q: Tensor, k: Tensor, query_ends: Tensor, key_ends: Tensor, *longest: int) -> None:
        if self.fault == "missing":
            # As torch answers for an operator that a device has not: what the probe has to survive.
            raise NotImplementedError("no kernel for this device\nand more")
        for x, ends, most in ((q, query_ends, longest[0]), (k, key_ends, longest[1])):
            assert ends.dtype == torch.int32 and ends[0] == 0 and ends[-1] == x.shape[0]
            assert ends.diff().min() > 0 and ends.diff().max() == most


def _parts(query_ends: Tensor, key_ends: Tensor) -> Iterator[tuple[slice, slice]]:
    for ends in zip(query_ends, query_ends[1:], key_ends, key_ends[1:], strict=False):
        a, b, c, d = (int(end) for end in ends)
        yield slice(a, b), slice(c, d)


@pytest.fixture
def fused(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fused]:
    """Operators of a CPU in place of a GPU's, in float64; `choose` takes them for a device's own."""
    made = Fused()
    library = torch.library.Library("aten", "IMPL")
    library.impl("_flash_attention_forward", made.forward, "CPU")
    library.impl("_flash_attention_backward", made.backward, "CPU")
    monkeypatch.setattr(rows, "FUSED", {"cpu": (torch.float64,)})
    agrees.cache_clear()
    yield made
    agrees.cache_clear()
    library._destroy()


LAYOUTS = {
    "one completion each": ragged(1, num_groups=5),
    "four": ragged(4, num_groups=5),
    "nine": ragged(9, num_groups=3),
    "mixed": [*ragged(3), *ragged(1, num_groups=2), *ragged(2, seed=7)],
}


def drawn(groups: list[Group], heads: int, kv_heads: int) -> list[Tensor]:
    num_rows = len(pack(groups).tokens)
    torch.manual_seed(0)
    return [torch.randn(num_rows, h, 8, dtype=torch.float64) for h in (heads, kv_heads, kv_heads, heads)]


@pytest.mark.parametrize("heads", ((4, 4), (4, 2), (6, 1)))
@pytest.mark.parametrize("name", LAYOUTS)
def test_two_calls_are_blocks(fused: Fused, name: str, heads: tuple[int, int]) -> None:
    """Output, log-sum-exp and all three gradients, by cumulative lengths and by pieces: 1e-10."""
    groups = LAYOUTS[name]
    layout = build(pack(groups))
    q, k, v, grad = drawn(groups, *heads)
    rule = Rule(0.4)
    found = []
    for kernel in (Varlen(), ByPiece(Blocks()), ByPiece(Flash())):
        out, lse = kernel.forward(q, k, v, layout, rule)
        found.append([out, lse, *kernel.backward(grad, Saved(q, k, v, out, lse), layout, rule)])
    for mine, theirs, third in zip(*found, strict=True):
        assert (mine - theirs).abs().max() <= 1e-10 and (third - theirs).abs().max() <= 1e-10
    crossing = any(len(group.completions) > 1 for group in groups)
    assert fused.calls == ["forward", *(["forward"] * crossing), "backward", *(["backward"] * crossing)]


@pytest.mark.parametrize(("family", "num_completions"), [("llama", 1), ("qwen3", 4), ("gpt2", 4)])
def test_a_model_by_two_calls_a_layer_is_each_sequence_alone(
    fused: Fused, family: str, num_completions: int
) -> None:
    """float64 through `choose`: log-probs and gradients of every family that needs no window, no soft cap."""
    model = FAMILIES[family]().double()
    network = from_modules(model, None)
    assert network.packs, network.reason
    network(pack(ragged(2)), ("logprobs",))  # the probe of this shape of heads is behind us
    fused.calls.clear()
    groups = ragged(num_completions)
    logprobs = network(pack(groups), ("logprobs",)).logprobs
    assert logprobs is not None
    packed = gradients(model, logprobs.mean())
    calls = 2 * (2 if num_completions > 1 else 1)  # of two layers
    assert fused.calls == ["forward"] * calls + ["backward"] * calls
    expected = alone(model, groups)
    assert (logprobs - expected).abs().max() <= 1e-6
    assert largest_gap(packed, gradients(model, expected.mean())) <= 1e-6
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "FUSED", {})
        plain = network(pack(groups), ("logprobs",)).logprobs
        assert plain is not None and (logprobs - plain).abs().max() <= 1e-10
        assert largest_gap(packed, gradients(model, plain.mean())) <= 1e-10


def test_windows_soft_caps_and_odd_heads_are_for_blocks(fused: Fused) -> None:
    q, k = torch.zeros(3, 4, 8, dtype=torch.float64), torch.zeros(3, 2, 8, dtype=torch.float64)
    assert isinstance(choose(q, k, Rule(0.3)), Varlen)
    assert choose(q, k, Rule(0.3, softcap=2.0)) == ByPiece(Blocks())
    assert choose(q, k, Rule(0.3, window=2)) == ByPiece(Blocks())
    assert choose(q[..., :4], k[..., :4], Rule(0.3)) == ByPiece(Flash())
    assert choose(q.float(), k.float(), Rule(0.3)) == ByPiece(Flash())
    assert choose(q.to("meta"), k.to("meta"), Rule(0.3)) == ByPiece(Blocks())


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("forward", "differs from it by"),
        ("backward", "differs from it by"),
        ("missing", "no kernel for this device"),
    ],
)
def test_a_kernel_that_does_not_agree_is_not_used(
    fused: Fused, fault: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Asked once, said once, and the numbers are those of the pieces."""
    fused.fault = fault
    q, k = torch.zeros(3, 4, 8, dtype=torch.float64), torch.zeros(3, 2, 8, dtype=torch.float64)
    with caplog.at_level(logging.WARNING):
        assert [choose(q, k, Rule(0.3)) for _ in range(3)] == [ByPiece(Flash())] * 3
    assert [said in record.getMessage() for record in caplog.records] == [True]
    assert "\n" not in caplog.text.strip()


def flex(batch: Batch, window: int | None) -> Any:
    """The mask of a packed row by its spans: a token sees its prompt and, causally, its own segment."""
    segment, group = np.zeros(len(batch.tokens), np.int64), np.zeros(len(batch.tokens), np.int64)
    for number, span in enumerate(batch.spans):
        for place, (start, length) in enumerate((span.prompt, *span.completions)):
            segment[start : start + length], group[start : start + length] = place, number
    segments, groups, positions = torch.tensor(segment), torch.tensor(group), batch.positions

    def sees(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        own = (segments[q] == segments[k]) | (segments[k] == 0)
        near = positions[q] - positions[k]
        allowed = (groups[q] == groups[k]) & own & (near >= 0)
        return allowed if window is None else allowed & (near < window)

    rows = len(batch.tokens)
    return create_block_mask(sees, None, None, rows, rows, device="cpu")


# It says that it is slow without torch.compile, which is no matter here.
@pytest.mark.filterwarnings("ignore:flex_attention called without:UserWarning")
@pytest.mark.parametrize("window", (None, 5))
@pytest.mark.parametrize("name", LAYOUTS)
def test_flex_attention_with_the_mask_of_prompt_and_completions(
    fused: Fused, name: str, window: int | None
) -> None:
    """An independent oracle, forward alone: flex attention has no backward pass on a CPU."""
    batch = pack(LAYOUTS[name])
    q, k, v, _ = drawn(LAYOUTS[name], 4, 2)
    heads = [x.transpose(0, 1)[None] for x in (q, k, v)]
    expected = flex_attention(*heads, block_mask=flex(batch, window), scale=0.4, enable_gqa=True)
    assert isinstance(expected, Tensor)
    layout, rule = build(batch), Rule(0.4, window=window)
    found = shared_prefix(q, k, v, layout, rule)
    assert (found - expected[0].transpose(0, 1)).abs().max() <= 1e-10
    assert bool(fused.calls) == (window is None)


def test_memory_of_the_lengths_is_that_of_the_groups() -> None:
    """What the fused kernel is told of a row does not grow with a group's tokens."""
    for length in (8, 512):
        tokens = np.zeros(length, np.int32)
        one = Completion(text="", tokens=tokens)
        layout = build(pack([Group(prompt=(), prompt_tokens=tokens, completions=(one, one))] * 3))
        assert layout.ragged.ends.tolist() == [length * n for n in range(10)]
        assert layout.ragged_cross is not None
        queries, keys = layout.ragged_cross
        assert queries.ends.tolist() == [2 * length * n for n in range(4)]
        assert keys.ends.tolist() == [length * n for n in range(4)]
        assert (layout.ragged.longest, queries.longest, keys.longest) == (length, 2 * length, length)
