"""Comparisons and ratings as public data sets hold them: Orca, HelpSteer, WebGPT, Learn to Summarize."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from trueup.data.beside import TOOLS, with_columns
from trueup.data.fields import Row, as_text, filled, listed, number, optional_text, required, text, typed
from trueup.data.formats import reads
from trueup.data.formats.pairs import pair, prompt_of
from trueup.data.formats.plain import one_answer
from trueup.data.problems import Fault, show
from trueup.data.turns import Turns
from trueup.engine.groups import Comparison, Completion, Group, Message, Role, Score
from trueup.errors import counted

_RATINGS = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
_OPENAI = ("preferred_output", "non_preferred_output")


@reads("question, chosen, rejected", may="system")
def orca(row: Row) -> tuple[Group]:
    """Orca pairs: question, chosen, rejected, and the system message where there is one."""
    system = optional_text(row, "system")
    first = (Message(Role.SYSTEM, system),) if system.strip() else ()
    asked = prompt_of(required(row, "question"), "question", Role.USER)
    return pair((*first, *asked), text(row, "chosen"), text(row, "rejected"))


@reads("prompt, response, helpfulness", may=", ".join(_RATINGS))
def helpsteer(row: Row) -> tuple[Group]:
    """HelpSteer: prompt, response, and five ratings; each is a score whose judge has the rating's name."""
    answer = Completion(text=filled(text(row, "response"), "response", code="E402"))
    given = [name for name in _RATINGS if row.get(name) is not None]
    scores = tuple(Score(completion=0, value=number(row[name], name), judge=name) for name in given)
    prompt = prompt_of(required(row, "prompt"), "prompt", Role.USER)
    return (Group(prompt=prompt, completions=(answer,), scores=scores),)


@reads(
    "context, response1, response2, overall_preference",
    "prompt, response_1, response_2, preference_strength",
)
def helpsteer_preference(row: Row) -> tuple[Group]:
    """HelpSteer preferences: two responses, and from -3 (the first is much better) to 3 (the second is)."""
    asked, one, other, field = (
        ("context", "response1", "response2", "overall_preference")
        if "overall_preference" in row
        else ("prompt", "response_1", "response_2", "preference_strength")
    )
    value = number(required(row, field), field)
    if abs(value) > 3:
        remedy = "write -3 (the first is much better) to 3, or remove the row"
        raise Fault("E411", "is not between -3 and 3", field=field, found=show(row[field]), remedy=remedy)
    prompt = prompt_of(required(row, asked), asked, Role.USER)
    return _compared(row, prompt, (one, other), _lower(value), strength=abs(value))


@reads("question, answer_0, answer_1, score_0, score_1")
def webgpt(row: Row) -> tuple[Group]:
    """WebGPT comparisons: question {full_text}, answer_0, answer_1, score_0, score_1 (larger is better)."""
    asked = required(row, "question")
    if isinstance(asked, Mapping):
        asked = required(asked, "full_text", "question")
    gap = number(required(row, "score_1"), "score_1") - number(required(row, "score_0"), "score_0")
    prompt = prompt_of(asked, "question", Role.USER)
    return _compared(row, prompt, ("answer_0", "answer_1"), _lower(gap), strength=abs(gap))


@reads("info, summaries, choice", may="worker")
def learn_to_summarize(row: Row) -> tuple[Group]:
    """Learn to Summarize: info {post, title, subreddit}, summaries [{text, policy}], choice (0 or 1)."""
    info = typed(required(row, "info"), Mapping, "info", "an object")
    summaries = listed(row, "summaries")
    if len(summaries) != 2:
        remedy = "write the two that were compared"
        raise Fault(
            "E407",
            f"has {counted(len(summaries), 'entry', 'entries')}, not 2",
            field="summaries",
            remedy=remedy,
        )
    choice = required(row, "choice")
    if isinstance(choice, bool) or choice not in (0, 1):
        raise Fault("E408", "is not 0 or 1", field="choice", found=show(choice), remedy="write one")
    judged = Comparison(a=0, b=1, choice="b" if choice else "a", labeler=optional_text(row, "worker"))
    written = tuple(_summary(item, f"summaries[{index}]") for index, item in enumerate(summaries))
    prompt = (Message(Role.TEXT, _post(info)),)
    return (Group(prompt=prompt, completions=written, comparisons=(judged,)),)


@reads(f"input, {', '.join(_OPENAI)}")
def openai_preference(row: Row) -> tuple[Group]:
    """OpenAI's preference files: input {messages}, preferred_output, non_preferred_output."""
    asked = typed(required(row, "input"), Mapping, "input", "an object", 'write {"messages": [...]}')
    prompt = prompt_of(required(asked, "messages", "input"), "input.messages", Role.USER)
    preferred, other = (one_answer(required(row, key), key) for key in _OPENAI)
    (group,) = pair(prompt, preferred, other)
    (told,) = with_columns((group,), {key: asked[key] for key in TOOLS if key in asked})
    return (told,)


def _compared(
    row: Row, prompt: Turns, sides: tuple[str, str], choice: Literal["a", "b", "tie"], *, strength: float
) -> tuple[Group]:
    texts = [filled(text(row, side), side, code="E402") for side in sides]
    return (
        Group(
            prompt=prompt,
            completions=tuple(
                Completion(text=said, source=side) for said, side in zip(texts, sides, strict=True)
            ),
            comparisons=(Comparison(a=0, b=1, choice=choice, strength=strength or None),),
        ),
    )


def _lower(value: float) -> Literal["a", "b", "tie"]:
    return "tie" if value == 0 else "a" if value < 0 else "b"


def _summary(item: Any, where: str) -> Completion:
    held = typed(item, Mapping, where, "an object", "write {text, policy}")
    said = filled(as_text(required(held, "text", where), f"{where}.text"), f"{where}.text", code="E402")
    return Completion(text=said, source=optional_text(held, "policy"))


def _post(info: Mapping[str, Any]) -> str:
    """A Reddit post or a news article as the policy reads it. Reference: Stiennon et al. 2020, appendix B."""
    if info.get("post") is None:
        article = as_text(required(info, "article", "info"), "info.article")
        return f"Article:\n\n{filled(article, 'info.article')}\n\nTL;DR:"
    lines = [f"SUBREDDIT: r/{info['subreddit']}"] if info.get("subreddit") else []
    lines += [f"TITLE: {info['title']}"] if info.get("title") else []
    return "\n".join([*lines, f"POST: {filled(as_text(info['post'], 'info.post'), 'info.post')}", "TL;DR:"])
