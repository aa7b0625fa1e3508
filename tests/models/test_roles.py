"""Four roles over one base: the numbers of separate networks, one copy of the weights."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from held_bytes import held
from tiny_models import ragged
from trueup.engine.groups import Completion, Group, Message, Role
from trueup.engine.method import Method, Parts
from trueup.engine.method import Role as NetworkRole
from trueup.engine.packing import pack
from trueup.errors import TrueupError
from trueup.judges.open import open_judge
from trueup.judges.reward_model import RewardModelJudge
from trueup.methods import ppo
from trueup.models import LanguageModel, load, save
from trueup.models.opening import model_path, open_networks
from trueup.models.shared import networks_over, open_base, same_weights
from trueup.runs.training import Trained, train
from trueup.settings import config as configuration
from trueup.settings.blocks import LoraSettings, ModelSettings

TINY: dict[str, Any] = {
    "data": {"path": "lab:prompts", "limit": 12, "held_out": 0.25},
    "decoding": {"max_new_tokens": 6},
    "loop": {"steps": 3, "batch": 4, "save_every": 1, "keep_last": 9},
    "minibatch": 2,
    "update": {"lr": 1e-2, "lr_scale": {"value": 2.0}},
}
LORA = LoraSettings(rank=4)
METRICS = "metrics.jsonl"


def run(folder: Path, roles: str, *, steps: int = 3, lora: Any = None, **more: Any) -> Trained:
    """PPO on the lab's base with adapters of rank 4; it goes on where the folder holds checkpoints."""
    settings = {
        **TINY,
        "model": {"lora": lora or {"rank": 4}, "roles": roles},
        "loop": {**TINY["loop"], "steps": steps},
        "update": {"lr": 3e-4},
        **more,
    }
    return train(ppo, configuration.build(ppo.Config, settings, where="test"), folder)


def build_ppo() -> Method:
    return ppo.build(ppo.Config(), Parts(groups=ragged(2), held_out=[], decode=str, stop_ids=(0,)))


def script(name: str) -> ModuleType:
    """A file of scripts/ as a module."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[2] / "scripts" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / METRICS).read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shared")
    run(folder, "shared")
    return folder


def test_ppo_is_the_same_to_the_bit(shared: Path, tmp_path: Path) -> None:
    """Every metric of every step, and the adapter and the folder that come out."""
    run(tmp_path, "separate")
    assert records(tmp_path) == records(shared)
    assert records(tmp_path)[-1]["kl"] != 0
    ours, theirs = ({p.name: p.read_bytes() for p in (f / "model").iterdir()} for f in (shared, tmp_path))
    assert ours == theirs and "adapter_model.safetensors" in ours


def test_a_stopped_run_goes_on_to_the_same_bits(shared: Path, tmp_path: Path) -> None:
    """Stopped after two steps: every network's adapter and its moments come back from the checkpoint."""
    cut = tmp_path / "cut"
    shutil.copytree(shared, cut)
    for gone in ("checkpoints/step-000003", "model"):
        shutil.rmtree(cut / gone)
    run(cut, "shared")
    assert records(cut) == records(shared)
    for name in ("policy", "value", "optimizer"):
        ours, theirs = (load_file(f / f"checkpoints/step-000003/{name}.safetensors") for f in (cut, shared))
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)
        assert any("lora_B" in key and tensor.any() for key, tensor in ours.items())


@pytest.fixture
def roles() -> dict[str, LanguageModel]:
    """Policy, reference and value over the lab's base, in float64; the critic has its own adapter."""
    base = open_base(model_path("lab:base"), dtype="float64", device="cpu")
    asked = {
        "policy": NetworkRole(),
        "reference": NetworkRole(trained=False),
        "value": NetworkRole(heads=("values",)),
    }
    return networks_over(base, asked, lora=LORA, seed=0)


