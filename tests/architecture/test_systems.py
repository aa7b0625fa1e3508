"""What only Linux has is not needed to import anything: macOS lacks it, and has all but the sandbox."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from architecture.tree import modules

LINUX = {
    "os": {
        "sched_getaffinity", "sched_setaffinity", "sched_yield", "unshare", "setns", "memfd_create",
        "eventfd", "pidfd_open", "getrandom", "copy_file_range", "splice", "posix_fadvise",
        "posix_fallocate", "fdatasync", "pipe2",
        "getxattr", "setxattr", "listxattr", "O_DIRECT", "O_TMPFILE", "O_PATH", "EFD_CLOEXEC",
        "CLONE_NEWNS", "P_PIDFD",
    },
    "select": {"epoll", "EPOLLIN", "EPOLLOUT", "EPOLLHUP"},
    "signal": {"pidfd_send_signal", "sigtimedwait", "sigwaitinfo", "SIGRTMIN", "SIGRTMAX", "SIGPWR"},
    "resource": {
        "prlimit", "RLIMIT_MSGQUEUE", "RLIMIT_NICE", "RLIMIT_RTPRIO", "RLIMIT_RTTIME", "RLIMIT_SIGPENDING",
        "RUSAGE_THREAD",
    },
    "socket": {"AF_NETLINK", "AF_PACKET", "AF_VSOCK", "AF_ALG", "SO_PEERCRED", "SOCK_CLOEXEC"},
    "time": {"CLOCK_BOOTTIME", "clock_settime"},
    "fcntl": {"F_SETPIPE_SZ", "F_ADD_SEALS", "F_OFD_SETLK", "F_NOTIFY"},
}  # fmt: skip
"By module of the standard library, names that macOS does not have."

WITHOUT = """
import importlib, os, resource, select, signal, socket, sys, time, fcntl, ctypes, builtins
import torch, transformers, peft, tokenizers, scipy.stats, pyarrow, huggingface_hub, rich, jinja2, cyclopts
import starlette, uvicorn, httpx2
for module, names in {linux}.items():
    for name in names:
        vars(sys.modules[module]).pop(name, None)
sys.platform = "darwin"
import platform
platform.system, platform.machine = (lambda: "Darwin"), (lambda: "arm64")
opened = builtins.open
def guarded(path, *more, **named):
    if str(path).startswith(("/proc/", "/sys/")):
        raise FileNotFoundError(path)
    return opened(path, *more, **named)
builtins.open = guarded
def no_library(*more, **named):
    raise OSError("no library is opened while modules are imported")
ctypes.CDLL = no_library
import trueup
for name in {names}:
    importlib.import_module(name)
from trueup.sandbox.trust import trusted
from trueup.errors import TrueupError
try:
    trusted()
except TrueupError as error:
    print(error)
"""


def uses(tree: ast.Module, *, imported: bool) -> list[str]:
    """The Linux-only names that a file uses: those run while it is imported, or all."""
    found = []
    for node in ast.walk(tree) if not imported else at_import(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.attr in LINUX.get(node.value.id, ()):
                found.append(f"{node.value.id}.{node.attr}")
        elif isinstance(node, ast.ImportFrom):
            found += [
                f"{node.module}.{a.name}" for a in node.names if a.name in LINUX.get(node.module or "", ())
            ]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found += [node.value] if node.value.startswith(("/proc/", "/sys/kernel")) else []
    return found


def at_import(node: ast.AST) -> list[ast.AST]:
    """The nodes that run while a file is imported: all but what stands in functions."""
    found: list[ast.AST] = []
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        found += [child, *at_import(child)]
    return found


def test_nothing_that_only_linux_has_is_needed_at_import() -> None:
    found = {m.where: names for m in modules() if (names := uses(m.tree, imported=True))}
    # The probes are texts that the sandbox runs: they say /proc and open nothing here.
    assert set(found) <= {"src/trueup/sandbox/probes.py"}, found


def test_what_only_linux_has_is_the_sandboxs_alone() -> None:
    found = {m.where: names for m in modules() if (names := uses(m.tree, imported=False))}
    # Where it is there, the store asks it whether its file lies on a network.
    found.pop("src/trueup/collecting/store.py")
    assert found and all(where.startswith("src/trueup/sandbox/") for where in found), found


def test_every_module_is_imported_without_it_and_the_sandbox_names_a_container() -> None:
    names = [m.name for m in modules() if not m.name.endswith("__main__")]
    code = WITHOUT.format(linux=repr(LINUX), names=names)
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    (refusal,) = done.stdout.splitlines()
    assert "E951" in refusal and "does not run on Darwin (arm64)" in refusal
    assert "`docker run --platform linux/amd64`" in refusal


@pytest.mark.parametrize("line", ["import os\nos.sched_getaffinity(0)", "from os import memfd_create"])
def test_a_name_is_found(line: str) -> None:
    assert uses(ast.parse(line), imported=True)
    assert not uses(ast.parse("def f():\n    " + line.replace("\n", "\n    ")), imported=True)
