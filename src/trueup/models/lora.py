"""LoRA by peft: a frozen base, a small adapter on its linear layers, and the base itself as the reference.

    W x + (alpha / rank) B A x        A random, B = 0: the adapter starts as nothing

(Hu et al. 2021; with `rslora` the factor is alpha / √rank, Kalajdzievski 2023; `dora` trains the columns'
norms apart, Liu et al. 2024.)

peft is imported where an adapter is made or read: it brings the code of a dozen model families along.
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from trueup.errors import TrueupError
from trueup.models import targets as targets_of
from trueup.models.quantised import is_quantised, lift
from trueup.settings.blocks import LoraSettings

logger = logging.getLogger("trueup")
CONFIG = "adapter_config.json"
RECORD = "trueup_base.json"
"Beside an adapter: how its base was held while it was trained, where that is not as it lies in its folder."


def wrap(model: PreTrainedModel, config: LoraSettings, seed: int) -> Any:
    """The model with a fresh adapter, its base frozen; the random part is a function of the seed."""
    import peft

    has_head = model.get_output_embeddings() is not None
    targets = targets_of.resolve(model, config.targets, has_head=has_head)
    wanted = peft.LoraConfig(
        r=config.rank,
        # peft declares an int and divides it by the rank: a fraction is as good.
        lora_alpha=config.alpha,  # pyright: ignore[reportArgumentType]
        lora_dropout=config.dropout,
        target_modules=targets.modules,
        target_parameters=targets.parameters or None,
        use_rslora=config.rslora,
        use_dora=config.dora,
        # GPT-2 keeps its weights transposed.
        fan_in_fan_out=any(isinstance(m, Conv1D) for m in model.modules()),
        task_type="CAUSAL_LM" if has_head else "FEATURE_EXTRACTION",
    )
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(seed % 2**63)
        try:
            adapted = peft.get_peft_model(model, wanted)
        except ValueError as error:
            raise targets_of.unfit(model, str(error)) from None
    targets_of.refuse_unfit(adapted, targets)
    tied = _shared(model)
    if tied:
        logger.warning(
            "%s is tied to another layer, and the adapter changes this one alone: merged weights hold both "
            "(tie_word_embeddings: false)",
            tied[0][0],
        )
    return adapted


def _shared(model: nn.Module) -> list[tuple[str, Any]]:
    """Name and layer of what has an adapter here and its weight in common with another layer."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    modules = list(model.modules())
    found = []
    for name, module in model.named_modules():
        if isinstance(module, BaseTunerLayer):
            layer = module.get_base_layer()
            weight = layer._parameters.get("weight")
            others = (m for m in modules if m is not layer and m._parameters.get("weight") is weight)
            if weight is not None and any(others):
                found.append((name, layer))
    return found


def untie(model: Any) -> None:
    """Nothing; gives layers with an adapter weights of their own, so that merging changes no other layer."""
    shared = _shared(model)
    for _, layer in shared:
        layer.weight = nn.Parameter(layer.weight.detach().clone(), requires_grad=layer.weight.requires_grad)
    if shared:
        bare = model.get_base_model() if wrapped(model) else model
        for config in (bare.config, bare.config.get_text_config()):
            config.tie_word_embeddings = False
        bare.all_tied_weights_keys = {}


@contextmanager
def quiet() -> Iterator[None]:
    """Inside, peft does not speak of deprecated names, ties (see `untie`), GPT-2's LM head, experts."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        warnings.filterwarnings("ignore", message=".*tie_word_embeddings")
        warnings.filterwarnings("ignore", message="fan_in_fan_out is set to")
        # It looks for the ranks of stacked experts among layers, and gives them to parameters all the same.
        warnings.filterwarnings("ignore", message="The following (rank|alpha)_pattern keys")
        yield


def wrapped(model: Any) -> bool:
    """Whether a model carries an adapter of peft's."""
    return "peft" in sys.modules and isinstance(model, sys.modules["peft"].PeftModel)


def has_adapter(layer: Any) -> bool:
    """Whether a layer has one of peft's beside it."""
    return hasattr(layer, "base_layer")


def is_adapter(folder: str | Path) -> bool:
    """Whether a folder holds a LoRA adapter in place of whole weights."""
    return (Path(folder) / CONFIG).is_file()


def base_of(folder: Path) -> str:
    """The folder or id of the weights that an adapter was trained on."""
    return str(_said(folder)["base_model_name_or_path"])


def spans_head(folder: Path) -> bool:
    """Whether an adapter was trained on a model with an LM head, and so names its layers as one does."""
    return _said(folder).get("task_type") == "CAUSAL_LM"


def trained_on(folder: Path) -> str:
    """How the base was held while a folder's adapter was trained: `none`, or `nf4` for 4 bits."""
    path = folder / RECORD
    return json.loads(path.read_text(encoding="utf-8"))["quantise"] if path.is_file() else "none"


def _said(folder: Path) -> dict[str, Any]:
    return json.loads((folder / CONFIG).read_text(encoding="utf-8"))


def adapted(folder: Path, base: PreTrainedModel, *, trained: bool = False) -> Any:
    """The base with the folder's adapter as layers beside its own, the base frozen.

    Layers are named from where the adapter was trained: the whole model, or its body (`spans_head`). Raises
    E803 where weights are missing from the folder's file.
    """
    import peft

    with quiet():
        warnings.filterwarnings("error", message="Found missing adapter keys")
        try:
            return peft.PeftModel.from_pretrained(base, str(folder), is_trainable=trained)
        except UserWarning as missing:
            raise TrueupError(
                "E803",
                f"weights of the adapter are not in its file and would be random: {str(missing)[:200]}",
                where=str(folder),
                remedy="copy or save the adapter again",
            ) from None


def merged(folder: Path, base: PreTrainedModel) -> Any:
    """The base with the folder's adapter added into its weights, in place.

    These weights lie in no folder, so the model no longer names the base's as its own.
    """
    part: Any = base if spans_head(folder) else base.base_model
    beside = adapted(folder, part)
    untie(base)
    with quiet():
        beside.merge_and_unload()
    for model in (base, part):
        model.name_or_path = model.config._name_or_path = ""
    return base


def merged_in_memory(model: Any) -> Any:
    """The model with its adapter added into its own weights; a 4-bit base is unpacked first."""
    import peft

    untie(model)
    if not is_quantised(model.get_base_model()):
        with quiet():
            return model.merge_and_unload()
    (name, config), *_ = model.peft_config.items()
    state = peft.get_peft_model_state_dict(model)
    with quiet():
        again: Any = peft.get_peft_model(lift(model.unload()), config, adapter_name=name)
    peft.set_peft_model_state_dict(again, state)
    with quiet():
        return again.merge_and_unload()


def save_adapter(model: Any, folder: Path) -> None:
    """Writes the adapter as peft does, the names of its layers in order so that the bytes are the same again.

    Raises E806 when the base lies in no folder: the adapter would mean nothing without it.
    """
    if not model.get_base_model().name_or_path:
        raise TrueupError(
            "E806",
            "the adapter's base is in memory only, or is itself a merged adapter",
            where=str(folder),
            remedy="save `merge(network)`, or save the base and load it before adding the adapter",
        )
    model.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False)
    path = folder / CONFIG
    record = json.loads(path.read_text(encoding="utf-8"))
    ordered = {k: sorted(v) if isinstance(v, list) else v for k, v in record.items()}
    path.write_text(json.dumps(ordered, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    if is_quantised(model.get_base_model()):
        record = {"format": 1, "quantise": "nf4"}
        (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
