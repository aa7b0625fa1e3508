"""Networks from Hugging Face folders, ids or GGUF files, into folders. Weights are safetensors, or GGUF."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer, PretrainedConfig
from transformers.utils import logging as hf_logging

from trueup.errors import TrueupError, counted
from trueup.models import heads as heads_of
from trueup.models import lora as lora_of
from trueup.models.forward import LanguageModel
from trueup.models.gguf import place, widened
from trueup.models.heads import MODULES, HeadName
from trueup.models.lora import base_of, is_adapter, spans_head
from trueup.models.probe import probe, readout_of, refuse_non_finite
from trueup.models.quantised import lift, quantise
from trueup.models.size import refuse_size, vet
from trueup.models.spoken import save_spoken, without_generation
from trueup.settings.blocks import LoraSettings
from trueup.settings.sound import no_safetensors
from trueup.settings.vetted import AGAIN
from trueup.settings.weights import check_there, check_writes, holds_model, is_gguf, no_model

DType = Literal["float32", "bfloat16", "float64"]
DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float64": torch.float64,
}
logger = logging.getLogger("trueup")
_SAVED_DROPOUT = "trueup_dropout"


def load(
    path_or_id: str | Path,
    *,
    dtype: DType = "float32",
    device: str = "cpu",
    heads: Sequence[HeadName] = ("logprobs",),
    lora: LoraSettings | None = None,
    dropout: Literal["zero", "keep"] = "zero",
    logits_budget_mib: float = 256,
    seed: int = 0,
    tokenizer: Any = None,
) -> LanguageModel:
    """The network in a folder or a GGUF file, or of that id on the Hugging Face hub.

    `heads` says what it will be asked for; without "logprobs" the LM head is dropped. Heads saved beside the
    weights are restored, others start fresh from `seed`. A folder that holds a LoRA adapter is merged into
    its base, so that the result, and not the base, is what a further adapter starts from and refers to. A
    `tokenizer` that was opened before is not read again.
    Raises E801 for a missing folder, E802 when there are no safetensors, E803 when weights are missing, E817
    when one is NaN or infinite, E853 to E859 for a folder that is damaged or says what no model's may.
    """
    network = from_modules(
        *read(path_or_id, dtype=dtype, with_head="logprobs" in heads, tokenizer=tokenizer),
        heads=heads,
        lora=lora,
        dropout=dropout,
        logits_budget_mib=logits_budget_mib,
        seed=seed,
    )
    restore_heads(network, path_or_id)
    network.module.to(device)
    return network


def read(path_or_id: str | Path, *, dtype: DType, with_head: bool, tokenizer: Any = None) -> tuple[Any, Any]:
    """The Hugging Face model and tokenizer in a folder or of an id; an adapter is merged into its base."""
    name = str(path_or_id)
    with readable(name), _silence():
        model = _merged(Path(name), dtype, with_head) if is_adapter(name) else _model(name, dtype, with_head)
    refuse_non_finite(model, name)
    return model, open_tokenizer(name) if tokenizer is None else tokenizer


def refuse_unfit(network: LanguageModel, where: str) -> None:
    """Nothing; raises E858 where a network's tokenizer has more tokens than it has embeddings for."""
    rows = network.hf_model.get_input_embeddings().weight.shape[0]
    ends = [getattr(network.tokenizer, f"{name}_token_id", None) for name in ("bos", "eos")]
    needed = max([network.tokenizer.vocab_size, *(1 + end for end in ends if isinstance(end, int))])
    if needed > rows:
        raise TrueupError(
            "E858",
            f"its tokenizer has {needed} tokens, and its model embeddings for {rows}",
            where=where,
            remedy="take model and tokenizer from one folder, as they were saved together",
        )


def restore_heads(network: LanguageModel, path_or_id: str | Path) -> None:
    """Nothing; fills the network's heads with those saved in the folder, where there are any."""
    heads_of.restore(_heads(network.module), Path(path_or_id))


def open_tokenizer(path_or_id: str | Path) -> Any:
    """The tokenizer in a folder or a GGUF file, or of that id; E801 where there is none."""
    name = str(path_or_id)
    with readable(name), _silence(), place(name) as (where, given):
        found = AutoTokenizer.from_pretrained(where, trust_remote_code=False, **given)
    if given:
        found.name_or_path = name
        found.init_kwargs.pop("gguf_file", None)
    return found


