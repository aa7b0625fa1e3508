"""One policy's own completions of held-out prompts, judged: the numbers that a comparison is made of."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trueup.engine import disk
from trueup.engine.groups import Group, Score, read_jsonl, write_jsonl
from trueup.engine.order import derive
from trueup.evals.exams import run_suite
from trueup.evals.papers import exams_of
from trueup.evals.policies import (
    PolicyResult,
    entropy_of,
    evaluate_policy,
    read_by,
    same_tokenizer,
)
from trueup.evals.view import PolicyView, open_view
from trueup.judges.language_model import PREFIX, can_compare, can_score, open_pairwise
from trueup.judges.open import behind, open_judge, open_measures
from trueup.models.opening import pick_device
from trueup.runs import meter as metering
from trueup.runs.recipe import Done
from trueup.settings.schema import Word
from trueup.sources.context import open_context
from trueup.sources.open import world_groups
from trueup.sources.sample import Decoding
from trueup.worlds import World, world_of

SUMMARY = "Measure one policy on held-out prompts of a world: its judges, KL and length by prompt."
OUTPUT, SAMPLES = "measured.json", "samples.jsonl"
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
    against: str = ""
    "What another policy said to the same prompts: groups, for judges that are models and compare."
    instruction: Word = ""
    "A line after the user's last message, for a policy that is steered by one; the grader does not see it."
    template: str | None = None
    "A chat template by name, for models that bring none."
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
    """`measured.json`: named numbers [num_prompts, samples_per_prompt], exams, and a few completions.

    Beside it `samples.jsonl` holds every completion, with the scores that judges gave.
    """
    device = pick_device("auto")
    world = world_of(config.world, config.model, config.reference, where="measure")
    prompts = world_groups(world, "prompts", split=config.split, limit=config.num_prompts)
    grade, judges = open_measures(world, device=str(device), without=comparing_alone(world))
    if config.proxy:
        judges["proxy"] = open_judge(config.proxy, device=str(device))

    meter = metering.Meter(folder)
    policy = open_view(
        "policy",
        config.model,
        device,
        template=config.template,
        instruction=config.instruction,
        prefix=open_context(f"{world.name}:hhh", config.hhh_dialogues) if config.hhh_dialogues else (),
        best_of=config.best_of,
        judge=open_judge(config.judge, device=str(device)) if config.best_of > 1 and config.judge else None,
    )
    reference = _reference(config, policy)
    shared = reference is None or same_tokenizer(policy, reference)
    result = evaluate_policy(
        policy,
        prompts,
        grade=grade,
        samples_per_prompt=config.samples_per_prompt,
        decoding=config.decoding,
        seed=derive(config.seed, "evaluate"),
        judges=judges,
        reference=reference if shared else None,
    )
    suite = {}
    if config.exam_items:
        suite = exams_of(world, config.exams, split=config.split, limit=config.exam_items)
    sat = run_suite(policy, suite, derive(config.seed, "exams"))
    numbers = {**result.metrics, **dict(_of_tokens(result, policy, reference))}
    written = {
        "numbers": {name: values.tolist() for name, values in numbers.items()},
        "exams": {name: values.tolist() for name, values in sat.items()},
        "samples": [[g.prompt[-1].content, g.completions[0].text] for g in result.groups[:EXAMPLES]],
        "battles": dict(_battles(world, result.groups, config.against)),
    }
    scored = {name: result.metrics[name] for name in result.metrics if name in (*world.judges, "proxy")}
    write_jsonl(str(folder / SAMPLES), _kept(result.groups, scored))
    disk.write(folder / OUTPUT, json.dumps(written, ensure_ascii=False) + "\n")
    tokens = sum(c.num_tokens for g in result.groups for c in g.completions)
    cost = meter.spend(0, tokens_trained=0, tokens_sampled=tokens)
    means = {name: float(values.mean()) for name, values in numbers.items()}
    return Done(output=OUTPUT, metrics=means, cost=vars(cost))


def _reference(config: Config, policy: PolicyView) -> PolicyView | None:
    """The reference as a plain policy; where it is the same model, the one that is loaded."""
    if not config.reference:
        return None
    if config.reference == config.model:
        return replace(policy, name="reference", instruction="", prefix=(), best_of=1, judge=None)
    return open_view("reference", config.reference, policy.device, template=config.template)


def _of_tokens(
    result: PolicyResult, policy: PolicyView, reference: PolicyView | None
) -> Iterator[tuple[str, Any]]:
    """What the networks say of the completions' tokens: `kl`, `reference_nll`, `entropy`."""
    if result.kl is not None:
        yield "kl", result.kl
    if result.reference_nll is not None:
        yield "reference_nll", result.reference_nll
    elif reference is not None:
        yield "reference_nll", read_by(reference, result.groups)
    if policy.best_of == 1:  # the chosen of n are no samples of the policy
        yield "entropy", entropy_of(result.groups, policy)


def _battles(world: World, said: Sequence[Group], against: str) -> Iterator[tuple[str, list[Any]]]:
    """By judge that is a language model: P(the policy's first completion is better) in both orders.

    A prompt each: [shown first, shown second]; None where an answer could not be read. Equal texts are a tie
    that nobody is asked about.
    """
    if not against:
        return
    duels = [
        replace(g, completions=(g.completions[0], other.completions[0]))
        for g, other in zip(said, read_jsonl(against), strict=True)
    ]
    apart = [g for g in duels if g.completions[0].said != g.completions[1].said]
    for name, reference in _language_models(world):
        if can_compare(reference):
            verdicts = open_pairwise(reference).compare([(g, 0, 1) for g in apart])
            told = {id(g): [v.shown_first, v.shown_second] for g, v in zip(apart, verdicts, strict=True)}
            yield name, [told.get(id(g), [0.5, 0.5]) for g in duels]


def comparing(world: World) -> list[str]:
    """The names of a world's judges that are language models and can compare."""
    return [name for name, reference in _language_models(world) if can_compare(reference)]


def comparing_alone(world: World) -> list[str]:
    """Those of them whose wording gives no score."""
    return [name for name, reference in _language_models(world) if not can_score(reference)]


def _language_models(world: World) -> Iterator[tuple[str, str]]:
    for name in world.judges:
        reference = behind(f"{world.name}:{name}")
        if isinstance(reference, str) and reference.startswith(PREFIX):
            yield name, reference


def _kept(groups: Sequence[Group], scores: Mapping[str, Any]) -> Iterator[Group]:
    """The groups as files hold them: texts with their scores, without token ids."""
    for place, group in enumerate(groups):
        yield replace(
            group,
            prompt_tokens=None,
            completions=tuple(
                replace(c, tokens=None, supervised=None, columns={}, marks={}) for c in group.completions
            ),
            scores=tuple(
                Score(completion=i, value=float(value), judge=name)
                for name, rows in scores.items()
                for i, value in enumerate(rows[place])
            ),
        )
