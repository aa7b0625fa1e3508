"""How files reach the disk: whole, or as they were before, whatever cuts a write short.

What exists is never rewritten in place. A file is written aside in its own folder, synced and renamed over
the old one, and the folder is synced; a folder likewise. A file of lines grows at its end, and is cut back to
a length that it had. Checkpoints are written by `runs.manifest`, all else that a run leaves by this file.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from trueup.errors import TrueupError

MARGIN = 1 << 20
"Bytes that stay free beside what is about to be written: metrics, settings, a report."
_STAGED = re.compile(r"\..+\.\d+\.part|\..+\.(staged|old)")
_NO_RIGHT = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.ENOENT)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
_OS_ERROR = re.compile(r"os error (\d+)")


def write(path: Path, content: str | bytes) -> None:
    """Nothing; the file holds all of the content, or what it held before. Same content is not written again.

    Raises `TrueupError` E941 (exit 74) where the disk is full or refuses.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    with refusals(path):
        if _holds(path, data):
            return
        with aside(path, needed=len(data)) as staged:
            _write_new(staged, data)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Where to write what is to be at `path`: it is moved there once it is complete, or it is nowhere.

    Raises `TrueupError` E941 (exit 74) where the disk is full or refuses.
    """
    with refusals(path), aside(path) as staged:
        yield staged


@contextmanager
def aside(path: Path, needed: int = 0) -> Iterator[Path]:
    """As `whole`, with the system's own OSError, which says of a full disk how many bytes are needed."""
    _clear(path)
    staged = path.with_name(f".{path.name}.{os.getpid()}.part")
    handle = -1
    try:
        handle = os.open(staged, _NEW, 0o666)
        _lock(handle)
        yield staged
        sync(staged)
        os.replace(staged, path)
        sync(path.parent)
    except OSError as error:
        _say_needed(error, needed, staged)
        raise
    finally:
        with suppress(OSError):  # It was not made, or was moved.
            os.close(handle)
            os.unlink(staged)


