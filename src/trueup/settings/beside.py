"""References that stand in a file: their paths are relative to it, wherever a command is typed."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote, unquote

_AROUND = ("lm", "toxicity")
"What stands before a reference that is itself one."
_SCHEMES = re.compile(r"^(?:[a-z][\w+]+:|https?://)")
"What begins a reference that is no path: `rule:`, `http://`, a door."
_SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".yaml", ".yml", ".py", ".safetensors", ".gz")
"What tells a file that is missing from the id of a model."
_BEHIND = re.compile(r"(?:(?<=\.py)|(?<=\.yaml)|(?<=\.yml)):[^/\\]+$|[?#].*$")
"What may stand behind a path: a function, a door's name, options."
_WORDING = re.compile(r"(?<=[#&]prompt=)[^&]+")
"The file of a judge's wording among its options."


def beside(folder: Path, place: str) -> str:
    """A reference as it is from where the command runs: of a path that lies in `folder`, the path of that.

    Other references and ids stay as they are, and so does a path that is there from where the command runs
    and not in the folder. A file that is in neither is said to be missing from the folder.
    """
    place = _WORDING.sub(lambda found: _quoted(folder, found[0]), place)
    head, colon, rest = place.partition(":")
    if colon and head in _AROUND:
        return f"{head}:{beside(folder, rest)}"
    if _SCHEMES.match(place) or not place:
        return place
    path = place if (folder / place).exists() else _BEHIND.sub("", place)
    missing = Path(path).suffix in _SUFFIXES and not Path(path).exists()
    return str(folder / place) if (folder / path).exists() or missing else place


def paths_in(reference: str) -> list[str]:
    """The paths that a reference may hold: its own, without what stands around it, and that of a wording."""
    wordings = list(map(unquote, _WORDING.findall(reference)))
    bare = reference
    while (found := bare.partition(":"))[0] in _AROUND:
        bare = found[2]
    return [bare if Path(bare).exists() else _BEHIND.sub("", bare), *wordings]


def _quoted(folder: Path, text: str) -> str:
    """The path of a wording as it stands among options; a name of ours as it is."""
    path = beside(folder, unquote(text))
    return text if path == unquote(text) else quote(path, safe="/\\:~")
