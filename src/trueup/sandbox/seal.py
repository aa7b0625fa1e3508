"""Closes the calling process for good: rights, files, system calls, resources. Linux on x86-64 only.

Four locks, none of which needs root, each of which the kernel lets no process undo:

resource limits   memory, processor time, open files, no file of any size, no core
capabilities      all dropped, and no way to gain any (`no_new_privs`)
Landlock          the standard library and the C library may be read; nothing else can be opened. Left out
                  where the process has namespaces of its own, in which nothing else exists (`backends`)
seccomp           a list of system calls; every other one is refused. None makes a process, a thread, a
                  socket, a file, a mapping of another's memory or a signal

Only the standard library is used, because the process that seals itself has nothing else.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import struct
from collections.abc import Iterator

MIB = 1 << 20

# System calls by number (x86-64). Reading, memory, time, and what the interpreter needs to import a module.
ALLOWED = {
    "read": 0, "write": 1, "close": 3, "stat": 4, "fstat": 5, "lstat": 6, "poll": 7, "lseek": 8, "mmap": 9,
    "mprotect": 10, "munmap": 11, "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15,
    "pread64": 17, "readv": 19, "writev": 20, "access": 21, "select": 23, "sched_yield": 24, "mremap": 25,
    "madvise": 28, "nanosleep": 35, "getpid": 39, "exit": 60, "getcwd": 79, "readlink": 89,
    "gettimeofday": 96, "getrusage": 98, "times": 100, "getuid": 102, "getgid": 104, "geteuid": 107,
    "getegid": 108, "sigaltstack": 131, "gettid": 186, "time": 201, "futex": 202, "getdents64": 217,
    "clock_gettime": 228,
    "clock_getres": 229, "clock_nanosleep": 230, "exit_group": 231, "openat": 257, "newfstatat": 262,
    "readlinkat": 267, "faccessat": 269, "getrandom": 318, "statx": 332, "faccessat2": 439,
}  # fmt: skip
# Allowed with these second arguments only. fcntl must not set an owner of a pipe's signals (F_SETOWN), which
# would send any signal to any process of the same user.
ALLOWED_COMMANDS = {
    16: (0x5401, 0x5450, 0x5451),  # ioctl: is it a terminal, keep or close at exec
    72: (1, 2, 3, 1030),  # fcntl: get and set flags, duplicate
}
_PRCTL, _CAPSET, _SECCOMP, _LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 157, 126, 317, 444, 445, 446
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
_EXECUTE, _READ_FILE, _READ_DIR = 1, 4, 8
PACKAGES = ("site-packages", "dist-packages")
"Folders of installed packages in the standard library's, which a program does not see."


class UnsealedError(Exception):
    """What the kernel or the machine does not offer."""


def seal(*, memory_mib: int, cpu_seconds: int, parent: int, landlock: bool) -> None:
    """Closes this process. Raises UnsealedError if any lock fails.

    Without `landlock` the process is in namespaces of its own, which end with the parent.
    """
    refuse_other_machines()
    paths = []
    if landlock:
        _die_with(parent)
        paths = list(_readable())
    _limit(memory_mib, cpu_seconds)
    _call(_PRCTL, _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _call(_PRCTL, _PR_SET_DUMPABLE, 0, 0, 0, 0)
    if landlock:
        _landlock(paths)
    # Version 3 of the header; effective, permitted and inheritable sets of 2 x 32 bits, all empty.
    _call(_CAPSET, struct.pack("=Ii", 0x20080522, 0), bytes(24))
    _seccomp()


def refuse_other_machines() -> None:
    """Raises UnsealedError where the numbers of the system calls are not those of this module."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise UnsealedError(f"it does not run on {platform.system()} ({platform.machine()})")


def _call(number: int, *args: int | bytes | ctypes.Array[ctypes.c_char]) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    given = [ctypes.c_long(a) if isinstance(a, int) else a for a in args]
    result = libc.syscall(ctypes.c_long(number), *given)
    if result < 0:
        error = ctypes.get_errno()
        raise UnsealedError(f"system call {number}: {os.strerror(error)}")
    return result


