"""The manifest of a model's folder that a run wrote: size and SHA-256 of each file, and a hash of itself.

    RUN/model/trueup_manifest.json
    {"format": 1, "files": {"config.json": {"size": 725, "sha256": "..."}, ...}, "sha256": "..."}

It is written last, before the folder gets its name, and whoever opens the folder checks every byte against
it. A folder without one, which any other tool writes, is opened as it is.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from trueup.engine import disk
from trueup.errors import TrueupError
from trueup.settings.json_files import read_object

MANIFEST = "trueup_manifest.json"
FORMAT = 1
READ = (".json", ".jinja", ".model", ".safetensors", ".txt")
"Ends of the names of files that decide what a folder's model is."
_CHUNK = 8 << 20
_HELD: dict[str, tuple[Any, ...]] = {}
"What folders looked like when they were verified: a process hashes the same bytes once."


def seal(folder: Path) -> None:
    """Nothing; writes the manifest of the files that lie in the folder, all of them synced to disk."""
    names = _deciding(folder)
    for name in names:
        disk.sync(folder / name)
    manifest: dict[str, Any] = {"format": FORMAT, "files": dict(_facts(folder, names))}
    manifest["sha256"] = _own_hash(manifest)
    disk.write(folder / MANIFEST, _text(manifest))


def verify(folder: Path) -> None:
    """Nothing; every byte of the folder's files is what the manifest says, where the folder has one.

    Raises E853 for a file that changed, is missing or joined them, and names it with both hashes; E843 for a
    manifest of a newer format.
    """
    path = folder / MANIFEST
    if not os.path.lexists(path):
        return
    looks = _looks(folder)
    if _HELD.get(str(folder)) == looks:
        return
    files = _read(path)
    for name, found in _facts(folder, sorted(files)):
        if found != files[name]:
            said = "it is missing" if found is None else f"found {found['sha256']} ({found['size']} bytes)"
            expected = f"{files[name]['sha256']} ({files[name]['size']} bytes)"
            raise _damaged(folder / name, f"damaged: expected sha256 {expected}; {said}")
    joined = [name for name in _deciding(folder) if name not in files]
    if joined:
        raise _damaged(folder / joined[0], "was not written with the model, and would change what it is")
    _HELD[str(folder)] = looks


def _deciding(folder: Path) -> list[str]:
    """The files that decide what the folder's model is: a page about it, say, may be written anew."""
    return sorted(p.name for p in folder.iterdir() if p.suffix in READ and p.name != MANIFEST)


def _read(path: Path) -> dict[str, dict[str, Any]]:
    """The manifest's files, itself verified."""
    try:
        manifest = read_object(path, remedy="")
    except TrueupError as error:
        raise _damaged(path, error.reason) from None
    if type(manifest.get("format")) is int and manifest["format"] > FORMAT:
        reason = f"format {manifest['format']}; this version reads up to {FORMAT}"
        raise TrueupError("E843", reason, where=str(path), remedy="update trueup")
    files = manifest.get("files")
    if manifest.keys() != {"format", "files", "sha256"} or not isinstance(files, dict):
        raise _damaged(path, "damaged: not a manifest of this format")
    if manifest["sha256"] != _own_hash(manifest):
        raise _damaged(path, f"damaged: expected sha256 {_own_hash(manifest)}, found {manifest['sha256']!r}")
    if any(name != os.path.basename(name) or name in ("", ".", "..") for name in files):
        raise _damaged(path, "damaged: a name in it leads out of the folder")
    return files


def _facts(folder: Path, names: list[str]) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """Each file's size and hash, None for what is no regular file; hashed side by side."""
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as threads:
        yield from zip(names, threads.map(_hashed, [folder / name for name in names]), strict=True)


def _hashed(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    state, size = hashlib.sha256(), 0
    try:
        with path.open("rb", buffering=0) as file:
            while chunk := file.read(_CHUNK):
                state.update(chunk)
                size += len(chunk)
    except OSError as error:
        raise _damaged(path, f"cannot be read: {error.strerror}") from None
    return {"size": size, "sha256": state.hexdigest()}


def _looks(folder: Path) -> tuple[Any, ...]:
    """What `stat` says of every file in the folder."""
    facts = [(entry.name, entry.stat()) for entry in os.scandir(folder) if not entry.name.startswith(".")]
    return tuple(sorted((name, f.st_size, f.st_mtime_ns, f.st_ino) for name, f in facts))


def _damaged(path: Path, reason: str) -> TrueupError:
    return TrueupError(
        "E853",
        reason,
        where=str(path),
        remedy=f"take another copy, or remove DONE.json beside `model/` and run again, which writes it anew; "
        f"if the change was meant, remove {path.with_name(MANIFEST)}",
    )


def _own_hash(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(_text({k: v for k, v in manifest.items() if k != "sha256"}).encode()).hexdigest()


def _text(manifest: Mapping[str, Any]) -> str:
    return json.dumps(manifest, indent=1, sort_keys=True) + "\n"
