"""GGUF files: the model that was written is read, trained, resumed, and exported as a folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import gguf_files
import small_world
from tiny_models import ragged
from trueup.cli import main
from trueup.engine.packing import pack
from trueup.errors import TrueupError
from trueup.methods import sft
from trueup.models import LoraSettings, generate, load, merge, save
from trueup.models.load import open_tokenizer
from trueup.models.objects import InMemory
from trueup.runs.recipe import files_of
from trueup.settings import config as configuration
from trueup.settings import weights
from trueup.settings.weights import check_model

TEXT = "what is <|im_start|>3?<|im_end|>\n"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any]:
    """A file, and the tokenizer and the model that it holds."""
    return gguf_files.write(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def _logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.arange(2, 30)[None]).logits


def test_what_was_written_is_read(tiny: tuple[Path, Any, Any], tmp_path: Path) -> None:
    """Weights to the bit, ids, template and end of turn; saved, a folder that transformers reads as any."""
    path, tokenizer, model = tiny
    network = load(path)
    assert network.packs and torch.equal(_logits(network.hf_model), _logits(model))
    save(network, tmp_path)
    ours, theirs = network.tokenizer, AutoTokenizer.from_pretrained(tmp_path)
    for found in (ours, theirs):
        assert found(TEXT)["input_ids"] == tokenizer(TEXT)["input_ids"]
        assert found.chat_template == tokenizer.chat_template
        assert found.eos_token_id == tokenizer.eos_token_id == 259
    assert torch.equal(_logits(AutoModelForCausalLM.from_pretrained(tmp_path)), _logits(model))
    said = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert "quantization_config" not in said and said["dtype"] == "float32"
    body = load(path, heads=("rewards",), tokenizer=tokenizer)
    assert torch.equal(body.body.get_parameter("norm.weight"), model.get_parameter("model.norm.weight"))


def test_eight_bits_are_widened(tmp_path: Path) -> None:
    """Q8_0 keeps 32 numbers as 127 steps either side of the largest: half a step off at most, in float16."""
    path, tokenizer, model = gguf_files.write(tmp_path / "eight.GGUF", quantised=True)
    network = load(path, tokenizer=tokenizer)
    weights = dict(network.hf_model.named_parameters())
    for name, weight in model.named_parameters():
        blocks = weight.detach().reshape(-1, 32)
        gap = (weights[name].detach().reshape(-1, 32) - blocks).abs()
        assert (gap <= blocks.abs().amax(1, keepdim=True) * (0.5 / 127 + 2**-10)).all(), name
        assert bool(gap.any()) is (weight.ndim == 2)
        assert weights[name].dtype == torch.float32


def test_what_lies_beside_the_file_is_not_read(tiny: tuple[Path, Any, Any], tmp_path: Path) -> None:
    path = tmp_path / "a name with spaces.gguf"
    path.write_bytes(tiny[0].read_bytes())
    small_world.save_model(tmp_path)
    assert open_tokenizer(path)(" t")["input_ids"] == [256], "the file's own merge"
    assert load(path).hf_model.config.hidden_size == 32


def test_an_adapter_knows_its_file(tiny: tuple[Path, Any, Any], tmp_path: Path) -> None:
    """Saved alone it names the file, and is loaded on it again; merged, it is whole weights."""
    network = load(tiny[0], lora=LoraSettings(rank=2))
    for name, p in network.module.named_parameters():
        if "lora_B" in name:
            p.data.normal_(std=0.1, generator=torch.Generator().manual_seed(1))
    save(network, tmp_path / "adapter")
    record = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))
    assert record["base_model_name_or_path"] == str(tiny[0])
    save(merge(network), tmp_path / "whole")
    batch = pack(ragged(2))
    found = [network, load(tmp_path / "adapter"), load(tmp_path / "whole")]
    with torch.no_grad():
        said = [one(batch, ("logprobs",)).logprobs for one in found]
    assert said[0] is not None and all(s is not None and torch.allclose(s, said[0], atol=1e-5) for s in said)


def test_a_model_in_memory_may_come_from_a_file(tiny: tuple[Path, Any, Any], tmp_path: Path) -> None:
    path, tokenizer, model = tiny
    given = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    network = InMemory(model=given, tokenizer=tokenizer).network(dtype="float32", device="cpu")
    save(network, tmp_path)
    assert torch.equal(_logits(load(tmp_path).hf_model), _logits(model))


@pytest.mark.parametrize("more", ((), ("--model.lora.rank", "2")), ids=("full", "lora"))
def test_a_run_from_a_file(
    tiny: tuple[Path, Any, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    more: tuple[str, ...],
) -> None:
    """Stopped and resumed it is one run; exported, transformers writes on from it as trueup does."""
    monkeypatch.chdir(tmp_path)
    small_world.write(tmp_path / "demos.jsonl", small_world.demonstrations())
    (tmp_path / "tiny.gguf").write_bytes(tiny[0].read_bytes())
    asked = ["train", "sft", "--model.path", "tiny.gguf", "--data.path", "demos.jsonl", *more]
    asked += ["--loop.steps", "2", "--loop.batch", "4", "--update.lr", "0.01"]

    @contextmanager
    def stopping() -> Iterator[Callable[[], str]]:
        yield lambda: "SIGTERM"

    assert main([*asked, "--out", "whole"]) == 0
    with monkeypatch.context() as patch:
        patch.setattr("trueup.commands.train.stop_requests", stopping)
        patch.setattr("trueup.runs.training.end_if_asked", lambda asked: None)  # not before a step
        assert main([*asked, "--out", "parts"]) == 75
    assert main([*asked, "--out", "parts"]) == 0
    name = "adapter_model.safetensors" if more else "model.safetensors"
    assert (tmp_path / "parts/model" / name).read_bytes() == (tmp_path / "whole/model" / name).read_bytes()
    assert main(["export", "whole", "out"]) == 0
    prompt = tiny[1](TEXT, return_tensors="pt")["input_ids"]
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "out").generate(
        prompt, max_new_tokens=8, do_sample=False, pad_token_id=257, eos_token_id=259
    )
    ((ours,),) = generate(
        load(tmp_path / "whole/model"), [prompt[0].numpy()], max_new_tokens=8, greedy=True, stop_ids=(259,)
    )
    assert plain[0, prompt.shape[1] :].tolist() == ours.tokens.tolist()
    assert not torch.equal(_logits(load(tmp_path / "out").hf_model), _logits(tiny[2]))
    config = configuration.build(sft.Config, {"model": {"path": "tiny.gguf"}}, where="test")
    assert files_of(config)["tiny.gguf"] == hashlib.sha256(tiny[0].read_bytes()).hexdigest()


def test_files_that_cannot_be_read_say_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything heavy is imported: not there, no GGUF, one part of several, the library missing."""
    for name, content, says in (
        ("gone.gguf", None, r"E801 .*gone\.gguf — no such file"),
        ("page.gguf", b"<html>", r"E819 .*no GGUF file: it begins with b'<htm'"),
        ("part-00001-of-00003.gguf", b"GGUF", r"E819 .*one part of several .*--merge"),
        ("model.safetensors", b"x", r"E801 .*a file, and no folder with a model .*its folder"),
    ):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(TrueupError, match=says):
            check_model(str(tmp_path / name))
    (tmp_path / "whole.gguf").write_bytes(b"GGUF")
    with pytest.raises(TrueupError, match=r"E801 .*no model in this folder — did you mean .*page\.gguf\?"):
        check_model(str(tmp_path))
    monkeypatch.setattr(weights.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TrueupError, match=r"E818 .*trueup\[gguf\]"):
        check_model(str(tmp_path / "whole.gguf"))


@pytest.mark.parametrize("share", (0.001, 0.3, 0.99))
def test_a_damaged_file_is_named(tiny: tuple[Path, Any, Any], tmp_path: Path, share: float) -> None:
    whole = tiny[0].read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(TrueupError, match=r"E819 .*cut\.gguf — transformers cannot read this GGUF file"):
        load(tmp_path / "cut.gguf")


def test_an_architecture_that_transformers_does_not_convert(tmp_path: Path) -> None:
    import gguf

    writer = gguf.GGUFWriter(tmp_path / "clip.gguf", "clip")
    writer.add_block_count(1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(TrueupError, match=r"E819 .*clip.*not supported"):
        load(tmp_path / "clip.gguf")
