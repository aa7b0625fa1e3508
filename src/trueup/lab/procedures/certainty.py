"""How well a model says whether its own answers are right: stated confidence beside the truth.

    p = π("It is right.") / (π("It is right.") + π("It is wrong."))     after the question about its answer

p is read from the model's own words, so it is a stated confidence, not the answer's likelihood, which is kept
beside it.

FOLDER/certainty.json   `right`, `stated` (p) and `mean_logprob` of every answer
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
from annotated_types import Ge
from numpy.typing import NDArray
from scipy.special import expit

from trueup.annotate.logprobs import choice_logprobs
from trueup.engine import disk
from trueup.engine.groups import Completion, Group
from trueup.engine.order import derive
from trueup.evals.view import PolicyView, open_view
from trueup.lab.procedures.certainty_lessons import KINDS, SAYINGS, asked_about, is_right, requests
from trueup.lab.world import Split
from trueup.models.opening import pick_device
from trueup.runs import meter as metering
from trueup.runs.recipe import Done
from trueup.settings.schema import Word
from trueup.sources.sample import Decoding
from trueup.statistics.estimates import ece

SUMMARY = "Measure how well a model says whether its own answers are right."
REFERENCES = ("kadavath2022", "lin2022")
OUTPUT = "certainty.json"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Who answers and is asked about it."""

    model: str = "world:base"
    split: Split = "test"
    num_prompts: Annotated[int, Ge(1)] = 1000
    "Of the lab's prompts that are looked through."
    kinds: tuple[Word, ...] = KINDS
    decoding: Decoding = Decoding(max_new_tokens=48)
    seed: int = 0


def run(config: Config, folder: Path, *, stop_requested: Callable[[], str]) -> Done:
    """`certainty.json`, and of it the share of right answers, the mean of p and its calibration error."""
    view = open_view("policy", config.model, pick_device("auto"))
    asked = requests(config.split, config.num_prompts, config.kinds)
    meter = metering.Meter(folder)
    answered = view.draw(asked, k=1, decoding=config.decoding, seed=derive(config.seed, "certainty"))
    right = np.array([float(is_right(group)) for group in answered])
    stated = confidence(view, answered)
    lengths = np.array([max(group.completions[0].num_tokens, 1) for group in answered])
    likelihood = np.array(choice_logprobs(answered, "policy", view.handles))[:, 0] / lengths
    found = {"right": right, "stated": stated, "mean_logprob": likelihood}
    disk.write(folder / OUTPUT, json.dumps({name: v.tolist() for name, v in found.items()}) + "\n")
    metrics = {
        "right": float(right.mean()),
        "stated": float(stated.mean()),
        "ece": ece(stated.tolist(), right.tolist()),
    }
    cost = meter.spend(0, tokens_trained=0, tokens_sampled=int(lengths.sum()))
    return Done(output=OUTPUT, metrics=metrics, cost=vars(cost))


def confidence(view: PolicyView, answered: Sequence[Group]) -> NDArray[np.float64]:
    """p for each group's only completion, from the log-probabilities of both sayings."""
    sayings = tuple(Completion(text=text) for text in SAYINGS)
    asked = [replace(g, prompt=asked_about(g), prompt_tokens=None, completions=sayings) for g in answered]
    wrong, right = np.array(choice_logprobs(view.encode(asked), "policy", view.handles)).T
    return expit(right - wrong)
