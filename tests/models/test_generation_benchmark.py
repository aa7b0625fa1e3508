"""The benchmark of generation, on models too small to time: both sides do the same work and say the same."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks import generation

TINY = {"hidden_size": 32, "num_hidden_layers": 1, "vocab_size": 64, "intermediate_size": 32}
KEYS = {"ratio", "low", "high", "min_min", "cpu_ratio", "ids_equal", "ids_same", "matmul", "seconds"}


def test_both_sides_say_the_same(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(generation, "SIZES", {"": TINY})
    monkeypatch.setattr(generation, "MATMUL", 64)
    names = ["generation_1", "generation_16", "generation_ragged", "generation_1_bf16"]
    asked = [word for name in names for word in ("--only", name)]
    size = ["--prompt", "8", "--completion", "3", "--rounds", "2", "--threads", str(torch.get_num_threads())]
    generation.main([*asked, *size, "--json"])
    said = json.loads(capsys.readouterr().out)
    assert said.pop("machine")["torch"] == torch.__version__ and list(said) == names
    for name, found in said.items():
        assert found.keys() >= KEYS and 0 < found["low"] <= found["ratio"] <= found["high"]
        assert len(found["seconds"]["ours"]) == len(found["seconds"]["theirs"]) == 2
        assert found["ids_equal"] or name.endswith("bf16")


def test_shares_and_ratios() -> None:
    assert generation.share_same([[1, 2, 3], [4, 5, 6]], [[1, 2, 3], [4, 9, 6]]) == 4 / 6
    found = generation.ratios([2.0, 3.0, 9.0], [1.0, 2.0, 3.0])
    assert found == {"ratio": 2.0, "low": 1.5, "high": 3.0, "min_min": 2.0}


def test_sizes_are_those_that_are_named() -> None:
    """Five million weights, and thirty; ragged prompts of the same length on average."""
    lengths = generation.Lengths(prompt=128, completion=64)
    with torch.device("meta"):
        sizes = [
            generation.random_model(size, lengths).num_parameters() for size in generation.SIZES.values()
        ]
    assert [round(n / 1e6) for n in sizes] == [5, 30]
    counts = [len(p) for s in range(30) for p in generation.prompts_of("ragged", 50, lengths, s)]
    assert min(counts) >= 32 and max(counts) <= 224 and abs(sum(counts) / len(counts) - 128) < 10
    assert {len(p) for p in generation.prompts_of("64", 50, lengths, 0)} == {128}
