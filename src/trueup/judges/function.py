"""A person's Python function as a judge, called the way it asks for (see `calling`)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from trueup.engine.groups import Completion, Group, Message, Role, as_openai
from trueup.errors import TrueupError, counted
from trueup.judges.blame import number_of, place_of, raised, shown
from trueup.judges.calling import Call, Form, calling
from trueup.judges.event_loop import Raised, gather


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionJudge:
    """Asks a function for each completion's score; what the function does wrong ends the run."""

    function: Callable[..., Any]
    name: str
    call: Call
    concurrency: int = 16
    "Most questions at once, of an asynchronous function about one completion."

    @classmethod
    def of(
        cls, function: Callable[..., Any], name: str, decode: Callable[[np.ndarray], str] | None = None
    ) -> FunctionJudge:
        """The judge that asks `function`. Raises E792 where its signature does not say how."""
        return cls(function=function, name=name, call=replace(calling(function, name), decode=decode))

    def __call__(self, groups: Sequence[Group]) -> list[list[float]]:
        """The function's numbers.

        Where the return annotation allows None, None abstains: the completion takes the mean of its prompt's
        other scores, or 0 if there is none. Raises E793 for what is no finite number, E799 where the function
        raises or ends the program, E206 where a row lacks a column that it needs.
        """
        asked = [(g, i) for g in groups for i in range(len(g.completions))]
        if self.call.style == "groups":
            told = self._about_groups(groups)
        else:
            told = iter(self._about_all(asked) if self.call.style == "all" else self._about_each(asked))
            told = [[next(told) for _ in group.completions] for group in groups]
        return [
            _filled([self._score(value, group, i) for i, value in enumerate(values)])
            for group, values in zip(groups, told, strict=True)
        ]

    def _about_each(self, asked: Sequence[tuple[Group, int]]) -> list[Any]:
        values: list[Any] = []
        try:
            for group, i in asked:
                given = [self._one(name, group, i) for name in self.call.places]
                values.append(self._ask(_row(group, i), *given, **self._named(group, i)))
        except BaseException:
            for value in filter(inspect.iscoroutine, values):  # nobody waits for them any more
                value.close()
            raise
        if not any(map(inspect.isawaitable, values)):
            return values
        return self._awaited(values, [_row(group, i) for group, i in asked], self.concurrency)

    def _about_all(self, asked: Sequence[tuple[Group, int]]) -> list[Any]:
        if not asked:
            return []
        columns = list(dict.fromkeys(key for group, _ in asked for key in group.meta))
        known = (*_ALL, *columns)
        self._check_columns(asked[0][0], known)
        encoded = all(g.completions[i].tokens is not None for g, i in asked)
        also = [name for name in known if encoded or not name.endswith("_ids")] if self.call.rest else ()
        wanted = dict.fromkeys((*self.call.names, *also))
        given = {
            name: [_ALL[name](self.call, g, g.completions[i]) for g, i in asked]
            if name in _ALL
            else [g.meta.get(name) for g, _ in asked]
            for name in wanted
            if name in known
        }
        return self._list(self._ask(_rows(asked), **given), len(asked), _rows(asked))

    def _about_groups(self, groups: Sequence[Group]) -> list[list[Any]]:
        where = counted(len(groups), "group")
        told = self._list(self._ask(where, groups=groups), len(groups), where)
        return [
            self._list(values, len(group.completions), f"group {group.id}")
            for values, group in zip(told, groups, strict=True)
        ]

    def _ask(self, row: str, /, *given: Any, **named: Any) -> Any:
        """What the function gives; of an asynchronous one about several rows, when it has ended."""
        try:
            value = self.function(*given, **named)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # A person's own function: whatever it does, exiting too, is theirs.
            raise raised(error, self.function, name=self.name, row=row) from error
        if self.call.style != "one" and inspect.isawaitable(value):
            (value,) = self._awaited([value], [row], 1)
        return value

    def _awaited(self, values: list[Any], rows: Sequence[str], limit: int) -> list[Any]:
        try:
            return gather(values, limit)
        except Raised as failed:
            error = failed.error
            raise raised(error, self.function, name=self.name, row=rows[failed.number]) from error

    def _named(self, group: Group, i: int) -> dict[str, Any]:
        """The arguments of a function about one completion."""
        if self.call.places:
            return {}
        self._check_columns(group, (*_ONE, *group.meta))
        also = (*group.meta, "prompt", "completion") if self.call.rest else ()
        names = [n for n in dict.fromkeys((*self.call.names, *also)) if n in _ONE or n in group.meta]
        return {name: self._one(name, group, i) for name in names}

    def _one(self, name: str, group: Group, i: int) -> Any:
        if name in _ONE and (name in _OURS or name not in group.meta):
            return _ONE[name](self.call, group, group.completions[i])
        return group.meta[name]

    def _check_columns(self, group: Group, known: Sequence[str]) -> None:
        for name in sorted(self.call.required - set(known)):
            has = ", ".join(group.meta) or "none besides the prompt"
            raise TrueupError(
                "E206",
                f"the function asks for `{name}`, and the row has no such column (it has: {has})",
                where=f"judge {self.name}, group {group.id}",
                remedy="add the column to the data, or give the parameter a default",
            )

    def _list(self, value: Any, length: int, where: str) -> list[Any]:
        """The values of a list, an array or a tensor of that length; E793 for anything else."""
        values = value.tolist() if callable(getattr(value, "tolist", None)) else value
        if isinstance(values, list | tuple) and len(values) == length:
            return list(values)
        found = counted(len(values), "value") if isinstance(values, list | tuple) else shown(value)
        raise self._no_score(f"the function gave {found} for {length}", where)

    def _score(self, value: Any, group: Group, i: int) -> float | None:
        if value is None and self.call.abstains:
            return None
        number = number_of(value)
        if number is None:
            raise self._no_score(
                f"the function gave {shown(value)}, which is no finite number", _row(group, i), value
            )
        return number

    def _no_score(self, reason: str, where: str, value: Any = 0.0) -> TrueupError:
        place = place_of(self.function)
        remedy = "return one finite number for every completion"
        if value is None:
            remedy += "; a function that may abstain says so by its annotation: `-> float | None`"
        elif isinstance(value, bool) or type(value).__name__ == "bool":
            remedy += ": `float(...)` of a truth value"
        return TrueupError(
            "E793", reason, where=f"judge {self.name}, {place + ', ' if place else ''}{where}", remedy=remedy
        )


