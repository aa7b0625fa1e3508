"""A chat template run in Jinja's sandbox, on contents that it can move about and not read unnoticed.

A content is told to the template either as its text or as a hole: an object that may be joined to text and
stripped, and that writes down each question asked of it (`'</think>' in content`) with the answer. So one
rendering gives the conversation's parsed form, pieces of text and holes, and the questions under which it
holds for every conversation of the same shape. Whatever else a template does with a hole ends the rendering:
it is then run on the text itself.

This file knows nothing of trueup. Run by itself it is the child in which templates that came with a model are
rendered: a request a line on standard input, JSON, and a reply on standard output. It takes its limits upon
itself: an address space that no rendering may exceed, and a clock whose alarm ends the process.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from typing import Any

if __name__ == "__main__":  # Isolated and without site packages, it is told where Jinja is.
    sys.path += sys.argv[2:]

import jinja2
import jinja2.exceptions as errors
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.nativetypes import NativeCodeGenerator
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

MOST_CHARACTERS = 64 << 20
"Of one rendered conversation."
_WALL_FACTOR = 8
"Seconds by the clock for each second of work: more means that the process was stopped, not that it worked."

Hole = tuple[int, str | None, str | None]
"The number of a content, and what is stripped off its two ends, as the argument of `str.strip`."
Piece = str | Hole


class TooReadError(BaseException):
    """A template does with a hole what cannot be written down. No `except` of Jinja's may swallow it."""


class Woven:
    """Text in pieces, some of them holes, as a template sees a content and what it is joined to."""

    __slots__ = ("pieces", "seen")

    def __init__(self, pieces: list[Piece], seen: list[list[Any]]) -> None:
        self.pieces, self.seen = pieces, seen

    def __add__(self, other: Any) -> Woven:
        return Woven(self.pieces + _pieces(other), self.seen)

    def __radd__(self, other: Any) -> Woven:
        return Woven(_pieces(other) + self.pieces, self.seen)

    def __bool__(self) -> bool:
        return True  # Only contents with words are holes, and only white space is stripped off them.

    def __contains__(self, text: Any) -> bool:
        return self._asked("contains", text)

    def __eq__(self, other: Any) -> bool:
        if isinstance(other, Woven):
            raise TooReadError
        return isinstance(other, str) and self._asked("is", other)

    def __ne__(self, other: Any) -> bool:
        return not self == other

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            raise TypeError("string indices must be integers")
        raise TooReadError

    def __getattr__(self, name: str) -> Any:
        if hasattr(str, name):
            raise TooReadError
        raise AttributeError(name)

    def startswith(self, text: Any) -> bool:
        """As of a text."""
        return self._asked("startswith", text)

    def endswith(self, text: Any) -> bool:
        """As of a text."""
        return self._asked("endswith", text)

    def strip(self, characters: str | None = None) -> Woven:
        """As of a text."""
        return self.lstrip(characters).rstrip(characters)

    def lstrip(self, characters: str | None = None) -> Woven:
        """As of a text."""
        number, left, right = self._hole()
        return Woven([(number, _stripped(left, characters), right)], self.seen)

    def rstrip(self, characters: str | None = None) -> Woven:
        """As of a text."""
        number, left, right = self._hole()
        return Woven([(number, left, _stripped(right, characters))], self.seen)

    def _hole(self) -> Hole:
        words = [piece for piece in self.pieces if piece]
        if len(words) == 1 and isinstance(words[0], tuple):
            return words[0]
        raise TooReadError

    def _asked(self, what: str, text: Any) -> bool:
        if not isinstance(text, str):
            raise TooReadError
        # Stands for words that no template asks for. Whoever says others is held to the same answers.
        truth = answer("\0", what, text)
        self.seen.append([*self._hole(), what, text, truth])
        return truth


def _refuse(*_: Any, **__: Any) -> Any:
    raise TooReadError


_REFUSED = (
    "str", "repr", "hash", "format", "bytes", "len", "iter", "reversed", "int", "float", "complex", "index",
    "round", "lt", "le", "gt", "ge", "mod", "rmod", "mul", "rmul", "sub", "rsub", "truediv", "floordiv",
    "pow", "rpow", "neg", "pos", "abs", "invert", "and", "or", "xor",
)  # fmt: skip
for _name in _REFUSED:
    setattr(Woven, f"__{_name}__", _refuse)


