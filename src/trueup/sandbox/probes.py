"""Tries to break out: small programs, each of which would get somewhere if a lock were open.

A probe is the body of a function of `host`, which gives something true where it got through. `let_in(call)`
is false only where the kernel said no; that arguments were wrong, say, would mean that the call had been let
in. `trueup sandbox` runs them all against each back end.
"""

from __future__ import annotations

import os
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import indent

from trueup.sandbox.backends import Backend
from trueup.sandbox.cell import Limits, ask, load, sealed

TOOLS = """
import ctypes, errno, os, socket, subprocess, threading, time

_libc = ctypes.CDLL(None, use_errno=True)

def system(*arguments):
    return _libc.syscall(*[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])

def let_in(*arguments):
    return system(*arguments) >= 0 or ctypes.get_errno() not in (errno.EPERM, errno.EACCES)

def all_refused(*calls):
    return not any(let_in(*c) for c in calls)
"""

FILES = {
    "read a password file": "return open('/etc/passwd').read()",
    "read a secret by its path": "return open(host['secret']).read()",
    "list the root folder": "return os.listdir('/')",
    "read the environment of the parent": "return open(f\"/proc/{host['parent']}/environ\", 'rb').read()",
    "read its own memory map": "return open('/proc/self/maps').read()",
    "write beside it": "return open('left.txt', 'w').write('here')",
    "write into a folder that it can name": "return open(host['folder'] + '/left.txt', 'w').write('here')",
    "write over a secret": "return open(host['secret'], 'r+').write('over')",
    "truncate a secret": "return let_in(76, host['secret'].encode(), 0)",
    "remove a secret": "os.unlink(host['secret'])\nreturn True",
    "rename a secret": "os.rename(host['secret'], host['secret'] + '2')\nreturn True",
    "link to a secret": "os.symlink(host['secret'], 'link')\nreturn open('link').read()",
    "change a file's mode": "os.chmod(host['secret'], 0o777)\nreturn True",
    "make a folder": "os.mkdir(host['folder'] + '/made')\nreturn True",
    "write into the standard library": "return open(os.__file__, 'a').write('x')",
    "read installed packages": (
        "return open(os.path.dirname(os.__file__) + '/site-packages/pip/__init__.py').read()"
    ),
}
NETWORK = {
    "connect to a TCP port": "return socket.create_connection(('127.0.0.1', host['tcp']), 1)",
    "send a UDP packet": (
        "return socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', host['udp']))"
    ),
    "connect to a Unix socket": (
        "s = socket.socket(socket.AF_UNIX)\ns.connect(host['folder'] + '/socket')\nreturn True"
    ),
    "connect to an abstract socket": (
        "s = socket.socket(socket.AF_UNIX)\ns.connect('\\0' + host['abstract'])\nreturn True"
    ),
    "ask for a name": "return socket.getaddrinfo('example.org', 80)",
    "open a netlink socket": "return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
    "open a pair of sockets": "return socket.socketpair()",
}
PROCESSES = {
    "fork": "if os.fork() == 0:\n    os._exit(0)\nreturn True",
    "vfork or clone": "return not all_refused((56, 0x11, 0, 0, 0, 0), (58,), (435, 0, 0))",
    "start a program": "return subprocess.run(['/bin/true']).returncode == 0",
    "replace itself by a program": "return not all_refused((59, 0, 0, 0), (322, -1, 0, 0, 0, 0))",
    "start a thread": "t = threading.Thread(target=int)\nt.start()\nt.join()\nreturn True",
    "signal the parent": "os.kill(host['parent'], 0)\nreturn True",
    "signal a group, a thread, a descriptor": (
        "return not all_refused((62, 0, 0), (200, host['parent'], 0), (234, 1, 1, 0), (424, 1, 0, 0, 0),\n"
        "    (434, host['parent'], 0))"
    ),
    "have a pipe signal the parent": (
        "import fcntl\nreturn [fcntl.fcntl(d, fcntl.F_SETOWN, host['parent']) for d in (3, 4)]"
    ),
    "trace the parent": "return not all_refused((101, 16, host['parent'], 0, 0), (101, 0, 0, 0, 0))",
    "read the parent's memory": (
        "return not all_refused((310, host['parent'], 0, 0, 0, 0, 0), (311, host['parent'], 0, 0, 0, 0, 0))"
    ),
    "change the parent's limits or priority": (
        "return not all_refused((302, host['parent'], 7, 0, 0), (141, 0, host['parent'], 19))"
    ),
    "leave its session": "return not all_refused((112,), (109, 0, 0))",
}
RESOURCES = {
    "take 2 GiB of memory": "return len(bytearray(1 << 31))",
    "use the processor without end": "while True: pass",
    "sleep without end": "time.sleep(1000)\nreturn True",
    "answer with 5 MB": "return 'x' * 5_000_000",
    "flood its pipe without a line's end": (
        "while True:\n    for d in range(1, 64):\n        try:\n            os.write(d, b'x' * 65536)\n"
        "        except OSError:\n            pass"
    ),
    "open files without end": "return len([open(os.__file__) for _ in range(1000)])",
    "raise its own limits": (
        "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (10**4, 10**4))\nreturn True"
    ),
    "keep memory outside the limit": (
        "return not all_refused((319, b'm', 0), (29, 0, 4096, 0o1600), (149, 0, 4096))"
    ),
    "make files without end": "return [open(f'f{n}', 'w') for n in range(50)]",
}
KERNEL = {
    "make namespaces": "return not all_refused((272, 0x10000000), (272, 0x20000), (308, 0, 0))",
    "mount": "return not all_refused((165, 0, 0, 0, 0, 0), (428, 0, 0, 0), (155, 0, 0), (161, b'/'))",
    "load a kernel program": "return let_in(321, 0, 0, 0)",
    "use asynchronous input and output": "return not all_refused((425, 1, 0), (206, 1, 0))",
    "use the kernel's keys": "return not all_refused((250, 0, -3, 0), (248, 0, 0, 0, 0, 0))",
    "count events": "return let_in(298, 0, 0, -1, -1, 0)",
    "change user, capabilities or locks": (
        "return not all_refused((105, 0), (126, 0, 0), (317, 0, 0, 0), (157, 4, 1, 0, 0, 0))"
    ),
    "load a module": "return not all_refused((175, 0, 0, 0), (313, 0, 0, 0), (246, 0, 0, 0, 0))",
    "handle page faults": "return let_in(323, 0)",
    "use 32-bit system calls": (
        "import mmap\n"
        "code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)\n"
        "code.write(bytes.fromhex('b814000000cd80c3'))\n"  # mov eax, 20 (getpid); int 0x80; ret
        "return ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))() or True"
    ),
    "use x32 system calls": "return system(0x40000000 + 39) or True",
}
BELONGINGS = {
    "find anything in the environment": "return list(os.environ)",
    "find an open file of the parent": (
        "import stat\nfound = []\nfor d in range(64):\n    try:\n        kind = os.fstat(d).st_mode\n"
        "    except OSError:\n        continue\n    if not (stat.S_ISFIFO(kind) or stat.S_ISCHR(kind)):\n"
        "        found.append(d)\nreturn found"
    ),
    "find a word of the host in its arguments": "import sys\nreturn [w for w in sys.argv if w]",
}
PROBES: Mapping[str, Mapping[str, str]] = {
    "files": FILES, "network": NETWORK, "processes": PROCESSES, "resources": RESOURCES, "kernel": KERNEL,
    "belongings": BELONGINGS,
}  # fmt: skip
"Probes by area and name."
ENDLESS = 2.0
"Seconds on the clock that a probe of resources gets; its processor time is one second."


