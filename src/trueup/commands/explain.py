"""The command that says what an error means, at length."""

from __future__ import annotations

import difflib
import json
import re
from importlib.resources import files
from importlib.resources.abc import Traversable

from trueup.commands.options import Json
from trueup.errors import TrueupError, exit_code_of


def explain(code: str = "", /, *, as_json: Json = False) -> None:
    """Say what an error's code means: what was found, why it stops, and what to do about it.

    Without a code, lists all of them. The codes go by area: E1 bytes and format, E2 schema, E3 conversation,
    E4 preference, E5 tokens, E6 corpus, E7 configuration, E8 models and checkpoints, E9 running.

    Parameters
    ----------
    code
        As the error shows it: E402, or 402; E4 lists its area.
    """
    pages = _pages()
    name = f"E{code.strip().upper().removeprefix('E')}"
    if len(name) < 4 and (listed := [known for known in pages if known.startswith(name)]):
        titles = {known: _title(pages[known]) for known in listed}
        print(json.dumps(titles, indent=1) if as_json else "\n".join(f"{n}  {t}" for n, t in titles.items()))
        return
    if name not in pages:
        near = difflib.get_close_matches(name, pages, n=3)
        remedy = f"near it: {', '.join(near)}; " if near else ""
        raise TrueupError(
            "E719", f"{code!r} is no code of an error", remedy=remedy + "`trueup explain` lists them all"
        )
    text, leaves = pages[name].read_text(encoding="utf-8"), exit_code_of(name)
    if as_json:
        print(json.dumps({"code": name, "title": _title(pages[name]), "exit": leaves, "text": text}))
        return
    from rich.console import Console
    from rich.markdown import Markdown

    Console().print(Markdown(text + f"\n\nA command that ends with it has exit code {leaves}.\n"))


def _pages() -> dict[str, Traversable]:
    """Every page by its code, in order."""
    found = {page.name.removesuffix(".md"): page for page in files("trueup.explained").iterdir()}
    return {name: found[name] for name in sorted(found) if re.fullmatch(r"E\d{3}", name)}


def _title(page: Traversable) -> str:
    first, _, _ = page.read_text(encoding="utf-8").partition("\n")
    return first.partition(": ")[2]
