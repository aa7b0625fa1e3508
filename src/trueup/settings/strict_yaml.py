"""Reads and writes YAML that means one thing: what YAML versions read as different numbers is refused.

Plain values are null, true/false, decimal numbers (`5e-7` is one) and text; `no`, `on` and `2024-01-01` are
text. Duplicate keys, tags, merge keys, octal, hexadecimal and base-60 numbers, underscores in numbers,
non-finite numbers, alias bombs and deep nesting are errors that name the line.
"""

from __future__ import annotations

import math
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, final

import yaml

from trueup.errors import TrueupError

MAX_BYTES = 1_000_000
MAX_DEPTH = 32
MAX_NODES = 20_000
"Values after aliases are written out; a recipe has a few hundred."

_TAG = "tag:yaml.org,2002:"
_NUMBER = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
# What another YAML version reads as a number although it looks like text, or as another number than it looks.
_AMBIGUOUS = re.compile(
    r"[-+]?0[0-9_]+(?:\.[0-9]*)?"  # 010: 8 or 10
    r"|[-+]?0[xob][0-9a-fA-F_]+"  # 0x1F, 0o17, 0b11
    r"|[-+]?[0-9]+(?:_[0-9]+)+(?:\.[0-9_]*)?(?:[eE][-+]?[0-9]+)?"  # 1_000
    r"|[-+]?[0-9]+(?::[0-5]?[0-9])+(?:\.[0-9_]*)?"  # 12:30 is 750 in YAML 1.1
)
_NON_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Some configuration and where it was written; later layers win over earlier ones."""

    values: Mapping[str, Any]
    name: str
    "A file's path, or `command line`."
    lines: Mapping[str, int] = field(default_factory=dict)
    "Line of each dotted key, from 1."
    texts: Mapping[str, str] = field(default_factory=dict)
    "On the command line: what was typed for a dotted key, before it was read as YAML."

    def inside(self, key: str) -> Layer:
        """The layer of one of its blocks, its keys with their lines; empty where there is no such block."""
        block: Any = self.values
        for part in key.split("."):
            block = block.get(part, {}) if isinstance(block, Mapping) else {}
        start = f"{key}."
        return Layer(
            values=block if isinstance(block, Mapping) else {},
            name=self.name,
            lines={k.removeprefix(start): n for k, n in self.lines.items() if k.startswith(start)},
            texts={k.removeprefix(start): t for k, t in self.texts.items() if k.startswith(start)},
        )

    def where(self, key: str) -> str:
        """`file:line key`, as an error names it."""
        line = self.lines.get(key)
        return f"{self.name}:{line} {key}".strip() if line else f"{self.name} {key}".strip()


class _Loader(yaml.SafeLoader):
    """PyYAML's safe scanner with no implicit types but null, booleans and numbers."""


