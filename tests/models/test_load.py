"""Loading and saving: the same numbers and bytes back, safetensors only, heads restored, dropout off."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from shared_data import shared
from tiny_models import alone, gpt2, llama, mamba, ragged
from trueup.engine.batch import Outputs
from trueup.engine.packing import pack
from trueup.errors import TrueupError
from trueup.models import LanguageModel, copy_of, from_modules, load, save
from trueup.models.objects import InMemory
from trueup.models.probe import refuse_non_finite

WANT = ("logprobs", "values", "rewards")


def _tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(shared("stories260K"))


def _outputs(network: LanguageModel, want: tuple[str, ...] = WANT) -> list[Tensor]:
    with torch.no_grad():
        out: Outputs = network(pack(ragged(3)), want)
    return [getattr(out, name) for name in want]


def _digest(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


def test_saved_and_loaded_gives_the_same_bits(tmp_path: Path) -> None:
    network = from_modules(llama(), _tokenizer(), heads=WANT, seed=3)
    with torch.no_grad():
        network.module["value_head"].linear.weight.normal_()  # pyright: ignore
        network.module["reward_head"].gain.fill_(2.5)  # pyright: ignore
        network.module["reward_head"].bias.fill_(-1.0)  # pyright: ignore
    save(network, tmp_path / "a")
    save(network, tmp_path / "b")
    assert _digest(tmp_path / "a") == _digest(tmp_path / "b")
    back = load(tmp_path / "a", heads=WANT, seed=99)
    for before, after in zip(_outputs(network), _outputs(back), strict=True):
        assert torch.equal(before, after)
    assert back.tokenizer("once upon").input_ids == network.tokenizer("once upon").input_ids
    record = json.loads((tmp_path / "a" / "trueup_heads.json").read_text())
    assert record["heads"] == ["reward_head", "value_head"]


def test_the_folder_is_an_ordinary_one(tmp_path: Path) -> None:
    """transformers loads it without us, and gets the same logits."""
    network = from_modules(llama(), _tokenizer())
    save(network, tmp_path)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path)
    found, expected = _outputs(network, ("logprobs",))[0], alone(plain, ragged(3))
    assert (found - expected).abs().max().item() <= 1e-5
    assert "trueup" not in (tmp_path / "config.json").read_text()


def test_a_reward_model_has_no_lm_head(tmp_path: Path) -> None:
    save(from_modules(llama(), _tokenizer()), tmp_path / "policy")
    reward = load(tmp_path / "policy", heads=("rewards",), seed=1)
    assert not any("lm_head" in name for name, _ in reward.module.named_parameters())
    score = _outputs(reward, ("rewards",))[0]
    with pytest.raises(TrueupError, match="E705"):
        reward(pack(ragged(2)), ("logprobs",))
    save(reward, tmp_path / "reward")
    assert torch.equal(_outputs(load(tmp_path / "reward", heads=("rewards",)), ("rewards",))[0], score)
    with pytest.raises(TrueupError, match=r"E767.*scores text and writes none"):
        load(tmp_path / "reward")


def test_fresh_heads() -> None:
    """Values start at 0 exactly; reward weights are N(0, 1/(d+1)), a function of the seed."""
    network = from_modules(llama(), None, heads=WANT, seed=4)
    _, values, rewards = _outputs(network)
    assert torch.equal(values, torch.zeros_like(values)) and rewards.std() > 0
    again = from_modules(llama(), None, heads=("rewards",), seed=4)
    other = from_modules(llama(), None, heads=("rewards",), seed=5)
    assert torch.equal(_outputs(again, ("rewards",))[0], rewards)
    assert not torch.equal(_outputs(other, ("rewards",))[0], rewards)
    wide = from_modules(llama(hidden_size=400), None, heads=("rewards",)).module["reward_head"]
    spread = wide.linear.weight.std().item() * 401**0.5  # pyright: ignore
    assert 0.85 < spread < 1.15


def test_reward_is_read_at_the_last_token() -> None:
    """Each score is the head on the state of that completion's last token, run alone."""
    model = llama()
    network = from_modules(model, None, heads=WANT)
    groups = ragged(3)
    found = _outputs(network, ("rewards",))[0]
    expected = []
    for group in groups:
        for completion in group.completions:
            assert group.prompt_tokens is not None and completion.tokens is not None
            ids = np.concatenate([group.prompt_tokens, completion.tokens]).astype(np.int64)
            state = model.model(input_ids=torch.from_numpy(ids)[None]).last_hidden_state[0, -1:]
            expected.append(network.module["reward_head"](state))
    assert (found - torch.cat(expected)).abs().max().item() <= 1e-5


