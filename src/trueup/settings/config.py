"""Builds configuration from its layers: defaults < YAML files < the command line. Imports no torch.

The schema is the tree of frozen dataclasses itself (see `trueup.settings.schema`): a default is written once,
on its field. `build` merges the layers onto those defaults, refuses what the schema does not know, and names
the layer, line and key of every mistake. Numbers, text and truth values are never turned into one another.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple, TypeVar, cast

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from trueup.errors import TrueupError
from trueup.settings import schema
from trueup.settings.schema import Entry, commented_yaml, describe, digest, resolved
from trueup.settings.strict_yaml import Layer, dump_yaml, parse_value, read_yaml
from trueup.settings.translate import (
    COMMAND_LINE,
    Alias,
    Answer,
    all_keys,
    fitting,
    has,
    merge,
    place,
    show,
    translate,
    usage,
)

__all__ = [
    "Alias",
    "Answer",
    "Entry",
    "Layer",
    "build",
    "commented_yaml",
    "describe",
    "digest",
    "dump_yaml",
    "parse_overrides",
    "read_yaml",
    "resolved",
]

T = TypeVar("T")


# ------------------------------------------------------------------------------------------ the command line


def parse_overrides(arguments: Sequence[str]) -> Layer:
    """The layer that `--key.path value`, `--key=value` and `--flag` state, values read as YAML reads them.

    `-` in a key is `_`. A flag without a value is true. Raises TrueupError E714 on a word that belongs to no
    key, a key given twice, or a key that is both a value and a block.
    """
    values: dict[str, Any] = {}
    texts: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--") or word == "--":
            raise usage(f"`{word}` belongs to no key", word, "write --key value")
        name, equals, text = word[2:].partition("=")
        key = name.replace("-", "_")
        if not all(key.split(".")):
            raise usage("a key has an empty part", word, "write --block.key value")
        if key in texts:
            raise usage(f"`--{name}` is given twice", key, "give it once")
        if not equals:
            text = "true" if not rest or rest[0].startswith("--") else rest.pop(0)
        texts[key] = text
        place(values, key, parse_value(text))
    return Layer(values=values, name=COMMAND_LINE, texts=texts)


# ------------------------------------------------------------------------------------------ layers


def build(
    block: type[T],
    *layers: Layer | Mapping[str, Any],
    where: str = "config",
    aliases: Mapping[str, str | Alias | Answer] | None = None,
) -> T:
    """The instance of a configuration dataclass that some layers state; later layers win.

    A layer is what `read_yaml` or `parse_overrides` gave, or a plain mapping, called `where` in errors.
    Blocks merge key by key onto the defaults of their field; lists and values replace; naming another
    `kind` starts that block afresh. `aliases` gives other names of top-level keys.

    Raises TrueupError: E711 unknown key, E712 wrong value, E713 missing value, E714 given twice, E715 a
    combination the dataclass refuses. All mistakes found are listed; the first gives the code.
    """
    named = [layer if isinstance(layer, Layer) else Layer(values=layer, name=where) for layer in layers]
    own = {item.name for item in schema.items(block)}
    known = {name: fitting(to, block) for name, to in (aliases or {}).items() if name not in own}
    translated = [translate(layer, known) for layer in named]
    merged: dict[str, Any] = {}
    for layer in translated:
        stated = typed if layer.name == COMMAND_LINE else _as_filed
        merged = merge(merged, stated(block, layer.values))
    building = _Building(layers=translated, name=where, root=block, aliases=known)
    made = building.block(block, merged, "", None)
    building.finish()
    return cast(T, made)


def _as_filed(block: type, values: Mapping[str, Any]) -> dict[str, Any]:
    return schema.with_instead(values, block)


def typed(block: type, values: Mapping[str, Any], at: str = "", where: str = COMMAND_LINE) -> dict[str, Any]:
    """What somebody typed over a file's settings: where it stands instead of another one, that is null then.

    `at` is the key under which `block` stands. Raises E714 for two of which each says that the other does not
    count. A file may have both, as the resolved settings of a run do.
    """
    if pair := schema.both_stated(values, block):
        one, other = (f"{at}.{key}" if at else key for key in pair)
        raise TrueupError(
            "E714",
            f"`{one}` and `{other}` are given together, and one stands instead of the other",
            where=f"{where} {one}",
            remedy="give one of the two",
        )
    return schema.with_instead(values, block)


# ------------------------------------------------------------------------------------------ building


class _Problem(NamedTuple):
    code: str
    where: str
    reason: str
    remedy: str


@dataclass(frozen=True, kw_only=True, eq=False)
class _Building:
    """One walk over the schema and the merged values; mistakes are gathered and raised together."""

    layers: Sequence[Layer]
    name: str
    root: type
    aliases: Mapping[str, Alias | Answer]
    problems: list[_Problem] = field(default_factory=list)

    def block(self, block: type, values: Mapping[str, Any], key: str, start: Any) -> Any:
        """An instance of a dataclass: `values` over `start` (an instance, or None) over its defaults."""
        items = {item.name: item for item in schema.items(block)}
        count = len(self.problems)
        for name in values:
            if name not in items:
                self.unknown(name, key, items)
        made: dict[str, Any] = {}
        for name, item in items.items():
            path = f"{key}.{name}" if key else name
            default = getattr(start, name) if start is not None else item.default
            if name in values:
                made[name] = self.value(item.hint, values[name], path, default)
            elif default is schema.MISSING:
                self.add("E713", path, "is not given", f"give {schema.in_words(item.hint)}")
            else:
                made[name] = default
        if len(self.problems) > count:
            return None
        try:
            return block(**made)
        except ValueError as error:
            self.add("E715", key, str(error), "change one of the values")
            return None

    def value(self, hint: Any, value: Any, key: str, default: Any) -> Any:
        """The value for one key: a block, some blocks, or a plain value of the type the schema names."""
        if isinstance(value, Mapping) and schema.blocks(hint):
            chosen = self.variant(hint, value, key, default)
            start = default if isinstance(default, chosen or ()) else None
            return None if chosen is None else self.block(chosen, value, key, start)
        element, inner = schema.element(hint), schema.value_of(hint)
        if isinstance(value, Sequence) and not isinstance(value, str) and element is not None:
            return tuple(self.value(element, v, f"{key}.{i}", None) for i, v in enumerate(value))
        if isinstance(value, Mapping) and inner is not None:
            return {name: self.value(inner, v, f"{key}.{name}", None) for name, v in value.items()}
        return self.plain(hint, value, key)

    def variant(self, hint: Any, value: Mapping[str, Any], key: str, default: Any) -> type | None:
        """Which dataclass of a union a mapping means: by `kind`, else the only one, else the default's."""
        blocks = schema.blocks(hint)
        kinds = {schema.kind(b): b for b in blocks if schema.kind(b) is not None}
        if "kind" in value and kinds:
            if value["kind"] in kinds:
                return kinds[value["kind"]]
            known = [str(k) for k in kinds]
            self.add("E712", f"{key}.kind", f"no kind {show(value['kind'])}", _nearest(value["kind"], known))
            return None
        if len(blocks) == 1:
            return blocks[0]
        if type(default) in blocks:
            return type(default)
        self.add("E713", f"{key}.kind", "is not given", f"one of {', '.join(str(k) for k in kinds)}")
        return None

    def plain(self, hint: Any, value: Any, key: str) -> Any:
        """A value checked by pydantic in strict mode; on the command line text may also be what was typed."""
        bare = schema.without_blocks(hint)
        if bare is None:
            self.add("E712", key, f"expected {schema.in_words(hint)}, found {show(value)}", "give its keys")
            return None
        made, wrong = _validate(bare, value)
        if wrong is None:
            return made
        typed = self.origin(key)
        if typed is not None and key in typed.texts:
            made, still_wrong = _validate(bare, typed.texts[key])
            if still_wrong is None:
                return made
        path = ".".join([key, *(str(p) for p in _location(wrong, hint))])
        self.add("E712", path, *_say(hint, value, wrong, key))
        return None

    def unknown(self, name: str, key: str, items: Iterable[str]) -> None:
        """Notes a key that the schema does not have, with the nearest that it has."""
        path = f"{key}.{name}" if key else name
        everywhere = all_keys(self.root)
        if path in everywhere and "." in name:
            self.add("E711", path, "unknown key with a dot", "write the last part inside its block")
            return
        near = difflib.get_close_matches(name, [*items, *self.aliases], n=1, cutoff=0.6)
        meant = self.aliases.get(near[0]) if near and near[0] not in items else None
        if isinstance(meant, Answer):
            self.add("E711", path, "unknown key", f"if it is `{near[0]}`: {meant.says}")
            return
        if key and meant is not None:
            near = [meant.key]  # Other names are read at the top alone.
        near = near or [k for k in everywhere if k.endswith(f".{name}")]
        near = near or difflib.get_close_matches(path, everywhere, n=1, cutoff=0.75)
        known = f"the keys here: {', '.join(items)}"
        self.add("E711", path, "unknown key", f"did you mean `{near[0]}`?" if near else known)

    def origin(self, key: str) -> Layer | None:
        """The last layer that has a key."""
        holders = (layer for layer in reversed(self.layers) if key in layer.lines or has(layer.values, key))
        return next(holders, None)

    def add(self, code: str, key: str, reason: str, remedy: str) -> None:
        """Notes one mistake at a key, with the layer and line that the key or its parent was written in."""
        parts = key.split(".")
        for size in range(len(parts), 0, -1):
            layer = self.origin(".".join(parts[:size]))
            if layer is not None:
                line = layer.lines.get(".".join(parts[:size]))
                place = f"{layer.name}:{line}" if line else layer.name
                break
        else:
            place = self.layers[-1].name if len(self.layers) == 1 else self.name
        self.problems.append(_Problem(code, f"{place} {key}".strip(), reason, remedy))

    def finish(self) -> None:
        """Raises what was found, if anything was."""
        if not self.problems:
            return
        first, *others = self.problems
        remedy = "\n".join([first.remedy, *(f"{p.where} — {p.reason} — {p.remedy}" for p in others)])
        raise TrueupError(first.code, first.reason, where=first.where, remedy=remedy)