def from_modules(
    hf_model: Any,
    tokenizer: Any,
    *,
    heads: Sequence[HeadName] = ("logprobs",),
    lora: LoraSettings | None = None,
    dropout: Literal["zero", "keep"] = "zero",
    logits_budget_mib: float = 256,
    seed: int = 0,
) -> LanguageModel:
    """The network around a Hugging Face model that is in memory; the model itself is used, not a copy.

    A probe compares the packed forward with each sequence alone and chooses the path.
    """
    if "logprobs" not in heads and hf_model.get_output_embeddings() is not None:
        hf_model = hf_model.base_model
    if dropout == "zero":
        _drop_dropout(hf_model)
    if lora is not None and lora.quantise == "nf4":
        quantise(hf_model)
    found = probe(hf_model) or _attention_dropout(hf_model)
    if found:
        logger.warning("%s is run padded, one sequence a row: %s", type(hf_model).__name__, found)
    readout = readout_of(hf_model) if "logprobs" in heads else (1.0, None)
    size = hf_model.config.get_text_config().hidden_size
    parts: dict[str, nn.Module] = {"model": hf_model}
    parts.update(heads_of.make(heads, size, next(hf_model.parameters()).dtype, seed))
    if lora is not None:
        parts["model"] = lora_of.wrap(hf_model, lora, seed)
    module = nn.ModuleDict(parts).to(next(hf_model.parameters()).device)
    if dropout == "keep":  # transformers hands out models in evaluation mode
        module.train()
    return LanguageModel(
        module=module,
        tokenizer=tokenizer,
        config=hf_model.config,
        readout=readout,
        packs=not found,
        reason=found,
        logits_budget_mib=logits_budget_mib,
    )


def copy_of(network: LanguageModel) -> LanguageModel:
    """A frozen copy of a network as it is now, to refer to while the original trains."""
    module = copy.deepcopy(network.module).requires_grad_(False).eval()
    return replace(network, module=module, config=network.config)


def save(network: LanguageModel, folder: str | Path) -> Path:
    """Writes an ordinary Hugging Face folder (config, safetensors, tokenizer) with the heads beside it.

    The tokenizer's template and stop tokens are written as whoever generates needs them (`spoken`).
    A LoRA network writes its adapter only; `merge` it first for whole weights. The same weights give the same
    bytes.
    """
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    with _original_dropout(network.hf_model.config), _silence():
        if network.has_adapter:
            lora_of.save_adapter(network.module["model"], path)
        else:
            with without_generation(network.hf_model):
                network.hf_model.save_pretrained(path)
    save_spoken(network, path)
    heads_of.save(_heads(network.module), path)
    return path


def merge(network: LanguageModel) -> LanguageModel:
    """The network with its adapter added into a copy of the weights; without an adapter, as it is.

    A 4-bit base is unpacked first, so that the sum is not rounded to 4 bits again.
    """
    if not network.has_adapter:
        return network
    module = copy.deepcopy(network.module)
    module["model"] = lora_of.merged_in_memory(module["model"])
    return replace(network, module=module, adapter=True)


def _heads(module: nn.ModuleDict) -> dict[str, nn.Module]:
    return {name: module[name] for name in MODULES.values() if name in module}


def _model(name: str, dtype: DType, with_head: bool) -> Any:
    kind: Any = AutoModelForCausalLM if with_head else AutoModel
    refuse_size(name)
    how: Any = {"use_safetensors": True, "trust_remote_code": False, "output_loading_info": True}
    how["ignore_mismatched_sizes"] = True  # they are told apart below, and named
    if with_head:
        check_writes(name)
    with place(name) as (where, given):
        model, info = kind.from_pretrained(where, dtype=DTYPES[dtype], **how, **given)
    if info["missing_keys"]:
        few = ", ".join(sorted(info["missing_keys"])[:3])
        absent = counted(len(info["missing_keys"]), "weight is", "weights are")
        reason = f"{absent} not in the checkpoint and would be random: {few}"
        remedy = "load the full checkpoint, or ask for no log-probs where there is no LM head"
        raise TrueupError("E803", reason, where=name, remedy=remedy)
    for key, stored, described in sorted(info["mismatched_keys"]):
        reason = f"{key} is {list(stored)} in its files, and {list(described)} by its config.json"
        raise TrueupError("E858", reason, where=name, remedy=AGAIN)
    return widened(model, name) if given else model


