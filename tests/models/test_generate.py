"""Sampling: transformers' generate as oracle, log-probs the trainer reproduces, rows that do not interact."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from shared_data import shared
from tiny_models import FAMILIES, gpt2, llama, mamba
from trueup.engine.groups import Completion, Group
from trueup.engine.packing import pack
from trueup.errors import TrueupError
from trueup.models import LanguageModel, Sampled, from_modules, generate, load
from trueup.models.generate import Choice, inverse_cdf, pick

PROMPTS = [
    np.random.default_rng(i).integers(2, 61, n).astype(np.int32) for i, n in enumerate((1, 5, 17, 5, 9))
]


def _flat(found: list[list[Sampled]]) -> list[Sampled]:
    return [sampled for row in found for sampled in row]


def _rescored(network: LanguageModel, prompts: list[np.ndarray], found: list[list[Sampled]]) -> np.ndarray:
    groups = [
        Group(
            prompt=(), prompt_tokens=p, completions=tuple(Completion(text="", tokens=s.tokens) for s in row)
        )
        for p, row in zip(prompts, found, strict=True)
    ]
    with torch.no_grad():
        logprobs = network(pack(groups), ("logprobs",)).logprobs
    assert logprobs is not None
    return logprobs.numpy()


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_is_transformers_greedy(family: str) -> None:
    """Token for token, over ragged prompts in one batch, past every sliding window."""
    model = FAMILIES[family]()
    network = from_modules(model, None)
    found = generate(network, PROMPTS, max_new_tokens=16, greedy=True, stop_ids=(1,))
    model.set_attn_implementation("eager")
    for prompt, row in zip(PROMPTS, found, strict=True):
        ids = torch.from_numpy(prompt.astype(np.int64))[None]
        expected = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=16,
            do_sample=False,
            eos_token_id=1,
            pad_token_id=0,
        )[0, len(prompt) :]
        assert row[0].tokens.tolist() == expected.tolist()


@pytest.mark.parametrize("temperature", (0.6, 1.0, 1.7))
@pytest.mark.parametrize("truncation", ({}, {"top_k": 5}, {"top_p": 0.8}, {"top_k": 20, "top_p": 0.5}))
def test_recorded_logprobs_are_the_trainer_s(temperature: float, truncation: dict[str, Any]) -> None:
    """What was recorded while sampling is what the packed forward says at that temperature: 1e-4."""
    network = from_modules(gpt2(), None)
    found = generate(
        network,
        PROMPTS,
        k=3,
        max_new_tokens=20,
        temperature=temperature,
        seed=5,
        stop_ids=(1, 2),
        **truncation,
    )
    recorded = np.concatenate([s.logprobs for s in _flat(found)])
    rescored = _rescored(network.with_temperature(temperature), PROMPTS, found)
    assert np.abs(recorded - rescored).max() <= 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_recorded_logprobs_for_every_family(family: str) -> None:
    network = from_modules(FAMILIES[family](), None).with_temperature(0.9)
    found = generate(network, PROMPTS, k=2, max_new_tokens=24, seed=1, stop_ids=(1,))
    recorded = np.concatenate([s.logprobs for s in _flat(found)])
    assert np.abs(recorded - _rescored(network, PROMPTS, found)).max() <= 1e-4


def test_rows_do_not_depend_on_batching() -> None:
    """The same samples one row at a time, in one batch, and with other prompts after them."""
    network = from_modules(llama(), None)

    def run(prompts: list[np.ndarray], batch_tokens: int, k: int = 3) -> list[list[list[int]]]:
        found = generate(
            network, prompts, k=k, max_new_tokens=12, seed=7, stop_ids=(1, 2, 3), batch_tokens=batch_tokens
        )
        return [[s.tokens.tolist() for s in row] for row in found]

    together = run(PROMPTS, 1 << 15)
    assert together == run(PROMPTS, 1)
    assert together == run(PROMPTS, 60)
    assert together[:3] == run(PROMPTS[:3], 1 << 15)
    assert [row[:2] for row in together] == run(PROMPTS, 1 << 15, k=2)
    assert len({str(row) for row in together[1]}) > 1, "samples of a prompt differ"


def test_seed_changes_samples() -> None:
    network = from_modules(llama(), None)
    first, second, again = (
        [s.tokens.tolist() for s in _flat(generate(network, PROMPTS, max_new_tokens=8, seed=seed))]
        for seed in (0, 1, 0)
    )
    assert first == again != second


def test_stops_at_a_stop_token_and_keeps_it() -> None:
    network = from_modules(llama(), None)
    found = _flat(generate(network, PROMPTS, k=8, max_new_tokens=15, seed=0, stop_ids=(1, 2, 3, 4, 5)))
    assert any(s.finished for s in found) and not all(s.finished for s in found)
    for sampled in found:
        assert sampled.tokens.dtype == np.int32 and sampled.logprobs.dtype == np.float32
        assert len(sampled.tokens) == len(sampled.logprobs) <= 15
        stops = np.isin(sampled.tokens, (1, 2, 3, 4, 5))
        assert stops.sum() == (1 if sampled.finished else 0) and stops[-1] == sampled.finished


@pytest.mark.parametrize("build_model", (mamba, llama))
def test_recomputed_rows_are_cached_rows(build_model: Any) -> None:
    """An architecture without packing generates too, its log-probs the trainer's."""
    network = replace(from_modules(build_model(), None), packs=False)
    prompts = PROMPTS[:3]
    found = generate(network, prompts, k=2, max_new_tokens=6, seed=2, stop_ids=(1,))
    recorded = np.concatenate([s.logprobs for s in _flat(found)])
    assert np.abs(recorded - _rescored(network, prompts, found)).max() <= 1e-4
    if build_model is llama:
        cached = generate(replace(network, packs=True), prompts, k=2, max_new_tokens=6, seed=2, stop_ids=(1,))
        assert [s.tokens.tolist() for s in _flat(found)] == [s.tokens.tolist() for s in _flat(cached)]


