"""A base model of the lab trained from nothing, for curves over size, data and compute."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from trueup.annotate.logprobs import token_logprobs
from trueup.engine import disk
from trueup.evals.view import open_view
from trueup.lab.build import LAYERS, Pretraining
from trueup.lab.build import pretrain as train_from_nothing
from trueup.lab.exams import lab_suite
from trueup.runs.recipe import Done
from trueup.settings.schema import Word

SUMMARY = "Train a base model of the lab from nothing."
REPORT = "scale.json"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Next-token prediction on the lab's corpus, each token seen once."""

    size: Word = "tiny"
    "A rung of the ladder."
    training: Pretraining = Pretraining()
    seed: int = 0


def run(config: Config, folder: Path, *, stop_requested: Callable[[], str]) -> Done:
    """The model, and `scale.json`: parameters, tokens, and the loss on held-out documents in nats a token."""
    trained = train_from_nothing(
        folder, size=config.size, seed=config.seed, settings=config.training, stop_requested=stop_requested
    )
    view = open_view("base", str(trained.model), context=None)
    items = list(lab_suite("test", ("perplexity",))["perplexity"].items)
    with torch.no_grad():
        tokens = token_logprobs(view.encode(items, score="all"), "policy", view.handles)
    count = sum(len(row) for choices in tokens for row in choices)
    nll = -sum(float(row.sum()) for choices in tokens for row in choices) / count
    parameters = sum(p.numel() for p in view.network.module.parameters())
    found = {
        "size": config.size,
        "layers": LAYERS[config.size],
        "parameters": parameters,
        "tokens": trained.cost.tokens_trained,
        "held_out_nll": nll,
    }
    disk.write(folder / REPORT, json.dumps(found, indent=1) + "\n")
    metrics = {"held_out_nll": nll, "parameters": float(parameters)}
    return Done(output="model", metrics=metrics, cost=dataclasses.asdict(trained.cost))