def _die_with(parent: int) -> None:
    _call(_PRCTL, _PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        raise UnsealedError("the starting process has ended")


def _limit(memory_mib: int, cpu_seconds: int) -> None:
    import resource  # Not there on Windows, where the module is to say that it refuses.

    for what, most in (
        (resource.RLIMIT_AS, memory_mib * MIB),
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_STACK, 8 * MIB),
    ):
        hard = resource.getrlimit(what)[1]
        low = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (low, low))


def _readable() -> Iterator[tuple[str, int]]:
    """Paths and the rights to them: the standard library but not packages, the C library's folder."""
    library = os.path.dirname(os.__file__)
    yield library, _READ_DIR
    for entry in os.scandir(library):
        if entry.name not in PACKAGES:
            yield entry.path, (_READ_FILE | _READ_DIR | _EXECUTE) if entry.is_dir() else _READ_FILE
    with open("/proc/self/maps", encoding="utf-8") as maps:
        mapped = {line.split(maxsplit=5)[-1].strip() for line in maps if ".so" in line}
    for folder in sorted({os.path.dirname(path) for path in mapped if path.startswith("/")}):
        if library.startswith(folder):  # It holds the installed packages too: its own files only.
            yield from ((e.path, _READ_FILE | _EXECUTE) for e in os.scandir(folder) if ".so" in e.name)
        elif not folder.startswith(library):
            yield folder, _READ_FILE | _READ_DIR | _EXECUTE
    if os.path.exists("/etc/ld.so.cache"):
        yield "/etc/ld.so.cache", _READ_FILE


def _landlock(paths: list[tuple[str, int]]) -> None:
    version = _call(_LANDLOCK_CREATE, 0, 0, 1)
    files = (1 << {1: 13, 2: 14, 3: 15, 4: 15}.get(version, 16)) - 1
    # Every right that this kernel knows is handled, hence refused where no rule grants it: on files, TCP
    # (from version 4), abstract sockets and signals (from version 6).
    attributes = struct.pack("=QQQ", files, 3, 3)[: 8 if version < 4 else 16 if version < 6 else 24]
    rules = _call(_LANDLOCK_CREATE, attributes, len(attributes), 0)
    for path, rights in paths:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
        _call(_LANDLOCK_ADD, rules, 1, struct.pack("=Qi", rights, handle), 0)
        os.close(handle)
    _call(_LANDLOCK_RESTRICT, rules, 0)
    os.close(rules)


def _seccomp() -> None:
    filters = _filters()
    code = ctypes.create_string_buffer(b"".join(filters), 8 * len(filters))
    program = struct.pack("=HxxxxxxQ", len(filters), ctypes.addressof(code))
    _call(_SECCOMP, 1, 0, program)


def _filters() -> list[bytes]:
    """The filter as instructions of the kernel's packet filter language.

    Another instruction set (32-bit calls) or a call of the x32 kind ends the process; a call that is not on
    the list fails with EPERM.
    """
    load, equal, at_least, give = 0x20, 0x15, 0x35, 0x06
    allow, kill, refuse = 0x7FFF0000, 0x80000000, 0x00050001

    def step(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
        return struct.pack("=HBBI", code, yes, no, value)

    # The call's number lies at 0, the architecture at 4, the second argument at 24.
    out = [step(load, 4), step(equal, 0xC000003E, 1, 0), step(give, kill)]
    out += [step(load, 0), step(at_least, 0x40000000, 0, 1), step(give, kill)]
    for number in ALLOWED.values():
        out += [step(equal, number, 0, 1), step(give, allow)]
    for number, commands in ALLOWED_COMMANDS.items():
        inner = [step(load, 24)]
        for command in commands:
            inner += [step(equal, command, 0, 1), step(give, allow)]
        inner += [step(give, refuse)]
        out += [step(equal, number, 0, len(inner)), *inner]
    return [*out, step(give, refuse)]
