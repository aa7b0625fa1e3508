"""How many weights a model has, from its configuration; and whether its files hold them. None is read."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

from trueup.errors import TrueupError
from trueup.settings import held
from trueup.settings.stored import tensors_of
from trueup.settings.vetted import ADAPTER, AGAIN, CONFIG, check_folder
from trueup.settings.weights import check_model, is_gguf, model_folder


def num_weights(name: str) -> int:
    """The number of weights of a folder, an id, or a model in memory, shared ones once.

    An adapter's are its base's. Raises E801 where there is no such model, E765 where its configuration does
    not say.
    """
    if name.startswith(held.OBJECT):
        found = held.held(name)
        if found is None:
            raise held.not_held(name, "model.path", "give the model again: trueup.fit(..., model=...)")
        return found.num_parameters
    if not Path(name).is_file():  # one file is a model of its own: GGUF
        check_model(name)
    return _count(model_folder(name))


def vet(name: str) -> None:
    """Nothing; raises E853 to E857 for what the files of a folder, or of an id, may not be or say."""
    if Path(name).is_dir():
        check_folder(Path(name))
        return
    if is_gguf(name):
        return
    from transformers.utils.hub import cached_file

    kept = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
    found = [cached_file(name, file, **kept) for file in (CONFIG, ADAPTER)]
    for folder in {Path(path).parent for path in found if path is not None}:
        check_folder(folder)


def refuse_size(name: str) -> None:
    """Nothing; raises E858 where a folder's configuration describes far more weights than its files hold.

    What is missing from the files would be made, and filled, before anybody could say that it is missing.
    """
    tensors = tensors_of(Path(name))
    stored = sum(math.prod(shape) for _, shape in tensors)
    if not tensors:
        return
    try:
        described = _count(name)
    except TrueupError:
        return  # of no class that counts; what is wrong with it is said when it is opened
    if described > _PACKED * stored + _SLACK:
        raise TrueupError(
            "E858",
            f"its config.json describes {described:,} weights, and its files hold {stored:,}",
            where=name,
            remedy=AGAIN,
        )


_PACKED, _SLACK = 8, 1 << 22
"Weights of 4 bits lie eight to a number; of a small model, a head and a table may be left out of the files."


def _count(name: str) -> int:
    path = Path(name)
    file = path if path.is_file() else path / CONFIG
    facts = file.stat() if file.is_file() else None
    return _counted(name, None if facts is None else (facts.st_ino, facts.st_mtime_ns, facts.st_size))


@cache
def _counted(name: str, looks: tuple[int, ...] | None) -> int:
    """The count over the model's modules as its class lays them out, on no device; once for one file."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from trueup.models.lora import base_of

    path = Path(name)
    if (path / ADAPTER).is_file():
        return num_weights(base_of(path))
    where = (str(path.parent), {"gguf_file": path.name}) if path.is_file() else (name, {})
    try:
        config = AutoConfig.from_pretrained(where[0], trust_remote_code=False, **where[1])
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except Exception as error:  # of whatever a configuration holds, or of a class that its version lacks
        said = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise TrueupError(
            "E765",
            f"its size cannot be told from its config.json: {said}",
            where=name,
            remedy="give the learning rate: --update.lr NUMBER",
        ) from None
    return sum(p.numel() for p in model.parameters())