def test_dropout_is_off_and_the_config_remembers_it(tmp_path: Path) -> None:
    """Module and attention dropout alike: two passes in training mode agree to the bit."""
    rates = {"attn_pdrop": 0.3, "resid_pdrop": 0.2, "embd_pdrop": 0.1}
    network = from_modules(gpt2(**rates), _tokenizer())
    network.module.train()
    assert torch.equal(*(_outputs(network, ("logprobs",))[0] for _ in range(2)))
    functional = from_modules(llama(attention_dropout=0.5), None)
    functional.module.train()
    assert torch.equal(*(_outputs(functional, ("logprobs",))[0] for _ in range(2)))
    save(network, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert {key: config[key] for key in rates} == rates and "trueup_dropout" not in config
    assert torch.equal(*(_outputs(network, ("logprobs",))[0] for _ in range(2)))


def test_dropout_kept_on_request(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "trueup"):
        network = from_modules(llama(attention_dropout=0.5), None, dropout="keep")
    assert not network.packs and "0.5" in network.reason and len(caplog.records) == 1
    network.module.train()
    first, second = (_outputs(network, ("logprobs",))[0] for _ in range(2))
    assert not torch.equal(first, second)


def test_dropout_kept_acts_from_the_first_update_on(tmp_path: Path) -> None:
    """A model from a folder comes in evaluation mode; nothing has to be sampled before its dropout acts."""
    save(from_modules(gpt2(attn_pdrop=0.0, resid_pdrop=0.5), _tokenizer()), tmp_path)
    kept, zero = load(tmp_path, dropout="keep"), load(tmp_path)
    assert not torch.equal(*(_outputs(kept, ("logprobs",))[0] for _ in range(2)))
    assert torch.equal(*(_outputs(zero, ("logprobs",))[0] for _ in range(2)))


def test_one_line_says_what_is_not_packed(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "trueup"):
        from_modules(mamba(), None)
    assert [r.getMessage() for r in caplog.records if r.name == "trueup"] == [
        "MambaForCausalLM is run padded, one sequence a row: it never calls the attention function"
    ]


def test_copies_do_not_follow() -> None:
    """A frozen copy keeps its numbers while the original trains."""
    network = from_modules(llama(), None)
    reference = copy_of(network)
    before = _outputs(reference, ("logprobs",))[0]
    assert torch.equal(before, _outputs(network, ("logprobs",))[0])
    with torch.no_grad():
        for parameter in network.module.parameters():
            parameter.mul_(1.1)
    assert torch.equal(before, _outputs(reference, ("logprobs",))[0])
    assert not torch.equal(before, _outputs(network, ("logprobs",))[0])
    assert not any(p.requires_grad for p in reference.module.parameters())


def test_pickle_weights_are_refused(tmp_path: Path) -> None:
    network = from_modules(llama(), _tokenizer())
    save(network, tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    torch.save(weights, tmp_path / "pytorch_model.bin")
    with pytest.raises(TrueupError, match=r"E802.*pickle"):
        load(tmp_path)


@pytest.mark.parametrize("name", ("./nowhere", "/no/such/folder", "a/b/c", "nobody/nothing", "nothing"))
def test_missing_folders_and_ids_offline(name: str) -> None:
    with pytest.raises(TrueupError, match="E801"):
        load(name)


def test_a_folder_without_a_model_names_the_one_inside(tmp_path: Path) -> None:
    for stage in ("sft-0123456789", "label-0123456789"):
        (tmp_path / "run" / "stages" / stage).mkdir(parents=True)
    save(from_modules(llama(), _tokenizer()), tmp_path / "run" / "stages" / "sft-0123456789" / "model")
    with pytest.raises(TrueupError, match=r"E801 .*run — no model .* did you mean .*sft-0123456789/model\?"):
        load(tmp_path / "run")


def test_an_unreachable_hub_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class ConnectError(Exception):
        pass

    class Session:
        def head(self, url: str, timeout: float) -> None:
            raise ConnectError("name not known")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "https://hub.invalid")
    monkeypatch.setattr("huggingface_hub.utils.get_session", Session)
    with pytest.raises(TrueupError, match=r"E801 nobody/nothing — no such folder, .*name not known"):
        load("nobody/nothing")


def test_a_damaged_head_is_an_error(tmp_path: Path) -> None:
    save(from_modules(llama(hidden_size=16), _tokenizer(), heads=WANT), tmp_path / "small")
    save(from_modules(llama(), _tokenizer()), tmp_path / "large")
    for part in ("trueup_heads.safetensors", "trueup_heads.json"):
        (tmp_path / "large" / part).write_bytes((tmp_path / "small" / part).read_bytes())
    with pytest.raises(TrueupError, match="E804"):
        load(tmp_path / "large", heads=WANT)


def test_a_head_with_unknown_logits_is_refused() -> None:
    """A model whose logits are not what its config says: an error at load, not wrong log-probs."""
    model = llama()
    model.lm_head.register_forward_hook(lambda module, args, out: out * 1.5)
    with pytest.raises(TrueupError, match="E805"):
        from_modules(model, None)


def test_what_it_cannot_give_is_an_error() -> None:
    network = from_modules(llama(), None)
    for wrong in ("values", "rewards", "logprob"):
        with pytest.raises(TrueupError, match="E705"):
            network(pack(ragged(2)), (wrong,))
    long = from_modules(gpt2(), None)
    groups = ragged(1)
    far = [replace(g, prompt_tokens=np.zeros(200, np.int32)) for g in groups]
    with pytest.raises(TrueupError, match=r"E504.*sequence of \d+ tokens .* context of 128 .*max_tokens"):
        long(pack(far), ("logprobs",))
    strange = [replace(g, prompt_tokens=np.array([1, 70_000], np.int32)) for g in groups]
    with pytest.raises(TrueupError, match=r"E504.*token id 70000 is outside .* 61 ids.*tokenizer"):
        network(pack(strange), ("logprobs",))


def _broken(model: Any, name: str, value: float) -> Any:
    model.get_parameter(name).data.view(-1)[3] = value
    return model


@pytest.mark.parametrize("value", (float("nan"), float("inf"), float("-inf")))
@pytest.mark.parametrize("name", ("model.embed_tokens.weight", "model.layers.1.mlp.down_proj.weight"))
def test_weights_that_are_no_numbers_are_named(tmp_path: Path, name: str, value: float) -> None:
    """Not a fault of the LM head, as their logits would suggest: the tensor, and how many of its numbers."""
    save(from_modules(llama(), _tokenizer()), tmp_path / "good")
    shutil.copytree(tmp_path / "good", tmp_path / "bad")
    _broken(llama(), name, value).save_pretrained(tmp_path / "bad")
    load(tmp_path / "good")
    with pytest.raises(TrueupError, match=rf"E817 .*bad — 1 of the 1,\d+ numbers in {name} are NaN or inf"):
        load(tmp_path / "bad")
    with pytest.raises(TrueupError, match=rf"E817 LlamaForCausalLM — 1 of .* {name} "):
        InMemory(model=_broken(llama(), name, value), tokenizer=_tokenizer()).network(
            dtype="float32", device="cpu"
        )


def test_large_weights_are_numbers() -> None:
    """Their sum is not finite in float32, but each of them is: what fails is the model's arithmetic."""
    model = llama()
    model.get_parameter("lm_head.weight").data.fill_(3e38)
    refuse_non_finite(model, "here")
    with pytest.raises(TrueupError, match=r"E817.*overflow"):
        from_modules(model, None)


def test_a_head_that_is_no_number_is_named(tmp_path: Path) -> None:
    network = from_modules(llama(), _tokenizer(), heads=("rewards",))
    network.module["reward_head"].linear.weight.data[0, 0] = float("nan")
    save(network, tmp_path)
    with pytest.raises(TrueupError, match=r"E817.*reward_head\.linear\.weight"):
        load(tmp_path, heads=("rewards",))