def _filled(scores: list[float | None]) -> list[float]:
    """The scores with the mean of those given in the places of those who abstained."""
    given = [score for score in scores if score is not None]
    mean = sum(given) / len(given) if given else 0.0
    return [mean if score is None else score for score in scores]


def _row(group: Group, i: int) -> str:
    return f"row {group.id or '(unnamed)'}, completion {i + 1}"


def _rows(asked: Sequence[tuple[Group, int]]) -> str:
    first, last = asked[0][0].id, asked[-1][0].id
    return f"{counted(len(asked), 'completion')} of rows {first} to {last}"


# ------------------------------------------------------------------------------------------ arguments


def _dictionaries(group: Group) -> list[dict[str, Any]]:
    return [as_openai(m) for m in group.prompt]


def _is_text(group: Group) -> bool:
    return bool(group.prompt) and group.prompt[0].role is Role.TEXT


def _prompt(form: Form, group: Group) -> Any:
    if form == "own":
        return group.prompt
    if form == "text" or _is_text(group):
        return group.prompt[-1].content if group.prompt else ""
    return _dictionaries(group)


def _said(call: Call, group: Group, completion: Completion) -> Any:
    if call.completion != "messages" or _is_text(group):
        return _text(call, group, completion)
    return _messages(completion)


def _text(call: Call, group: Group, completion: Completion) -> str:
    """What it says, calls as its tokens write them where that is known."""
    # A mask says that the tokens hold earlier turns too.
    tokens = completion.tokens if completion.supervised is None else None
    if not completion.tool_calls or call.decode is None or tokens is None:
        return completion.said
    return call.decode(tokens)


def _messages(completion: Completion) -> list[dict[str, Any]]:
    said = Message(
        Role.ASSISTANT, completion.text, thinking=completion.thinking, tool_calls=completion.tool_calls
    )
    return [as_openai(said)]


def _ids(call: Call, group: Group, completion: Completion) -> list[int]:
    if completion.tokens is None:
        raise TrueupError(
            "E206",
            "the function asks for token ids, and these completions were read as text",
            where=f"group {group.id}",
            remedy="ask for `completion`; a policy's own samples have ids",
        )
    return completion.tokens.tolist()


def _prompt_ids(call: Call, group: Group, completion: Completion) -> list[int]:
    return [] if group.prompt_tokens is None else group.prompt_tokens.tolist()


def _state(call: Call, group: Group, completion: Completion) -> dict[str, Any]:
    """What verifiers' functions find in `state`."""
    return {
        "answer": "",
        "info": {},
        "task": "",
        **group.meta,
        "prompt": _prompt("messages", group),
        "completion": _text(call, group, completion) if _is_text(group) else _messages(completion),
    }


_Argument = Callable[[Call, Group, Completion], Any]
_ONE: Mapping[str, _Argument] = {
    "prompt": lambda call, group, completion: _prompt(call.prompt, group),
    "completion": lambda call, group, completion: _said(call, group, completion),
    "text": _text,
    "completion_ids": _ids,
    "token_ids": _ids,
    "prompt_ids": _prompt_ids,
    "group": lambda call, group, completion: group,
    "row": lambda call, group, completion: dict(group.meta),
    "state": _state,
    "info": lambda call, group, completion: {},
    "task": lambda call, group, completion: "",
    "id": lambda call, group, completion: group.id,
    "user": lambda call, group, completion: group.user,
    "source": lambda call, group, completion: group.source,
}
"What a function about one completion may ask for by name, besides the columns of the row."
_OURS = frozenset(_ONE) - {"info", "task", "id", "user", "source"}
"Of these, those that stand before a column of the same name."
_ALL: Mapping[str, _Argument] = {
    "prompts": lambda call, group, completion: _prompt(call.prompt, group),
    "completions": lambda call, group, completion: _said(call, group, completion),
    "completion_ids": _ids,
    "prompt_ids": _prompt_ids,
}
"The same for a function about all at once: a list of each."
