"""The networks of a method on torch's device `meta`, from configurations alone, and the bytes they hold."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM

from trueup.engine.groups import Completion, Group
from trueup.engine.method import Role
from trueup.engine.packing import pack
from trueup.errors import TrueupError
from trueup.models import attention
from trueup.models import heads as heads_of
from trueup.models import lora as lora_of
from trueup.models.forward import LanguageModel
from trueup.models.gguf import place
from trueup.models.layout import layout_of
from trueup.models.load import DTYPES
from trueup.models.opening import in_memory, model_path
from trueup.models.quantised import BLOCK
from trueup.planning.counting import counting
from trueup.settings.blocks import ModelSettings
from trueup.settings.weights import check_model, model_folder

_LAYER = re.compile(r"\.\d+\.")
"In the name of a weight that belongs to one of the decoder's layers."
NF4 = 0.5 + 1 / BLOCK + 4 / (BLOCK * 256)
"Bytes of a weight in 4 bits: its code, an 8-bit absmax for 64 of them, a float32 scale for 256 of those."


def config_of(reference: str) -> Any:
    """The configuration of a model's folder, id, GGUF file, adapter (its base's), or of one in memory.

    Raises E801 where there is none, E864 for one that transformers does not know.
    """
    found = in_memory(reference)
    if found is not None:
        bare = found.model.get_base_model() if lora_of.wrapped(found.model) else found.model
        return bare.config
    name = model_path(reference)
    if not Path(name).is_file():
        check_model(name)
    name = model_folder(name)
    if lora_of.is_adapter(name):
        return config_of(lora_of.base_of(Path(name)))
    try:
        with place(name) as (where, given):
            return AutoConfig.from_pretrained(where, trust_remote_code=False, **given)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise unknown(name, error) from None


def unknown(where: str, error: BaseException) -> TrueupError:
    """The error E864 of a model whose memory cannot be counted from its configuration."""
    said = next(iter(str(error).strip().splitlines()), "")[:200]
    return TrueupError(
        "E864",
        f"its memory cannot be counted from its config.json: {type(error).__name__} {said}".strip(),
        where=where,
        remedy="train two steps on the device itself: --loop.steps 2; timings.jsonl has the peak",
    )


def open_planned(
    role: Role, settings: ModelSettings, device: str, *, layers: int | None = None
) -> LanguageModel:
    """A method's network on `meta` with a role's heads and adapter, as `open_network` would make it.

    `layers` in place of the configuration's number of layers. Raises E864 for what cannot be made or run so.
    """
    start = role.start or settings.path
    config = config_of(start)
    if layers is not None:
        config = shortened(config, layers)
    try:
        with torch.device("meta"):
            whole: Any = AutoModelForCausalLM.from_config(
                config, dtype=DTYPES[settings.dtype], trust_remote_code=False
            )
        return _network(whole, role, settings, device)
    except TrueupError:
        raise
    except Exception as error:  # of whatever a configuration holds, or of an operation without shapes
        raise unknown(start, error) from error


def _network(whole: Any, role: Role, settings: ModelSettings, device: str) -> LanguageModel:
    model = whole if "logprobs" in role.heads else whole.base_model
    config = model.config.get_text_config()
    model.train(settings.dropout == "keep")
    packs = _packs(model, device)
    factor = float(getattr(config, "logit_scale", None) or 1.0)
    factor /= float(getattr(config, "logits_scaling", None) or 1.0)
    parts: dict[str, nn.Module] = {"model": model}
    parts.update(heads_of.make(role.heads, config.hidden_size, next(model.parameters()).dtype, 0))
    if settings.lora is not None and role.trained:
        model.name_or_path = role.start or settings.path
        with counting(device):  # it tries which layers take part
            parts["model"] = lora_of.wrap(model, replace(settings.lora, quantise="none"), 0)
    module = nn.ModuleDict(parts).to("meta")
    if not role.trained:
        module.requires_grad_(False).eval()
    return LanguageModel(
        module=module,
        tokenizer=None,
        config=model.config,
        readout=(factor, getattr(config, "final_logit_softcapping", None)),
        packs=packs,
        activation_checkpointing=settings.activation_checkpointing,
        logits_budget_mib=settings.logits_budget_mib,
    )


def _packs(model: Any, device: str) -> bool:
    """Whether the architecture takes the packed path: its layers ask for attention that can be shared.

    A run also compares numbers, which are not there to be compared.
    """
    attention.install()
    before = model.config._attn_implementation
    tokens = np.zeros(4, np.int32)
    group = Group(prompt=(), prompt_tokens=tokens, completions=(Completion(text="", tokens=tokens),) * 2)
    batch = pack([group])
    state = attention.Packing(layout_of(batch))
    try:
        if getattr(model.config.get_text_config(), "attention_chunk_size", None):
            return False
        model.set_attn_implementation(attention.NAME)
        with torch.no_grad(), counting(device), attention.attending(state):
            model.base_model(
                input_ids=batch.tokens[None], position_ids=batch.positions[None], use_cache=False
            )
    except (attention.NotPackable, RuntimeError, ValueError, TypeError, AttributeError, KeyError):
        state.seen.clear()
    if not state.seen:
        model.set_attn_implementation(before)
    return bool(state.seen)


# ------------------------------------------------------------------------------------------ layers


def num_layers(config: Any) -> int:
    """How many layers the decoder has."""
    return int(config.get_text_config().num_hidden_layers)


def _period(config: Any) -> int:
    """After how many layers their kinds come again, by every list of the configuration that has one each."""
    count = num_layers(config)
    lists = [list(value) for _, value in _by_layer(config)]
    for length in range(1, count + 1):
        if all(kinds[i] == kinds[i + length] for kinds in lists for i in range(count - length)):
            return length
    return count


@final
@dataclass(frozen=True, kw_only=True)
class Line:
    """Two numbers of layers from which everything about a deep decoder follows along a line."""

    few: int
    more: int
    times: int
    "How often the step from `few` to `more` is made from `few` to the whole."

    def at_end(self, one: Any, two: Any) -> Any:
        """The dataclass of numbers that two of shallow decoders lead to; what is no number is the first's."""
        found = vars(one)
        grown = {
            name: value + self.times * (getattr(two, name) - value)
            for name, value in found.items()
            if type(value) is int and name not in CONSTANT
        }
        return replace(one, **grown)


