"""Group: one prompt, its K completions, and what people or models said of them.

The one record of the library. Files hold it, sources yield it, annotators add to it, `samples.jsonl` stores
it. It holds no tensors and imports no torch. Judgements are kept raw (comparisons, rankings, scores); pairs
are derived from them by `pairs`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, fields, replace
from enum import StrEnum
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from trueup.engine import disk
from trueup.errors import TrueupError


class Role(StrEnum):
    """Who speaks. `TEXT` is a plain prompt that no chat template touches."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call of a tool, as an assistant's turn makes it."""

    name: str
    arguments: str = "{}"
    "A JSON object, as text."
    id: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class Message:
    """One turn: who speaks and what is said, thought and called."""

    role: Role
    content: str
    _: KW_ONLY
    thinking: str = ""
    "What an assistant thought before it spoke, where that is told apart from the content."
    tool_calls: tuple[ToolCall, ...] = ()
    name: str = ""
    "Who of that role speaks, or which tool answers."
    tool_call_id: str = ""
    "The call that a tool answers."
    tools: str = ""
    "What the conversation may call, a JSON list as text; its first message carries it."
    supervised: bool = True
    "False where a loss must not touch this turn; only an assistant's is ever supervised."

    def __repr__(self) -> str:
        """Role and content, and of the rest what says something."""
        shown = {f.name: getattr(self, f.name) for f in fields(self)}
        said = [f"{f.name}={shown[f.name]!r}" for f in fields(self) if shown[f.name] != f.default]
        return f"Message({', '.join(said)})"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Completion:
    """One continuation of a prompt, with whatever has been measured of it."""

    text: str
    "What a person reads: no control tokens, no end token."
    thinking: str = ""
    "As in `Message`; a sampled thought stands in `text`."
    tool_calls: tuple[ToolCall, ...] = ()
    source: str = ""
    "Who wrote it: a policy's name, a labeler, a data set's column."
    finished: bool = True
    "Whether it ended by itself (stop token) rather than at the length limit."
    tokens: np.ndarray | None = None
    "Token ids, int32 [L], end token included; None until encoded."
    supervised: np.ndarray | None = None
    "Which tokens a loss may touch, bool [L]; None means all of them."
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Per-token numbers [number of supervised tokens]: `old_logprobs`, `ref_logprobs`, `advantages` ...;
    or rows of them [number of supervised tokens, k]: a teacher's distributions."""
    marks: Mapping[str, float] = field(default_factory=dict)
    "Per-completion numbers: `score`, `greedy_score` ..."

    @property
    def said(self) -> str:
        """Its text; where it calls tools, with each call as JSON on a line of its own."""
        calls = [f'{{"name": {json.dumps(c.name)}, "arguments": {c.arguments}}}' for c in self.tool_calls]
        return "\n".join([self.text, *calls] if self.text else calls) if calls else self.text

    def with_columns(self, **columns: np.ndarray) -> Completion:
        """This completion with further per-token columns."""
        return replace(self, columns={**self.columns, **columns})

    def with_marks(self, **marks: float) -> Completion:
        """This completion with further per-completion numbers."""
        return replace(self, marks={**self.marks, **marks})

    @property
    def num_tokens(self) -> int:
        """How many tokens it has, end token included; the completion must be encoded."""
        assert self.tokens is not None, "encode the group first"
        return len(self.tokens)

    @property
    def num_supervised(self) -> int:
        """How many tokens a loss may touch; the completion must be encoded."""
        assert self.tokens is not None, "encode the group first"
        return len(self.tokens) if self.supervised is None else int(self.supervised.sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Somebody chose between two completions."""

    a: int
    b: int
    choice: Literal["a", "b", "tie"]
    strength: float | None = None
    "How strongly, in the labeler's own scale (1 slight .. 4 much on the 8-point scale); None if not asked."
    probability: float | None = None
    "Soft label P(a preferred), when a model judged; None for a plain choice."
    shown: tuple[int, int] | None = None
    "The order on screen, left first; None if unknown."
    labeler: str = ""
    when: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """Somebody ordered completions: tiers from best to worst, equals share a tier."""

    tiers: tuple[tuple[int, ...], ...]
    labeler: str = ""
    when: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A judge gave one completion a number; larger is better."""

    completion: int
    value: float
    judge: str
    when: str = ""


class Pair(NamedTuple):
    """A derived preference: `chosen` over `rejected` with probability `label`."""

    chosen: int
    rejected: int
    label: float
    strength: float
    labeler: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Group:
    """One prompt, its completions, and the judgements on them."""

    prompt: tuple[Message, ...]
    completions: tuple[Completion, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    rankings: tuple[Ranking, ...] = ()
    scores: tuple[Score, ...] = ()
    id: str = ""
    user: str = ""
    "The person whose prompt it is; splits and caps go by this."
    source: str = ""
    "The data set it came from."
    meta: Mapping[str, Any] = field(default_factory=dict)
    prompt_tokens: np.ndarray | None = None
    "Token ids of the rendered prompt, int32 [L]; None until encoded."

    def pairs(self) -> tuple[Pair, ...]:
        """The strict preferences that the comparisons and rankings state.

        A comparison gives one pair; a ranking of K gives up to K(K-1)/2, one for every two completions in
        different tiers. Ties give no pair.
        """
        compared = [pair for comparison in self.comparisons for pair in _pair_of(comparison)]
        ranked = [
            Pair(chosen, rejected, 1.0, 1.0, ranking.labeler)
            for ranking in self.rankings
            for better, worse in combinations(ranking.tiers, 2)
            for chosen in better
            for rejected in worse
        ]
        return (*compared, *ranked)

    def with_completions(self, completions: Sequence[Completion]) -> Group:
        """This group with other completions in the same places."""
        return replace(self, completions=tuple(completions))


def each(groups: Iterable[Group], change: Callable[[Completion], Completion]) -> list[Group]:
    """The groups with every completion as `change` gives it."""
    return [group.with_completions([change(c) for c in group.completions]) for group in groups]


def readable(completion: Completion) -> Completion:
    """The completion as a file of rows may hold it: U+FFFD stands for NUL, which readers refuse (E107)."""
    return replace(completion, text=completion.text.replace("\0", "\ufffd"))


def marked(groups: Iterable[Group], name: str, values: Iterable[Iterable[float]]) -> list[Group]:
    """The groups with a further number on every completion, given by group and completion."""
    return [
        group.with_completions(
            [c.with_marks(**{name: float(v)}) for c, v in zip(group.completions, row, strict=True)]
        )
        for group, row in zip(groups, values, strict=True)
    ]


def joined_column(groups: Iterable[Group], name: str) -> np.ndarray:
    """A per-token column of all the groups' completions, one after another."""
    return np.concatenate([c.columns[name] for group in groups for c in group.completions])


def _pair_of(c: Comparison) -> Iterator[Pair]:
    strength = c.strength if c.strength is not None else 1.0
    if c.probability is not None:
        yield Pair(c.a, c.b, c.probability, strength, c.labeler)
    elif c.choice != "tie":
        chosen, rejected = (c.a, c.b) if c.choice == "a" else (c.b, c.a)
        yield Pair(chosen, rejected, 1.0, strength, c.labeler)


# ---------------------------------------------------------------------------------------------- JSON


def to_json(group: Group) -> dict[str, Any]:
    """The group as plain JSON values; empty parts are left out. `from_json` gives the same group back."""
    return _filled(
        prompt=[message_to_json(m) for m in group.prompt],
        completions=[_completion_to_json(c) for c in group.completions],
        comparisons=[_plain(c) for c in group.comparisons] or None,
        rankings=[_plain(r) for r in group.rankings] or None,
        scores=[_plain(s) for s in group.scores] or None,
        id=group.id,
        user=group.user,
        source=group.source,
        meta=dict(group.meta),
        prompt_tokens=None if group.prompt_tokens is None else group.prompt_tokens.tolist(),
    )


def from_json(row: Mapping[str, Any]) -> Group:
    """The group that `to_json` wrote. Raises KeyError or ValueError on a row of another shape."""
    tokens = row.get("prompt_tokens")
    return Group(
        prompt=tuple(_message_from_json(m) for m in row["prompt"]),
        completions=tuple(_completion_from_json(c) for c in row.get("completions", ())),
        comparisons=tuple(
            Comparison(**{**c, "shown": tuple(c["shown"]) if c.get("shown") else None})
            for c in row.get("comparisons", ())
        ),
        rankings=tuple(
            Ranking(**{**r, "tiers": tuple(tuple(t) for t in r["tiers"])}) for r in row.get("rankings", ())
        ),
        scores=tuple(Score(**s) for s in row.get("scores", ())),
        id=row.get("id", ""),
        user=row.get("user", ""),
        source=row.get("source", ""),
        meta=row.get("meta", {}),
        prompt_tokens=None if tokens is None else np.asarray(tokens, np.int32),
    )


def _filled(**values: Any) -> dict[str, Any]:
    """What says something: no None, no empty text or mapping; an empty list of tokens is one."""
    return {name: value for name, value in values.items() if value not in (None, "", {})}


def _plain(record: Comparison | Ranking | Score) -> dict[str, Any]:
    return _filled(**{name: getattr(record, name) for name in record.__dataclass_fields__})


def message_to_json(m: Message) -> dict[str, Any]:
    """The message as plain JSON values; what says nothing is left out."""
    said = _filled(
        thinking=m.thinking,
        tool_calls=_calls_to_json(m.tool_calls),
        name=m.name,
        tool_call_id=m.tool_call_id,
        tools=m.tools,
        supervised=None if m.supervised else False,
    )
    return {"role": str(m.role), "content": m.content, **said}


def as_openai(m: Message) -> dict[str, Any]:
    """The message as OpenAI's API writes it; tools are no part of a message there."""
    calls = [
        _filled(id=c.id, type="function", function={"name": c.name, "arguments": c.arguments})
        for c in m.tool_calls
    ]
    said = _filled(
        reasoning_content=m.thinking, tool_calls=calls or None, name=m.name, tool_call_id=m.tool_call_id
    )
    return {"role": str(m.role), "content": m.content, **said}


def _message_from_json(row: Mapping[str, Any]) -> Message:
    if len(row) == 2:
        return Message(Role(row["role"]), row["content"])
    calls = _calls_from_json(row)
    said = {k: v for k, v in row.items() if k not in ("role", "content", "tool_calls")}
    return Message(Role(row["role"]), row["content"], tool_calls=calls, **said)


def _calls_to_json(calls: Iterable[ToolCall]) -> list[dict[str, Any]] | None:
    return [_filled(name=c.name, arguments=c.arguments, id=c.id) for c in calls] or None


def _calls_from_json(row: Mapping[str, Any]) -> tuple[ToolCall, ...]:
    return tuple(ToolCall(**call) for call in row.get("tool_calls", ()))


def _completion_to_json(c: Completion) -> dict[str, Any]:
    said = _filled(
        thinking=c.thinking,
        tool_calls=_calls_to_json(c.tool_calls),
        source=c.source,
        finished=None if c.finished else False,
        tokens=None if c.tokens is None else c.tokens.tolist(),
        supervised=None if c.supervised is None else c.supervised.astype(int).tolist(),
        # float32 values survive the trip: their shortest float64 decimal reads back to the same float32.
        columns={name: np.asarray(v, np.float64).tolist() for name, v in c.columns.items()},
        marks=dict(c.marks),
    )
    return {"text": c.text, **said}


def _completion_from_json(row: Mapping[str, Any]) -> Completion:
    tokens, supervised = row.get("tokens"), row.get("supervised")
    return Completion(
        text=row["text"],
        thinking=row.get("thinking", ""),
        tool_calls=_calls_from_json(row),
        source=row.get("source", ""),
        finished=row.get("finished", True),
        tokens=None if tokens is None else np.asarray(tokens, np.int32),
        supervised=None if supervised is None else np.asarray(supervised, bool),
        columns={name: np.asarray(v, np.float64) for name, v in row.get("columns", {}).items()},
        marks=dict(row.get("marks", {})),
    )


def write_jsonl(path: str, groups: Iterable[Group]) -> int:
    """How many groups were written to `path`, one JSON object a line, UTF-8; whole or not at all."""
    count = 0
    with disk.whole(Path(path)) as staged, staged.open("w", encoding="utf-8", newline="\n") as file:
        for group in groups:
            file.write(json.dumps(to_json(group), ensure_ascii=False, allow_nan=False) + "\n")
            count += 1
    return count


def read_jsonl(path: str) -> list[Group]:
    """The groups that `write_jsonl` wrote; for files of other origin use `trueup.data.read`."""
    groups = []
    with open(path, encoding="utf-8", newline="\n") as file:
        for number, line in enumerate(file, 1):
            try:
                groups.append(from_json(json.loads(line)))
            except (KeyError, ValueError, TypeError) as error:
                raise TrueupError(
                    "E201",
                    f"not a group: {type(error).__name__} {error}",
                    where=f"{path}:{number}",
                    remedy="`trueup data check FILE` names the format and every bad row",
                ) from None
    return groups


def digest(groups: Iterable[Group]) -> str:
    """A SHA-256 over the groups' JSON, order included: two sources with one digest hold the same data."""
    state = hashlib.sha256()
    for group in groups:
        state.update(json.dumps(to_json(group), ensure_ascii=False, sort_keys=True).encode())
        state.update(b"\n")
    return state.hexdigest()