@dataclass(frozen=True, kw_only=True)
class Held:
    """What became of one probe."""

    backend: str
    area: str
    name: str
    held: bool
    how: str
    "The outcome of the run and what the program said of it."
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Host:
    """What probes aim at: a secret, a folder, listeners; and whether any of it was reached."""

    folder: Path
    listeners: Sequence[socket.socket]

    @property
    def facts(self) -> dict[str, str | int]:
        """What a probe is told."""
        return {
            "secret": str(self.folder / "secret.txt"),
            "folder": str(self.folder),
            "parent": os.getpid(),
            "tcp": self.listeners[0].getsockname()[1],
            "udp": self.listeners[1].getsockname()[1],
            "abstract": self.listeners[3].getsockname()[1:].decode(),
        }

    def touched(self) -> str:
        """What was reached, in words; empty if nothing."""
        left = {path.name for path in self.folder.iterdir()} - {"secret.txt", "socket"}
        secret = self.folder / "secret.txt"
        if left or not secret.is_file() or secret.read_text(encoding="utf-8") != "secret":
            return "a file was changed"
        for listener in self.listeners:
            try:
                listener.accept() if listener.type == socket.SOCK_STREAM else listener.recv(1)
            except BlockingIOError:
                continue
            return "a socket was reached"
        return ""


