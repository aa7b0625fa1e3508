"""Reads a configuration dataclass as a schema, and writes its instances as plain values and as YAML.

A block of configuration is a frozen keyword-only dataclass; the string under a field is its help. Where one
of several blocks may stand, the field's type is their union and each has a field `kind` with a default.
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import inspect
import json
import math
import textwrap
import types
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from functools import cache, reduce
from operator import or_
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from trueup.errors import TrueupError
from trueup.settings.strict_yaml import dump_yaml

MISSING = dataclasses.MISSING

Word = Annotated[str, "names no file"]
"A text that is a name and never a place: a split, a format. A file of that name beside it means nothing."

_WORDS = {
    float: "a number",
    int: "a whole number",
    bool: "true or false",
    str: "text",
    Path: "a path",
    type(None): "null",
    Any: "anything",
}


class Item(NamedTuple):
    """One field of a block: its name, its type, its default (or MISSING) and its help."""

    name: str
    hint: Any
    default: Any
    help: str


@cache
def items(block: type) -> tuple[Item, ...]:
    """The fields of a dataclass in the order they are written."""
    hints = get_type_hints(block, include_extras=True)
    helps = field_docs(block)
    return tuple(
        Item(f.name, hints[f.name], _default(f), helps.get(f.name, ""))
        for f in dataclasses.fields(block)
        if f.init
    )


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return field.default


@cache
def field_docs(block: type) -> Mapping[str, str]:
    """The string written under each field of a class, on one line; read from its source, if it has one."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(block)))
    except (OSError, TypeError):
        return {}  # made by a program, or typed at a prompt
    body = tree.body[0]
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    for before, after in zip(body.body, body.body[1:], strict=False):
        if not (isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name)):
            continue
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            found[before.target.id] = " ".join(str(after.value.value).split())
    return found


def is_block(hint: Any) -> bool:
    """Whether a type is a block of configuration: a dataclass."""
    return isinstance(hint, type) and dataclasses.is_dataclass(hint)


def members(hint: Any) -> tuple[Any, ...]:
    """The types a union stands for, or the one type itself; `Annotated` is looked through for unions only."""
    if get_origin(hint) is Annotated and get_origin(get_args(hint)[0]) in (Union, types.UnionType):
        hint = get_args(hint)[0]
    if get_origin(hint) in (Union, types.UnionType):
        return get_args(hint)
    return (hint,)


def blocks(hint: Any) -> tuple[type, ...]:
    """The dataclasses among a type's members."""
    return tuple(m for m in members(hint) if is_block(m))


def with_instead(values: Mapping[str, Any], block: type) -> dict[str, Any]:
    """A layer's values, where what they state stands instead of another setting: that one is null then.

    A block says so by `INSTEAD`, pairs of (stated, other). A layer that states both keeps both.
    """
    made = dict(values)
    for item in items(block):
        inner: Any = made.get(item.name)
        pairs = [pair for one in blocks(item.hint) for pair in getattr(one, "INSTEAD", ())]
        for stated, other in pairs if isinstance(inner, Mapping) else ():
            if stated in inner and other not in inner:
                made[item.name] = {**dict(inner), other: None}
    return made


def both_stated(values: Mapping[str, Any], block: type) -> tuple[str, str] | None:
    """The keys of two settings that `values` states and of which one stands instead of the other; or None."""
    for item in items(block):
        inner: Any = values.get(item.name)
        pairs = [pair for one in blocks(item.hint) for pair in getattr(one, "INSTEAD", ())]
        for pair in pairs if isinstance(inner, Mapping) else ():
            if all(inner.get(name) is not None for name in pair):
                return f"{item.name}.{pair[0]}", f"{item.name}.{pair[1]}"
    return None


def without_blocks(hint: Any) -> Any | None:
    """A type without the blocks of its union: what a plain value may be; None where nothing is left."""
    parts = members(hint)
    if not any(is_block(p) or element(p) or value_of(p) for p in parts):
        return hint
    plain = tuple(p for p in parts if not (is_block(p) or element(p) or value_of(p)))
    return reduce(or_, plain) if plain else None


@cache
def kind(block: type) -> str | None:
    """The name a variant goes by: the default of its field `kind`, None where it has none or several."""
    for field in dataclasses.fields(block):
        if field.name == "kind" and isinstance(field.default, str):
            several = len(choices(get_type_hints(block)["kind"])) > 1
            return None if several else field.default
    return None


def element(hint: Any) -> Any | None:
    """The type of the elements where a type is a list or tuple of blocks, else None."""
    for member in members(hint):
        origin, arguments = get_origin(member), get_args(member)
        if origin in (tuple, list, Sequence) and arguments and blocks(arguments[0]):
            return arguments[0]
    return None


def value_of(hint: Any) -> Any | None:
    """The type of the values where a type is a mapping from names to blocks, else None."""
    for member in members(hint):
        origin, arguments = get_origin(member), get_args(member)
        if origin in (dict, Mapping) and len(arguments) == 2 and blocks(arguments[1]):
            return arguments[1]
    return None


def choices(hint: Any) -> tuple[str, ...]:
    """The words a value may be, where a type names them: literals, enumerations."""
    found: list[str] = []
    for member in members(hint):
        if get_origin(member) is Literal:
            found += [str(a) for a in get_args(member)]
        elif isinstance(member, type) and issubclass(member, Enum):
            found += [str(m.value) for m in member]
    return tuple(found)


