"""Folders that nobody should be able to do harm with: how each is made, and the error that it ends in."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

import small_world

Spoil = Callable[[Path], None]
WEIGHTS, CONFIG, INDEX = "model.safetensors", "config.json", "model.safetensors.index.json"
ADAPTER, FACTORS = "adapter_config.json", "adapter_model.safetensors"
LAYER = "model.layers.0.self_attn.q_proj"


def said(**changes: Any) -> Spoil:
    """Changes keys of config.json."""
    return lambda folder: change(folder / CONFIG, changes)


def change(path: Path, changes: dict[str, Any]) -> None:
    """Nothing; changes keys of a JSON file; a file that is not there begins empty."""
    before = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({**before, **changes}))


def holding(name: str, content: bytes | str) -> Spoil:
    """Puts other content into a file."""
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: _put(folder / name, data)


def _put(path: Path, data: bytes) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(data)


def without(*names: str) -> Spoil:
    """Takes files away."""

    def spoil(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return spoil


def pipe(name: str) -> Spoil:
    """Puts a named pipe, which nobody writes to, in a file's place."""

    def spoil(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return spoil


def link(name: str, target: str) -> Spoil:
    """Puts a link in a file's place."""

    def spoil(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return spoil


def cut(name: str, keep: float) -> Spoil:
    """Cuts a file short."""

    def spoil(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(len(data) * keep)])

    return spoil


def tensors(edit: Callable[[dict[str, torch.Tensor]], object], name: str = WEIGHTS) -> Spoil:
    """Changes the tensors of a weights' file."""

    def spoil(folder: Path) -> None:
        held = load_file(folder / name)
        edit(held)
        save_file({key: value.contiguous() for key, value in held.items()}, folder / name, {"format": "pt"})

    return spoil


def header(text: bytes, size: int | None = None, rest: int = 64) -> Spoil:
    """Writes a weights' file of a header that says what it likes."""
    length = len(text) if size is None else size
    return holding(WEIGHTS, length.to_bytes(8, "little") + text + bytes(rest))


def entry(**facts: Any) -> bytes:
    """A header of one tensor."""
    return json.dumps({"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16], **facts}}).encode()


def index(table: Any) -> Spoil:
    """Has the weights named by an index."""

    def spoil(folder: Path) -> None:
        (folder / WEIGHTS).rename(folder / "part.safetensors")
        (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": table}))

    return spoil


def all_of(*spoils: Spoil) -> Spoil:
    """One after the other."""

    def spoil(folder: Path) -> None:
        for one in spoils:
            one(folder)

    return spoil


def adapter(*spoils: Spoil, **changes: Any) -> Spoil:
    """Makes the folder an adapter on a model that lies beside it."""

    def spoil(folder: Path) -> None:
        base = folder.with_name(f"{folder.name}-base")
        folder.rename(base)
        folder.mkdir()
        for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
            if (base / name).is_file():
                shutil.copy(base / name, folder / name)
        config = {
            "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2, "lora_alpha": 4, "bias": "none",
            "target_modules": ["q_proj"], "base_model_name_or_path": str(base), **changes,
        }  # fmt: skip
        (folder / ADAPTER).write_text(json.dumps(config))
        names = {"lora_A": (2, 16), "lora_B": (16, 2)}
        held = {f"base_model.model.{LAYER}.{n}.weight": torch.ones(*s) / 99 for n, s in names.items()}
        save_file(held, folder / FACTORS, {"format": "pt"})
        for one in spoils:
            one(folder)

    return spoil


def _first(value: float) -> Callable[[dict[str, torch.Tensor]], object]:
    return lambda held: held[f"{LAYER}.weight"].__setitem__((0, 0), value)


def _twice(folder: Path) -> None:
    text = (folder / CONFIG).read_text()
    (folder / CONFIG).write_text(text.replace("{", '{"hidden_size": 64, ', 1))


def _token(folder: Path) -> None:
    said = json.loads((folder / "tokenizer.json").read_text())
    said["model"]["vocab"] |= {f"more{n}": 300 + n for n in range(400)}
    (folder / "tokenizer.json").write_text(json.dumps(said))


DEEP = '{"a":' * 5000 + "1" + "}" * 5000
FOLDERS: dict[str, tuple[Spoil, str]] = {
    # The weights' file.
    "weights cut short": (cut(WEIGHTS, 0.6), "E802"),
    "weights of 0 bytes": (holding(WEIGHTS, b""), "E802"),
    "weights of 7 bytes": (holding(WEIGHTS, b"\x01" * 7), "E802"),
    "a header of 2^63 bytes": (header(b"{}", 1 << 63), "E802"),
    "a header longer than the file": (header(entry(), 1 << 20), "E802"),
    "a header of 90 MB": (header(b" " * 64, 90_000_000), "E802"),
    "a header that is no JSON": (header(b"\x00" * 64), "E802"),
    "a header that is a list": (header(b"[1, 2]"), "E802"),
    "a header without end": (header(b"[" * 5000), "E802"),
    "offsets beyond the file": (header(entry(data_offsets=[0, 1 << 40], shape=[1 << 38])), "E802"),
    "offsets turned round": (header(entry(data_offsets=[16, 0])), "E802"),
    "a negative shape": (header(entry(shape=[-4])), "E802"),
    "a shape that overflows": (header(entry(shape=[1 << 62, 1 << 62])), "E802"),
    "a shape of fractions": (header(entry(shape=[4.5])), "E802"),
    "an unknown dtype": (header(entry(dtype="F31")), "E802"),
    "weights with a hole": (header(entry(), rest=999), "E802"),
    "pickled weights named safetensors": (holding(WEIGHTS, b"\x80\x04cos\nsystem\n(S'true'\ntR."), "E802"),
    "no weights": (without(WEIGHTS), "E802"),
    "weights behind a named pipe": (pipe(WEIGHTS), "E854"),
    "weights from a device": (link(WEIGHTS, "/dev/zero"), "E854"),
    "weights behind a dead link": (link(WEIGHTS, "nowhere"), "E854"),
    "weights behind a circle of links": (link(WEIGHTS, WEIGHTS), "E854"),
    "a tensor of another shape": (
        tensors(lambda t: t.update({f"{LAYER}.weight": torch.ones(8, 8)})), "E858",
    ),
    "a tensor missing": (tensors(lambda t: t.pop(f"{LAYER}.weight")), "E803"),
    "every tensor missing": (tensors(lambda t: [t.clear(), t.update(odd=torch.ones(1))]), "E803"),
    "weights that are NaN": (tensors(_first(float("nan"))), "E817"),
    "weights that are infinite": (tensors(_first(float("inf"))), "E817"),
    "weights of whole numbers": (
        tensors(lambda t: t.update({k: torch.ones(v.shape, dtype=torch.int64) for k, v in t.items()})), "",
    ),
    # The configuration.
    "a config that is empty": (holding(CONFIG, b""), "E854"),
    "a config that is a list": (holding(CONFIG, b"[]"), "E854"),
    "a config that is no UTF-8": (holding(CONFIG, b'{"a": "\xff"}'), "E854"),
    "a config cut short": (cut(CONFIG, 0.5), "E854"),
    "a config without end": (holding(CONFIG, DEEP), "E854"),
    "a config with a key twice": (_twice, "E854"),
    "a config of 80 MB": (holding(CONFIG, b'{"a": "' + b"x" * 80_000_000 + b'"}'), "E854"),
    "a config behind a named pipe": (all_of(pipe(CONFIG)), "E801"),
    "a config that is {}": (holding(CONFIG, b"{}"), "E859"),
    "an architecture that is not known": (said(model_type="perpetuum", architectures=["Mobile"]), "E859"),
    "a model type that is a list": (said(model_type=["llama"]), "E859"),
    "a model type that is a path": (said(model_type="../../llama"), "E859"),
    "code in the folder": (
        all_of(said(model_type="mine", auto_map={"AutoConfig": "mine.C", "AutoModelForCausalLM": "mine.M"}),
               holding("mine.py", "raise SystemExit(3)")), "E859",
    ),
    "attention by a kernel of the hub": (said(_attn_implementation="kernels-community/flash-attn"), "E855"),
    "attention by somebody's kernel": (said(attn_implementation="me/mine:run"), "E855"),
    "attention that a kernel stands in for": (said(attn_implementation="flash_attention_2"), "E855"),
    "attention inside a block": (said(text_config={"attn_implementation": {"": "me/mine"}}), "E855"),
    "experts by a kernel": (said(experts_implementation="me/experts"), "E855"),
    "kernels": (said(use_kernels=True), "E855"),
    "a quantiser": (said(quantization_config={"quant_method": "mxfp4"}), "E855"),
    "a quantiser without a name": (said(quantization_config={"bits": 4}), "E855"),
    "a billion layers": (said(num_hidden_layers=10**9), "E856"),
    "more layers than tensors": (said(num_hidden_layers=99), "E856"),
    "no layers": (said(num_hidden_layers=0), "E856"),
    "layers below none": (said(num_hidden_layers=-1), "E856"),
    "layers in words": (said(num_hidden_layers="two"), "E859"),
    "a size of 10^400": (holding(CONFIG, '{"hidden_size": 1' + "0" * 400 + "}"), "E856"),
    "a size of 10^5000": (holding(CONFIG, '{"hidden_size": 1' + "0" * 5000 + "}"), "E854"),
    "a vocabulary of 2^40": (said(vocab_size=1 << 40), "E856"),
    "a vocabulary of 16 million": (said(vocab_size=1 << 24), "E858"),
    "a hidden size of 16 million": (said(hidden_size=1 << 24), "E858"),
    "a hidden size that is not that of the weights": (said(hidden_size=32), "E858"),
    "a hidden size below 0": (said(hidden_size=-16), "E856"),
    "heads that do not divide": (said(num_attention_heads=3, num_key_value_heads=2), "E859"),
    "no heads": (said(num_attention_heads=0), "E859"),
    "a context below 0": (said(max_position_embeddings=-1), "E856"),
    "a context of 10^15": (said(max_position_embeddings=10**15), "E856"),
    "a head of 10^9 numbers": (said(head_dim=10**9), "E856"),
    "a number that is none": (holding(CONFIG, '{"model_type": "llama", "rms_norm_eps": NaN}'), "E856"),
    "a dtype that is a path": (said(dtype="os.system"), "E856"),
    "an activation that is not known": (said(hidden_act="explode"), "E859"),
    "another family's configuration": (said(model_type="gpt2", architectures=["GPT2LMHeadModel"]), "E803"),
    # The index.
    "an index to a file above": (index({"w": "../part.safetensors"}), "E857"),
    "an index to a file of the system": (index({"w": "/etc/hostname"}), "E857"),
    "an index to a folder below": (index({"w": "a/part.safetensors"}), "E857"),
    "an index to nothing": (index({"w": "other.safetensors"}), "E857"),
    "an index to a pickle": (index({"w": "part.bin"}), "E857"),
    "an index of numbers": (index({"w": 7}), "E857"),
    "an index that is a list": (index(["part.safetensors"]), "E857"),
    "an index of nothing": (index({}), "E857"),
    "an index with a NUL": (index({"w": "part\0.safetensors"}), "E857"),
    # The tokenizer.
    "no tokenizer": (without("tokenizer.json", "tokenizer_config.json"), "E801"),
    "a tokenizer that is no JSON": (holding("tokenizer.json", b"\xff\xfe"), "E859"),
    "a tokenizer of another shape": (holding("tokenizer.json", b'{"model": {"type": "Abacus"}}'), "E859"),
    "a tokenizer behind a named pipe": (pipe("tokenizer.json"), "E854"),
    "a tokenizer of a device": (link("tokenizer.json", "/dev/zero"), "E854"),
    "a tokenizer with more tokens than rows": (_token, "E858"),
    "a tokenizer's class in words": (
        lambda f: change(f / "tokenizer_config.json", {"tokenizer_class": "os.system"}), "",
    ),
    "a tokenizer's configuration that is a list": (holding("tokenizer_config.json", b"[]"), "E854"),
    "an end token that is a list": (
        lambda f: change(f / "tokenizer_config.json", {"eos_token": [1, 2]}), "E859",
    ),
    "a generation config that is a list": (holding("generation_config.json", b"[1]"), "E854"),
    "a generation config behind a named pipe": (pipe("generation_config.json"), "E854"),
    "a template behind a named pipe": (pipe("chat_template.jinja"), "E854"),
    "a template that is no Jinja": (holding("chat_template.jinja", "{% for %}"), "E550"),
    # Adapters.
    "an adapter of another kind": (adapter(peft_type="PROMPT_TUNING"), "E855"),
    "an adapter of no kind": (adapter(peft_type=None), "E855"),
    "an adapter that imports a module": (
        adapter(megatron_config={"a": 1}, megatron_core="antigravity"), "E855",
    ),
    "an adapter of rank 10^12": (adapter(r=10**12), "E856"),
    "an adapter of rank 0": (adapter(r=0), "E856"),
    "an adapter of rank 1.5": (adapter(r=1.5), "E856"),
    "an adapter of another rank than its factors": (adapter(r=3), "E858"),
    "an adapter without a base": (adapter(base_model_name_or_path=None), "E856"),
    "an adapter on nothing": (adapter(base_model_name_or_path="/nowhere/at/all"), "E801"),
    "an adapter on itself": (
        adapter(lambda f: change(f / ADAPTER, {"base_model_name_or_path": str(f)})), "E856",
    ),
    "an adapter on no layer": (adapter(target_modules=["nothing"]), "E859"),
    "an adapter of a hostile pattern": (adapter(target_modules="(((((a+)+)+)+)+)+$"), "E859"),
    "an adapter cut short": (adapter(cut(FACTORS, 0.5)), "E802"),
    "an adapter without its factors": (adapter(without(FACTORS)), "E859"),
    "an adapter that lacks a factor": (
        adapter(tensors(lambda t: t.pop(f"base_model.model.{LAYER}.lora_B.weight"), FACTORS)), "E803",
    ),
    "an adapter that is NaN": (
        adapter(tensors(lambda t: [v.fill_(float("nan")) for v in t.values()], FACTORS)), "E817",
    ),
    "an adapter's configuration cut short": (adapter(cut(ADAPTER, 0.5)), "E854"),
}  # fmt: skip
"What is done to the folder of a small model, and the code of the error;  where it can be opened."


def make(name: str, folder: Path, good: Path) -> Path:
    """The folder of that name: a copy of a good one, spoiled."""
    shutil.copytree(good, folder)
    FOLDERS[name][0](folder)
    return folder


def good_model(folder: Path) -> Path:
    """A small model whose files each case changes."""
    return small_world.save_model(folder)
