"""Encoded rows of large files, made once and kept in the user's cache folder by what they are made of.

ROOT/DIGEST/groups.arrow  quarantine.jsonl  manifest.json
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import trueup
from trueup.chat import Chat
from trueup.data.collected import is_reference
from trueup.data.places import files_of
from trueup.data.stored import Put, refused, stored, storing
from trueup.data.writer import whole
from trueup.engine.views import View

SMALL = 16 * 2**20
"""Bytes of a file's text up to which its rows are held in memory. Short rows take ten to fifteen times
their bytes there, so 250 MB at most, and a file of that size is encoded in less than a minute."""
PACKED = 8
"How many bytes of text one of .gz, .parquet or .arrow is taken for."
FEW = 20_000
"Rows that `data.limit` may ask for and that are held in memory, whatever the size of the file."
MOST = 32 * 2**30
"Bytes that the folder may take; what was used longest ago is removed."
_STALE = 24 * 3600
"Seconds after which what was never finished is removed."
_GROUPS, _BAD, _MANIFEST, _STAGED = "groups.arrow", "quarantine.jsonl", "manifest.json", ".making-"
_CODE = ("chat", "data", "engine/groups.py", "sources/open.py")
_PACKAGES = ("tokenizers", "transformers", "jinja2", "numpy", "pyarrow")
logger = logging.getLogger("trueup")


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What reading said beside the groups."""

    rows_in: int
    quarantined: int
    format: str
    unread: tuple[str, ...] = ()


Make = Callable[[Put, Path | None], Facts]
"Reads the rows: puts each group, writes the bad rows to the path, and says what it saw."


def default_folder() -> Path:
    """Where rows are kept: trueup/rows in the user's cache folder, $XDG_CACHE_HOME or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trueup" / "rows"


def too_large(path: str, split: str, limit: int | None) -> bool:
    """Whether the rows of the file, folder or data set are better not held in memory."""
    if (limit is not None and limit <= FEW) or is_reference(path):
        return False
    files = files_of(path, split)
    if files is None:  # A data set's id: how much there is shows only as it is read.
        return not os.path.exists(path)
    packed = (".gz", ".parquet", ".arrow")
    sizes = [
        file.stat().st_size * (PACKED if file.name.lower().endswith(packed) else 1)
        for file, _ in files
        if file.is_file()
    ]
    return sum(sizes) > SMALL


def digest_of(path: str, split: str, reading: Mapping[str, Any], chat: Chat) -> str | None:
    """A SHA-256 over all that the encoded rows follow from; None where there are no files.

    The files' names and bytes, how they are read, the tokenizer and the template, and the code that reads and
    encodes, ours and the libraries'.
    """
    try:
        files = [[name, _digest_of_file(file)] for file, name in files_of(path, split) or ()]
    except OSError:
        return None  # Who reads the rows says why.
    if not files:
        return None
    chats = [chat, chat.closed] if chat.closed else [chat]
    told = [[c.template_digest, c.stop_ids, c.bos, c.text_bos, c.text_stop, c.markers] for c in chats]
    parts = {
        "files": files,
        "reading": reading,
        "chat": told,
        "tokenizer": hashlib.sha256(chat.codec.whole.to_str().encode()).hexdigest(),
        "code": _digest_of_code(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def kept(digest: Callable[[], str | None], make: Make, quarantine: Path | None) -> tuple[View, Facts]:
    """The groups kept under the digest, or those that `make` reads, which are kept then.

    Without a digest, or where it is another one when all is read, they are for this process alone.
    `quarantine` receives the bad rows either way. What is damaged is made again. Raises TrueupError E120
    where the folder cannot be written.
    """
    root, key = default_folder(), digest()
    final = root / key if key else None
    if final is not None and (found := _opened(final)):
        if quarantine is not None:
            with whole(quarantine) as path:
                shutil.copyfile(final / _BAD, path)
        return found
    with refused(root):
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(prefix=_STAGED, dir=root))
    try:
        with storing(staged / _GROUPS) as put:
            facts = make(put, quarantine or staged / _BAD)
        groups = stored(staged / _GROUPS)
        if final is not None and digest() == key:
            with refused(root):
                if quarantine is not None:
                    shutil.copyfile(quarantine, staged / _BAD)
                _write_manifest(staged, facts)
            with suppress(OSError):  # Another run was quicker, and has the same rows.
                os.rename(staged, final)
            with suppress(OSError):
                _make_room(root, final)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return groups, facts


def _opened(folder: Path) -> tuple[View, Facts] | None:
    """What lies there whole; what is damaged is said, and removed."""
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        facts = manifest["facts"]
        if manifest != _manifest(folder, facts):
            raise ValueError("a file, or what was said of the rows, has another digest")
        found = stored(folder / _GROUPS), Facts(**{**facts, "unread": tuple(facts["unread"])})
        os.utime(folder)
    except FileNotFoundError:
        if not folder.exists():
            return None
    except (OSError, ValueError, KeyError, TypeError):
        pass
    else:
        return found
    logger.warning("the rows kept in %s are damaged, and are made again", folder)
    shutil.rmtree(folder, ignore_errors=True)
    return None


def _write_manifest(folder: Path, facts: Facts) -> None:
    with (folder / _MANIFEST).open("w", encoding="utf-8") as file:
        json.dump(_manifest(folder, asdict(facts)), file)
        file.flush()
        os.fsync(file.fileno())


def _manifest(folder: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The digests of the files that lie there, and the facts with theirs."""
    said = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    files = {name: _digest_of_file(folder / name) for name in (_GROUPS, _BAD)}
    return {"files": files, "facts": facts, "sha256": said}


def _make_room(root: Path, latest: Path) -> None:
    """Removes what was used longest ago, down to `MOST` bytes, and what a killed run left.

    A run that still reads what is removed goes on reading it.
    """
    used: dict[Path, float] = {}
    for folder in root.iterdir():
        with suppress(OSError):
            used[folder] = max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
    room = MOST
    for folder in sorted(used, key=lambda path: used[path], reverse=True):
        if folder.name.startswith(_STAGED):
            if used[folder] < time.time() - _STALE:
                shutil.rmtree(folder, ignore_errors=True)
            continue
        with suppress(OSError):
            room -= sum(path.stat().st_size for path in folder.iterdir())
        if room < 0 and folder != latest:
            shutil.rmtree(folder, ignore_errors=True)


def _digest_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def _digest_of_code() -> str:
    """A SHA-256 over the code that makes token ids of files: when it changes, so may the ids."""
    state, root = hashlib.sha256(), Path(trueup.__file__).parent
    for part in _CODE:
        for path in sorted((root / part).rglob("*.py")) if (root / part).is_dir() else [root / part]:
            state.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes() + b"\0")
    return state.hexdigest() + "".join(f" {name} {version(name)}" for name in _PACKAGES)