def in_words(hint: Any) -> str:
    """A type as a person would say it: "a number", "one of a, b", "a list of text"."""
    parts = members(hint)
    if len(parts) > 1:
        return " or ".join(in_words(p) for p in parts)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return " ".join([in_words(arguments[0]), *_bounds(arguments[1:])])
    if choices(hint):
        return f"one of {', '.join(choices(hint))}" if len(choices(hint)) > 1 else choices(hint)[0]
    if origin in (tuple, list, Sequence):
        fixed = origin is tuple and Ellipsis not in arguments
        return f"a list of {f'{len(arguments)} ' if fixed else ''}{_plural(arguments[0])}"
    if origin in (dict, Mapping):
        return f"a mapping from names to {_plural(arguments[1])}"
    if is_block(hint):
        name = kind(hint) or hint.__name__
        return f"a{'n' if name[0] in 'aeiouAEIOU' else ''} {name} block"
    return _WORDS.get(hint, getattr(hint, "__name__", str(hint)))


def _plural(hint: Any) -> str:
    plain = {float: "numbers", int: "whole numbers", bool: "true or false", str: "text", Path: "paths"}
    return plain.get(hint, in_words(hint))


def _bounds(metadata: Sequence[Any]) -> Iterator[str]:
    """Bounds as pydantic's Field and annotated_types state them."""
    signs = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
    for entry in metadata:
        for bound in getattr(entry, "metadata", (entry,)):
            for name, sign in signs.items():
                limit = getattr(bound, name, None)
                if limit is not None:
                    yield f"{sign} {limit}"


# ------------------------------------------------------------------------------------------ writing


def resolved(instance: Any) -> dict[str, Any]:
    """A configuration as plain values, every default written out; `build` gives an equal instance back."""
    return {f.name: _plain(getattr(instance, f.name)) for f in dataclasses.fields(instance) if f.init}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return resolved(value)
    if isinstance(value, Enum):
        return _plain(value.value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, tuple | list | frozenset | set):
        return [_plain(v) for v in (sorted(value) if isinstance(value, frozenset | set) else value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise TrueupError("E712", f"{value} is not a finite number", remedy="use null for no limit")
    return value


class Place(NamedTuple):
    """A text that may name a file: the key it stands at, and the block that it is a setting of."""

    key: str
    text: str
    block: Any


def places(instance: Any, before: str = "") -> Iterator[Place]:
    """The texts that may name a file: neither a default, nor a `Word`, nor one of fixed choices."""
    for item in items(type(instance)):
        value = getattr(instance, item.name)
        if value != item.default and Word not in members(item.hint) and not choices(item.hint):
            yield from _texts(value, before + item.name, instance)


def _texts(value: Any, key: str, block: Any) -> Iterator[Place]:
    if isinstance(value, str | Path):
        yield Place(key, str(value), block)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from places(value, f"{key}.")
    elif isinstance(value, Mapping):
        for name, part in value.items():
            yield from _texts(part, f"{key}.{name}", block)
    elif isinstance(value, tuple | list | frozenset | set):
        for number, part in enumerate(sorted(value) if isinstance(value, frozenset | set) else value):
            yield from _texts(part, f"{key}.{number}", block)


def digest(values: Mapping[str, Any]) -> str:
    """A SHA-256 over plain values: the same for another order of keys and for 1 and 1.0."""
    return hashlib.sha256(
        json.dumps(_canonical(values), sort_keys=True, allow_nan=False).encode()
    ).hexdigest()


def _canonical(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _canonical(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [_canonical(v) for v in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


class Entry(NamedTuple):
    """One key as help shows it; `variant` names the kind it belongs to, empty outside unions."""

    key: str
    type: str
    default: Any
    help: str
    variant: str = ""


def describe(block: type) -> list[Entry]:
    """Every key of a configuration dataclass, blocks entered, with type in words, plain default and help.

    A key without a default has `MISSING`. Where several kinds may stand, the keys of each are
    listed and name their kind.
    """
    return list(_entries(block, "", None, ""))


def _entries(block: type, prefix: str, start: Any, variant: str) -> Iterator[Entry]:
    for item in items(block):
        key = prefix + item.name
        default = getattr(start, item.name) if start is not None else item.default
        inner = blocks(item.hint)
        if not inner or len(inner) < len(members(item.hint)) or default is None:
            shown = default if default is MISSING else _plain(default)
            yield Entry(key, in_words(item.hint), shown, item.help, variant)
        for candidate in inner:
            begin = default if isinstance(default, candidate) else None
            name = (kind(candidate) or "") if len(inner) > 1 else ""
            yield from _entries(candidate, f"{key}.", begin, name or variant)


def commented_yaml(instance: Any) -> str:
    """A configuration as YAML with each key's help above it: a recipe to edit, read back to an equal one."""
    return "\n".join(_commented(instance, "")) + "\n"


def _commented(instance: Any, indent: str) -> Iterator[str]:
    for item in items(type(instance)):
        value = getattr(instance, item.name)
        if item.help:
            yield f"{indent}# {item.help}"
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            yield f"{indent}{item.name}:"
            yield from _commented(value, indent + "  ")
        else:
            written = dump_yaml({item.name: _plain(value)}).rstrip("\n")
            yield from (indent + line for line in written.split("\n"))