@contextmanager
def host() -> Iterator[Host]:
    """A host with something to steal, gone at the end."""
    with tempfile.TemporaryDirectory(prefix="trueup-host-") as folder:
        (Path(folder) / "secret.txt").write_text("secret", encoding="utf-8")
        places: list[tuple[socket.AddressFamily, socket.SocketKind, str | tuple[str, int]]] = [
            (socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
            (socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)),
            (socket.AF_UNIX, socket.SOCK_STREAM, f"{folder}/socket"),
            (socket.AF_UNIX, socket.SOCK_STREAM, f"\0{Path(folder).name}"),
        ]
        listeners = [socket.socket(family, kind) for family, kind, _ in places]
        try:
            for listener, (_, kind, place) in zip(listeners, places, strict=True):
                listener.setblocking(False)
                listener.bind(place)
                if kind == socket.SOCK_STREAM:
                    listener.listen()
            yield Host(folder=Path(folder), listeners=listeners)
        finally:
            for listener in listeners:
                listener.close()


def source(attempts: Sequence[str]) -> str:
    """The program that holds these probes as `attempt_0`, `attempt_1` and so on."""
    bodies = (f"\ndef attempt_{n}(host):\n{indent(body, '    ')}\n" for n, body in enumerate(attempts))
    return "".join([TOOLS, *bodies])


def run_area(area: str, names: Sequence[str], backend: Backend) -> Iterator[Held]:
    """Whether a back end held against probes of one area. Raises E951 where it does not work here.

    They share a process for as long as it lives. A probe that did not come to its end has shown nothing,
    unless going on for ever is what it tried.
    """
    program = source([PROBES[area][name] for name in names])
    seconds = ENDLESS if area == "resources" else 10.0
    left = list(range(len(names)))
    while left:
        with sealed("program", Limits(cpu_seconds=1, memory_mib=256), backend) as cell:
            loaded = load(cell, program, seconds)
            while left:
                one, started = left.pop(0), time.monotonic()
                with host() as at:
                    outcome, value = loaded or ask(cell, f"attempt_{one}", at.facts, seconds=seconds)
                    reached = at.touched()
                unended = outcome == "timeout" and area != "resources"
                said = f"{outcome}: {value}" if outcome != "passed" else "got through" if value else "refused"
                yield Held(
                    backend=backend.name,
                    area=area,
                    name=names[one],
                    held=not (reached or unended or (outcome == "passed" and value)),
                    how=(reached or said)[:120],
                    seconds=time.monotonic() - started,
                )
                if outcome not in ("passed", "failed"):
                    break


def run_probes(backend: Backend) -> list[Held]:
    """Every probe's outcome, four processes at a time. Raises E951 where the back end does not work here."""
    jobs: list[tuple[str, list[str]]] = []
    for area, group in PROBES.items():
        # What uses up a process's time or memory has one of its own.
        jobs += [(area, [name]) for name in group] if area == "resources" else [(area, list(group))]
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda job: list(run_area(job[0], job[1], backend)), jobs)
    return [held for some in found for held in some]
