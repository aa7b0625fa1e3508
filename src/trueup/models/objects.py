"""Models that are in memory already: transformers' and peft's objects as networks, and their digests.

The object itself is read and never changed: a network that is trained has a copy of its weights, one that is
not shares them.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from trueup.errors import TrueupError
from trueup.models import lora as lora_of
from trueup.models.forward import LanguageModel
from trueup.models.gguf import widened
from trueup.models.heads import HeadName
from trueup.models.load import DTYPES, DType, from_modules
from trueup.models.probe import refuse_non_finite
from trueup.settings.blocks import LoraSettings

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, kw_only=True, eq=False)
class InMemory:
    """A model with an LM head as transformers has it, an adapter of peft's on it or not, and its tokenizer.

    Raises E754 for what cannot be trained from here.
    """

    model: Any
    tokenizer: Any

    def __post_init__(self) -> None:
        fault = _fault(self.model, self.tokenizer)
        if fault:
            raise TrueupError("E754", fault[0], where=self.kind, remedy=fault[1])

    @property
    def kind(self) -> str:
        """The class of the model, without an adapter's wrapper: `LlamaForCausalLM`."""
        return type(_bare(self.model)).__name__

    @property
    def dtype(self) -> DType:
        """The precision of its weights."""
        found = next(self.model.parameters()).dtype
        return cast(DType, next(name for name, dtype in DTYPES.items() if dtype == found))

    @property
    def num_parameters(self) -> int:
        """How many parameters it has, shared ones once."""
        return sum(p.numel() for p in self.model.parameters())

    def network(
        self,
        *,
        dtype: DType,
        device: str,
        heads: Sequence[HeadName] = ("logprobs",),
        lora: LoraSettings | None = None,
        dropout: Literal["zero", "keep"] = "zero",
        logits_budget_mib: float = 256,
        seed: int = 0,
        trained: bool = True,
    ) -> LanguageModel:
        """The network that starts from these weights; see `trueup.models.load.load`."""
        found: Any = self.model
        if lora_of.wrapped(found):
            found = lora_of.merged_in_memory(copy.deepcopy(found))
        else:
            found = copy.deepcopy(found) if trained else _view(found)
        # They may be other weights than its folder's by now: no adapter may be saved as one on that folder.
        widened(found.get_base_model() if lora_of.wrapped(found) else found, "")
        refuse_non_finite(found, self.kind)
        # As in a model that was just loaded: an adapter's base and what somebody froze take none.
        found.requires_grad_(trained)
        return from_modules(
            found.to(device=device, dtype=DTYPES[dtype]),
            self.tokenizer,
            heads=heads,
            lora=lora,
            dropout=dropout,
            logits_budget_mib=logits_budget_mib,
            seed=seed,
        )

    def digest(self) -> str:
        """A SHA-256 over the weights and what else decides the outputs: configurations and the tokenizer."""
        state = hashlib.sha256()
        for text in (*_configurations(self.model), *_tokenizer_parts(self.tokenizer)):
            state.update(hashlib.sha256(text.encode()).digest())
        for name, tensor in sorted([*self.model.named_parameters(), *self.model.named_buffers()]):
            state.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode() + b"\0")
            state.update(_bytes(tensor))
        return state.hexdigest()


def _bare(model: Any) -> Any:
    return model.get_base_model() if lora_of.wrapped(model) else model


def _fault(model: Any, tokenizer: Any) -> tuple[str, str] | None:
    """Why a model cannot be used, and what to do about it."""
    bare = _bare(model)
    if not isinstance(bare, PreTrainedModel):
        return "not a model of transformers or peft", "give AutoModelForCausalLM.from_pretrained(...)"
    if bare.get_output_embeddings() is None:
        return "it has no LM head", "give a model for causal language modelling"
    if getattr(bare, "quantization_method", None) not in (None, "gguf"):
        return "its weights are quantised", 'give its folder or id, and lora={"quantise": "nf4"} in model'
    found = {p.dtype for p in bare.parameters() if p.is_floating_point()} - set(DTYPES.values())
    if found:
        return f"its weights are {found.pop()}", "convert it: model.to(torch.bfloat16), or float32"
    places = {p.device for p in model.parameters()}
    if len(places) > 1 or torch.device("meta") in places:
        return f"its weights lie on {len(places)} devices, or on none", "load it on one device"
    if tokenizer is None:
        return "its tokenizer is missing", "give tokenizer=AutoTokenizer.from_pretrained(...)"
    return None


def _view(model: PreTrainedModel) -> PreTrainedModel:
    """A model of its own modules and configuration around the same weights, which take no gradient."""
    shared: dict[int, Any] = {id(b): b for b in model.buffers()}
    shared |= {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in model.parameters()}
    return copy.deepcopy(model, shared)


def _configurations(model: Any) -> Iterator[str]:
    """The model's configuration and its adapters', without where they came from and who wrote them."""
    said = _bare(model).config.to_dict()
    yield _text({k: v for k, v in said.items() if k not in ("transformers_version", "_name_or_path")})
    if lora_of.wrapped(model):
        for name, config in sorted(model.peft_config.items()):
            yield name + _text(config.to_dict())


def _text(values: dict[str, Any]) -> str:
    return json.dumps(values, sort_keys=True, default=lambda v: sorted(v) if isinstance(v, set) else str(v))


def _tokenizer_parts(tokenizer: Any) -> Iterator[str]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    yield _text(tokenizer.get_vocab()) if backend is None else backend.to_str()
    yield str(getattr(tokenizer, "chat_template", None))
    yield _text(dict(tokenizer.special_tokens_map))


def _bytes(tensor: Tensor) -> Any:
    """The tensor's memory, row by row, as `hashlib` reads it."""
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
