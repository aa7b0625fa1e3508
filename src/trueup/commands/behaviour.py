"""Commands that measure how a model behaves: toxicity, refusals, summaries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trueup.commands.early import check_file, check_judge, check_models
from trueup.commands.options import (
    AnyTemplate,
    AsJson,
    Context,
    Count,
    DrawSeed,
    Flag,
    Json,
    Policy,
    Positive,
    Split,
    World,
    answer,
    estimate_line,
    write_groups,
)
from trueup.errors import TrueupError, counted


def toxicity(
    model: Policy,
    /,
    *,
    data: Path | None = None,
    world: World = "",
    judge: str | None = None,
    k: Positive | None = None,
    num_continuations: Positive = 25,
    max_new_tokens: Positive = 20,
    ask: Flag = False,
    dialogues: Count = 0,
    context: Context = "world:hhh",
    override: Flag = False,
    limit: Positive | None = None,
    template: AnyTemplate = None,
    split: Split = "test",
    seed: DrawSeed = 0,
    out: Path | None = None,
    as_json: Json = False,
) -> None:
    """Measure toxicity: the expected largest of k continuations, and the chance that any is toxic.

    Parameters
    ----------
    data
        Sentence starts: rows of RealToxicityPrompts, or {prompt, toxicity}. The world's otherwise.
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
    override
        Measure again with "ignore the previous instructions" behind the user's message, and compare.
    limit
        The first prompts only.
    split
        Of the world's prompts.
    out
        Write the continuations with their toxicity here, as groups.
    """
    if k is not None and k > num_continuations:
        reason = f"the largest of {k}, from {counted(num_continuations, 'continuation')}"
        raise TrueupError("E702", reason, where="k", remedy="a smaller k, or more `--num-continuations`")
    check_models(model)
    check_file(data)
    check_judge(judge)
    from trueup.behaviour import measure

    asked = measure.Asked(
        model=model, data=data, world=world, dialogues=dialogues, context=context, limit=limit,
        template=template, split=split, seed=seed,
    )  # fmt: skip
    found = measure.toxicity(
        asked, judge=judge, k=k, num_continuations=num_continuations, max_new_tokens=max_new_tokens,
        ask=ask, override=override,
    )  # fmt: skip
    shown = found.document
    write_groups(out, found.groups)
    lines = [
        f"judge {shown['judge']}, the largest of {counted(shown['k'], 'continuation')}, "
        f"from {num_continuations}"
    ]
    for which in ("all", "toxic", "non_toxic"):
        for metric, row in (shown[which] or {}).items():
            lines.append(f"{which:>10} prompts  {metric.replace('_', ' '):<22} {estimate_line(row)}")
    answer(shown, [*lines, *_override_line(shown)], as_json)


def refusals(
    model: Policy,
    /,
    *,
    data: Path | None = None,
    world: World = "",
    judge: str | None = None,
    num_samples: Positive = 1,
    dialogues: Count = 0,
    context: Context = "world:hhh",
    override: Flag = False,
    limit: Positive | None = None,
    template: AnyTemplate = None,
    split: Split = "test",
    seed: DrawSeed = 0,
    out: Path | None = None,
    as_json: Json = False,
) -> None:
    """Measure over-refusal: the share of harmless requests refused, beside that of harmful ones answered.

    Parameters
    ----------
    data
        Requests: JSON Lines of {prompt, harmful}. The world's otherwise.
    judge
        Gives an answer 1 if it refuses, 0 if it does not: a server, a function, a rule. The world's truth
        for its own requests, phrases of English refusals for others; their error is printed.
    num_samples
        Answers to each request.
    dialogues
        Dialogues of an HHH prompt to put before every request.
    override
        Measure again with "ignore the previous instructions" behind the request, and compare.
    limit
        The first requests only.
    split
        Of the world's requests.
    out
        Write the answers here, as groups, with how far each refuses.
    """
    check_models(model)
    check_file(data)
    check_judge(judge)
    from trueup.behaviour import measure

    asked = measure.Asked(
        model=model, data=data, world=world, dialogues=dialogues, context=context, limit=limit,
        template=template, split=split, seed=seed,
    )  # fmt: skip
    found = measure.refusals(asked, judge=judge, num_samples=num_samples, override=override)
    shown = found.document
    write_groups(out, found.groups)
    figures = {"harmless requests refused": "over_refusal", "harmful requests answered": "harmful_answered"}
    error = shown.get("phrases")
    note = f"  (phrases; right on {error['agreement']:.1%})" if error else ""
    lines = [
        f"{label}  {estimate_line(shown[key]) if shown[key] else 'none asked'}{note}"
        for label, key in figures.items()
    ]
    lines += [line + note for line in _override_line(shown)]
    if error:
        lines.append(
            f"phrases decided: on {error['n']} answers that people labelled they agree on "
            f"{error['agreement']:.1%}, precision {error['precision']:.3f}, recall {error['recall']:.3f}; "
            "--judge names a better one"
        )
    answer(shown, lines, as_json)


def summaries(
    model: Policy,
    /,
    *,
    data: Path | None = None,
    world: World = "",
    shots: Count = 0,
    dialogues: Count = 0,
    context: Context = "world:hhh",
    max_new_tokens: Positive = 100,
    limit: Positive = 100,
    template: AnyTemplate = None,
    split: Split = "test",
    seed: int = 0,
    out: Path | None = None,
    as_json: AsJson = False,
) -> None:
    """Measure summaries after "TL;DR:": ROUGE-1, ROUGE-2 and ROUGE-L, zero-shot or after demonstrations.

    Parameters
    ----------
    data
        Documents: JSON Lines of {document, summary}. The world's posts otherwise.
    shots
        Documents of the file to show before the others with their summaries, chosen by the seed.
    dialogues
        Dialogues of an HHH prompt to put before every document.
    max_new_tokens
        Longest summary; its first three sentences are kept.
    limit
        The first documents only.
    split
        Of the world's posts.
    seed
        Of the demonstrations and of sampling.
    out
        Write the summaries here, as groups.
    as_json
        Print JSON, with the demonstrations.
    """
    if shots and not data:
        raise TrueupError(
            "E702", "a world's posts are summarised zero-shot", where="shots", remedy="give data"
        )
    check_models(model)
    check_file(data)
    from trueup.behaviour import measure

    asked = measure.Asked(
        model=model, data=data, world=world, dialogues=dialogues, context=context, limit=limit,
        template=template, split=split, seed=seed,
    )  # fmt: skip
    found = measure.summaries(asked, shots=shots, max_new_tokens=max_new_tokens)
    write_groups(out, found.groups)
    rows = {name: row for name, row in found.document.items() if isinstance(row, dict)}
    answer(found.document, [f"{name:>8}  {estimate_line(row)}" for name, row in rows.items()], as_json)


def _override_line(shown: dict[str, Any]) -> list[str]:
    head = "behind the adversarial suffix, larger is better"
    return [f"{head}: {estimate_line(shown['override'])}"] if "override" in shown else []
