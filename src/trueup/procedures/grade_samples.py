"""One policy's samples of the prompts of a file, and what everybody says of each: truth, judges, likelihood.

`measure` asks a world's own prompts; this asks whatever groups `data` has, several samples each, so that
rankers can be compared by the best of k that each picks, and samples by how different they are.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
from annotated_types import Ge

from trueup.annotate.logprobs import choice_logprobs
from trueup.engine import disk
from trueup.engine.order import derive
from trueup.errors import TrueupError
from trueup.evals.policies import PolicyResult, evaluate_policy
from trueup.evals.view import PolicyView, open_view
from trueup.judges.open import open_judge
from trueup.models.opening import pick_device
from trueup.runs import meter as metering
from trueup.runs.recipe import Done
from trueup.settings.blocks import DataSettings
from trueup.settings.schema import Word
from trueup.sources.context import open_context
from trueup.sources.open import open_groups
from trueup.sources.sample import Decoding
from trueup.worlds import truth_about

SUMMARY = (
    "Sample a policy on given prompts; what the truth, judges and its own likelihood say of every sample."
)
OUTPUT = "measured.json"
EXAMPLES = 8


@dataclass(frozen=True, kw_only=True)
class Config:
    """Samples, graded by the world that the prompts came from, and scored by whoever is named."""

    model: str = "world:base"
    "The policy: a folder, `world:base`, or `stage:NAME`."
    data: DataSettings = DataSettings(path="world:prompts", split="test", limit=200, held_out=0.0)
    "The prompts: `stage:NAME`, a file, or a world's."
    num_completions: Annotated[int, Ge(1)] = 8
    "Samples per prompt."
    judges: Mapping[str, str] = field(default_factory=dict)
    "Who else scores, by name: `{reward: stage:reward}`."
    context: Word = ""
    "Dialogues before every prompt: `world:hhh`, `hhh`, or a file of demonstrations."
    num_dialogues: Annotated[int, Ge(0)] = 14
    "How many of them."
    decoding: Decoding = Decoding(max_new_tokens=48)
    seed: int = 0


def run(config: Config, folder: Path, *, stop_requested: Callable[[], str]) -> Done:
    """`measured.json`: named numbers [num_prompts, num_completions], as `measure` writes them.

    Beside the truth's and the judges': `length`, `ended`, `mean_logprob` under the policy, and `distinct`,
    the share of different texts among a prompt's samples, the same for each. Raises E827 where nobody judges.
    """
    device = pick_device("auto")
    prefix = open_context(config.context, config.num_dialogues) if config.context else ()
    view = open_view("policy", config.model, device, prefix=prefix)
    prompts = open_groups(config.data, view.chat, seed=config.seed).train
    truth = truth_about(config.data.path)
    judges = {name: open_judge(ref, device=str(device)) for name, ref in config.judges.items()}
    if truth is None and not judges:
        raise TrueupError(
            "E827",
            "no truth and no judge to grade the samples",
            where="judges",
            remedy="name one: --judges.short 'rule:length?longest=40'",
        )
    meter = metering.Meter(folder)
    found = evaluate_policy(
        view,
        [group.with_completions(()) for group in prompts],
        grade=truth,
        samples_per_prompt=config.num_completions,
        decoding=config.decoding,
        seed=derive(config.seed, "grade samples"),
        judges=judges,
    )
    numbers = {**found.metrics, **beside(found, view)}
    said = [[g.prompt[-1].content, *(c.text for c in g.completions)] for g in found.groups[:EXAMPLES]]
    written = {
        "numbers": {name: values.tolist() for name, values in numbers.items()},
        "exams": {},
        "samples": said,
    }
    disk.write(folder / OUTPUT, json.dumps(written, ensure_ascii=False) + "\n")
    tokens = sum(c.num_tokens for g in found.groups for c in g.completions)
    cost = meter.spend(0, tokens_trained=0, tokens_sampled=tokens)
    means = {name: float(values.mean()) for name, values in numbers.items()}
    return Done(output=OUTPUT, metrics=means, cost=vars(cost))


def beside(found: PolicyResult, view: PolicyView) -> dict[str, np.ndarray]:
    """`mean_logprob` = (1/L) Σ_t log π(y_t | x, y_<t) of every sample, and `distinct` of every prompt."""
    sums = np.array(choice_logprobs(found.groups, "policy", view.handles))
    lengths = np.maximum(found.metrics["length"], 1.0)
    shares = [[len({c.text for c in g.completions}) / len(g.completions)] for g in found.groups]
    return {"mean_logprob": sums / lengths, "distinct": np.array(shares) * np.ones_like(sums)}
