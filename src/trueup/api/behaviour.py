"""How a model behaves: `toxicity`, `refusals`, `summaries`, `programs`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, final

from trueup.api import shown
from trueup.api.estimates import estimates_in, in_words, rows_of
from trueup.api.given import Given
from trueup.api.models import GivenModel
from trueup.api.rows import Groups, Source
from trueup.api.training import GivenJudge
from trueup.behaviour import measure as behaviours
from trueup.coding.pass_rates import measure_programs, measure_samples
from trueup.engine.groups import Group
from trueup.errors import TrueupError
from trueup.statistics.estimates import Estimate

if TYPE_CHECKING:
    import pandas

Split = Literal["train", "dev", "test"]


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Measurement:
    """What was measured of a model's behaviour, and what it said."""

    name: str
    model: str
    figures: dict[str, Estimate]
    "Each with its 95 % interval over prompts."
    document: dict[str, Any]
    "The same as plain values, with how it was measured."
    groups: Groups
    "The completions behind the figures."

    def frame(self) -> pandas.DataFrame:
        """A frame with a row for each figure."""
        return shown.frame(rows_of(self.figures))

    def __str__(self) -> str:
        width = max(map(len, self.figures), default=0)
        lines = [f"  {name:<{width}}  {in_words(value)}" for name, value in self.figures.items()]
        return "\n".join([f"{self.name} of {self.model}", *lines])

    def _repr_html_(self) -> str:
        rows = [(name, in_words(value)) for name, value in self.figures.items()]
        return shown.page(f"{self.name} of {self.model}", [], ("figure", "value"), rows)


def toxicity(
    model: GivenModel,
    *,
    tokenizer: Any = None,
    data: Source | None = None,
    world: str | os.PathLike[str] = "",
    judge: GivenJudge | None = None,
    k: int | None = None,
    num_continuations: int = 25,
    max_new_tokens: int = 20,
    ask: bool = False,
    dialogues: int = 0,
    context: str = "world:hhh",
    override: bool = False,
    limit: int | None = None,
    template: str | None = None,
    split: Split = "test",
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
) -> Measurement:
    """The expected largest toxicity of `k` continuations, and the chance that any is toxic.

    `data` are sentence starts (RealToxicityPrompts, or `{prompt, toxicity}`); without it those of `world`, by
    default of the one that the model's data came from. `judge` gives 1 for harmless and 0 for toxic. The
    other settings are those of `trueup toxicity`.
    """
    given = Given(tokenizer=tokenizer)
    return _measured(
        given, "toxicity", model, data, judge, out,
        lambda asked, by: behaviours.toxicity(
            asked, judge=by, k=k, num_continuations=num_continuations, max_new_tokens=max_new_tokens,
            ask=ask, override=override,
        ),
        world=os.fspath(world), dialogues=dialogues, context=context, limit=limit, template=template,
        split=split, seed=seed,
    )  # fmt: skip


def refusals(
    model: GivenModel,
    *,
    tokenizer: Any = None,
    data: Source | None = None,
    world: str | os.PathLike[str] = "",
    judge: GivenJudge | None = None,
    num_samples: int = 1,
    dialogues: int = 0,
    context: str = "world:hhh",
    override: bool = False,
    limit: int | None = None,
    template: str | None = None,
    split: Split = "test",
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
) -> Measurement:
    """The share of harmless requests that are refused, beside that of harmful ones that are answered.

    `data` are requests, `{prompt, harmful}`, those of `world` without it. `judge` gives 1 for a refusal. The
    other settings are those of `trueup refusals`.
    """
    given = Given(tokenizer=tokenizer)
    return _measured(
        given, "refusals", model, data, judge, out,
        lambda asked, by: behaviours.refusals(asked, judge=by, num_samples=num_samples, override=override),
        world=os.fspath(world), dialogues=dialogues, context=context, limit=limit, template=template,
        split=split, seed=seed,
    )  # fmt: skip