def test_a_gradient_finds_only_the_network_that_was_called(roles: dict[str, LanguageModel]) -> None:
    """The other network's adapter gets none, the base gets none, and the reference has none to give."""
    batch = pack(ragged(2)).to("cpu", torch.float64)
    policy, value = roles["policy"].module, roles["value"].module
    torch.nn.init.ones_(value["value_head"].get_parameter("linear.weight"))
    said = roles["value"](batch, ("values",)).values
    assert said is not None
    said.square().sum().backward()
    found = {n for n, p in value.named_parameters() if p.grad is not None and p.grad.any()}
    assert found and all("lora_B" in n or n.startswith("value_head") for n in found), "lora_A waits for B"
    assert all(p.grad is None for p in policy.parameters())
    reference = roles["reference"](batch, ("logprobs",)).logprobs
    assert reference is not None and not reference.requires_grad
    assert {n for n, p in policy.named_parameters() if p.requires_grad} == {
        n for n, p in policy.named_parameters() if "lora_" in n
    }


def test_the_base_is_held_once(roles: dict[str, LanguageModel]) -> None:
    """Every frozen weight of the value network is the policy's tensor; adapter and head are its own."""
    policy = {p.data_ptr() for p in roles["policy"].module.parameters()}
    own = {n for n, p in roles["value"].module.named_parameters() if p.data_ptr() not in policy}
    assert own == {n for n, p in roles["value"].module.named_parameters() if p.requires_grad}
    one, both = held({"policy": roles["policy"]}), held(roles)
    adapter = sum(p.numel() for p in roles["value"].module.parameters() if p.requires_grad)
    assert both["weights"] - one["weights"] == 8 * adapter
    assert held(roles)["gradients"] == 0


def test_adapters_start_as_those_of_separate_networks(roles: dict[str, LanguageModel]) -> None:
    apart = open_networks(build_ppo(), ModelSettings(lora=LORA, dtype="float64"), torch.device("cpu"), seed=0)
    for name in ("policy", "value"):
        ours, theirs = (dict(n[name].module.named_parameters()) for n in (roles, apart))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def trained_judge(folder: Path, base: Path) -> Path:
    """A reward model's folder as `reward_model` leaves it: an adapter on the base, and its head."""
    network = load(base, heads=("rewards",), lora=LORA)
    noise = torch.Generator().manual_seed(0)
    for name, p in network.module.named_parameters():
        if "lora_B" in name:
            p.data.copy_(0.1 * torch.randn(p.shape, generator=noise))
    network.module["reward_head"].get_buffer("gain").mul_(2.0)
    return save(network, folder)


