"""Mixtures of weights and of adapters: one-hot bits, exact concatenation, what may not be mixed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import small_world
import tiny_models
from trueup.engine.batch import Batch
from trueup.engine.method import Network
from trueup.engine.packing import pack
from trueup.errors import TrueupError
from trueup.models.generate import generate
from trueup.models.load import load, save
from trueup.settings.blocks import LoraSettings
from trueup.soups.adapters import AdapterSoup, concatenated, factors, plain_over_one_base, read
from trueup.soups.lineage import shared_start
from trueup.soups.mix import card_of, mixture, open_soup


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_world.save_model(tmp_path_factory.mktemp("start") / "start")


def expert(start: Path, folder: Path, seed: int, size: float = 0.005) -> Path:
    """The start with noise on every weight, as training would leave it."""
    network = load(start)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.module.parameters():
            parameter += size * torch.randn(parameter.shape, generator=generator)
    return save(network, folder)


def adapter(start: Path, folder: Path, seed: int, **settings: object) -> Path:
    """An adapter on the start whose B is not 0."""
    network = load(start, lora=LoraSettings(**settings), seed=seed)  # pyright: ignore[reportArgumentType] - by name
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.module.named_parameters():
            if "lora_B" in name:
                parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return save(network, folder)


def said(network: Network) -> torch.Tensor:
    """Log-probs of a few sequences."""
    with torch.no_grad():
        batch: Batch = pack(tiny_models.ragged(2))
        found = network(batch, ("logprobs",)).logprobs
    assert found is not None
    return found


def test_one_hot_is_the_expert_to_the_byte(start: Path, tmp_path: Path) -> None:
    experts = [expert(start, tmp_path / f"e{i}" / "model", i) for i in range(3)]
    soup = open_soup([str(e) for e in experts])
    for i, folder in enumerate(experts):
        weights = tuple(float(i == j) for j in range(3))
        out = soup.save(weights, tmp_path / f"out{i}", card_of(soup, weights, name=f"out{i}"))
        for name in ("model.safetensors", "config.json", "tokenizer.json"):
            assert (out / name).read_bytes() == (folder / name).read_bytes(), name
        assert "weights.e0" in (out / "README.md").read_text(encoding="utf-8")
    # Between two one-hots the network held something else: nothing of it stays behind.
    half = said(soup.at((0.5, 0.5, 0.0))).clone()
    assert torch.equal(said(soup.at((0.0, 0.0, 1.0))), said(load(experts[2])))
    assert not torch.equal(half, said(soup.at((0.0, 0.0, 1.0))))


def test_a_mixture_by_hand() -> None:
    """θ_0 = 1, θ_1 = 3, θ_2 = −1, w = (.5, .25): 1 + .5 · 2 − .25 · 2 = 1.5; on the simplex θ_0 cancels."""
    parts = [{"w": torch.tensor([3.0])}, {"w": torch.tensor([-1.0])}]
    origin = {"w": torch.tensor([1.0])}
    assert mixture(parts, (0.5, 0.25), origin)["w"].item() == 1.5
    assert mixture(parts, (0.0, 0.0), origin)["w"].item() == 1.0
    assert mixture(parts, (0.25, 0.75))["w"].item() == mixture(parts, (0.25, 0.75), origin)["w"].item() == 0.0
    # −0 and tiny numbers beside large ones survive a weight of 1; nan beside a weight of 0 does not spread.
    odd = {"w": torch.tensor([-0.0, 1e-38, 3e38])}
    kept = mixture([{"w": torch.full((3,), torch.nan)}, odd], (0.0, 1.0))["w"]
    assert kept.numpy().tobytes() == odd["w"].numpy().tobytes()


def test_a_linear_models_soup_says_the_mixture_of_what_its_experts_say() -> None:
    rng = np.random.default_rng(0)
    maps = [{"w": torch.from_numpy(rng.normal(size=(4, 5)))} for _ in range(3)]
    x, weights = torch.from_numpy(rng.normal(size=5)), (0.2, 0.3, 0.5)
    wanted = sum(w * (m["w"] @ x) for w, m in zip(weights, maps, strict=True))
    assert torch.allclose(mixture(maps, weights)["w"] @ x, torch.as_tensor(wanted), atol=1e-14)


def test_adapters_of_other_ranks_add_up_exactly(start: Path, tmp_path: Path) -> None:
    """One adapter of rank 3 + 5 + 2, rsLoRA and other layers among them, against the merged weights' sum."""
    folders = [
        adapter(start, tmp_path / "a", 1, rank=3),
        adapter(start, tmp_path / "b", 2, rank=5, alpha=8.0, rslora=True),
        adapter(start, tmp_path / "c", 3, rank=2, targets=("q_proj", "down_proj")),
    ]
    weights = (0.5, 0.3, 0.2)
    soup = open_soup([str(f) for f in folders])
    assert isinstance(soup, AdapterSoup) and soup.start == str(start)
    merged = [load(f).module["model"].state_dict() for f in folders]
    wanted = mixture(merged, weights)
    out = soup.save(weights, tmp_path / "out", card_of(soup, weights, name="out"))
    found = load_file(out / "model.safetensors")
    assert max((found[n] - wanted[n]).abs().max().item() for n in found) < 1e-6
    one = read(soup.adapter(weights, tmp_path / "one"))
    assert one.rank == 10 and one.scale == 1.0
    # Served over one base by the gate: the same function, without writing a weight.
    assert torch.allclose(said(soup.at(weights)), said(load(out)), atol=1e-5)
    assert torch.allclose(said(soup.at((0.0, 1.0, 0.0))), said(load(folders[1])), atol=1e-5)
    alone = read(soup.adapter((0.0, 1.0, 0.0), tmp_path / "alone"))
    theirs = read(folders[1])
    assert all(
        torch.equal(a, b) for n, p in theirs.layers.items() for a, b in zip(p, alone.layers[n], strict=True)
    )


