"""BibTeX for what a run used, from `references.bib`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from functools import cache
from importlib import resources

from trueup.errors import TrueupError

_ENTRY = re.compile(r"^@\w+\{([^,\s]+),.*?^\}$", re.MULTILINE | re.DOTALL)


@cache
def entries() -> dict[str, str]:
    """Every entry of `references.bib` by its key, in the file's order."""
    text = (resources.files("trueup") / "references.bib").read_text(encoding="utf-8")
    return {match.group(1): match.group(0) for match in _ENTRY.finditer(text)}


def cite(names: Iterable[str]) -> str:
    """The BibTeX entries of these keys, once each, in the order given.

    Raises E733 for a key that `references.bib` does not have.
    """
    found = entries()
    wanted = tuple(dict.fromkeys(names))
    for name in wanted:
        if name not in found:
            near = difflib.get_close_matches(name, found, n=1)
            raise TrueupError(
                "E733",
                f"no reference has the key {name!r}",
                where="references.bib",
                remedy=f"did you mean {near[0]!r}?"
                if near
                else "take one that `trueup cite METHOD` shows, or leave it out",
            )
    return "\n\n".join(found[name] for name in wanted) + ("\n" if wanted else "")
