"""What a training run hands on: its output network's folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from trueup.engine import disk
from trueup.engine.method import Handles, Method
from trueup.models.forward import LanguageModel
from trueup.models.load import merge, save
from trueup.models.opening import open_networks, open_shared
from trueup.runs.keeper import restore_into, trainable
from trueup.settings.sealed import seal


def hand_on(
    method: Method, handles: Handles, folder: Path, again: Callable[[], LanguageModel] | None
) -> Path:
    """The model's folder, which appears whole or not at all; rank 0 writes it.

    `again` opens the output network as it was before training, in one piece: sharded weights are put there.
    """
    network = handles.networks[method.output]
    kept = handles.ranks.whole(trainable(network)) if handles.ranks.sharded else {}
    if not handles.ranks.leads:
        return folder / "model"
    if again is not None:
        network = again()
        restore_into(network, kept)
    assert isinstance(network, LanguageModel)
    # An adapter on weights that lie in no folder (another adapter, merged) means nothing by itself.
    with disk.whole_folder(folder / "model") as staged:
        save(network if network.hf_model.name_or_path else merge(network), staged)
        seal(staged)
    return folder / "model"


def opened_again(method: Method, config: Any, tokenizer: Any) -> LanguageModel:
    """The output network of a run's settings, opened anew on the CPU."""
    alone = replace(method, networks={method.output: method.networks[method.output]})
    place = torch.device("cpu")
    base = open_shared(alone, config.model, place)
    found = open_networks(alone, config.model, place, seed=config.seed, base=base, tokenizer=tokenizer)
    return found[method.output]
