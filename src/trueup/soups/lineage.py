"""Whether models may be mixed at all: one architecture, one tokenizer, one start.

Weights of networks that were initialised apart do not lie in one basin: their average is noise. A run of
trueup records what it started from; for folders without a record, the angle between the weights says it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trueup.errors import TrueupError
from trueup.models.lora import base_of, is_adapter
from trueup.models.opening import model_path
from trueup.models.shared import same_weights
from trueup.settings.strict_yaml import read_yaml

Tensors = Mapping[str, Tensor]
LEAST_COSINE = 0.5
"Of the matrices of two models: about 0 for two initialisations, above 0.9 after finetuning."
# What a configuration says beyond the function that the weights compute.
_BESIDE = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache", "architectures")
_GENERATION = ("bos_token_id", "eos_token_id", "pad_token_id", "trueup_dropout")


def ancestors(model: str) -> list[str]:
    """The model and what it was trained from, as far as run folders record it, nearest first."""
    found = [model_path(model)]
    while (start := _started_from(Path(found[-1]))) and start not in found:
        found.append(start)
    return found


def shared_start(models: Sequence[str]) -> str:
    """The nearest model that all of these were trained from; "" where no record says.

    Raises E851 when every one of them has a record and they name no model in common.
    """
    lines = [ancestors(model) for model in models]
    for candidate in lines[0][1:]:
        if all(any(same_weights(candidate, one) for one in line) for line in lines[1:]):
            return candidate
    if all(len(line) > 1 for line in lines):
        raise TrueupError(
            "E851",
            f"they were trained from {' and from '.join(dict.fromkeys(line[-1] for line in lines))}",
            where=f"experts {', '.join(models)}",
            remedy="train every expert from one model: only then do their weights mix",
        )
    return ""


def check_start(models: Sequence[str], start: str) -> None:
    """Nothing; raises E851 when the record of a model names other starts than `start`."""
    for model in models:
        line = ancestors(model)
        known = len(line) > 1 and all(Path(one).is_dir() for one in line)
        if known and not any(same_weights(model_path(start), one) for one in line):
            raise TrueupError(
                "E851",
                f"it was trained from {line[-1]}, not from {start}",
                where=f"expert {model}",
                remedy="name the model that all experts were trained from",
            )


def check_fit(name: str, mine: tuple[Any, Any, Tensors], other: tuple[Any, Any, Tensors]) -> None:
    """Nothing; raises E850 unless two (configuration, tokenizer, tensors) compute the same kind of function.

    E851 where they do, and their matrices have next to nothing in common.
    """
    reason = _difference(mine, other)
    if reason:
        raise TrueupError(
            "E850",
            f"it cannot be mixed with the others: {reason}",
            where=f"expert {name}",
            remedy="mix models of one architecture and one tokenizer, trained from one model",
        )
    cosine = cosine_of(mine[2], other[2])
    if not cosine >= LEAST_COSINE:
        raise TrueupError(
            "E851",
            f"its weights are at a cosine of {cosine:.2f} to the others', as if initialised apart",
            where=f"expert {name}",
            remedy="train every expert from one model: only then do their weights mix",
        )


def cosine_of(mine: Tensors, other: Tensors) -> float:
    """Σ θ·θ′ / (‖θ‖ ‖θ′‖) over all matrices; vectors (norms, biases) begin alike in every model."""
    dot = ours = theirs = 0.0
    for name, tensor in mine.items():
        if tensor.is_floating_point() and tensor.ndim > 1:
            a, b = tensor.double().flatten(), other[name].double().flatten()
            dot, ours, theirs = dot + float(a @ b), ours + float(a @ a), theirs + float(b @ b)
    return dot / (ours * theirs) ** 0.5 if ours and theirs else 1.0


def _difference(mine: tuple[Any, Any, Tensors], other: tuple[Any, Any, Tensors]) -> str:
    (config, tokenizer, tensors), (config2, tokenizer2, tensors2) = mine, other
    said, said2 = _told(config), _told(config2)
    keys = sorted(k for k in said.keys() | said2.keys() if said.get(k) != said2.get(k))
    if keys:
        return f"`{keys[0]}` is {said.get(keys[0])!r} here and {said2.get(keys[0])!r} there"
    odd = sorted(tensors.keys() ^ tensors2.keys())
    if odd:
        return f"the weights {', '.join(odd[:3])} are in one of them only"
    for name, tensor in tensors.items():
        if tensor.shape != tensors2[name].shape:
            return f"{name} is {tuple(tensor.shape)} here and {tuple(tensors2[name].shape)} there"
        if not tensor.is_floating_point() and not torch.equal(tensor, tensors2[name]):
            return f"{name} holds other whole numbers"
    return "their tokenizers differ" if tokenizer.get_vocab() != tokenizer2.get_vocab() else ""


def _told(config: Any) -> dict[str, Any]:
    return {
        key: value
        for key, value in config.to_dict().items()
        if key not in (*_BESIDE, *_GENERATION) and "dropout" not in key and not key.endswith("_pdrop")
    }


def _started_from(folder: Path) -> str:
    """What a model's folder was trained from: an adapter's base, or what its run's settings name."""
    if is_adapter(folder):
        return base_of(folder)
    record = folder.parent / "config.resolved.yaml"
    if folder.name != "model" or not record.is_file():
        return ""
    model = read_yaml(record).values.get("model")
    path = model.get("path") if isinstance(model, Mapping) else None
    return model_path(path) if isinstance(path, str) else ""
