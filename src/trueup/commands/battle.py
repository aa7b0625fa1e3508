"""The command that lets models meet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from trueup.commands.early import check_file, check_judge, check_models
from trueup.commands.options import (
    AcceptChanged,
    AnyTemplate,
    AsJson,
    NotNegative,
    Positive,
    SampleSeed,
    Temperature,
    say,
    say_json,
)
from trueup.errors import EXIT_AWAITS

By = Annotated[tuple[str, ...], Parameter(negative="", show_default=False)]


def battle(
    *models: str,
    by: By = (),
    prompts: Path | None = None,
    world: str | None = None,
    battles: Positive = 300,
    until: NotNegative = 0.0,
    num_prompts: Positive = 100,
    samples: Positive = 1,
    temperature: Temperature = 1.0,
    max_new_tokens: Positive = 128,
    template: AnyTemplate = None,
    pairing: Literal["order", "width", "uniform"] = "order",
    batch: Positive = 20,
    prior: NotNegative = 0.0,
    seed: SampleSeed = 0,
    out: Path = Path("runs/battle"),
    accept_changed_inputs: AcceptChanged = False,
    as_json: AsJson = False,
) -> None:
    """Let models meet: each answers the same prompts, judges or people choose, and ratings follow.

    Who meets next is chosen so that ratings are decided soonest. Stop it at any moment; the same command goes
    on. Where people are waited for it ends with exit code 79. `trueup rank OUT/battles.jsonl` rates what was
    fought in other ways.

    Parameters
    ----------
    models
        Folders, ids, GGUF files, run folders, or servers, `openai:URL?model=NAME`; NAME=PATH names one.
    by
        Who judges, once for each: lm:MODEL or lm:openai:URL?model=NAME, asked in both orders; a reward
        model's folder, FILE.py:FUNCTION or another judge, which scores; people, who fill in a form. NAME=...
        names one.
    prompts
        A file of prompts, in any format that `trueup data check` knows.
    world
        In place of a file: a world's name or YAML file, whose test prompts are taken.
    battles
        Most battles.
    until
        End once the widest interval is no wider, in points; 0 is never.
    num_prompts
        Prompts that are answered, in a random order.
    samples
        Answers of each model to each prompt.
    max_new_tokens
        Longest answer.
    pairing
        `order` decides who is better soonest, `width` narrows all intervals, `uniform` has all meet alike.
    batch
        Battles between two fits, and in a form for people.
    prior
        Adds α‖β‖² to the loss: a normal prior, where battles alone do not determine the ratings.
    out
        The battle's folder.
    as_json
        Print JSON, with every pair's win rate.
    """
    from trueup.battles.settings import PEOPLE, SERVER, Config, led, named

    config = led(Config(
        models=named(models, "model"), by=named(by, "judge"), prompts=str(prompts or ""), world=world or "",
        battles=battles, until=until, num_prompts=num_prompts, samples=samples, temperature=temperature,
        max_new_tokens=max_new_tokens, template=template, pairing=pairing, batch=batch, prior=prior,
        seed=seed,
    ))  # fmt: skip
    if prompts is not None and not prompts.exists():
        check_file(prompts, "a file of prompts")
    check_models(*(ref for ref in config.models.values() if not ref.startswith(SERVER)))
    for reference in config.by.values():
        if reference != PEOPLE:
            check_judge(reference)
    from trueup.battles.run import fight
    from trueup.reports.battle import write_battle

    standing = fight(config, out, say=say if not as_json else lambda line: None, accept=accept_changed_inputs)
    page = None if standing.board is None else write_battle(out)
    if as_json:
        say_json({"waiting": standing.waiting, "board": standing.board})
    else:
        _say(standing, out, page)
    if standing.waiting:
        raise SystemExit(EXIT_AWAITS)


def _say(standing: Any, out: Path, page: Path | None) -> None:
    if standing.board is not None:
        from trueup.commands.rank import print_board

        print_board(standing.board)
        say(f"battles: {out / 'battles.jsonl'}", f"groups: {out / 'groups.jsonl'}", f"report: {page}")
    say(standing.waiting or f"{standing.why}.")