_Loader.yaml_implicit_resolvers = {}
_Loader.add_implicit_resolver(f"{_TAG}null", re.compile(r"^(?:~|null|Null|NULL|)$"), None)
_Loader.add_implicit_resolver(f"{_TAG}bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), None)
_Loader.add_implicit_resolver(f"{_TAG}int", re.compile(f"^{_INTEGER.pattern}$"), None)
_Loader.add_implicit_resolver(f"{_TAG}float", re.compile(f"^{_NUMBER.pattern}$"), None)


class _Dumper(yaml.SafeDumper):
    """PyYAML's safe writer, which also quotes text that our reader would take for a number."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.add_implicit_resolver(
    f"{_TAG}float", re.compile(f"^(?:{_NUMBER.pattern}|{_AMBIGUOUS.pattern})$"), None
)


def read_yaml(path: str | Path) -> Layer:
    """The configuration in a YAML file, with the line of every key; an error names the line.

    Raises TrueupError E710 (what the file says is not readable as one thing) or E801 (no such file).
    """
    name = str(path)
    try:
        mode = Path(path).stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # to open a pipe would wait for who writes it
            _refuse(name, "not a regular file", "save it to a file first")
        data = Path(path).read_bytes()
    except OSError as error:
        raise TrueupError(
            "E801", f"cannot be read: {error.strerror}", where=name, remedy="check the path"
        ) from None
    if len(data) > MAX_BYTES:
        _refuse(name, f"{len(data)} bytes; a configuration has at most {MAX_BYTES}", "check the path")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        _refuse(name, f"byte {error.start} is not UTF-8", "save the file as UTF-8")
    return parse_yaml(text, name)


def parse_yaml(text: str, name: str = "text") -> Layer:
    """The configuration in a YAML text, under the rules of `read_yaml`; empty text is an empty mapping."""
    try:
        _check_depth(text, name)
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        _refuse(f"{name}:{mark.line + 1}" if mark else name, f"not YAML: {error.problem}", "correct the line")
    except yaml.reader.ReaderError as error:
        _refuse(name, f"character {error.character!r} does not belong in YAML", "remove it")
    reading = _Reading(name)
    if node is None or (isinstance(node, yaml.ScalarNode) and node.value == ""):
        return Layer(values={}, name=name)
    if not isinstance(node, yaml.MappingNode):
        _refuse(f"{name}:{_line(node)}", "is not a mapping of keys to values", "write `key: value` lines")
    return Layer(values=reading.value(node, "", 0), name=name, lines=reading.lines)


def parse_value(text: str) -> Any:
    """One value as YAML's flow style has it; what is not clearly something else stays the text it is."""
    try:
        _check_depth(text, "value")
        node = yaml.compose(text, Loader=_Loader)
        if node is None or text[node.end_mark.index :].strip():
            return text  # nothing, or something that YAML takes for a comment
        if isinstance(node, yaml.CollectionNode) and not node.flow_style:
            return text  # `a: b` is text here
        value = _Reading("value").value(node, "", 0)
    except (yaml.YAMLError, TrueupError):
        return text
    return (
        text if isinstance(node, yaml.ScalarNode) and node.style is None and isinstance(value, str) else value
    )


def dump_yaml(values: Mapping[str, Any]) -> str:
    """Plain values as YAML that `read_yaml` reads back to the same values, keys in their order."""
    text = yaml.dump(dict(values), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    if text.replace("\n", "").isprintable():
        return text
    # What hides or turns text round is escaped: a file, or a terminal, shows what there is.
    return yaml.dump(dict(values), Dumper=_Dumper, sort_keys=False, allow_unicode=False, width=100)


@final
@dataclass(eq=False)
class _Reading:
    """Turns composed nodes into plain values; keeps each key's line and counts what aliases repeat."""

    name: str
    lines: dict[str, int] = field(default_factory=dict)
    num_nodes: int = 0

    def value(self, node: yaml.Node, key: str, depth: int) -> Any:
        """The plain value of one node."""
        self.num_nodes += 1
        if depth > MAX_DEPTH or self.num_nodes > MAX_NODES:
            self.refuse(node, "its aliases unfold to too much", "write the values out")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, key, depth)
        if isinstance(node, yaml.SequenceNode):
            self._plain_tag(node, "seq")
            return [self.value(n, f"{key}.{i}", depth + 1) for i, n in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)
        return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode, key: str, depth: int) -> dict[str, Any]:
        self._plain_tag(node, "map")
        out: dict[str, Any] = {}
        for name_node, value_node in node.value:
            if name_node.tag != f"{_TAG}str" or not isinstance(name_node, yaml.ScalarNode):
                shown = f"`{name_node.value}`" if isinstance(name_node, yaml.ScalarNode) else "here"
                self.refuse(name_node, f"the key {shown} is not text", "put the key in quotes")
            name = name_node.value
            if name == "<<":
                self.refuse(name_node, "merge keys (<<) are not read", "write the keys out")
            path = f"{key}.{name}" if key else name
            if name in out:
                first = self.lines.get(path, 0)
                self.refuse(name_node, f"the key `{path}` stands twice, first on line {first}", "remove one")
            self.lines[path] = _line(name_node)
            out[name] = self.value(value_node, path, depth + 1)
        return out

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        text = node.value
        if node.style is None and _AMBIGUOUS.fullmatch(text):
            reason = f"YAML versions read {text} differently"
            self.refuse(node, reason, "write a plain decimal number, or put it in quotes if it is text")
        if node.style is None and _NON_FINITE.fullmatch(text):
            self.refuse(node, f"{text} is not a finite number", "write a number")
        if node.tag not in _SCALARS:
            self.refuse(node, f"the tag {node.tag} is not read", "remove the tag")
        try:
            value = _SCALARS[node.tag](text)
        except ValueError:
            self.refuse(node, f"{text!r} is not what its tag {node.tag} says", "remove the tag")
        if isinstance(value, float) and not math.isfinite(value):
            self.refuse(node, f"{text} is too large a number", "write a finite number")
        return value

    def _plain_tag(self, node: yaml.Node, tag: str) -> None:
        if node.tag != _TAG + tag:
            self.refuse(node, f"the tag {node.tag} is not read", "remove the tag")

    def refuse(self, node: yaml.Node, reason: str, remedy: str) -> NoReturn:
        """Raises the error that names this node's line."""
        _refuse(f"{self.name}:{_line(node)}", reason, remedy)


def _bool(text: str) -> bool:
    words = {"true": True, "false": False}
    if text.lower() not in words:
        raise ValueError(text)
    return words[text.lower()]


_SCALARS = {
    f"{_TAG}null": lambda text: None,
    f"{_TAG}bool": _bool,
    f"{_TAG}int": int,
    f"{_TAG}float": float,
    f"{_TAG}str": str,
}


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1


def _check_depth(text: str, name: str) -> None:
    """Refuses deep nesting from the flat stream of events, before anything recurses over it."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                where = f"{name}:{event.start_mark.line + 1}"
                _refuse(where, f"nested deeper than {MAX_DEPTH}", "flatten it")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _refuse(where: str, reason: str, remedy: str) -> NoReturn:
    raise TrueupError("E710", reason, where=where, remedy=remedy)