def test_a_judge_on_the_same_base_shares_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its scores are those of the judge that holds weights of its own, and it adds its adapter alone."""
    folder = trained_judge(tmp_path / "judge", Path(model_path("lab:base")))
    base = open_base(model_path("lab:base"), dtype="float32", device="cpu")
    shared, apart = open_judge(str(folder), base=base), open_judge(str(folder))
    assert isinstance(shared, RewardModelJudge) and isinstance(apart, RewardModelJudge)
    asked = (Message(Role.USER, "What is 2 + 2?"),)
    group = Group(prompt=asked, completions=(Completion(text="It is 4."), Completion(text="Go away.")))
    assert shared([group])[0] == pytest.approx(apart([group])[0], abs=1e-5)
    assert len(set(shared([group])[0])) == 2
    weights = {p.data_ptr() for p in base.model.parameters()}
    own = {n for n, p in shared.network.module.named_parameters() if p.data_ptr() not in weights}
    assert own and all("lora_" in n or n.startswith("reward_head") for n in own)
    assert not any(p.requires_grad for p in shared.network.module.parameters())
    assert not caplog.records


def test_a_judge_on_other_weights_is_loaded_apart_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = load(model_path("lab:base"), heads=("rewards",))
    folder = save(other, tmp_path / "judge")
    base = open_base(model_path("lab:base"), dtype="float32", device="cpu")
    judge = open_judge(str(folder), base=base)
    assert isinstance(judge, RewardModelJudge)
    weights = {p.data_ptr() for p in base.model.parameters()}
    assert not any(p.data_ptr() in weights for p in judge.network.module.parameters())
    (line,) = [record.getMessage() for record in caplog.records]
    assert str(folder) in line and "copy of its own" in line


def test_the_same_weights_in_another_folder_are_the_same_base(tmp_path: Path) -> None:
    lab = Path(model_path("lab:base"))
    moved, changed = tmp_path / "moved", tmp_path / "changed"
    shutil.copytree(lab, moved)
    shutil.copytree(lab, changed)
    assert same_weights(str(lab), str(lab)) and same_weights(str(lab), str(moved))
    whole = (changed / "model.safetensors").read_bytes()
    (changed / "model.safetensors").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert not same_weights(str(lab), str(changed))
    assert not same_weights("", "") and not same_weights("someone/model", str(lab))


def test_a_critic_may_start_from_an_adapter_on_the_base(tmp_path: Path) -> None:
    """It goes on training that adapter, where a network of its own would merge it and add another."""
    folder = trained_judge(tmp_path / "judge", Path(model_path("lab:base")))
    base = open_base(model_path("lab:base"), dtype="float64", device="cpu")
    asked = {"policy": NetworkRole(), "value": NetworkRole(heads=("values",), start=str(folder))}
    over = networks_over(base, asked, lora=LORA, seed=0)
    apart = load(folder, heads=("values",), dtype="float64")
    batch = pack(ragged(2)).to("cpu", torch.float64)
    for network in (over["value"], apart):
        torch.nn.init.ones_(network.module["value_head"].get_parameter("linear.weight"))
    ours, theirs = (network(batch, ("values",)).values for network in (over["value"], apart))
    assert ours is not None and theirs is not None
    assert (ours - theirs).abs().max().item() < 1e-10
    assert any(p.requires_grad for n, p in over["value"].module.named_parameters() if "lora_B" in n)


def test_a_network_on_other_weights_gets_a_copy_of_its_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = load(model_path("lab:base"))
    other.module.get_parameter("model.model.norm.weight").data.mul_(1.5)
    folder = save(other, tmp_path / "other")
    run(tmp_path / "run", "shared", steps=1, critic=str(folder))
    assert any("value starts from other weights" in r.getMessage() for r in caplog.records)


def test_without_adapters_nothing_can_be_shared(tmp_path: Path) -> None:
    settings = {**TINY, "model": {"roles": "shared"}}
    with pytest.raises(TrueupError, match=r"E708.*model\.lora"):
        train(ppo, configuration.build(ppo.Config, settings, where="test"), tmp_path)


def test_an_adapter_on_a_trained_adapter_leaves_whole_weights(tmp_path: Path) -> None:
    """A second stage over an adapter's folder stands on weights that lie in no folder: it saves its own."""
    first = run(tmp_path / "first", "shared", steps=1)
    settings = {"path": str(first.model), "lora": {"rank": 2}, "roles": "shared"}
    second = run(tmp_path / "second", "shared", steps=1, model=settings)
    assert (second.model / "model.safetensors").is_file()
    assert not (second.model / "adapter_config.json").exists()


# Slow: 30 million weights are written and read several times; the small size is always asked.
@pytest.mark.parametrize("size", ["5M", pytest.param("30M", marks=pytest.mark.slow)])
def test_four_roles_hold_little_more_than_one(size: str, tmp_path: Path) -> None:
    """PPO with a reward model, all over one base, holds at most 1.3 times the bytes of SFT at rank 16."""
    measure = script("measure_roles")
    measure.build_base(size, tmp_path / "base")
    lora = {"rank": 16}
    judge = measure.reward_adapter(tmp_path / "base", lora, tmp_path / "judge")
    sft = measure.weigh("sft", tmp_path / "base", lora, "separate")
    shared = measure.weigh("ppo", tmp_path / "base", lora, "shared", judge)
    assert shared["total"] <= 1.3 * sft["total"]
    assert shared["optimiser"] > 1.9 * sft["optimiser"], "two networks are trained"
    if size == "5M":
        apart = measure.weigh("ppo", tmp_path / "base", lora, "separate", judge)
        assert apart["total"] > 2.5 * sft["total"], "three copies of the base, for policy, critic and judge"
