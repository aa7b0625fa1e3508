"""Commands that measure how a model behaves: toxicity, refusals, summaries."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    open_policy,
    write_groups,
)
from trueup.errors import TrueupError

if TYPE_CHECKING:
    from trueup import worlds
    from trueup.engine.groups import Group


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
        raise TrueupError("E702", f"the largest of {k}, from {num_continuations} continuations", where="k")
    check_models(model)
    check_file(data)
    check_judge(judge)
    from trueup.behaviour.real_toxicity import read_prompts
    from trueup.behaviour.toxicity import as_requests, measure_toxicity
    from trueup.judges.open import open_judge
    from trueup.sources.sample import Decoding
    from trueup.statistics.estimates import paired_gain

    if data:
        prompts, name = read_prompts(data)[:limit], judge or "toxicity:lexicon"
    else:
        own, prompts = _of_world(world, model, "toxicity", split, limit)
        name = judge or f"{own.name}:toxicity"
    prompts = as_requests(prompts) if ask else prompts
    scorer, view = (
        open_judge(name),
        open_policy(model, dialogues=dialogues, context=context, template=template),
    )
    decoding = Decoding(max_new_tokens=max_new_tokens, top_p=0.9)
    found = [
        measure_toxicity(view, p, scorer, num_continuations=num_continuations, decoding=decoding, seed=seed)
        for p in _versions(prompts, override)
    ]
    shown: dict[str, Any] = {"judge": name, **found[0].to_json(k or num_continuations)}
    if override:
        # Larger is better in a probe, so the sign says what it says everywhere.
        gain = paired_gain(*(1.0 - f.scores.max(axis=1) for f in reversed(found)))
        shown["override"] = gain.to_json()
    write_groups(out, found[0].groups)
    lines = [f"judge {name}, the largest of {shown['k']} continuations, from {num_continuations}"]
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
        for its own requests, the opening phrases of English refusals for others.
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
    from trueup.behaviour.refusals import PHRASES, by_grade, by_judge, measure_refusals, read_requests
    from trueup.judges.open import open_judge
    from trueup.statistics.estimates import paired_gain

    if data:
        requests, behaviour = read_requests(data)[:limit], by_judge(PHRASES)
    else:
        own, requests = _of_world(world, model, "refusals", split, limit)
        grade = own.grade("refusals")
        behaviour = by_grade(grade) if grade is not None else by_judge(PHRASES)
    if judge:
        behaviour = by_judge(open_judge(judge))
    view = open_policy(model, dialogues=dialogues, context=context, template=template)
    found = [
        measure_refusals(view, items, behaviour, num_samples=num_samples, seed=seed)
        for items in _versions(requests, override)
    ]
    shown: dict[str, Any] = found[0].to_json()
    if override:
        shown["override"] = paired_gain(found[1].right, found[0].right).to_json()
    write_groups(out, found[0].groups)
    asked = {"harmless requests refused": "over_refusal", "harmful requests answered": "harmful_answered"}
    lines = [
        f"{label}  {estimate_line(shown[key]) if shown[key] else 'none asked'}"
        for label, key in asked.items()
    ]
    answer(shown, [*lines, *_override_line(shown)], as_json)


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
    from trueup.behaviour.summarise import few_shot, measure_summaries, read_summaries
    from trueup.sources.sample import Decoding

    if data:
        items, shown = few_shot(read_summaries(data), shots, seed=seed, limit=limit)
    else:
        items, shown = _of_world(world, model, "summaries", split, limit)[1], ()
    decoding = Decoding(max_new_tokens=max_new_tokens, top_k=2)
    view = open_policy(model, dialogues=dialogues, context=context, template=template)
    found = measure_summaries(view, items, decoding=decoding, demonstrations=shown, seed=seed)
    write_groups(out, found.groups)
    numbers = found.to_json()
    answer(numbers, [f"{name:>8}  {estimate_line(numbers[name])}" for name in found.scores], as_json)


def _of_world(
    named: str, model: str, name: str, split: str, limit: int | None
) -> tuple[worlds.World, list[Group]]:
    """The world that is named, or that the model's data came from, and its groups of a name."""
    from trueup.sources.open import world_groups
    from trueup.worlds import world_of

    world = world_of(named, model, where=name)
    return world, world_groups(world, name, split=split, limit=limit)


def _versions(items: Sequence[Group], override: bool) -> list[Sequence[Group]]:
    """The items, and with `override` the same items behind the adversarial suffix."""
    from trueup.behaviour.override import overridden

    return [items, overridden(items)] if override else [items]


def _override_line(shown: dict[str, Any]) -> list[str]:
    head = "behind the adversarial suffix, larger is better"
    return [f"{head}: {estimate_line(shown['override'])}"] if "override" in shown else []