def _merged(folder: Path, dtype: DType, with_head: bool) -> Any:
    check_there(base_of(folder))
    vet(base_of(folder))
    base = _model(base_of(folder), dtype, with_head or spans_head(folder))
    if lora_of.trained_on(folder) == "nf4":
        # The adapter was trained beside rounded weights and makes up for their rounding.
        lift(quantise(base))
    # peft froze the base under the adapter; the sum of both is a model like any other.
    return lora_of.merged(folder, base).requires_grad_(True)


@contextmanager
def _silence() -> Iterator[None]:
    """Inside, transformers shows no bars and reports no key it left out; missing ones are our error."""
    shown, verbosity = hf_logging.is_progress_bar_enabled(), hf_logging.get_verbosity()
    hf_logging.disable_progress_bar()
    hf_logging.set_verbosity_error()
    try:
        yield
    finally:
        hf_logging.set_verbosity(verbosity)
        if shown:
            hf_logging.enable_progress_bar()


@contextmanager
def readable(name: str) -> Iterator[None]:
    """Turns what loading can raise into one error that says what to do."""
    check_there(name)
    try:
        vet(name)
        yield
    except TrueupError:
        raise
    except SafetensorError as error:
        raise TrueupError(
            "E802", f"its weights cannot be read: {error}", where=name, remedy="copy or save the model again"
        ) from None
    except (OSError, ValueError) as error:
        if is_gguf(name):
            raise _unread(name, error) from None
        first = _first(error)
        if "safetensors" in str(error):
            raise no_safetensors(name) from None
        if Path(name).is_dir() and not holds_model(Path(name)):
            raise no_model(Path(name)) from None
        if Path(name).is_dir():
            raise _unopened(name, error) from None
        reason = f"neither a readable folder nor a model that can be fetched: {first}"
        raise TrueupError("E801", reason, where=name, remedy="give a folder, or an id while online") from None
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        # A damaged file, or one of an architecture that transformers does not convert, fails in any way.
        raise (_unread if is_gguf(name) else _unopened)(name, error) from error


def _first(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), "")[:300]


def _unopened(name: str, error: Exception) -> TrueupError:
    """The error of a folder whose files transformers, tokenizers or peft cannot make a model of."""
    if "size mismatch" in str(error):  # peft's
        reason = f"its weights have other shapes than its configuration says: {' '.join(str(error).split())}"
        return TrueupError("E858", reason[:400], where=name, remedy=AGAIN)
    reason = f"no model can be made of its files: {type(error).__name__} {_first(error)}".strip()
    return TrueupError("E859", reason, where=name, remedy=AGAIN)


def _unread(name: str, error: Exception) -> TrueupError:
    """The error of a GGUF file that transformers cannot read."""
    return TrueupError(
        "E819",
        f"transformers cannot read this GGUF file: {type(error).__name__} {_first(error)}"[:300],
        where=name,
        remedy="copy it again, or give the Hugging Face folder that it was made from",
    )


def _is_dropout(key: str, value: object) -> bool:
    named = "dropout" in key or key.endswith(("_pdrop", "_drop"))
    return named and isinstance(value, float) and value > 0


def _drop_dropout(model: Any) -> None:
    """Sets every dropout rate to 0: modules, rates that attention reads from attributes, and the config.

    The config remembers its own rates, and `save` writes those.
    """
    config: PretrainedConfig = model.config
    rates = {key: value for key, value in vars(config).items() if _is_dropout(key, value)}
    for key in rates:
        setattr(config, key, 0.0)
    vars(config)[_SAVED_DROPOUT] = rates
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for key, value in list(vars(module).items()):
            if _is_dropout(key, value):
                setattr(module, key, 0.0)


def _attention_dropout(model: Any) -> str:
    """Why kept dropout forbids packing, if attention itself drops: packed attention does not."""
    for module in model.modules():
        rates = {**vars(module), **{k: m.p for k, m in module.named_children() if isinstance(m, nn.Dropout)}}
        for key in ("attention_dropout", "attn_dropout"):
            if isinstance(rates.get(key), float) and rates[key] > 0:
                return f"its attention drops with rate {rates[key]}, as asked"
    return ""


@contextmanager
def _original_dropout(config: PretrainedConfig) -> Iterator[None]:
    rates: dict[str, float] = vars(config).pop(_SAVED_DROPOUT, {})
    for key, value in rates.items():
        setattr(config, key, value)
    try:
        yield
    finally:
        for key in rates:
            setattr(config, key, 0.0)
        vars(config)[_SAVED_DROPOUT] = rates