def test_generation_follows_the_gate(start: Path, tmp_path: Path) -> None:
    folders = [adapter(start, tmp_path / str(i), i, rank=4, alpha=40.0) for i in (1, 2)]
    soup = open_soup([str(f) for f in folders])
    prompts = [np.arange(5, dtype=np.int32), np.arange(9, dtype=np.int32)]

    def tokens(network: object) -> list[list[int]]:
        drawn = generate(network, prompts, max_new_tokens=12, seed=3)  # pyright: ignore[reportArgumentType] - a network
        return [row[0].tokens.tolist() for row in drawn]

    for place, weights in enumerate(((1.0, 0.0), (0.0, 1.0))):
        assert tokens(soup.at(weights)) == tokens(load(folders[place]))
    assert tokens(soup.at((0.5, 0.5))) != tokens(soup.at((1.0, 0.0)))


def test_averaged_factors_are_off_by_the_known_gap(start: Path, tmp_path: Path) -> None:
    """Σ w B · Σ w A = Σ w B A − w_1 w_2 (B_1 − B_2)(A_1 − A_2)."""
    pair = [read(adapter(start, tmp_path / str(i), i, rank=4)) for i in (1, 2)]
    exact, averaged = concatenated(pair, (0.3, 0.7)), factors(pair, (0.3, 0.7))
    for layer, (a, b) in averaged.layers.items():
        (a1, b1), (a2, b2) = pair[0].layers[layer], pair[1].layers[layer]
        gap = 0.21 * pair[0].scale * (b1 - b2) @ (a1 - a2)
        left = exact.layers[layer][1] @ exact.layers[layer][0] - averaged.scale * b @ a
        assert torch.allclose(left, gap, atol=1e-5) and gap.abs().max() > 0.01
    other = read(adapter(start, tmp_path / "3", 3, rank=5))
    with pytest.raises(TrueupError, match="E852"):
        factors([pair[0], other], (0.5, 0.5))