CONSTANT = ("largest_linear", "vocabulary")


def line_of(reference: str) -> Line | None:
    """The line along which a decoder of many layers of one kind, or of kinds in turn, grows.

    None where it has few layers, or where its weights do not grow by the same number with every turn.
    """
    return _line(json.dumps(config_of(reference).to_dict(), sort_keys=True, default=str), reference)


@cache
def _line(said: str, reference: str) -> Line | None:
    config = config_of(reference)
    whole, turn = num_layers(config), _period(config)
    few = turn + whole % turn
    if whole <= few + 2 * turn:
        return None
    counts = [_num_weights(shortened(config, n)) for n in (few, few + turn, whole)]
    line = Line(few=few, more=few + turn, times=(whole - few) // turn)
    return line if counts[0] + line.times * (counts[1] - counts[0]) == counts[2] else None


def _num_weights(config: Any) -> int:
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    return sum(p.numel() for p in model.parameters())


def shortened(config: Any, layers: int) -> Any:
    """A copy of the configuration with the first `layers` layers alone."""
    made = type(config).from_dict(config.to_dict())
    text = made.get_text_config()
    for name, value in list(_by_layer(made)):
        setattr(text, name, value[:layers])
    text.num_hidden_layers = layers
    return made


def _by_layer(config: Any) -> Iterator[tuple[str, Sequence[Any]]]:
    text = config.get_text_config()
    for name, value in vars(text).items():
        if isinstance(value, list | tuple) and len(value) == num_layers(config):
            yield name, value


# ------------------------------------------------------------------------------------------ bytes


@final
@dataclass(frozen=True, kw_only=True)
class Size:
    """A network's bytes: its weights as they are held, and what of them is trained."""

    base: int
    adapter: int
    trained: int
    "Bytes of everything that is trained, which a gradient has again."
    num_base: int
    num_trained: int
    largest_linear: int
    "Bytes of the largest linear layer in the precision that is computed in."
    outside_layers: int
    "Bytes of embeddings, head and what else is in no layer."
    body: int
    "Weights that a token is multiplied with in the body, adapters left out; of experts those that it asks."
    num_adapter: int
    head: int
    "Weights of the LM head; 0 without one."
    attention: int
    "Query heads times their width, over all layers."


def sized(role: Role, settings: ModelSettings, device: str, *, nf4: bool) -> Size:
    """The bytes of a role's network; `nf4` holds the body's linear layers in 4 bits where rows allow it."""
    line = line_of(role.start or settings.path)
    if line is None:
        return _size(open_planned(role, settings, device), nf4)
    one, two = (_size(open_planned(role, settings, device, layers=n), nf4) for n in (line.few, line.more))
    return line.at_end(one, two)


def _size(network: LanguageModel, nf4: bool) -> Size:
    packed = {id(weight) for weight in _linear_weights(network)} if nf4 else set[int]()
    parameters = list({id(p): p for p in network.module.parameters()}.values())
    own = {id(p) for name, p in network.module.named_parameters() if "lora_" in name}
    base = [p for p in parameters if id(p) not in own]
    trained = [p for p in parameters if p.requires_grad]
    return Size(
        base=sum(round(p.numel() * NF4) if id(p) in packed else num_bytes(p) for p in base),
        adapter=sum(num_bytes(p) for p in parameters if id(p) in own),
        trained=sum(map(num_bytes, trained)),
        num_base=sum(p.numel() for p in base),
        num_trained=sum(p.numel() for p in trained),
        largest_linear=max(map(num_bytes, _linear_weights(network)), default=0),
        outside_layers=sum(
            num_bytes(p) for n, p in network.module.named_parameters() if not _LAYER.search(n)
        ),
        body=_multiplied(network),
        num_adapter=sum(p.numel() for p in parameters if id(p) in own),
        head=head.weight.numel() if (head := network.hf_model.get_output_embeddings()) is not None else 0,
        attention=num_layers(network.config) * _heads(network.config)[0] * _heads(network.config)[2],
    )


def _multiplied(network: LanguageModel) -> int:
    """Weights of the body's matrices that one token meets, embeddings and adapters left out."""
    tables = {id(m.weight) for m in network.body.modules() if isinstance(m, nn.Embedding)}
    config = network.config.get_text_config()
    experts = [getattr(config, n, None) for n in ("num_experts", "num_local_experts", "n_routed_experts")]
    count = next(filter(None, experts), 1)
    share = (getattr(config, "num_experts_per_tok", None) or count) / count
    found = 0.0
    for name, p in network.body.named_parameters():
        if p.dim() > 1 and id(p) not in tables and "lora_" not in name:
            found += p.numel() * (share if ".experts." in name else 1)
    return round(found)


def num_bytes(tensor: Tensor) -> int:
    """How many bytes a tensor's values take."""
    return tensor.numel() * tensor.element_size()


def _linear_weights(network: LanguageModel) -> list[Tensor]:
    """The weights of the body that 4 bits may hold: of linear layers, adapters' own left out."""
    return [
        module.weight
        for name, module in network.body.named_modules()
        if isinstance(module, nn.Linear) and "lora_" not in name and module.in_features % BLOCK == 0
    ]


def cache_bytes(network: LanguageModel) -> int:
    """Bytes of keys and values that one token leaves in the sampler's cache."""
    _, heads, width = _heads(network.config)
    return 2 * num_layers(network.config) * heads * width * next(network.body.parameters()).element_size()


def _heads(config: Any) -> tuple[int, int, int]:
    """Query heads, key heads and their width; none for a decoder without attention."""
    text = config.get_text_config()
    heads = getattr(text, "num_attention_heads", None) or 0
    width = getattr(text, "head_dim", None) or (text.hidden_size // heads if heads else 0)
    return heads, getattr(text, "num_key_value_heads", None) or heads, width
