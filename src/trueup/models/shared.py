"""One copy of the base weights under any number of networks: each adds an adapter and heads of its own.

    policy = base + adapter     reference = base     value = base + adapter + head     reward likewise

A network here is a separate tree of modules whose frozen parameters are the very same tensors, so that it is
trained, saved, resumed and merged as if it stood alone: nothing switches adapters between calls, and a
gradient finds only the adapter of the network that was called.
"""

from __future__ import annotations

import copy
import filecmp
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from torch import nn

from trueup.engine.method import HeadName, Role
from trueup.engine.order import derive
from trueup.models import lora as lora_of
from trueup.models.forward import LanguageModel
from trueup.models.load import DType, from_modules, open_tokenizer, read, readable, restore_heads
from trueup.models.quantised import is_quantised, quantise
from trueup.settings.blocks import LoraSettings

logger = logging.getLogger("trueup")


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Base:
    """Frozen weights, held once."""

    model: Any
    "The Hugging Face model, without adapters."
    tokenizer: Any
    source: str = ""
    "The folder or id that it was read from; empty for a model in memory."
    options: Mapping[str, Any] = field(default_factory=dict)
    "What every network over it has in common: `dropout`, `logits_budget_mib`."

    def network(
        self,
        *,
        heads: Sequence[HeadName] = ("logprobs",),
        lora: LoraSettings | None = None,
        adapter: Path | None = None,
        trained: bool = False,
        seed: int = 0,
    ) -> LanguageModel:
        """A network over these weights: with a fresh adapter, with the one saved in a folder, or with none.

        Heads saved beside the adapter, or beside the base, are restored. An adapter comes with its own
        tokenizer, which carries the template that it was trained in.
        """
        if adapter is not None and lora_of.spans_head(adapter):
            # Its layers are named as in the whole model; the LM head costs nothing here.
            heads = tuple(dict.fromkeys(("logprobs", *heads)))
        own = adapter is not None and (adapter / "tokenizer_config.json").is_file()
        made = from_modules(
            twin(self.model),
            open_tokenizer(adapter) if adapter is not None and own else self.tokenizer,
            heads=heads,
            lora=None if adapter else lora,
            seed=seed,
            **self.options,
        )
        if adapter is not None:
            with readable(str(adapter)):
                made.module["model"] = lora_of.adapted(adapter, made.hf_model, trained=trained)
        if adapter or self.source:
            restore_heads(made, adapter or self.source)
        if not trained:
            made.module.requires_grad_(False).eval()
        return made

    def adapter(self, reference: str, heads: Sequence[HeadName]) -> Path | None:
        """The folder of an adapter, where `reference` names one that was trained on these weights."""
        folder = Path(reference)
        if not lora_of.is_adapter(folder) or not same_weights(lora_of.base_of(folder), self.source):
            return None
        if lora_of.trained_on(folder) != ("nf4" if is_quantised(self.model) else "none"):
            return None
        # An adapter of the body alone has no name for a layer of a model with an LM head, and the reverse.
        fits = has_head(self.model) if lora_of.spans_head(folder) else "logprobs" not in heads
        return folder if fits else None


def open_base(
    path: str, *, dtype: DType, device: str, with_head: bool = True, quantised: bool = False, **options: Any
) -> Base:
    """The base in a folder or of an id, frozen, on its device; `quantised` holds it in 4 bits."""
    model, tokenizer = read(path, dtype=dtype, with_head=with_head)
    model.requires_grad_(False)
    if quantised:
        quantise(model)
    model.to(device)
    source = "" if lora_of.is_adapter(path) else path
    return Base(model=model, tokenizer=tokenizer, source=source, options=options)


def networks_over(
    base: Base, roles: Mapping[str, Role], *, lora: LoraSettings, seed: int
) -> dict[str, LanguageModel]:
    """A network for each role that starts from the base, or from an adapter on it; the others are left out.

    A role that is not trained and starts where the run does is the policy with its adapter off.
    """
    networks: dict[str, LanguageModel] = {}
    for name, role in roles.items():
        adapter = base.adapter(role.start, role.heads) if role.start else None
        if role.start and adapter is None and not same_weights(role.start, base.source):
            logger.warning("%s starts from other weights, %s: it gets a copy of its own", name, role.start)
        elif not role.trained and not role.start and "policy" in roles:
            if "policy" in networks:
                networks[name] = networks["policy"].reference()
        else:
            networks[name] = base.network(
                heads=role.heads,
                lora=lora if role.trained else None,
                adapter=adapter,
                trained=role.trained,
                seed=derive(seed, "network", name),
            )
    return networks


def has_head(model: Any) -> bool:
    """Whether a Hugging Face model has an LM head."""
    return model.get_output_embeddings() is not None


def twin(model: nn.Module) -> Any:
    """A copy of the modules over the same parameters and buffers."""
    held: list[Any] = [*model.parameters(), *model.buffers()]
    # 4-bit layers keep the scales of their weights beside them.
    held += [m.quant_state for m in model.modules() if getattr(m, "quant_state", None) is not None]
    return copy.deepcopy(model, {id(one): one for one in held})


def same_weights(one: str, other: str) -> bool:
    """Whether two references mean the same weights: one id, one folder, or folders with the same bytes."""
    if one == other:
        return bool(one)
    folders = Path(one), Path(other)
    if not all(folder.is_dir() for folder in folders):
        return False
    if folders[0].resolve() == folders[1].resolve():
        return True
    files = [sorted(folder.glob("*.safetensors")) for folder in folders]
    named = [[file.name for file in found] for found in files]
    if not files[0] or named[0] != named[1]:
        return False
    return all(filecmp.cmp(mine, theirs, shallow=False) for mine, theirs in zip(*files, strict=True))
