"""Mixtures of LoRA adapters over one base: exact by concatenation, and switched without touching a weight.

    W + Σ_i w_i s_i B_i A_i = W + [w_1 s_1 B_1, ..., w_N s_N B_N] [A_1; ...; A_N]

is one adapter of rank Σ r_i, whatever the ranks are. The average of the factors, (Σ w_i B_i)(Σ w_i A_i), as
the code of Ramé et al. 2023 has it for LLaMA, is another function; `factors` makes it, to compare.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from trueup.errors import TrueupError
from trueup.models.export import CardFacts, export
from trueup.models.forward import LanguageModel
from trueup.models.load import load
from trueup.models.lora import CONFIG, base_of, is_adapter, trained_on
from trueup.models.shared import open_base, same_weights
from trueup.settings.sealed import MANIFEST
from trueup.settings.vetted import AGAIN, check_folder
from trueup.soups import simplex

FILE = "adapter_model.safetensors"
A, B = ".lora_A.weight", ".lora_B.weight"
# What makes an adapter more than W + s B A, or its layers more than a list of names.
_BEYOND = (
    "use_dora", "rank_pattern", "alpha_pattern", "modules_to_save", "layers_to_transform", "lora_bias",
    "target_parameters", "trainable_token_indices", "layer_replication", "alora_invocation_tokens",
)  # fmt: skip


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Adapter:
    """A plain LoRA adapter as it lies in its folder."""

    folder: Path
    config: Mapping[str, Any]
    layers: Mapping[str, tuple[Tensor, Tensor]]
    "A [r, d_in] and B [d_out, r] of every layer, by the layer's name."

    @property
    def rank(self) -> int:
        """r."""
        return int(self.config["r"])

    @property
    def scale(self) -> float:
        """s = α / r, or α / √r for rsLoRA."""
        return self.config["lora_alpha"] / self.rank ** (0.5 if self.config.get("use_rslora") else 1.0)

    @property
    def base(self) -> str:
        """The weights that it was trained beside."""
        return str(self.config["base_model_name_or_path"])


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class AdapterSoup:
    """N adapters as one network: a gate between A and B weighs every rank by its expert's weight.

    Changing the mixture writes Σ r_i numbers; a base with N adapters serves every mixture of them.
    """

    experts: tuple[str, ...]
    start: str
    network: LanguageModel
    gate: Tensor
    "[Σ r_i], what the outputs of every A are multiplied by."
    adapters: tuple[Adapter, ...]
    free: bool = False
    "Whether weights may leave the simplex: the rest is the base's."

    @staticmethod
    def over(adapters: Sequence[Adapter], *, device: str = "cpu", free: bool = False) -> AdapterSoup:
        """The soup of these adapters, on one copy of their base."""
        with tempfile.TemporaryDirectory() as held:
            write(concatenated(adapters, (1.0,) * len(adapters)), adapters[0], Path(held))
            network = open_base(adapters[0].base, dtype="float32", device=device).network(adapter=Path(held))
        network.module.to(device)
        gate = torch.ones(sum(a.rank for a in adapters), device=device)

        def gated(_module: nn.Module, _inputs: Any, out: Tensor) -> Tensor:
            return out * gate.to(out.dtype)

        for module in network.module.modules():
            if isinstance(module, LoraLayer):
                for factor in module.lora_A.values():
                    factor.register_forward_hook(gated)
        return AdapterSoup(
            experts=tuple(str(a.folder) for a in adapters),
            start=adapters[0].base,
            network=network,
            gate=gate,
            adapters=tuple(adapters),
            free=free,
        )

    def at(self, weights: Sequence[float]) -> LanguageModel:
        """The network at a mixture, until it is asked for another; E736 for weights off the simplex."""
        given = simplex.check(weights, len(self.adapters), simplex=not self.free)
        spread = [w for w, adapter in zip(given, self.adapters, strict=True) for _ in range(adapter.rank)]
        self.gate.copy_(torch.tensor(spread))
        return self.network

    def save(self, weights: Sequence[float], folder: Path, card: CardFacts) -> Path:
        """The mixture's whole weights as an ordinary Hugging Face folder."""
        given = simplex.check(weights, len(self.adapters), simplex=not self.free)
        with tempfile.TemporaryDirectory() as held:
            return export(load(self.adapter(given, Path(held))), folder, card=card)

    def adapter(self, weights: Sequence[float], folder: Path) -> Path:
        """The folder with the mixture as one adapter: of rank Σ r_i over the experts with weight."""
        given = simplex.check(weights, len(self.adapters), simplex=not self.free)
        return write(concatenated(self.adapters, given), self.adapters[0], folder)


def plain_over_one_base(models: Sequence[str]) -> list[Adapter]:
    """The adapters in these folders, if all are plain and were trained beside the same weights; else []."""
    if not all(is_adapter(model) and trained_on(Path(model)) == "none" for model in models):
        return []
    if not all(same_weights(base_of(Path(models[0])), base_of(Path(model))) for model in models[1:]):
        return []
    if any(_beyond(Path(model)) for model in models):
        return []
    return [read(Path(model)) for model in models]