@cache
def _adapter(hint: Any) -> TypeAdapter[Any]:
    return TypeAdapter(
        hint, config=ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
    )


def _validate(hint: Any, value: Any) -> tuple[Any, ErrorDetails | None]:
    """The checked value and None, or None and what pydantic found first."""
    try:
        # JSON mode: a list may become a tuple and text an enumeration or a path, but no number becomes text.
        return _adapter(hint).validate_json(json.dumps(value)), None
    except ValidationError as error:
        return None, error.errors(include_url=False)[0]
    except (TypeError, ValueError):
        return None, ErrorDetails(type="not_plain", loc=(), msg="", input=value)


# Mistakes of a list as a whole, which pydantic places at an element that is not there.
_WHOLE = ("missing", "too_long", "too_short")


def _location(wrong: ErrorDetails, hint: Any) -> Iterator[int | str]:
    """Where inside a value the mistake is; pydantic's names of union members are left out."""
    if len(schema.members(hint)) == 1 and wrong["type"] not in _WHOLE:
        yield from (part for part in wrong["loc"] if isinstance(part, int) or part.isidentifier())


def _say(hint: Any, value: Any, wrong: ErrorDetails, key: str) -> tuple[str, str]:
    """What is wrong with a value and what to do, in words."""
    inside = len(schema.members(hint)) == 1 and wrong["type"] not in _WHOLE
    found = wrong["input"] if inside else value
    expected = schema.in_words(hint)
    reason = f"expected {expected}, found {show(found)}"
    words = schema.choices(hint)
    near = isinstance(found, str) and difflib.get_close_matches(found, words, n=1)
    if isinstance(found, str) and words and (near or not expected.startswith("a number")):
        return reason, _nearest(found, words)
    if isinstance(found, str) and not isinstance(parse_value(found), str):
        return reason, "write it without quotes"
    if (
        isinstance(found, int | float)
        and not isinstance(found, bool)
        and ("text" in expected or "path" in expected)
    ):
        return reason, "put it in quotes"
    return reason, f"give {expected}{_example(hint, key)}"


def _example(hint: Any, key: str) -> str:
    """How a list, or a block by its first key, is written on a command line; "" for what needs no example."""
    if "a list of text" in schema.in_words(hint):
        return f": --{key} '[a, b]'"
    first = next((schema.items(b)[0] for b in schema.blocks(hint) if schema.kind(b) is None), None)
    if first is None or first.default is schema.MISSING:
        return ""
    return f": --{key}.{first.name} {json.dumps(first.default)}"


def _nearest(found: Any, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(str(found), known, n=1)
    return f"did you mean `{near[0]}`?" if near else f"one of {', '.join(known)}"
