"""Which layers of a model get an adapter: names and patterns as peft takes them, and where none works.

An adapter works where the architecture calls its layer. Where it reads the layer's weights without calling
it, as Mamba does, an adapter would train nothing and yet be merged: such layers are left out of `all-linear`,
and refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from trueup.errors import TrueupError

ALL_LINEAR = "all-linear"
WHERE = "model.lora.targets"
HEADS = ("lm_head", "embed_out", "output")
"What the LM head is called."
MAMBA = ("falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h")
"Families whose kernels on GPUs read `out_proj` past the layer, so that peft refuses an adapter there."


@dataclass(frozen=True, kw_only=True)
class Targets:
    """Layers by name or pattern, and parameters that are no layer's of their own: stacked experts."""

    modules: str | list[str]
    parameters: list[str]
    dead: frozenset[str]
    "Full names of layers whose weights are read without calling them."


def resolve(model: nn.Module, wanted: str | Sequence[str], *, has_head: bool) -> Targets:
    """The targets of an adapter on a model: `all-linear`, a pattern, one name or several (`q_proj,v_proj`).

    A name of the LM head is left out where there is none. Raises E816 when nothing else was named.
    """
    dead = _dead(model)
    if isinstance(wanted, str) and not re.fullmatch(r"\w+(\s*,\s*\w+)*", wanted):
        return Targets(
            modules=_all_linear(model, dead) if wanted == ALL_LINEAR else wanted, parameters=[], dead=dead
        )
    names = re.split(r"\s*,\s*", wanted) if isinstance(wanted, str) else list(wanted)
    kept = names if has_head else [n for n in names if n not in HEADS]
    if not kept:
        raise TrueupError(
            "E816",
            "the adapter was to be on the LM head alone, and a critic or a reward model has none",
            where=WHERE,
            remedy=f"name layers of its body too: {', '.join(_few(model, dead))}",
        )
    stacked = {name: _stacked(model, name) for name in kept}
    return Targets(
        modules=[name for name in kept if not stacked[name]],
        parameters=[parameter for name in kept for parameter in stacked[name]],
        dead=dead,
    )


def refuse_unfit(adapted: Any, targets: Targets) -> None:
    """Nothing; raises E807 for a name that no layer has, E816 for a layer that this adapter cannot serve."""
    found = adapted.base_model.targeted_module_names
    (config,) = adapted.peft_config.values()
    named = [] if isinstance(config.target_modules, str) else config.target_modules
    unknown = sorted(n for n in named if not any(_ends(key, n) for key in found))
    if unknown:
        raise no_such(adapted.get_base_model(), f"no layer is called {', '.join(unknown)}")
    dead = sorted({key.rpartition(".")[2] for key in found if key in targets.dead})
    if dead:
        raise TrueupError(
            "E816",
            f"an adapter on {', '.join(dead)} would do nothing until it is merged: the architecture reads "
            "these weights without calling their layer",
            where=WHERE,
            remedy=f"choose among {', '.join(_few(adapted.get_base_model(), targets.dead))}",
        )
    # A row of zeros is common: a padding token's in a tied table, those that fill a vocabulary up.
    flat = sorted(
        {n.split(".lora_")[0] for n, p in adapted.named_parameters() if "magnitude" in n and (p == 0).any()}
    )
    if flat:
        raise TrueupError(
            "E816",
            "DoRA divides by the norms of a layer's rows, and "
            f"{flat[0].removeprefix('base_model.model.')} has rows of zeros",
            where="model.lora.dora",
            remedy="set dora: false, or leave that layer out of model.lora.targets",
        )


def unfit(model: nn.Module, reason: str) -> TrueupError:
    """The error for what peft refused in these words."""
    if "ParamWrapper" in reason:
        what = "experts whose weights are stacked take plain LoRA only, without `dropout` and `dora`"
        remedy = "set model.lora.dropout: 0 and dora: false, or name other layers: targets: [q_proj, v_proj]"
        return TrueupError("E807", what, where="model.lora", remedy=remedy)
    missing = re.match(r"Target modules (.*) not found in the base model", reason)
    if missing:
        return no_such(model, f"no layer is called {missing[1].strip('{}').replace(chr(39), '')}")
    other = re.match(r"Target module (\w+)\(", reason)
    if other and "is not supported" in reason:
        return no_such(model, f"{other[1]} can have no adapter, only linear layers and embeddings can")
    return no_such(model, " ".join(reason.split())[:200])


def no_such(model: nn.Module, reason: str) -> TrueupError:
    """The error of targets that cannot have an adapter, with the names of those that can."""
    few = ", ".join(_few(model, _dead(model)))
    return TrueupError("E807", reason, where=WHERE, remedy=f"its layers are called {few}")


def _all_linear(model: nn.Module, dead: frozenset[str]) -> str | list[str]:
    """Peft's own word, or the names of the linear layers that can have an adapter where some cannot."""
    refused = _refused(model)
    if not dead and not refused:
        return ALL_LINEAR
    linear = [
        key for key, m in model.named_modules() if isinstance(m, nn.Linear | Conv1D) and key not in dead
    ]
    return sorted({key.rpartition(".")[2] for key in linear} - refused - set(HEADS))


def _refused(model: Any) -> set[str]:
    return {"out_proj"} if model.config.model_type in MAMBA else set()


def _stacked(model: nn.Module, name: str) -> list[str]:
    """The parameters with a matrix an expert that a name means: itself, or those of the module it names."""
    for key, module in model.named_modules():
        if _ends(key, name):
            own = module.named_parameters(recurse=False)
            return [f"{name}.{leaf}" for leaf, p in own if p.ndim == 3] if not _layer(module) else []
    return [name] if any(_ends(key, name) and p.ndim == 3 for key, p in model.named_parameters()) else []


def _layer(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear | nn.Embedding | Conv1D)


def _ends(key: str, name: str) -> bool:
    return key == name or key.endswith(f".{name}")


def _few(model: nn.Module, dead: frozenset[str]) -> list[str]:
    """The last names of layers that can have an adapter, and of experts' stacked parameters."""
    layers = {key for key, m in model.named_modules() if _layer(m) and key not in dead}
    stacked = {key for key, p in model.named_parameters() if p.ndim == 3 and "conv" not in key}
    plain = {key.removesuffix(".base_layer") for key in layers | stacked if ".lora_" not in key}
    return sorted({key.rpartition(".")[2] for key in plain} - _refused(model))


def _dead(model: Any) -> frozenset[str]:
    """Layers whose weights the body reads without calling them: it runs, its parent is called, it is not."""
    called: set[str] = set()
    names = {module: name for name, module in model.named_modules()}
    hooks = [m.register_forward_pre_hook(lambda m, _: called.add(names[m])) for m in names]
    tokens = torch.tensor([[0, 1]], device=next(model.parameters()).device)
    try:
        with torch.no_grad():
            model.base_model(input_ids=tokens, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return frozenset(
        name
        for module, name in names.items()
        if _layer(module) and name not in called and name.rpartition(".")[0] in called
    )
