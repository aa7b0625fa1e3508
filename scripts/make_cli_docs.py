"""Writes docs/cli.md from the commands' own help, and docs/option-names.md from the table of aliases.

python scripts/make_cli_docs.py          writes the pages
python scripts/make_cli_docs.py --check  exits with 1 when a page is not what would be written
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from cyclopts import App
from rich.console import Console

from trueup.aliases import ALIASES
from trueup.cli import app
from trueup.config import Alias

DOCS = Path(__file__).resolve().parents[1] / "docs"
WIDTH = 96

CLI = """# Every command

This page is the output of `--help`, written by `scripts/make_cli_docs.py`. [First steps](start.md) shows the
commands at work; `trueup init METHOD` prints every setting that `train`, `run` and `config` take as
`--key.path value`.

An error is one line: `error CODE WHERE — REASON — REMEDY`. Exit codes: 0 done, 64 wrong usage or settings,
65 wrong data, 66 something missing, 69 something unreachable, 70 a fault of trueup itself, 74 the disk,
75 stopped and saved (the same command goes on). With `TRUEUP_TRACEBACK=1` a fault of trueup itself shows
where it happened.
"""

NAMES = """# Option names of other toolkits

`trueup train`, `config` and `preview`, and the files given to them, take these names at the top level for
people who type them from memory; each stands for one setting of ours. Giving a setting under two names is an
error. This page is written by `scripts/make_cli_docs.py`.

| you type | it sets |
|---|---|
"""


def commands(found: App, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command, `()` for the whole, groups before what is in them."""
    yield path
    for name in found:
        if not name.startswith("-"):
            yield from commands(found[name], (*path, name))


def help_of(words: tuple[str, ...]) -> str:
    """What `trueup WORDS --help` prints, without colour and without spaces at the ends of lines."""
    out = io.StringIO()
    app.help_print(words, console=Console(file=out, width=WIDTH, color_system=None, force_terminal=False))
    return "\n".join(line.rstrip() for line in out.getvalue().strip().splitlines())


def cli_page() -> str:
    """The page of all commands."""
    parts = [CLI]
    for words in commands(app):
        parts.append(f"## `{' '.join(('trueup', *words))}`\n\n```text\n{help_of(words)}\n```\n")
    return "\n".join(parts)


def names_page() -> str:
    """The page of all aliases."""
    rows = []
    for name, to in ALIASES.items():
        alias = Alias(to) if isinstance(to, str) else to
        values = ""
        if alias.values is not None:
            pairs = (f"`{_plain(given)}` is `{_plain(meant)}`" for given, meant in alias.values.items())
            values = f": {', '.join(pairs)}"
        rows.append(f"| `--{name}` | `{alias.key}`{values} |")
    return NAMES + "\n".join(rows) + "\n"


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


PAGES = {"cli.md": cli_page, "option-names.md": names_page}


def main(arguments: list[str]) -> int:
    """0, or 1 when `--check` finds a page that is out of date."""
    stale = 0
    for name, page in PAGES.items():
        path, text = DOCS / name, page()
        if "--check" not in arguments:
            path.write_text(text, encoding="utf-8")
        elif not path.is_file() or path.read_text(encoding="utf-8") != text:
            print(f"docs/{name} is out of date: run python scripts/make_cli_docs.py")
            stale = 1
    return stale


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
