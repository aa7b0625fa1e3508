"""The two back ends of isolation: what is put around a process before it seals itself.

bubblewrap   `bwrap`: namespaces of its own, and a root folder in which only what it may read exists
landlock     nothing: the process closes itself to files, in `seal`

A back end turns a command into a confined one; that is all of it. In both, the process then gives up its
rights, its resources and most system calls by itself, and `probes` tries both in the same way.
"""

from __future__ import annotations

import functools
import glob
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from trueup.sandbox.seal import PACKAGES

_NOBODY = 65534
_STAGE = "/sys"
"A folder that every Linux has and no interpreter lies in."


@dataclass(frozen=True, kw_only=True)
class Backend:
    """One back end."""

    name: str
    landlock: bool
    "Whether the process closes itself to files, with nothing around it."
    needs: Callable[[], tuple[str, ...]]
    "The programs it starts, which must be on the PATH."
    confine: Callable[[Sequence[str], Sequence[str]], list[str]]
    "The command that runs a command, which may read its interpreter, the standard library and these paths."


def _bubblewrap(command: Sequence[str], sources: Sequence[str]) -> list[str]:
    """The command in namespaces of its own: no process, no network, no user but `nobody`, none to be made.

    Its root folder is read-only and cannot be listed; no /proc, /dev, /sys or /tmp is in it.
    """
    library, *rest = binds = [*_readable(command[0]), *sources]
    seen, before = _staged(binds) if os.geteuid() == 0 else (binds, [])
    words = [
        *before, _tool("bwrap"), "--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent",
        "--uid", str(_NOBODY), "--gid", str(_NOBODY), "--hostname", "none", "--cap-drop", "ALL",
    ]  # fmt: skip
    for link in filter(os.path.islink, ("/lib", "/lib64")):
        words += ["--symlink", os.readlink(link), link]
    words += ["--ro-bind", seen[0], library]
    masked = [path for name in PACKAGES if os.path.isdir(path := f"{library}/{name}")]
    for path in masked:
        words += ["--tmpfs", path]
    for path, at in zip(rest, seen[1:], strict=True):
        words += ["--ro-bind", at, path]
    words += ["--chmod", "0111", "/"]
    for path in (*masked, "/"):
        words += ["--remount-ro", path]
    return [*words, "--chdir", "/", "--", *command]


def _staged(paths: Sequence[str]) -> tuple[list[str], list[str]]:
    """Where the paths are in a view of the machine's files of its own, and the command that makes the view.

    Root gives up its user before bubblewrap starts: the kernel exempts it from limits, and what gets out is
    not to be root. But the interpreter may lie where no other user can go, in /root for one, so the paths
    are first mounted where all can.
    """
    mount, mkdir, drop = (shlex.quote(_tool(name)) for name in ("mount", "mkdir", "setpriv"))
    script = (
        f"{mount} -t tmpfs -o mode=0755 tmpfs {_STAGE} || exit; n=0\n"
        'while [ "$1" != -- ]; do\n'
        f'  at={_STAGE}/$n; if [ -d "$1" ]; then {mkdir} $at; else : > $at; fi\n'
        f'  {mount} --bind "$1" $at || exit; n=$((n + 1)); shift\n'
        "done\n"
        f'shift; exec {drop} --reuid={_NOBODY} --regid={_NOBODY} --clear-groups -- "$@"\n'
    )
    before = [_tool("unshare"), "--mount", "--propagation", "private", "/bin/sh", "-c", script, "sh"]
    before += [*paths, "--"]
    return [f"{_STAGE}/{n}" for n in range(len(paths))], before


def _bubblewrap_needs() -> tuple[str, ...]:
    return ("bwrap", "unshare", "mount", "setpriv") if os.geteuid() == 0 else ("bwrap",)


def _tool(name: str) -> str:
    return shutil.which(name) or name  # Whole, because the command starts without a PATH.


@functools.cache
def _readable(interpreter: str) -> tuple[str, ...]:
    """The standard library's folder, the interpreter, and what these load, as paths.

    The interpreter is asked: it imports every compiled module of the library and reads its own memory map.
    """
    code = (
        "import importlib, os\nlibrary = os.path.dirname(os.__file__)\nprint(library)\n"
        "for name in sorted(os.listdir(library + '/lib-dynload')):\n"
        "    try:\n        importlib.import_module(name.partition('.')[0])\n"
        "    except ImportError:\n        pass\n"
        "maps = [line.split(maxsplit=5) for line in open('/proc/self/maps') if '.so' in line]\n"
        "print(*{fields[5].strip() for fields in maps}, sep='\\n')\n"
    )
    asked = subprocess.run(
        [interpreter, "-I", "-S", "-W", "ignore", "-c", code],
        env={}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        check=False, timeout=60,
    )  # fmt: skip
    if asked.returncode or not asked.stdout:
        raise OSError(f"{interpreter} did not start")
    library, *mapped = asked.stdout.splitlines()
    found = [library, interpreter, *_shared(library, mapped)]
    loader = f"{os.path.realpath('/lib64')}/ld-linux-x86-64.so.2"
    found += filter(os.path.isfile, (loader, "/etc/ld.so.cache"))
    return tuple(dict.fromkeys(found))


def _shared(library: str, mapped: Sequence[str]) -> Iterator[str]:
    """The folders of the mapped files; of one that holds the standard library too, the files alone."""
    for path in sorted(mapped):
        folder, name = os.path.split(path)
        if f"{library}/".startswith(f"{folder}/"):  # By every name that a loader may ask for.
            yield from glob.glob(f"{glob.escape(folder)}/{name.partition('.so')[0]}.so*")
        elif not path.startswith(f"{library}/"):
            yield folder


BUBBLEWRAP = Backend(name="bubblewrap", landlock=False, needs=_bubblewrap_needs, confine=_bubblewrap)
LANDLOCK = Backend(
    name="landlock", landlock=True, needs=lambda: (), confine=lambda command, sources: list(command)
)
BACKENDS = {one.name: one for one in (BUBBLEWRAP, LANDLOCK)}
"By name, the strongest first: under Landlock a program can still learn that a path exists."
