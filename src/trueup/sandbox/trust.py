"""Chooses a back end and tries every probe against it, before any program is judged in it.

A back end that held is remembered on disk until something changes that could open it: the machine starts
again, or the sandbox's own code, the interpreter, bubblewrap, the rights of this process or the namespaces
it is in become others.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import shutil
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from trueup.errors import TrueupError
from trueup.sandbox import probes
from trueup.sandbox.backends import BACKENDS, Backend
from trueup.sandbox.cell import Limits, no_sandbox, sealed


def trusted(name: str = "") -> Backend:
    """The back end of this name, or the strongest that works here, after every probe was held.

    Raises E702 for a name that no back end has, E951 where it does not work here (or none does), and E952
    where a probe gets out.
    """
    backend = pick(name)
    _try(backend)
    return backend


def pick(name: str = "") -> Backend:
    """The back end of this name, or the strongest that works here. Raises E702, E951."""
    candidates = named(name)
    for backend in candidates:
        if not refusal(backend):
            return backend
    raise no_sandbox("; ".join(map(refusal, candidates)))


def named(name: str = "") -> list[Backend]:
    """The back end of this name, or all of them, the strongest first. Raises E702."""
    if name and name not in BACKENDS:
        remedy = f"one of {', '.join(BACKENDS)}"
        raise TrueupError("E702", f"no back end {name!r}", where="sandbox", remedy=remedy)
    return [BACKENDS[name]] if name else list(BACKENDS.values())


@functools.cache
def refusal(backend: Backend) -> str:
    """Why the back end does not work on this machine; empty if it does. One process is started to see."""
    if _remembered(backend):
        return ""
    try:
        with sealed("program", Limits(), backend):
            return ""
    except TrueupError as error:
        return error.reason.removeprefix("no sandbox: ")


def broken(found: Iterable[probes.Held]) -> list[str]:
    """The probes that got out, in words."""
    return [f"{one.backend}: {one.area}: {one.name}" for one in found if not one.held]


def refuse_open(found: Iterable[probes.Held]) -> None:
    """Raises E952 if a probe got out."""
    if out := broken(found):
        reason = f"the sandbox is open: {'; '.join(out)}"
        remedy = "run no generated code on this machine; `trueup sandbox` shows what got out"
        raise TrueupError("E952", reason, where="sandbox", remedy=remedy)


@functools.cache
def _try(backend: Backend) -> None:
    if _remembered(backend):
        return
    refuse_open(probes.run_probes(backend))
    with suppress(OSError, RuntimeError):  # Where nothing can be written, the next process tries again.
        record = _record(backend)
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(_HELD, encoding="utf-8")


_HELD = "every probe was held\n"


def _remembered(backend: Backend) -> bool:
    try:
        return _record(backend).read_text(encoding="utf-8") == _HELD
    except (OSError, RuntimeError):  # Not remembered, or a user without a home.
        return False


def _record(backend: Backend) -> Path:
    """The file that says that this back end held, as this machine is now."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    with open("/proc/self/status", encoding="utf-8") as status:
        rights = [line for line in status if line.startswith(("Uid", "Cap", "NoNewPrivs", "Seccomp"))]
    programs = [os.path.realpath(sys.executable), *filter(None, map(shutil.which, backend.needs()))]
    state = [
        backend.name,
        Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8"),
        platform.release(),
        rights,
        [os.readlink(f"/proc/self/ns/{kind}") for kind in ("mnt", "net", "pid", "user")],
        [(path, os.stat(path).st_mtime_ns) for path in programs],
    ]
    digest.update(json.dumps(state).encode())
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "trueup" / "sandbox" / digest.hexdigest()
