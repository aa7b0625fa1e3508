"""The command `soup`: experts of several rewards, mixed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from trueup.commands.early import check_judge, check_models
from trueup.commands.options import AcceptChanged, FullDigests, Positive, say
from trueup.errors import TrueupError

if TYPE_CHECKING:
    from trueup.runs.unchanged import Terms

Pairs = Annotated[tuple[str, ...], Parameter(negative="", consume_multiple=False)]


def soup(
    *experts: str,
    out: Path,
    weights: str = "",
    start: str = "",
    adapter: bool = False,
    judge: Pairs = (),
    morl: Pairs = (),
    prefer: str = "",
    search: Literal["grid", "dirichlet", "bayes"] = "grid",
    tries: Positive = 11,
    steps: Positive = 4,
    prompts: str = "world:prompts",
    validation: str = "world:prompts",
    num_prompts: Positive = 200,
    seed: int = 0,
    accept_changed_inputs: AcceptChanged = False,
    full_digests: FullDigests = False,
) -> None:
    """Mix models that were trained from one start into one model: θ = θ₀ + Σ wᵢ (θᵢ − θ₀).

    Without a judge, writes the mixture of the given weights (all alike, if none are given) as an ordinary
    Hugging Face folder. With judges, measures the mixtures, draws their front, and writes a run's folder:
    `model/` is the mixture that the validation prompts chose, `soups.html` shows the front.

    Parameters
    ----------
    experts
        Models' folders, two or more; LoRA adapters over one base are mixed as such.
    out
        The new folder.
    weights
        One for each expert: `0.3,0.7`. They sum to 1, unless `--start` is given.
    start
        The model that all were trained from: checked, measured too, and given what weights leave.
    adapter
        Write the mixture of LoRA adapters as one adapter, of the ranks' sum.
    judge
        A reward, `NAME=REFERENCE`, once for each: `--judge helpful=world:truth/helpful`.
    morl
        A policy to compare with, `NAME=FOLDER`, once for each.
    prefer
        What each reward is worth to you: `0.5,0.5`; alike, if nothing is said.
    search
        How weights are looked for.
    tries
        Mixtures measured in that search.
    steps
        The front's weights are multiples of 1/steps.
    prompts
        Prompts to measure on: a data file, or world:prompts, of which it is the test split.
    validation
        Prompts to choose on, other ones: a data file, or world:prompts, of which it is the dev split.
    num_prompts
        How many of each.
    seed
        The seed of everything.
    """
    if judge and (weights or adapter):
        reason = "with judges the weights are searched for, and whole weights are written"
        remedy = "leave it out, or the judges"
        raise TrueupError("E736", reason, where="--weights" if weights else "--adapter", remedy=remedy)
    check_models(*experts, start)
    if not judge:
        from trueup.soups.write import write_mixture

        given = _numbers(weights, "--weights")
        say(f"model: {write_mixture(experts, out, given, start=start, adapter=adapter)}")
        return
    rewards, policies = _pairs(judge, "--judge"), _pairs(morl, "--morl")
    check_models(*policies.values())
    for reference in rewards.values():
        check_judge(reference)
    from trueup.runs.unchanged import Terms
    from trueup.soups.write import prompts_block

    terms = Terms(accept=accept_changed_inputs, whole=full_digests)
    say(*_measure(
        experts, out, terms, judges=rewards, morl=policies, start=start, prefer=prefer, search=search,
        tries=tries, steps=steps, data=prompts_block(prompts, "test", num_prompts),
        validation=prompts_block(validation, "dev", num_prompts), seed=seed,
    ))  # fmt: skip


def _measure(
    experts: tuple[str, ...],
    out: Path,
    terms: Terms,
    *,
    prefer: str,
    **settings: object,
) -> list[str]:
    """What to print after the stage `soup` was run in `out`."""
    from trueup.runs.one_stage import refuse_other_run, single_stage
    from trueup.runs.recipe import run_stage
    from trueup.runs.signals import stop_requests
    from trueup.settings.strict_yaml import Layer
    from trueup.soups.picture import sentences
    from trueup.soups.write import named

    layer = Layer(
        values={
            **settings,
            "experts": dict(named(experts)),
            "preference": list(_numbers(prefer, "--prefer")),
        },
        name="command line",
    )
    stage = single_stage("soup", layer, out)
    refuse_other_run(stage)
    with stop_requests() as stop_requested:
        done = run_stage(stage, stop_requested=stop_requested, terms=terms)
    found = json.loads((out / "front.json").read_text(encoding="utf-8"))
    return [*sentences(found), f"model: {out / done.output}", f"picture: {out / 'soups.html'}"]


def _pairs(given: tuple[str, ...], where: str) -> dict[str, str]:
    found: dict[str, str] = {}
    wrong = ""
    for text in given:
        name, _, value = text.partition("=")
        found[name] = value
        wrong = wrong or ("" if name and value else text)
    if wrong or len(found) < len(given):
        reason = f"{wrong!r} is no NAME=VALUE" if wrong else "a name is given twice"
        raise TrueupError("E736", reason, where=where, remedy=f"write {where} helpful=world:truth/helpful")
    return found


def _numbers(text: str, where: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise TrueupError("E736", f"{text!r} is no list of numbers", where=where, remedy="0.3,0.7") from None
