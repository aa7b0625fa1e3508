"""What runs in a sealed process: a program that answers calls, or tests that make them.

Both sides talk to `cell` over two pipes, one line at a time. The tests run in a process of their own, with a
stand-in for every name they take from the program; calls and results cross as plain data. So a program sees
the arguments of its calls and nothing else, and whatever it does to its own interpreter, all that leaves it
is another return value.
"""

from __future__ import annotations

import ast
import builtins
import json
import os
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from trueup.sandbox import plain, seal

CALL, VERDICT, READY = b"C", b"V", b"R"
"First byte of a line: a call of the tests, their verdict, the report that the process is sealed."
_ERRORS = {
    name: error
    for name, error in vars(builtins).items()
    if isinstance(error, type) and issubclass(error, Exception) and error is not StopIteration
}


class ProgramError(Exception):
    """An exception of the program's own making, as the tests see it."""


class Opaque:
    """A result that is no plain data: true or false, and equal to nothing but itself."""

    __slots__ = ("_truth",)

    def __init__(self, truth: bool) -> None:
        self._truth = truth

    def __bool__(self) -> bool:
        return self._truth


class UnansweredError(BaseException):
    """The program's process is gone, or the call cannot cross; nothing in the tests catches it."""


class Lines:
    """Lines to and from the process outside."""

    def __init__(self, source: BinaryIO, sink: BinaryIO) -> None:
        self._source, self._sink = source, sink

    def read(self) -> bytes:
        """The next line without its end; empty when the other side has closed."""
        return self._source.readline().rstrip(b"\n")

    def write(self, line: bytes) -> None:
        """Sends one line."""
        self._sink.write(line + b"\n")
        self._sink.flush()


def main(role: str, parent: int, memory_mib: int, cpu_seconds: int, landlock: int) -> None:
    """Seals the process, says so, and plays `program` or `tests` with the source it is then given."""
    lines = Lines(os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb"))
    for stream in (0, 1):  # What is printed goes nowhere; the lines have their own descriptors.
        os.dup2(2, stream)
    sys.path[:] = [path for path in sys.path if path.startswith(sys.base_prefix)]
    sys.argv[:] = [""]
    os.environ.clear()  # The interpreter adds its locale.
    try:
        seal.seal(memory_mib=memory_mib, cpu_seconds=cpu_seconds, parent=parent, landlock=bool(landlock))
    except (seal.UnsealedError, OSError, ValueError) as error:
        lines.write(READY + json.dumps({"refused": str(error)}).encode())
        return
    lines.write(READY + b'{"sealed": true}')
    given = json.loads(lines.read() or b"null")
    if given is not None:
        {"program": run_program, "tests": run_tests}[role](given, lines)


# ----------------------------------------------------------------------------------- the program's side


def run_program(given: dict[str, Any], lines: Lines) -> None:
    """Runs the program's source, then answers calls of its functions until nobody asks."""
    module = types.ModuleType("program")
    sys.modules["program"] = module
    try:
        exec(compile(given["source"], "<program>", "exec"), module.__dict__)
    except BaseException as error:  # Whatever a program raises, exits included, it has not loaded.
        lines.write(_failure(error))
        return
    lines.write(b'{"loaded": null}')
    while line := lines.read():
        call = json.loads(line)
        try:
            args, kwargs = plain.decode(call["given"].encode())
            lines.write(_success(getattr(module, call["name"])(*args, **kwargs)))
        except BaseException as error:
            lines.write(_failure(error))


def _success(value: Any) -> bytes:
    try:
        return json.dumps({"value": plain.encode(value).decode()}).encode()
    except plain.NotPlainError:  # A match, a generator: its truth is all that the tests can learn of it.
        return json.dumps({"truth": bool(value)}).encode()


def _failure(error: BaseException) -> bytes:
    return json.dumps({"error": type(error).__name__, "said": str(error)[:200]}).encode()


# ------------------------------------------------------------------------------------- the tests' side


def run_tests(given: dict[str, Any], lines: Lines) -> None:
    """Runs the tests and writes their verdict, signed with the nonce that they alone were given."""
    made = 0

    def ask(name: str, args: tuple, kwargs: dict) -> Any:
        nonlocal made
        made += 1
        try:
            line = plain.encode((args, kwargs))
        except plain.NotPlainError as error:
            raise UnansweredError(f"the tests' arguments: {error}") from None
        lines.write(CALL + json.dumps({"name": name, "given": line.decode()}).encode())
        return _answer(lines.read())

    try:
        outcome, detail = _outcome(given, ask)
    except UnansweredError as error:
        outcome, detail = "unsupported", str(error)
    if outcome == "passed" and not made:
        outcome, detail = "unsupported", "the tests call nothing of the program"
    verdict = {"nonce": given["nonce"], "outcome": outcome, "detail": detail[:200]}
    lines.write(VERDICT + json.dumps(verdict).encode())


def _outcome(given: dict[str, Any], ask: Callable[[str, tuple, dict], Any]) -> tuple[str, str]:
    try:
        tree = renamed(ast.parse(given["source"]))
    except (SyntaxError, ValueError, RecursionError) as error:
        return "unsupported", f"the tests do not parse: {error}"
    entry = given["entry_point"]
    names = set(wanted(tree)) | ({entry} if entry else set())
    space: dict[str, Any] = {name: _stand_in(name, ask) for name in names}
    module = types.ModuleType("tests")
    module.__dict__.update(space)
    try:
        exec(compile(tree, "<tests>", "exec"), module.__dict__)
        if CHECK in module.__dict__:
            module.__dict__[CHECK](space.get(entry))
    except Exception as error:
        return "failed", f"{type(error).__name__}: {error}"
    except SystemExit:
        return "unsupported", "the tests end the interpreter"
    return "passed", ""


def _stand_in(name: str, ask: Callable[[str, tuple, dict], Any]) -> Callable[..., Any]:
    return lambda *args, **kwargs: ask(name, args, kwargs)


def _answer(line: bytes) -> Any:
    """A call's value, or the exception that the program raised; what is neither is the program's failure."""
    try:
        reply = json.loads(line)
        if "value" in reply:
            return plain.decode(reply["value"].encode())
        if "truth" in reply:
            return Opaque(reply["truth"] is True)
        name, said = str(reply["error"]), str(reply["said"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, plain.NotPlainError):
        raise ProgramError("no plain data came back") from None
    raise _ERRORS.get(name, ProgramError)(said) if _takes_text(name) else ProgramError(f"{name}: {said}")


def _takes_text(name: str) -> bool:
    return name in _ERRORS and not issubclass(_ERRORS[name], UnicodeError | BaseExceptionGroup)


CHECK = "check of the tests"
"What a top-level `def check(candidate)` is called instead, so that a program may have a `check` of its own."


def renamed(tree: ast.Module) -> ast.Module:
    """The tests with their top-level `check` function, if any, under the name that only we use."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == "check" and len(node.args.args) == 1:
            node.name = CHECK
    return tree


def wanted(tree: ast.Module) -> Iterator[str]:
    """The names that the tests use and neither bind themselves nor find among the built-ins."""
    bound = set(dir(builtins))
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            bound.add(node.id)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            bound.add(node.name)
        elif isinstance(node, ast.alias):
            bound.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.ExceptHandler) and node.name:
            bound.add(node.name)
    return (n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id not in bound)