def read(folder: Path) -> Adapter:
    """The adapter in a folder. Raises E852 for one that is more than W + s B A on named layers."""
    check_folder(folder)
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    reason = _beyond(folder)
    if reason:
        raise TrueupError(
            "E852",
            f"it is more than a plain LoRA adapter: {reason}",
            where=str(folder),
            remedy="mix its merged weights: `trueup export RUN OUT` writes them",
        )
    found = load_file(folder / FILE)
    layers = [name.removesuffix(A) for name in found if name.endswith(A)]
    odd = sorted(found.keys() ^ {layer + end for layer in layers for end in (A, B)})
    if odd:
        raise TrueupError("E803", f"a factor has no other: {odd[0]}", where=str(folder), remedy=AGAIN)
    return Adapter(
        folder=folder, config=config, layers={layer: (found[layer + A], found[layer + B]) for layer in layers}
    )


def concatenated(adapters: Sequence[Adapter], weights: Sequence[float]) -> Adapter:
    """The weighted sum of adapters as one, exactly: of rank Σ r_i over those whose weight is not 0.

    One adapter of weight 1 is that adapter. Where one lacks a layer that others have, its part is 0.
    """
    kept = [(w, a) for w, a in zip(weights, adapters, strict=True) if w] or [(0.0, adapters[0])]
    if len(kept) == 1 and kept[0][0] == 1:
        return kept[0][1]
    layers: dict[str, tuple[Tensor, Tensor]] = {}
    for layer in dict.fromkeys(name for _, a in kept for name in a.layers):
        like_a, like_b = next(a.layers[layer] for _, a in kept if layer in a.layers)
        ups, downs = [], []
        for weight, adapter in kept:
            nothing = (
                like_a.new_zeros(adapter.rank, like_a.shape[1]),
                like_b.new_zeros(len(like_b), adapter.rank),
            )
            one, other = adapter.layers.get(layer, nothing)
            ups.append(one)
            downs.append((weight * adapter.scale * other.double()).to(other.dtype))
        layers[layer] = torch.cat(ups), torch.cat(downs, dim=1)
    rank = sum(a.rank for _, a in kept)
    config = {**adapters[0].config, "r": rank, "lora_alpha": rank, "use_rslora": False, "lora_dropout": 0.0}
    config["target_modules"] = _targets([a for _, a in kept])
    return Adapter(folder=adapters[0].folder, config=config, layers=layers)


def factors(adapters: Sequence[Adapter], weights: Sequence[float]) -> Adapter:
    """(Σ w_i B_i)(Σ w_i A_i): for parity with code that averages A and B apart; not the soup of the weights.

    For two experts it is off by w_1 w_2 s (B_1 − B_2)(A_1 − A_2). Raises E852 where ranks, scales or layers
    differ: then there is nothing to average.
    """
    first = adapters[0]
    if any(
        (a.rank, a.scale, a.layers.keys()) != (first.rank, first.scale, first.layers.keys()) for a in adapters
    ):
        raise TrueupError(
            "E852",
            "factors of other ranks, scales or layers have no average",
            where=", ".join(str(a.folder) for a in adapters),
            remedy="concatenate them, which is exact for any ranks",
        )
    layers: dict[str, tuple[Tensor, Tensor]] = {}
    for layer in first.layers:
        pairs = [a.layers[layer] for a in adapters]
        one, other = (
            sum((w * pair[i].double() for w, pair in zip(weights, pairs, strict=True)), start=torch.zeros(()))
            for i in (0, 1)
        )
        layers[layer] = one.to(pairs[0][0].dtype), other.to(pairs[0][1].dtype)
    return Adapter(folder=first.folder, config=first.config, layers=layers)


def write(adapter: Adapter, beside: Adapter, folder: Path) -> Path:
    """The folder, with an adapter as peft reads it and the tokenizer that lies beside another."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in beside.folder.iterdir():
        if (
            path.is_file()
            and path.name not in (CONFIG, FILE, MANIFEST, "README.md")
            and path.suffix != ".safetensors"
        ):
            shutil.copyfile(path, folder / path.name)
    tensors = {
        layer + end: t.contiguous()
        for layer, pair in adapter.layers.items()
        for end, t in zip((A, B), pair, strict=True)
    }
    save_file(tensors, folder / FILE, metadata={"format": "pt"})
    text = json.dumps(dict(adapter.config), indent=2, sort_keys=True)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8")
    return folder


def _beyond(folder: Path) -> str:
    """What a folder's adapter has beyond W + s B A on layers by name, embeddings say; "" for a plain one."""
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    if config.get("peft_type") != "LORA":
        return f"its type is {config.get('peft_type')}"
    if config.get("bias", "none") != "none":
        return "its biases are trained"
    if isinstance(config.get("target_modules"), str):
        return "its layers are named by a pattern"
    asked = next((f"`{key}` is set" for key in _BEYOND if config.get(key)), "")
    try:
        with safe_open(folder / FILE, "pt") as tensors:
            odd = sorted(name for name in tensors.offset_keys() if not name.endswith((A, B)))
    except (SafetensorError, OSError) as error:
        reason = f"its weights cannot be read: {error}"
        raise TrueupError("E802", reason, where=str(folder / FILE), remedy=AGAIN) from None
    return asked or (f"it holds {odd[0]}" if odd else "")


def _targets(adapters: Sequence[Adapter]) -> list[str]:
    return sorted({name for adapter in adapters for name in adapter.config["target_modules"]})
