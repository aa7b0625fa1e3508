"""How a person's Python function wants to be called, read off its signature once.

score(prompt, completion, **row)          about one completion, every argument by its name
score(prompt, completion, state, info)    the same with messages as dictionaries: verifiers' way
score(completions, prompts, **columns)    about all at once, lists of one length: TRL's way
score(groups)                             about groups, a judge as `trueup.judges` has them
score(x, y)                               by position: the prompt's messages, the completion's text
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from trueup.errors import TrueupError

Form = Literal["own", "text", "messages"]
"`messages` are dictionaries with role and content (of a plain text prompt, the text); `own` is `Message`."
COMPLETION = frozenset({"completion", "text", "completion_ids", "token_ids", "group"})
"A function that is asked about one completion names one of these."
VERIFIERS = frozenset({"state", "info", "task"})
"A function that names one of these reads messages."
_LIST = re.compile(r"(?:[\w.]*\.)?(?:list|List|Sequence|Iterable)\[(.*)\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """How a function wants to be called."""

    style: Literal["one", "all", "groups"]
    "About one completion, about all at once, about groups."
    names: tuple[str, ...] = ()
    "What it takes by name."
    required: frozenset[str] = frozenset()
    "Those without a default."
    places: tuple[str, ...] = ()
    "What it is given by position."
    rest: bool = False
    "Whether it takes whatever else there is."
    prompt: Form = "own"
    completion: Form = "text"
    abstains: bool = False
    "Whether its return annotation allows None."
    decode: Callable[[np.ndarray], str] | None = None
    "How a completion's tokens read, where the model's chat is at hand."


def calling(function: Callable[..., Any], name: str) -> Call:
    """How `function` wants to be called. Raises E792 where its signature does not say."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        raise _undecided(name, "its signature cannot be read") from None
    parameters = list(signature.parameters.values())
    named = {p.name: p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    rest = any(p.kind is p.VAR_KEYWORD for p in parameters)
    given = _words(signature.return_annotation)
    abstains = given != "None" and bool(re.search(r"\bNone\b|\bOptional\b", given))
    if "groups" in named:
        return Call(style="groups", names=("groups",), abstains=abstains)
    by_name = "completions" in named or bool(named.keys() & COMPLETION)
    places = () if by_name else _places(parameters)
    if not by_name and not places and not rest:
        raise _undecided(name, f"it takes {', '.join(p.name for p in parameters) or 'nothing'}")
    style = "all" if "completions" in named else "one"
    prompt, completion = _forms(named, style)
    return Call(
        style=style,
        names=() if places else tuple(named),
        required=frozenset() if places else frozenset(n for n, p in named.items() if p.default is p.empty),
        places=places,
        rest=rest,
        prompt=prompt,
        completion=completion,
        abstains=abstains,
    )


def _forms(named: Mapping[str, inspect.Parameter], style: str) -> tuple[Form, Form]:
    """How a prompt and a completion are handed over: as annotated, else as the function's kin expect them."""
    ending = "s" if style == "all" else ""
    dictionaries = style == "all" or bool(named.keys() & VERIFIERS)
    prompt = _form(named.get(f"prompt{ending}"), style)
    completion = _form(named.get(f"completion{ending}"), style)
    if dictionaries:
        return prompt or "messages", completion or "messages"
    return prompt or "own", completion or "text"


def _undecided(name: str, reason: str) -> TrueupError:
    return TrueupError(
        "E792",
        f"how to call the function cannot be told: {reason}",
        where=f"judge {name}",
        remedy="name a parameter `completion`, one text at a time, or `completions`, all at once",
    )


def _places(parameters: Sequence[inspect.Parameter]) -> tuple[str, ...]:
    """What goes where in a function that needs one or two arguments; () where it needs others."""
    needed = [p for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    if any(p.kind not in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in needed):
        return ()
    return {1: ("completion",), 2: ("prompt", "completion")}.get(len(needed), ())


def _form(parameter: inspect.Parameter | None, style: str) -> Form | None:
    """The form that a parameter's annotation asks for; None where it says nothing."""
    words = "" if parameter is None else _words(parameter.annotation)
    if style == "all":
        inner = _LIST.fullmatch(words)
        words = inner[1] if inner else ""
    if re.search(r"\bMessage\b", words):
        return "own"
    if re.search(r"dict|Dict|Mapping|Messages|^list|^List", words):
        return "messages"
    return "text" if re.search(r"\bstr\b", words) else None


def _words(annotation: Any) -> str:
    """An annotation as it would be written; "" for none."""
    if annotation is inspect.Signature.empty or annotation is None:
        return ""
    if isinstance(annotation, str):
        return annotation
    return annotation.__name__ if type(annotation) is type else str(annotation)
