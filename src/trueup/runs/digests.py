"""Digests of files: of every byte, or of large weights by samples of them.

A file of weights above 64 MiB is read at 1024 places, 16 KiB at each, evenly from first byte to last,
and in its first MiB, where tensors are named; such a digest begins with `sampled-` and covers the size. So
16 GB take a second, and what changes as weights do when they are trained is seen: all of them, or a run of
them as long as the gap between two places, 1/1023 of the file. A change between two places that keeps the
size is not; the whole digest sees it. Every other file is read whole, as whoever uses it will. A time of
change takes no part: a copy is the same input.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Mapping
from pathlib import Path

from trueup.engine.inputs import SAMPLED

WEIGHTS = (".safetensors", ".gguf")
"Files of which samples may do."
LARGE = 64 << 20
PLACES, PLACE, HEAD = 1024, 16 << 10, 1 << 20
_CHUNK = 1 << 20
_SETTLED_NS = 2_000_000_000
_known: dict[tuple[int, ...], str] = {}


def digest_file(path: Path, *, whole: bool = False) -> str | None:
    """The file's SHA-256, or that of its samples; None for what is no regular file, or cannot be read.

    Within a process a file is read once, for as long as the system says that nobody has written to it: an
    entry's time of change cannot be set by hand.
    """
    try:
        # O_NONBLOCK: a pipe in a file's place must not be waited for.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            return None
        sampled = not whole and found.st_size > LARGE and path.name.lower().endswith(WEIGHTS)
        key = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns, sampled)
        if key not in _known:
            made = _samples(handle, found.st_size) if sampled else _all(handle)
            if time.time_ns() - found.st_ctime_ns < _SETTLED_NS:  # two changes may have one time
                return made
            _known[key] = made
        return _known[key]
    except OSError:
        return None
    finally:
        os.close(handle)


def digest_files(files: Mapping[str, Path], *, whole: bool = False) -> tuple[str, dict[str, str]]:
    """The digest of some files by their names, and each one's own; "" where there is none.

    A file alone has its own digest, which `sha256sum` gives too; several have that of their names and
    digests, wherever they lie.
    """
    found = {name: digest_file(path, whole=whole) for name, path in sorted(files.items())}
    parts = {name: digest for name, digest in found.items() if digest is not None}
    if len(parts) < 2:
        return next(iter(parts.values()), ""), {}
    state = hashlib.sha256("".join(f"{name}\0{digest}\n" for name, digest in parts.items()).encode())
    sampled = any(digest.startswith(SAMPLED) for digest in parts.values())
    return (SAMPLED if sampled else "") + state.hexdigest(), parts


def _all(handle: int) -> str:
    state = hashlib.sha256()
    while chunk := os.read(handle, _CHUNK):
        state.update(chunk)
    return state.hexdigest()


def _samples(handle: int, size: int) -> str:
    state = hashlib.sha256(size.to_bytes(8, "little"))
    state.update(os.pread(handle, HEAD, 0))
    for number in range(PLACES):
        state.update(os.pread(handle, PLACE, number * (size - PLACE) // (PLACES - 1)))
    return SAMPLED + state.hexdigest()
