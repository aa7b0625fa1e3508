"""How often a model puts the preferred completion first, by its score or by its log-probability."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trueup.annotate.logprobs import token_logprobs
from trueup.engine import disk
from trueup.engine.groups import Group, read_jsonl
from trueup.evals.reward_quality import reward_model_quality
from trueup.evals.view import open_view
from trueup.judges import Judge
from trueup.judges.open import open_judge
from trueup.models.opening import pick_device
from trueup.runs.recipe import Done

SUMMARY = "Measure how well a model ranks labelled completions."
OUTPUT = "ranking.json"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Agreement with held-out judgements."""

    model: str = "world:base"
    "A reward model (or any judge), or a policy."
    labels: str = ""
    "Labelled groups that the model was not trained on: `stage:NAME`."
    by: Literal["score", "mean_logprob", "sum_logprob"] = "score"
    "A judge's score, or a policy's log-probability per token or in sum."
    seed: int = 0


def run(config: Config, folder: Path, *, stop_requested: Callable[[], str]) -> Done:
    """`ranking.json`: the accuracy with its interval, the ECE, and the number of pairs."""
    device = str(pick_device("auto"))
    judge = open_judge(config.model, device=device) if config.by == "score" else by_likelihood(config)
    found = reward_model_quality(judge, read_jsonl(config.labels))
    disk.write(folder / OUTPUT, json.dumps(found, indent=1) + "\n")
    return Done(output=OUTPUT, metrics={"accuracy": found["accuracy"], "ece": found["ece"]})


def by_likelihood(config: Config) -> Judge:
    """The policy as a judge: (1/L) Σ_t log π(y_t | x, y_<t), or the sum."""
    view = open_view("policy", config.model, context=None)

    def score(groups: Sequence[Group]) -> list[list[float]]:
        found = token_logprobs(view.encode(groups), "policy", view.handles)
        mean = config.by == "mean_logprob"
        return [[float(row.mean() if mean else row.sum()) for row in choices] for choices in found]

    return score