def answer(text: str, what: str, asked: str) -> bool:
    """What a text says to a question that was asked of a hole."""
    if what == "contains":
        return asked in text
    if what == "is":
        return asked == text
    return text.startswith(asked) if what == "startswith" else text.endswith(asked)


def _stripped(before: str | None, characters: str | None) -> str | None:
    """One strip for two in a row, the argument of each: '' is none, None all white space."""
    if characters is not None and characters.strip():
        raise TooReadError
    if before == "" or characters is None or (before is not None and set(before) <= set(characters)):
        return characters
    if characters == "" or before is None or set(characters) <= set(before):
        return before
    raise TooReadError


def _pieces(value: Any) -> list[Piece]:
    if isinstance(value, Woven):
        return value.pieces
    if type(value) is str:
        return [value]
    raise TooReadError  # Also of Markup, which would escape what is joined to it.


def _joined(values: Iterable[Any]) -> Any:
    """The text of values one after another: what Jinja makes of a template's output, and of `~`."""
    told = [value if isinstance(value, Woven) else str(value) for value in values]
    woven = next((value for value in told if isinstance(value, Woven)), None)
    if woven is None:
        return "".join(text for text in told if isinstance(text, str))
    return Woven([piece for value in told for piece in _pieces(value)], woven.seen)


# ---------------------------------------------------------------------- the environment, as transformers' is


class _Generation(Extension):
    """`{% generation %}`, which marks what an assistant says: read, and without effect."""

    tags = {"generation"}  # noqa: RUF012  # A set is what Jinja declares; it takes no frozen one.

    def parse(self, parser: Any) -> nodes.Node:
        """The body, in a scope of its own."""
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


class _Named(Namespace):
    """A namespace that takes no name with an underscore before it: those lead to Python's insides."""

    def __init__(self, /, *args: Any, **kwargs: Any) -> None:
        given = dict(*args, **kwargs)
        for name in given:
            _check_name(name)
        Namespace.__init__(self, given)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        Namespace.__setitem__(self, name, value)