def test_what_shares_no_start_is_refused(start: Path, tmp_path: Path) -> None:
    near = expert(start, tmp_path / "near" / "model", 1)
    torch.manual_seed(7)
    fresh = load(start)
    with torch.no_grad():
        for parameter in fresh.module.parameters():
            parameter.normal_(0, 0.05)
    apart = save(fresh, tmp_path / "apart")
    with pytest.raises(TrueupError, match=r"E851.*cosine of -?0\.0"):
        open_soup([str(near), str(apart)])
    # The record of a run speaks before any weight is compared.
    for name, path in (("near", str(start)), ("far", str(apart))):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "config.resolved.yaml").write_text(json.dumps({"model": {"path": path}}), encoding="utf-8")
    far = expert(start, tmp_path / "far" / "model", 2)
    with pytest.raises(TrueupError, match=r"E851.*trained from"):
        open_soup([str(near), str(far)])
    with pytest.raises(TrueupError, match=r"E851.*not from"):
        open_soup([str(far), str(near)], start=str(start))
    assert shared_start([str(near), str(near)]) == str(start)


def test_other_shapes_tokenizers_and_weights_are_refused(start: Path, tmp_path: Path) -> None:
    near = str(expert(start, tmp_path / "near", 1))
    wide = load(start)
    for key, value in (("num_attention_heads", 4), ("rope_theta", 5.0)):
        other = save(wide, tmp_path / key)
        config = json.loads((other / "config.json").read_text(encoding="utf-8"))
        if key == "rope_theta":
            config["rope_parameters"] = {**config["rope_parameters"], "rope_theta": value}
        else:
            config[key] = value
            config["num_key_value_heads"], config["head_dim"] = 4, 4
        (other / "config.json").write_text(json.dumps(config), encoding="utf-8")
        with pytest.raises((TrueupError, RuntimeError), match=r"E850|size"):
            open_soup([near, str(other)])
    words = save(wide, tmp_path / "words")
    text = (words / "tokenizer.json").read_text(encoding="utf-8").replace('"a":', '"\\u4e00":', 1)
    (words / "tokenizer.json").write_text(text, encoding="utf-8")
    with pytest.raises(TrueupError, match=r"E850.*tokenizers"):
        open_soup([near, str(words)])
    with pytest.raises(TrueupError, match="E736"):
        open_soup([near])
    soup = open_soup([near, str(start)])
    with pytest.raises(TrueupError, match="E736"):
        soup.at((0.9, 0.9))
    with pytest.raises(TrueupError, match=r"E736.*no start"):
        open_soup([near, str(start)], beyond=True)
    assert open_soup([near, str(start)], start=str(start), beyond=True).at((0.9, 0.9)) is not None


def test_what_is_no_plain_adapter_is_mixed_as_whole_weights(start: Path, tmp_path: Path) -> None:
    folders = [adapter(start, tmp_path / str(i), i, rank=2, dora=True) for i in (1, 2)]
    assert plain_over_one_base([str(f) for f in folders]) == []
    with pytest.raises(TrueupError, match="E852"):
        read(folders[0])
    soup = open_soup([str(f) for f in folders])
    assert not isinstance(soup, AdapterSoup)
    assert torch.allclose(said(soup.at((1.0, 0.0))), said(load(folders[0])), atol=1e-6)


def test_bfloat16_experts_give_a_bfloat16_soup(start: Path, tmp_path: Path) -> None:
    folders = []
    for i in (1, 2):
        whole = expert(start, tmp_path / f"w{i}", i)
        network = load(whole, dtype="bfloat16")
        folders.append(save(network, tmp_path / f"b{i}"))
    soup = open_soup([str(f) for f in folders])
    out = soup.save((0.0, 1.0), tmp_path / "out", card_of(soup, (0.0, 1.0), name="out"))
    assert (out / "model.safetensors").read_bytes() == (folders[1] / "model.safetensors").read_bytes()
