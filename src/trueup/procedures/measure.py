"""One policy's own completions of held-out prompts, judged: the numbers that a comparison is made of."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trueup.engine import disk
from trueup.engine.order import derive
from trueup.evals.exams import run_suite
from trueup.evals.papers import exams_of
from trueup.evals.policies import evaluate_policy
from trueup.evals.view import open_view
from trueup.judges.open import open_judge, open_measures
from trueup.models.opening import pick_device
from trueup.runs import meter as metering
from trueup.runs.recipe import Done
from trueup.settings.schema import Word
from trueup.sources.context import open_context
from trueup.sources.open import world_groups
from trueup.sources.sample import Decoding
from trueup.worlds import world_of

SUMMARY = "Measure one policy on held-out prompts of a world: its judges, KL and length by prompt."
OUTPUT = "measured.json"
EXAMPLES = 8


@dataclass(frozen=True, kw_only=True)
class Config:
    """What a world's judges say of a policy, prompt by prompt, with its distance from a reference."""

    model: str = "world:base"
    "The policy: a folder, `world:base`, or `stage:NAME`."
    world: str = ""
    "Whose prompts, judges and exams: a name or a YAML file; empty is the world that the data came from."
    reference: str = ""
    "The model that the KL is measured to; empty measures none."
    proxy: str = ""
    "A judge whose score is written beside what the world believes."
    instruction: Word = ""
    "A line after the user's last message, for a policy that is steered by one; the grader does not see it."
    hhh_dialogues: int = 0
    "Dialogues of the HHH prompt before every prompt."
    best_of: int = 1
    "Each completion is the favourite of `judge` among this many samples."
    judge: str = ""
    "Chooses among the samples of best-of-n."
    split: Word = "test"
    "Of the world's prompts: `dev`, `test`, or another that it has."
    num_prompts: int = 500
    samples_per_prompt: int = 1
    exam_items: int = 0
    "Items of each of the world's exams, for the alignment tax; 0 sits none."
    exams: tuple[str, ...] = ()
    "The exams to sit, by name; all of them when empty."
    decoding: Decoding = Decoding(max_new_tokens=48)
    seed: int = 0


def run(config: Config, folder: Path, *, stop_requested: Callable[[], str]) -> Done:
    """`measured.json`: named numbers [num_prompts, samples_per_prompt], exams, and a few completions."""
    device = pick_device("auto")
    world = world_of(config.world, config.model, config.reference, where="measure")
    prompts = world_groups(world, "prompts", split=config.split, limit=config.num_prompts)
    grade, judges = open_measures(world, device=str(device))
    if config.proxy:
        judges["proxy"] = open_judge(config.proxy, device=str(device))

    meter = metering.Meter(folder)
    policy = open_view(
        "policy",
        config.model,
        device,
        instruction=config.instruction,
        prefix=open_context(f"{world.name}:hhh", config.hhh_dialogues) if config.hhh_dialogues else (),
        best_of=config.best_of,
        judge=open_judge(config.judge, device=str(device)) if config.best_of > 1 and config.judge else None,
    )
    result = evaluate_policy(
        policy,
        prompts,
        grade=grade,
        samples_per_prompt=config.samples_per_prompt,
        decoding=config.decoding,
        seed=derive(config.seed, "evaluate"),
        judges=judges,
        reference=open_view("reference", config.reference, device) if config.reference else None,
    )
    measured = {**result.metrics, **({} if result.kl is None else {"kl": result.kl})}
    said = [[g.prompt[-1].content, g.completions[0].text] for g in result.groups[:EXAMPLES]]
    suite = {}
    if config.exam_items:
        suite = exams_of(world, config.exams, split=config.split, limit=config.exam_items)
    sat = run_suite(policy, suite, derive(config.seed, "exams"))
    written = {
        "numbers": {name: values.tolist() for name, values in measured.items()},
        "exams": {name: values.tolist() for name, values in sat.items()},
        "samples": said,
    }
    text = json.dumps(written, ensure_ascii=False)
    disk.write(folder / OUTPUT, text + "\n")
    tokens = sum(c.num_tokens for g in result.groups for c in g.completions)
    cost = meter.spend(0, tokens_trained=0, tokens_sampled=tokens)
    means = {name: float(values.mean()) for name, values in measured.items()}
    return Done(output=OUTPUT, metrics=means, cost=vars(cost))
