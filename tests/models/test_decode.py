"""The group cache against rows run whole by transformers' own forward: the same states, whoever has ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tiny_models import FAMILIES, VOCABULARY, gpt2, llama, qwen2, qwen3
from trueup.models import LoraSettings, decode, from_modules, generate
from trueup.models.decode import Cached, Recomputed, seated, widest
from trueup.models.known_layers import Stepper

PROMPTS = [np.random.default_rng(i).integers(2, 61, n).astype(np.int32) for i, n in enumerate((1, 9, 4, 13))]
SIZES = (2, 4, 1, 3)
"Completions of each prompt: groups of unlike sizes, so that cells stay empty."


def _states(decoder: Any, prompt_of: Sequence[int], ends: dict[int, Sequence[int]], steps: int) -> Tensor:
    """States of all rows at all steps, NaN once a row has ended; `ends` says who is dropped after a step."""
    rows = np.arange(len(prompt_of))
    hidden = decoder.begin(PROMPTS, prompt_of, 40)
    found = torch.full((steps + 1, len(rows), hidden.shape[1]), float("nan"), dtype=hidden.dtype)
    found[0] = hidden
    for step in range(steps):
        kept = np.flatnonzero(~np.isin(rows, ends.get(step, ())))
        if len(kept) < len(rows):
            decoder.retain(torch.from_numpy(kept))
            rows = rows[kept]
        # What a row says is a function of the row and the step, not of who is left.
        hidden = decoder.advance(torch.from_numpy((7 * rows + 3 * step + rows * step) % VOCABULARY))
        found[step + 1, rows] = hidden
    return found


@pytest.mark.parametrize("width", (1, 3))
@pytest.mark.parametrize("family", FAMILIES)
def test_states_are_those_of_whole_rows(family: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Float64, to 1e-10: ragged prompts, grouped queries, past windows and the cache's room, rows ending."""
    monkeypatch.setattr(decode, "widest", lambda *_: width)
    monkeypatch.setattr(decode, "GROWTH", 5)
    network = from_modules(FAMILIES[family]().double(), None)
    assert network.packs
    prompt_of = [i for i, size in enumerate(SIZES) for _ in range(size)]
    # One row of a group; then a whole group and most of another: the cache is copied, and copied again.
    ends = {2: (3,), 4: (0, 1, 4, 5), 6: (7,), 9: (2, 8)}
    with torch.inference_mode():
        found = _states(Cached(network), prompt_of, ends, 13)
        expected = _states(Recomputed(network), prompt_of, ends, 13)
    assert torch.equal(found.isnan(), expected.isnan()) and not expected[-1, 6].isnan().any()
    assert (found - expected).nan_to_num().abs().max() <= 1e-10
    assert expected.nan_to_num().abs().max() > 0.1


@pytest.mark.parametrize(
    ("build", "truncation"), ((llama, {}), (llama, {"top_p": 0.7}), (qwen3, {"top_k": 9}), (gpt2, {}))
)
def test_samples_are_those_of_rows_alone(build: Any, truncation: dict[str, Any]) -> None:
    """The same ids from the same seed as row after row through transformers' own forward, in float64."""
    network = from_modules(build().double(), None)
    given = {"k": 4, "max_new_tokens": 10, "temperature": 0.8, "seed": 3, "stop_ids": (1, 2, 3)}
    found = generate(network, PROMPTS, **given, **truncation)
    plain = generate(replace(network, packs=False), PROMPTS, **given, **truncation, batch_tokens=1)
    ours, theirs = ([s for row in drawn for s in row] for drawn in (found, plain))
    assert [s.tokens.tolist() for s in ours] == [s.tokens.tolist() for s in theirs]
    assert len({s.tokens.tobytes() for s in ours}) > 8 and any(s.finished for s in ours)
    gap = max(np.abs(a.logprobs - b.logprobs).max() for a, b in zip(ours, theirs, strict=True))
    assert gap <= 1e-6, "recorded in float32"


