"""Option names of other toolkits put in the place of the keys that they stand for, and layers merged."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from trueup.errors import TrueupError
from trueup.settings import schema
from trueup.settings.strict_yaml import Layer

COMMAND_LINE = "command line"


class Alias(NamedTuple):
    """Another name for a key, with its values translated where they differ."""

    key: str
    values: Mapping[Any, Any] | None = None
    also: tuple[str, ...] = ()
    "Keys that it stands for where there is no `key`, the first that there is."
    rest: bool = False
    "Values that are not translated are taken as they are."
    says: str = ""
    "What is said where there is no such key."
    unless: tuple[Any, ...] = ()
    "Values that ask for nothing: `use_dora: false` is no adapter without DoRA, it is no word about adapters."


class Answer(NamedTuple):
    """What is said of a name that no setting stands for; null, or what changes nothing, may be given."""

    says: str
    unless: tuple[Any, ...] = ()


def fitting(to: str | Alias | Answer, block: type) -> Alias | Answer:
    """What a name stands for in this block: the first of its keys that there is, or what is said of it."""
    if isinstance(to, Answer):
        return to
    alias = Alias(to) if isinstance(to, str) else to
    keys = all_keys(block)
    found = next((key for key in (alias.key, *alias.also) if _is_key(key, keys)), None)
    if found is not None:
        return alias._replace(key=found)
    return Answer(
        alias.says or f"it is `{alias.key}` of other methods, and this one has no such setting", alias.unless
    )


def _is_key(key: str, keys: Sequence[str]) -> bool:
    """Whether it is a key, or a name in a mapping that is one."""
    parent = key.rpartition(".")[0]
    return key in keys or (parent in keys and not any(k.startswith(f"{parent}.") for k in keys))


def _answered(layer: Layer, aliases: Mapping[str, Alias | Answer]) -> dict[str, Alias]:
    """The aliases that are keys. Raises E711 with an answer for each name in the layer that is none."""
    said = [(name, to) for name in layer.values if isinstance(to := aliases.get(name), Answer)]
    wrong = [
        (n, to) for n, to in said if layer.values[n] is not None and not _among(layer.values[n], to.unless)
    ]
    if wrong:
        (first, answer), *others = wrong
        lines = [answer.says, *(f"{layer.where(n)} — no such setting — {to.says}" for n, to in others)]
        raise TrueupError("E711", "no such setting", where=layer.where(first), remedy="\n".join(lines))
    return {name: to for name, to in aliases.items() if isinstance(to, Alias)}


def _among(value: Any, known: Iterable[Any]) -> bool:
    return any(type(value) is type(other) and value == other for other in known)


def translate(layer: Layer, known: Mapping[str, Alias | Answer]) -> Layer:
    """The layer with its aliases written as the keys they stand for. Raises E711 for a name without a key."""
    aliases = _answered(layer, known)
    values: dict[str, Any] = {}
    used: dict[str, str] = {}
    lines, texts = dict(layer.lines), dict(layer.texts)
    for name, value in layer.values.items():
        alias = aliases.get(name)
        if isinstance(known.get(name), Answer) or (alias is not None and _among(value, alias.unless)):
            continue
        if alias is None:
            values = merge(values, {name: value})
            continue
        other = alias.key if has(layer.values, alias.key) else used.setdefault(alias.key, name)
        if other != name:
            reason = f"`{name}` and `{other}` are the same setting"
            raise TrueupError("E714", reason, where=layer.where(name), remedy="give one of the two")
        if alias.values is not None:
            value, before = _translate_value(layer, name, value, alias), value
            if value is not before:
                texts.pop(name, None)
        placed: dict[str, Any] = {}
        place(placed, alias.key, value)
        values = merge(values, placed)
        if name in lines:
            lines[alias.key] = lines.pop(name)
        if name in texts:
            texts[alias.key] = texts.pop(name)
    return Layer(values=values, name=layer.name, lines=lines, texts=texts)


def _translate_value(layer: Layer, name: str, value: Any, alias: Alias) -> Any:
    for known, to in (alias.values or {}).items():
        if _among(value, [known]):
            return to
    if alias.rest:
        return value
    allowed = ", ".join(show(v) for v in alias.values or ())
    raise TrueupError(
        "E712", f"{show(value)} is none of {allowed}", where=layer.where(name), remedy="choose one"
    )


def has(values: Any, key: str) -> bool:
    """Whether some nested values have a dotted key."""
    for part in key.split("."):
        if not isinstance(values, Mapping) or part not in values:
            return False
        values = values[part]
    return True


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `over` on top: mappings merge, the rest replaces; another kind replaces its whole block."""
    out = dict(base)
    for key, value in over.items():
        before = out.get(key)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            same_kind = "kind" not in value or value["kind"] == before.get("kind", value["kind"])
            out[key] = merge(before, value) if same_kind else dict(value)
        else:
            out[key] = value
    return out


def place(values: dict[str, Any], key: str, value: Any) -> None:
    """Nothing; `value` stands at a dotted key. Raises E714 for one that is a value and a block."""
    *blocks, last = key.split(".")
    inner = values
    for block in blocks:
        inner = inner.setdefault(block, {})
        if not isinstance(inner, dict):
            raise usage(f"`{block}` is given both a value and a block", key, "give one of the two")
    if last in inner:
        raise usage(f"`{last}` is given both a value and a block", key, "give one of the two")
    inner[last] = value


def usage(reason: str, key: str, remedy: str) -> TrueupError:
    """E714: a key of the command line that is no use as it stands."""
    return TrueupError("E714", reason, where=f"{COMMAND_LINE} {key}", remedy=remedy)


@cache
def all_keys(block: type) -> tuple[str, ...]:
    """Every dotted key of a block and its blocks."""
    return tuple(dict.fromkeys(entry.key for entry in schema.describe(block)))


def show(value: Any) -> str:
    """A found value, short, with its type where it matters."""
    names = {str: "the text ", bool: "", int: "the number ", float: "the number ", type(None): ""}
    shown = json.dumps(value, ensure_ascii=False, default=str)
    shown = shown if len(shown) <= 80 else shown[:79] + "…"
    return f"{names.get(type(value), '')}{shown}"