class _Dictionaries:
    """`dict`, without the attributes of the type."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        """As of `dict`."""
        return dict.fromkeys(*args)


def _check_name(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise errors.SecurityError(f"the name {name!r} of a namespace begins with an underscore")


def _raise(message: str) -> None:
    raise errors.TemplateError(message)


def _json(value: Any, ensure_ascii: bool = False, indent: Any = None, *form: Any, **named: Any) -> str:
    named |= dict(zip(("separators", "sort_keys"), form, strict=False))
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **named)


def _or_woven(plain: Callable[..., Any], woven: Callable[..., Any]) -> Callable[..., Any]:
    """A filter or a test that has a way of its own with holes."""

    def either(value: Any, *args: Any, **kwargs: Any) -> Any:
        return (woven if isinstance(value, Woven) else plain)(value, *args, **kwargs)

    return either


def _environment() -> ImmutableSandboxedEnvironment:
    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
    )
    # Output stays what it is until it is joined, so that a hole goes through macros and blocks as a hole.
    made.code_generator_class = NativeCodeGenerator
    made.concat = _joined
    made.weave = _joined  # type: ignore[attr-defined]  # Read by the calls that `_woven_joins` puts in.
    made.filters["tojson"] = _json
    made.filters["trim"] = _or_woven(made.filters["trim"], Woven.strip)
    made.filters["string"] = _or_woven(made.filters["string"], lambda value: value)
    for name in ("string", "sequence", "iterable"):
        made.tests[name] = _or_woven(made.tests[name], lambda value: True)
    made.globals |= {"raise_exception": _raise, "dict": _Dictionaries(), "namespace": _Named}
    return made


def _woven_joins(node: nodes.Node) -> nodes.Node:
    """The syntax tree with calls of `weave` in place of `~`, which would make texts of holes."""
    for name, value in node.iter_fields():
        if isinstance(value, list):
            setattr(node, name, [_woven_joins(v) if isinstance(v, nodes.Node) else v for v in value])
        elif isinstance(value, nodes.Node):
            setattr(node, name, _woven_joins(value))
    if isinstance(node, nodes.Concat):
        weave = nodes.EnvironmentAttribute("weave", lineno=node.lineno)
        parts = nodes.List(node.nodes, lineno=node.lineno)
        return nodes.Call(weave, [parts], [], None, None, lineno=node.lineno)
    return node


_ENVIRONMENT = _environment()
_known: dict[str, jinja2.Template] = {}


def _template(source: str) -> jinja2.Template:
    if source not in _known:
        if len(_known) >= 64:
            _known.clear()
        tree = _woven_joins(_ENVIRONMENT.parse(source))
        assert isinstance(tree, nodes.Template)
        code = _ENVIRONMENT.compile(tree)
        _known[source] = jinja2.Template.from_code(_ENVIRONMENT, code, _ENVIRONMENT.make_globals(None))
    return _known[source]


def render(request: Mapping[str, Any]) -> dict[str, Any]:
    """What a template makes of a conversation: `pieces`, with the questions `seen`, or an `error`.

    `request` has the template's `source`, its `variables`, `today`, and `messages`, `tools` and `generation`.
    `holes` are triples: a message, a key of it, and the number of the hole that stands there instead. With
    holes `error` may be "read": the template does with one what cannot be written down. With `parts`
    contents are told as lists of one text each, as templates with images take them.
    """
    seen: list[list[Any]] = []
    messages = [dict(message) for message in request["messages"]]
    for message, key, number in request["holes"]:
        messages[message][key] = Woven([(number, "", "")], seen)
    if request["parts"]:
        messages = [_in_parts(message) for message in messages]
    today = date.fromisoformat(request["today"])
    try:
        text = _template(request["source"]).render(
            messages=messages,
            tools=request["tools"],
            documents=None,
            add_generation_prompt=request["generation"],
            strftime_now=today.strftime,
            **request["variables"],
        )
        pieces = text.pieces if isinstance(text, Woven) else [text]
        if sum(len(piece) for piece in pieces if isinstance(piece, str)) > MOST_CHARACTERS:
            return {"error": "memory", "reason": f"it writes more than {MOST_CHARACTERS} characters"}
        return {"pieces": pieces, "seen": seen}
    except TooReadError:
        return {"error": "read", "reason": ""}
    except MemoryError:
        return {"error": "memory", "reason": ""}
    except errors.SecurityError as error:
        return {"error": "security", "reason": str(error)}
    except errors.TemplateSyntaxError as error:
        return {"error": "syntax", "reason": str(error)}
    except errors.UndefinedError as error:
        return {"error": "failed", "reason": str(error)}
    except errors.TemplateError as error:
        return {"error": "refused", "reason": str(error)}
    except Exception as error:  # Foreign code: whatever it raises is the template's failure.
        return {"error": "failed", "reason": f"{type(error).__name__} {error}"}


def _in_parts(message: dict[str, Any]) -> dict[str, Any]:
    content = message["content"]
    return message if content is None else {**message, "content": [{"type": "text", "text": content}]}


# ---------------------------------------------------------------------------------------------- the child


def _limit(memory: int) -> bool:
    """Takes limits upon this process; whether the system holds it to the one of memory."""
    import mmap
    import resource

    for kind, most in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_AS, memory)):
        try:
            resource.setrlimit(kind, (most, most))
        except (OSError, ValueError):
            continue
    try:
        mmap.mmap(-1, memory).close()
    except (OSError, MemoryError):
        return True
    return False


def main() -> None:
    """Answers requests until there are no more; `sys.argv`: the limit of memory in bytes, paths."""
    import signal

    held = _limit(int(sys.argv[1]))
    sys.stdout.buffer.write(json.dumps({"held": held}).encode() + b"\n")
    sys.stdout.buffer.flush()
    sources: dict[str, str] = {}
    for line in sys.stdin.buffer:
        # The default action of both alarms is the end of the process, in the midst of whatever it does.
        request = json.loads(line)
        seconds = request["seconds"]
        signal.setitimer(signal.ITIMER_PROF, seconds)
        signal.setitimer(signal.ITIMER_REAL, seconds * _WALL_FACTOR)
        request["source"] = sources.setdefault(request["key"], request.get("source", ""))
        reply = json.dumps(render(request)).encode()
        left = signal.setitimer(signal.ITIMER_PROF, 0)[0]
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.stdout.buffer.write(json.dumps({"spent": seconds - left}).encode() + b"\t" + reply + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