def _clear(path: Path) -> None:
    """Nothing; removes what writes of this file that were killed left: no process has it locked any more."""
    for name in os.listdir(path.parent):
        if name.startswith(f".{path.name}.") and name.endswith(".part"):
            with suppress(OSError):
                handle = os.open(path.with_name(name), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
                try:
                    if _lock(handle):
                        os.unlink(path.with_name(name))
                finally:
                    os.close(handle)


def _lock(handle: int) -> bool:
    """Whether the file is this process's alone, until it is closed; some file systems keep no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Where to write a folder that is to be at `folder`: a new one, moved there once it is complete.

    One that was there gives way to it whole. Raises `TrueupError` E941 (exit 74) where the disk is full or
    refuses, also when a library said so in its own words.
    """
    folder = folder.resolve() if folder.is_symlink() else folder
    staged, old = (folder.with_name(f".{folder.name}.{end}") for end in ("staged", "old"))
    with refusals(folder):
        os.makedirs(folder.parent, exist_ok=True)
        remove(staged)
        os.mkdir(staged)
        try:
            yield staged
            for at, _, names in os.walk(staged, topdown=False):
                for name in names:
                    sync(Path(at, name))
                sync(Path(at))
            if os.path.lexists(folder):
                remove(old)
                os.rename(folder, old)
            os.rename(staged, folder)
            sync(folder.parent)
            remove(old)
        except BaseException as error:
            refused = _os_error(error)
            if refused is not None:
                _say_needed(refused, 0, staged)
            with suppress(OSError):
                remove(staged)
            if refused is not None and refused is not error:
                raise refused from error
            raise


def append(path: Path, data: bytes, *, synced: bool = False) -> None:
    """Nothing; the data stand at the file's end, all of them, or what could be written is taken back.

    Raises `TrueupError` E941 (exit 74) where the disk is full or refuses.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    with refusals(path):
        handle = os.open(path, flags, 0o666)
        try:
            length = os.fstat(handle).st_size
            try:
                _write_all(handle, data)
            except OSError as error:
                os.ftruncate(handle, length)
                _say_needed(error, len(data), path)
                raise
            if synced:
                os.fsync(handle)
        finally:
            os.close(handle)


def cut(path: Path, length: int) -> None:
    """Nothing; the file ends at a length that it had before: it takes no room, and no line moves."""
    with refusals(path):
        handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            if os.fstat(handle).st_size > length:
                os.ftruncate(handle, length)
                os.fsync(handle)
        finally:
            os.close(handle)


def sync(path: Path) -> None:
    """Nothing; what the file holds, or which names the folder has, survives a power cut."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove(path: Path) -> None:
    """Nothing; the file, or the folder with all in it, is gone. A link goes; what it leads to stays."""
    if not os.path.lexists(path):
        return
    if path.is_symlink() or not path.is_dir():
        os.unlink(path)
        return
    for name in os.listdir(path):
        remove(path / name)
    os.rmdir(path)


def sweep(folder: Path) -> None:
    """Nothing; removes what writes that were cut short left. Only for who alone writes in the folder."""
    with refusals(folder):
        for name in os.listdir(folder):
            if _STAGED.fullmatch(name):
                remove(folder / name)


def make_folder(folder: Path) -> None:
    """Nothing; the folder is there, and its name survives a power cut; E941 where the system refuses."""
    with refusals(folder):
        if not folder.is_dir():
            os.makedirs(folder, exist_ok=True)
            sync(folder.parent)


def require_space(folder: Path, num_bytes: int) -> None:
    """Nothing; raises `TrueupError` E941 (exit 74) unless `num_bytes` and 1 MiB more fit on the disk."""
    with refusals(folder):
        space = os.statvfs(folder)
    free = space.f_bavail * space.f_frsize
    if free < num_bytes + MARGIN:
        raise TrueupError(
            "E941",
            f"the disk is too full: {num_bytes + MARGIN} bytes needed, {free} free",
            where=str(folder),
            remedy="free some space and give the same command again; what was there before is intact",
        )


@contextmanager
def refusals(path: Path) -> Iterator[None]:
    """Inside, an OSError, or another library's error that quotes one, is a `TrueupError` E941 (exit 74)."""
    try:
        yield
    except TrueupError:
        raise
    except Exception as error:
        found = _os_error(error)
        if found is None:
            raise
        raise refusal(found, path) from error


def refusal(error: OSError, path: Path, needed: str = "") -> TrueupError:
    """What to tell a person when the disk refused to write what is to be at a path."""
    remedy = "free some space" if error.errno not in _NO_RIGHT else "name a folder that can be written to"
    return TrueupError(
        "E941",
        f"the disk refused: {error.strerror or error}{needed and f'; {needed}'}",
        where=str(path),
        remedy=f"{remedy}, and give the same command again; what was there before is intact",
    )


def _say_needed(error: OSError, needed: int, staged: Path) -> None:
    """Nothing; an error that says that a disk is full then says how many bytes were to be written."""
    if error.errno in _FULL:
        least = 0
        with suppress(OSError):
            files = [staged] if staged.is_file() else [p for p in staged.rglob("*") if p.is_file()]
            least = sum(p.stat().st_size for p in files)
        error.strerror = f"{error.strerror}; {needed or f'more than {least}'} bytes needed"


def _os_error(error: BaseException) -> OSError | None:
    """The system's error behind one: libraries written in Rust only quote it, as `(os error 28)`."""
    if isinstance(error, OSError) and error.errno is not None:
        return error
    quoted = _OS_ERROR.search(str(error))
    return OSError(int(quoted[1]), os.strerror(int(quoted[1]))) if quoted else None


def _holds(path: Path, data: bytes) -> bool:
    try:
        return path.stat().st_size == len(data) and path.read_bytes() == data
    except OSError:
        return False


def _write_new(path: Path, data: bytes) -> None:
    handle = os.open(path, _NEW, 0o666)
    try:
        _write_all(handle, data)
    finally:
        os.close(handle)


def _write_all(handle: int, data: bytes) -> None:
    """Every byte: a disk that is nearly full takes some of them and says nothing."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(handle, rest) :]