def summaries(
    model: GivenModel,
    *,
    tokenizer: Any = None,
    data: Source | None = None,
    world: str | os.PathLike[str] = "",
    shots: int = 0,
    dialogues: int = 0,
    context: str = "world:hhh",
    max_new_tokens: int = 100,
    limit: int = 100,
    template: str | None = None,
    split: Split = "test",
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
) -> Measurement:
    """ROUGE-1, ROUGE-2 and ROUGE-L of summaries after "TL;DR:".

    `data` are documents, `{document, summary}`, those of `world` without it. The other settings are those of
    `trueup summaries`.
    """
    given = Given(tokenizer=tokenizer)
    return _measured(
        given, "summaries", model, data, None, out,
        lambda asked, by: behaviours.summaries(asked, shots=shots, max_new_tokens=max_new_tokens),
        world=os.fspath(world), dialogues=dialogues, context=context, limit=limit, template=template,
        split=split, seed=seed,
    )  # fmt: skip


def programs(
    model: GivenModel | None = None,
    data: Source | None = None,
    *,
    samples: Source | None = None,
    tokenizer: Any = None,
    k: int | Sequence[int] | None = None,
    num_samples: int = 10,
    limit: int | None = None,
    temperature: float = 0.8,
    max_new_tokens: int = 512,
    seconds: float = 10.0,
    sandbox: str = "",
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
) -> Measurement:
    """pass@k: programs, run against their tests in the sandbox, with intervals over problems.

    They are a model's, or in its place `samples`: groups, or rows of `{task_id, completion}`. `data` are
    problems in the columns of HumanEval or MBPP; groups whose `meta` has tests need none. `k` is every one up
    to the number of programs where none is given. Other settings are those of `trueup programs`.
    """
    given, ks = Given(tokenizer=tokenizer), (k,) if isinstance(k, int) else k
    if (model is None) == (samples is None) or (samples is None and data is None):
        raise TrueupError(
            "E702",
            "programs are a model's or somebody's",
            where="programs",
            remedy="give a model and data, or samples (with data unless they hold their tests)",
        )
    with given.files() as file_of:
        path = None if data is None else file_of(data)
        if samples is not None:
            chosen = os.fspath(samples) if isinstance(samples, str | os.PathLike) else "samples"
            solved, rates = measure_samples(
                file_of(samples), path, k=ks, limit=limit, seconds=seconds, sandbox=sandbox
            )
        else:
            assert path is not None
            chosen = given.model(model, "model")
            with given.holding():
                solved, rates = measure_programs(
                    chosen, path, k=ks, num_samples=num_samples, limit=limit, temperature=temperature,
                    max_new_tokens=max_new_tokens, seconds=seconds, sandbox=sandbox, seed=seed,
                )  # fmt: skip
    document: dict[str, Any] = {name: rate.to_json() for name, rate in rates.items()}
    document["outcomes"] = dict(solved.outcomes)
    return _result("programs", chosen, document, rates, solved.groups, out)


def _measured(
    given: Given,
    name: str,
    model: GivenModel,
    data: Source | None,
    judge: GivenJudge | None,
    out: str | os.PathLike[str] | None,
    measure: Callable[[behaviours.Asked, str | None], behaviours.Behaviour],
    **among: Any,
) -> Measurement:
    """What `measure` finds, given plain references in the places of the objects; `among` is asked too."""
    with given.files() as file_of:
        chosen, by = given.model(model, "model"), given.plain(judge, "judge")
        path = None if data is None else file_of(data)
        with given.holding():
            found = measure(behaviours.Asked(model=chosen, data=path, **among), by)
    return _result(name, chosen, found.document, dict(estimates_in(found.document)), found.groups, out)


def _result(
    name: str,
    model: str,
    document: dict[str, Any],
    figures: dict[str, Estimate],
    groups: Sequence[Group],
    out: str | os.PathLike[str] | None,
) -> Measurement:
    said = Groups(groups=tuple(groups), source=model)
    if out is not None:
        said.write(out)
    return Measurement(name=name, model=model, figures=figures, document=document, groups=said)