def test_stories_greedy_text() -> None:
    network = load(shared("stories260K"))
    found = generate(network, [np.array([1], np.int32)], max_new_tokens=40, greedy=True)[0][0]
    text = network.tokenizer.decode(found.tokens)
    story = "Once upon a time, there was a little girl named Lily. She loved to play outside in the park."
    assert text.strip().startswith(story)


def test_sampling_follows_the_distribution() -> None:
    """The share of each token in 40,000 evenly spread uniforms is its probability, to a part in 40,000."""
    p = torch.tensor([0.1, 0.0, 0.25, 0.05, 0.6]).repeat(40_000, 1)
    uniforms = (torch.arange(40_000, dtype=torch.float64) + 0.5) / 40_000
    shares = torch.bincount(inverse_cdf(p, uniforms), minlength=5) / 40_000
    assert torch.allclose(shares, p[0], atol=1.01 / 40_000)


def test_sampling_at_the_edges() -> None:
    """u = 0 and the largest u below 1 never give a token of probability 0, in the first block or the last."""
    p = torch.zeros(3, 300)
    p[:, [5, 140, 290]] = torch.tensor([0.2, 0.3, 0.5])
    uniforms = torch.tensor([0.0, 0.49999, 1 - 2.0**-53], dtype=torch.float64)
    assert inverse_cdf(p, uniforms).tolist() == [5, 140, 290]


def test_truncation_keeps_the_most_probable() -> None:
    z = torch.log(torch.tensor([[0.05, 0.5, 0.15, 0.3]])).repeat(101, 1)
    uniforms = torch.linspace(0, 1 - 1e-9, 101, dtype=torch.float64)

    def seen(**choice: Any) -> set[int]:
        tokens, logprobs = pick(z, uniforms, Choice(**choice))
        assert torch.allclose(logprobs, z.gather(1, tokens[:, None])[:, 0], atol=1e-6)
        return set(tokens.tolist())

    assert seen() == {0, 1, 2, 3}
    assert seen(top_k=2) == {1, 3}
    assert seen(top_p=0.5) == {1}
    assert seen(top_p=0.79) == {1, 3}
    assert seen(top_p=0.81) == {1, 2, 3}
    assert seen(top_k=3, top_p=0.99) == {1, 2, 3}
    assert seen(greedy=True) == {1}


def test_bad_requests() -> None:
    network = from_modules(llama(), None)
    with pytest.raises(TrueupError, match="E503"):
        generate(network, [np.zeros(0, np.int32)], max_new_tokens=2)
    for wrong in ({"top_p": 0.0}, {"top_k": 0}, {"temperature": -1.0}):
        with pytest.raises(TrueupError, match="E702"):
            generate(network, PROMPTS, max_new_tokens=2, **wrong)