@pytest.mark.parametrize("family", ("llama", "qwen3", "mistral", "qwen2"))
def test_known_layers_are_the_library_s(family: str) -> None:
    """Float64, to 1e-10, with biases and norms that are not 0 and 1."""
    model = qwen2() if family == "qwen2" else FAMILIES[family]()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or "bias" in name:
                parameter.copy_(torch.randn(parameter.shape) + 1)
    network = from_modules(model.double(), None)
    with torch.inference_mode():
        cached = Cached(network)
        found = _states(cached, [0, 0, 1, 2, 2, 2, 3], {3: (1,)}, 12)
        expected = _states(Recomputed(network), [0, 0, 1, 2, 2, 2, 3], {3: (1,)}, 12)
    assert (found - expected).nan_to_num().abs().max() <= 1e-10
    assert isinstance(cached._own, Stepper)


@pytest.mark.parametrize("why", ("hook", "forward", "class", "short", "family", "wrong"))
def test_the_library_runs_what_is_not_known(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One hook, one replaced forward, one class of its own, one step that comes to something else."""
    model: Any = gpt2() if why == "family" else llama()
    network = from_modules(model.double(), None)
    body: Any = network.body
    if why == "hook":
        body.layers[1].mlp.register_forward_hook(lambda module, given, out: out * 1.0)
    elif why == "forward":
        body.norm.forward = body.norm.forward
    elif why == "class":
        body.layers[0].mlp.__class__ = type("MLP", (type(body.layers[0].mlp),), {})
    elif why == "wrong":
        forward = Stepper.forward
        monkeypatch.setattr(Stepper, "forward", lambda self, t, *rest: forward(self, t + 1, *rest))
    with torch.inference_mode():
        cached = Cached(network)
        if why == "short":
            cached.begin(PROMPTS, [0, 1, 2, 3], decode.TRIAL - 1)
            cached.advance(torch.tensor([3, 4, 5, 6]))
        else:
            found = _states(cached, [0, 0, 1, 2, 3], {}, 5)
            expected = _states(Recomputed(network), [0, 0, 1, 2, 3], {}, 5)
            assert (found - expected).abs().max() <= 1e-10
    assert cached._own is None


def test_an_adapter_takes_part() -> None:
    network = from_modules(llama().double(), None, lora=LoraSettings(rank=4, targets="all-linear"))
    with torch.no_grad():
        for name, parameter in network.module.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape) * 0.1)
    with torch.inference_mode():
        cached, reference = Cached(network), Cached(network.reference())
        found = _states(cached, [0, 1, 1], {}, 6)
        expected = _states(Recomputed(network), [0, 1, 1], {}, 6)
        with network.reference().as_called():
            without = _states(reference, [0, 1, 1], {}, 6)
            plain = _states(Recomputed(network), [0, 1, 1], {}, 6)
    assert isinstance(cached._own, Stepper) and isinstance(reference._own, Stepper)
    assert (found - expected).abs().max() <= 1e-10 and (without - plain).abs().max() <= 1e-10
    assert (found - without).abs().max() > 0.1


def test_rows_are_dealt_evenly() -> None:
    width, groups, cells = seated([0, 0, 0, 0, 0, 1, 2, 2], 3)
    assert width == 3 and groups.tolist() == [0, 0, 1, 2]
    assert cells.tolist() == [0, 1, 2, 3, 4, 6, 9, 10]
    width, groups, cells = seated([1, 0, 1, 0], 8)
    assert (width, groups.tolist(), cells.tolist()) == (2, [1, 0], [0, 2, 1, 3])


def test_long_completions_make_groups_narrow() -> None:
    assert [widest(128, limit) for limit in (16, 64, 256, 4096)] == [11, 6, 3, 1]
    assert widest(1, 1 << 20) == 1 and widest(4096, 1) > 64
