"""Names that become files and folders: plain ones, which lead nowhere but into the folder that was named."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from trueup.errors import TrueupError

PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"What a stage, a policy, a task, an expert or a comparison may be called."


def check_name(name: str, what: str, where: str) -> str:
    """The name; raises E770 unless it is plain: letters, digits, `.`, `_`, `-`, at most 100 of them."""
    if not PLAIN.fullmatch(name):
        raise TrueupError(
            "E770",
            f"{what} may not be called {_shown(name)}",
            where=where,
            remedy="use letters, digits, `.`, `_` and `-`, at most 100, and begin with a letter or a digit",
        )
    return name


def as_name(text: str) -> str:
    """The text as a plain name: itself where it is one; else what is plain of it, and a digest of all."""
    if PLAIN.fullmatch(text):
        return text
    kept = re.sub(r"[^A-Za-z0-9._-]+", "-", text).lstrip("._-")[:80]
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{kept}-{digest}" if kept else digest


def check_within(folder: Path, path: Path, where: str) -> Path:
    """The path; raises E771 unless it lies below the folder when every link has been followed."""
    try:
        inside = path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):  # a name too long, links in a circle, a NUL
        inside = False
    if not inside:
        raise TrueupError(
            "E771",
            f"{_shown(str(path))} leads out of {folder}",
            where=where,
            remedy="name a place below the folder; where a link leads out, name what it leads to instead",
        )
    return path


def check_links(folder: Path) -> None:
    """Nothing; raises E771 where something in the folder is a link that leads out of it, or is no file."""
    for entry in sorted(folder.iterdir()):
        if entry.is_symlink():
            check_within(folder, entry, str(folder))
        elif not (entry.is_file() or entry.is_dir()):
            reason = "neither a file nor a folder, and a run would wait for it"
            raise TrueupError("E771", reason, where=str(entry), remedy="remove it")


def _shown(name: str) -> str:
    return ascii(name if len(name) <= 60 else name[:57] + "...")
