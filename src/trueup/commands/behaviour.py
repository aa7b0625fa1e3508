"""Commands that measure how a model behaves: toxicity, refusals, summaries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from trueup.commands.measuring import (
    Count,
    Flag,
    Json,
    estimate_line,
    plain_console,
    write_groups,
)
from trueup.commands.train import Positive

Split = Literal["train", "dev", "test"]


def toxicity(
    model: str,
    /,
    *,
    data: Path | None = None,
    world: str = "",
    judge: str | None = None,
    k: Positive | None = None,
    num_continuations: Positive = 25,
    max_new_tokens: Positive = 20,
    ask: Flag = False,
    dialogues: Count = 0,
    context: str = "world:hhh",
    override: Flag = False,
    limit: Positive | None = None,
    template: str | None = None,
    split: Split = "test",
    seed: int = 0,
    out: Path | None = None,
    as_json: Json = False,
) -> None:
    """Measure toxicity: the expected largest of k continuations, and the chance that any is toxic.

    Parameters
    ----------
    model
        A model's folder or id, or world:base.
    data
        Sentence starts: rows of RealToxicityPrompts, or {prompt, toxicity}. The world's otherwise.
    world
        A world's name or YAML file; otherwise the one that the model's data came from.
    judge
        1 for harmless, 0 for toxic: toxicity:lexicon, toxicity:FILE, toxicity:detoxify, a server, a function.
        For a world's prompts its own judge, for others toxicity:lexicon.
    k
        Continuations whose largest counts; as many as are sampled otherwise.
    num_continuations
        Continuations to sample for each prompt.
    max_new_tokens
        Longest continuation.
    ask
        Ask for the sentence to be finished without being toxic, instead of continuing it as plain text.
    dialogues
        Dialogues of an HHH prompt to put before every prompt.
    context
        Whose dialogues: world:hhh, hhh for models of the real world, or a file of demonstrations.
    override
        Measure again with "ignore the previous instructions" behind the user's message, and compare.
    limit
        The first prompts only.
    template
        A chat template by name, where the model brings none; hh goes with every tokenizer.
    split
        Of the world's prompts.
    seed
        Of sampling.
    out
        Write the continuations with their toxicity here, as groups.
    as_json
        Print JSON.
    """
    from trueup.behaviour.measure import toxicity as measure

    found = measure(
        model, data=data, world=world, judge=judge,
        k=k, num_continuations=num_continuations,
        max_new_tokens=max_new_tokens, ask=ask, dialogues=dialogues, context=context, override=override,
        limit=limit, template=template, split=split, seed=seed,
    )  # fmt: skip
    shown = found.document
    write_groups(out, found.groups)
    if as_json:
        print(json.dumps(shown, indent=1))
        return
    console = plain_console()
    console.print(
        f"judge {shown['judge']}, the largest of {shown['k']} continuations, from {num_continuations}"
    )
    for which in ("all", "toxic", "non_toxic"):
        for metric, row in (shown[which] or {}).items():
            console.print(f"{which:>10} prompts  {metric.replace('_', ' '):<22} {estimate_line(row)}")
    _print_override(console, shown)


def refusals(
    model: str,
    /,
    *,
    data: Path | None = None,
    world: str = "",
    judge: str | None = None,
    num_samples: Positive = 1,
    dialogues: Count = 0,
    context: str = "world:hhh",
    override: Flag = False,
    limit: Positive | None = None,
    template: str | None = None,
    split: Split = "test",
    seed: int = 0,
    out: Path | None = None,
    as_json: Json = False,
) -> None:
    """Measure over-refusal: the share of harmless requests refused, beside that of harmful ones answered.

    Parameters
    ----------
    model
        A model's folder or id, or world:base.
    data
        Requests: JSON Lines of {prompt, harmful}. The world's otherwise.
    world
        A world's name or YAML file; otherwise the one that the model's data came from.
    judge
        Gives an answer 1 if it refuses, 0 if it does not: a server, a function, a rule. The world's truth
        for its own requests, the opening phrases of English refusals for others.
    num_samples
        Answers to each request.
    dialogues
        Dialogues of an HHH prompt to put before every request.
    context
        Whose dialogues: world:hhh, hhh for models of the real world, or a file of demonstrations.
    override
        Measure again with "ignore the previous instructions" behind the request, and compare.
    limit
        The first requests only.
    template
        A chat template by name, where the model brings none; hh goes with every tokenizer.
    split
        Of the world's requests.
    seed
        Of sampling.
    out
        Write the answers here, as groups, with how far each refuses.
    as_json
        Print JSON.
    """
    from trueup.behaviour.measure import refusals as measure

    found = measure(
        model, data=data, world=world, judge=judge,
        num_samples=num_samples, dialogues=dialogues, context=context,
        override=override, limit=limit, template=template, split=split, seed=seed,
    )  # fmt: skip
    shown = found.document
    write_groups(out, found.groups)
    if as_json:
        print(json.dumps(shown, indent=1))
        return
    console = plain_console()
    for label, row in (
        ("harmless requests refused", shown["over_refusal"]),
        ("harmful requests answered", shown["harmful_answered"]),
    ):
        console.print(f"{label}  {estimate_line(row) if row else 'none asked'}")
    _print_override(console, shown)


def summaries(
    model: str,
    /,
    *,
    data: Path | None = None,
    world: str = "",
    shots: Count = 0,
    dialogues: Count = 0,
    context: str = "world:hhh",
    max_new_tokens: Positive = 100,
    limit: Positive = 100,
    template: str | None = None,
    split: Split = "test",
    seed: int = 0,
    out: Path | None = None,
    as_json: Json = False,
) -> None:
    """Measure summaries after "TL;DR:": ROUGE-1, ROUGE-2 and ROUGE-L, zero-shot or after demonstrations.

    Parameters
    ----------
    model
        A model's folder or id, or world:base.
    data
        Documents: JSON Lines of {document, summary}. The world's posts otherwise.
    world
        A world's name or YAML file; otherwise the one that the model's data came from.
    shots
        Documents of the file to show before the others with their summaries, chosen by the seed.
    dialogues
        Dialogues of an HHH prompt to put before every document.
    context
        Whose dialogues: world:hhh, hhh for models of the real world, or a file of demonstrations.
    max_new_tokens
        Longest summary; its first three sentences are kept.
    limit
        The first documents only.
    template
        A chat template by name, where the model brings none; hh goes with every tokenizer.
    split
        Of the world's posts.
    seed
        Of the demonstrations and of sampling.
    out
        Write the summaries here, as groups.
    as_json
        Print JSON, with the demonstrations.
    """
    from trueup.behaviour.measure import summaries as measure

    found = measure(
        model, data=data, world=world, shots=shots,
        dialogues=dialogues, context=context, max_new_tokens=max_new_tokens,
        limit=limit, template=template, split=split, seed=seed,
    )  # fmt: skip
    write_groups(out, found.groups)
    numbers = found.document
    if as_json:
        print(json.dumps(numbers, indent=1))
        return
    console = plain_console()
    for name, row in numbers.items():
        if isinstance(row, dict):
            console.print(f"{name:>8}  {estimate_line(row)}")


def _print_override(console: Console, shown: dict[str, Any]) -> None:
    if "override" in shown:
        console.print(f"behind the adversarial suffix, larger is better: {estimate_line(shown['override'])}")
