"""How many weights a model has, from its configuration: none is read, and none is made."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from trueup.errors import TrueupError
from trueup.settings import held
from trueup.settings.weights import check_model, model_folder


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
    return _counted(model_folder(name))


@cache
def _counted(name: str) -> int:
    """The count over the model's modules as its class lays them out, on no device."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from trueup.models.lora import CONFIG, base_of

    path = Path(name)
    if (path / CONFIG).is_file():
        return num_weights(base_of(path))
    where = (str(path.parent), {"gguf_file": path.name}) if path.is_file() else (name, {})
    try:
        config = AutoConfig.from_pretrained(where[0], trust_remote_code=False, **where[1])
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except Exception as error:  # of whatever a configuration holds, or of a class that its version lacks
        raise TrueupError(
            "E765",
            f"its size cannot be told from its config.json: {str(error).strip().splitlines()[0]}",
            where=name,
            remedy="give the learning rate: --update.lr NUMBER",
        ) from None
    return sum(p.numel() for p in model.parameters())
