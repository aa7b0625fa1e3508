"""The program in an answer: which of its blocks is meant, and what stands before it."""

from __future__ import annotations

import ast
import builtins
import re
import warnings
from collections.abc import Iterator, Sequence
from typing import NamedTuple

_OPENING = re.compile(r"(?P<lead>[^`~\n]*?)(?P<mark>`{3,}|~{3,})[ \t]*(?P<info>[^`\n]*)")
_ITEM = re.compile(r"\s*(?:(?:[-*+]|\d+[.)])\s+)?")
"What may stand before a fence that is not in the middle of a line: nothing, or the mark of a list's item."
_WORD = re.compile(r"[\w.+-]*\s*")
_PYTHON = re.compile(r"\W*(i?python|py)[\d.]*\b", flags=re.IGNORECASE)
_NEXT = re.compile(r"\n(?=class |def |#|if |print\()")
"Where a model that writes on begins something else: the stop strings of Chen et al. (2021), section 3.1."


class Block(NamedTuple):
    """A fenced block: what its fence says of it, and its text without a last line feed."""

    info: str
    text: str


def program_in(text: str, *, before: str = "", entry: str = "", finished: bool = True) -> str:
    """The program that an answer writes, after the code `before` that it goes on from.

    Of several fenced blocks the last whole one that defines `entry`; else the first of Python, without a
    language, or of another, that reads as Python; else what stands outside them. An answer that did not
    finish ends where it begins something else. Where the program defines `entry` itself, only what else is
    in `before` stands in front of it: imports, helpers.
    """
    blocks, outside = fenced(text)
    defining = [code for code in (*(b.text for b in blocks), outside) if defines(code, entry)]
    if defining:
        # An answer that corrects itself ends with what it means, unless it was cut off in the middle of it.
        code = next(filter(_reads, reversed(defining)), defining[-1])
        return _without(before, entry) + (code if finished else _whole_part(code))
    code = _going_on(blocks, outside, before)
    if before and not finished and not blocks:
        code = _NEXT.split(code, maxsplit=1)[0]
    return before + code


def _going_on(blocks: Sequence[Block], outside: str, before: str) -> str:
    """What goes on from `before`, or is all there is of a program whose name nobody knows."""
    python = [b.text for b in blocks if _PYTHON.match(b.info)]
    untagged = [b.text for b in blocks if not b.info]
    others = [b.text for b in blocks if b.text not in python and b.info]
    for code in (*python, *untagged, *others, outside):
        names = _reads(before + code) and _reads(code) and any(map(_made, syntax_of(code).body))
        if names or (before and code.lstrip("\n")[:1].isspace() and _reads(before + code)):
            return code
    return next(iter((*python, *untagged, outside)))


def _whole_part(code: str) -> str:
    """Code without the last statements that do not read, if that leaves anything."""
    lines = code.splitlines(keepends=True)
    starts = [i for i, line in enumerate(lines) if i and line.strip() and not line[0].isspace()]
    ends = ["".join(lines[:i]) for i in (len(lines), *reversed(starts))]
    return next(filter(_reads, ends), code)


def fenced(text: str) -> tuple[list[Block], str]:
    """The fenced blocks of a Markdown text, and what stands outside them.

    A fence is three or more backticks or tildes; the same sign, at least as many and nothing else on the
    line, closes it, or else the end of the text (CommonMark 0.31, section 4.5). A fence may be indented, its
    lines then lose as much, or stand behind words where nothing or one word follows it.
    """
    blocks: list[Block] = []
    outside: list[str] = []
    lines = iter(text.splitlines())
    for line in lines:
        found = _OPENING.fullmatch(line)
        listed = found is not None and _ITEM.fullmatch(found["lead"])
        if found is None or not (listed or _WORD.fullmatch(found["info"])):
            outside.append(line)
            continue
        if not listed:
            outside.append(found["lead"])
        indent = len(found["lead"]) if listed else 0
        blocks.append(Block(found["info"].strip(), "\n".join(_inside(lines, found["mark"], indent))))
    return blocks, ("\n".join(outside) if blocks else text)


def _inside(lines: Iterator[str], mark: str, indent: int) -> Iterator[str]:
    closing = re.compile(rf"\s*{re.escape(mark[0])}{{{len(mark)},}}\s*")
    for line in lines:
        if closing.fullmatch(line):
            return
        yield line[min(indent, len(line) - len(line.lstrip())) :]


def defines(code: str, entry: str) -> bool:
    """Whether code makes something of this name at its top level."""
    if not entry:
        return False
    try:
        body = syntax_of(code).body
    except (SyntaxError, ValueError):
        return bool(re.search(rf"^(?:async +)?(?:def|class) +{re.escape(entry)}\b", code, flags=re.MULTILINE))
    return any(entry in _made(node) for node in body)


def _made(node: ast.stmt) -> list[str]:
    """The names that a statement makes."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [a.asname or a.name for a in node.names]
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return [target.id for target in targets if isinstance(target, ast.Name)]
    return []


def _without(before: str, entry: str) -> str:
    """The code before an answer without the function that the answer writes itself: imports, helpers."""
    for source in (before, before + "\n    pass\n"):
        try:
            body = syntax_of(source).body
        except (SyntaxError, ValueError):
            continue
        return "".join(ast.unparse(node) + "\n" for node in body if entry not in _made(node))
    return ""


def _reads(code: str) -> bool:
    try:
        syntax_of(code)
    except (SyntaxError, ValueError):
        return False
    return True


def imports_of(code: str) -> str:
    """The top-level import lines of a piece of code that may end in the middle of a function."""
    for source in (code, code + "\n    pass\n"):
        try:
            body = syntax_of(source).body
        except (SyntaxError, ValueError):
            continue
        return "\n".join(ast.unparse(node) for node in body if isinstance(node, ast.Import | ast.ImportFrom))
    return ""


def called_in(tests: str) -> str:
    """The function that the first test calls and that is not built in; empty where that cannot be told."""
    try:
        tree = syntax_of(tests)
    except (SyntaxError, ValueError):
        return ""
    builtin = set(dir(builtins))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id not in builtin:
            return node.func.id
    return ""


def syntax_of(code: str) -> ast.Module:
    """The tree of someone else's code; what Python would warn of in it is not ours to say.

    Raises SyntaxError or ValueError where it is no code, and for no warning: under `-W error` an unknown
    escape in a plain string is an error of syntax.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(code)
