"""Which back end is chosen, that none is trusted untried, and that nothing runs where none works."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from trueup.errors import EXIT_REFUSED, EXIT_UNAVAILABLE, TrueupError
from trueup.sandbox import cell, probes, seal, trust
from trueup.sandbox.backends import BACKENDS, BUBBLEWRAP, LANDLOCK, Backend
from trueup.sandbox.verdicts import check, check_all

ADD = "def add(a, b):\n    return a + b\n"
TESTS = "assert add(1, 2) == 3"
REFUSED = {"files": {"read a password file": probes.FILES["read a password file"]}}
OPEN = {"files": {"do what is allowed": "return os.getpid()"}}


@pytest.fixture
def forgetful(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Nothing is known of any back end, in this process or on disk; the folder where records go."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    forget = (trust.refusal.cache_clear, trust._try.cache_clear)
    for one in forget:
        one()
    yield tmp_path / "trueup" / "sandbox"
    for one in forget:
        one()


def test_a_program_is_judged_only_where_every_probe_is_held(
    backend: Backend, forgetful: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "PROBES", {"kernel": {"mount": probes.KERNEL["mount"]}, **OPEN})
    for judge in (check, lambda *job, backend: check_all([(*job, "")], backend=backend)):
        with pytest.raises(TrueupError, match=r"E952.*open: [a-z]+: files: do what is allowed —") as caught:
            judge(ADD, TESTS, backend=backend.name)
        assert caught.value.exit_code == EXIT_REFUSED
    assert not forgetful.exists()
    monkeypatch.setattr(probes, "PROBES", REFUSED)
    assert check(ADD, TESTS, backend=backend.name).passed


def test_what_held_is_remembered_until_the_machine_starts_again(
    backend: Backend, forgetful: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "PROBES", REFUSED)
    assert trust.trusted(backend.name) is backend
    (record,) = forgetful.iterdir()
    monkeypatch.setattr(probes, "PROBES", OPEN)
    assert trust.trusted(backend.name) is backend, "tried once in a process"
    trust._try.cache_clear()
    assert trust.trusted(backend.name) is backend, "and once on disk"
    trust._try.cache_clear()
    read = Path.read_text
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", lambda p, **given: read(p, **given) + p.name * (p.name == "boot_id"))
        with pytest.raises(TrueupError, match="E952"):
            trust.trusted(backend.name)
    record.write_text("", encoding="utf-8")
    with pytest.raises(TrueupError, match="E952"):
        trust.trusted(backend.name)


def test_the_strongest_that_works_is_chosen_and_a_name_is_never_replaced(
    forgetful: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list(BACKENDS) == ["bubblewrap", "landlock"]
    refusals = {"bubblewrap": "bubblewrap: it is not there", "landlock": ""}
    monkeypatch.setattr(trust, "refusal", lambda backend: refusals[backend.name])
    assert trust.pick() is LANDLOCK and trust.pick("landlock") is LANDLOCK
    with pytest.raises(TrueupError, match=r"E951.*no sandbox: bubblewrap: it is not there — run it on Linux"):
        trust.pick("bubblewrap")
    with pytest.raises(
        TrueupError, match="E702 sandbox — no back end 'docker' — one of bubblewrap, landlock"
    ):
        trust.pick("docker")
    refusals["bubblewrap"] = ""
    assert trust.pick() is BUBBLEWRAP
    refusals.update(bubblewrap="bubblewrap: no", landlock="landlock: neither")
    with pytest.raises(TrueupError, match="no sandbox: bubblewrap: no; landlock: neither") as caught:
        check(ADD, TESTS)
    assert caught.value.exit_code == EXIT_UNAVAILABLE


def test_a_machine_without_bubblewrap_says_so(forgetful: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(forgetful))
    assert trust.refusal(BUBBLEWRAP) == "bubblewrap: bwrap is not on the PATH"


def test_what_bubblewrap_complains_of_is_said(forgetful: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refusing = forgetful.parent / "bin" / "bwrap"
    refusing.parent.mkdir(parents=True)
    refusing.write_text(
        "#!/bin/sh\necho No permissions to create new namespace >&2\nexit 1\n", encoding="utf-8"
    )
    refusing.chmod(0o755)
    monkeypatch.setenv("PATH", f"{refusing.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert trust.refusal(BUBBLEWRAP) == (
        "bubblewrap: the process did not start: No permissions to create new namespace"
    )


@pytest.mark.parametrize("broken", ["_landlock", "_seccomp", "_limit"])
def test_without_one_lock_nothing_runs(
    broken: str, backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy of the package in which one lock cannot be closed refuses, and the program is never started."""
    if broken == "_landlock" and not backend.landlock:
        pytest.skip("this back end has namespaces in its place")
    package = tmp_path / "trueup"
    shutil.copytree(Path(seal.__file__).parent, package / "sandbox")
    (package / "__init__.py").write_text("", encoding="utf-8")
    with (package / "sandbox" / "seal.py").open("a", encoding="utf-8") as file:
        file.write(f"\ndef {broken}(*given):\n    raise UnsealedError('the lock {broken} is not there')\n")
    monkeypatch.setattr(cell, "_SOURCES", str(tmp_path))
    with pytest.raises(TrueupError, match=f"E951.*the lock {broken} is not there") as caught:
        check(ADD, TESTS, backend=backend.name)
    assert caught.value.exit_code == EXIT_UNAVAILABLE


def test_a_process_that_does_not_start_is_a_refusal(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/true")
    with (
        pytest.raises(TrueupError, match=r"E951.*did not start"),
        cell.sealed("program", cell.Limits(), backend),
    ):
        raise AssertionError("it started")


@pytest.mark.parametrize(
    ("system", "machine"), [("Darwin", "arm64"), ("Linux", "aarch64"), ("Windows", "AMD64")]
)
def test_other_machines_are_refused_inside_and_before_anything_starts(
    system: str, machine: str, forgetful: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seal.platform, "system", lambda: system)
    monkeypatch.setattr(seal.platform, "machine", lambda: machine)
    with pytest.raises(seal.UnsealedError, match=f"it does not run on {system}"):
        seal.seal(memory_mib=64, cpu_seconds=1, parent=os.getppid(), landlock=True)
    monkeypatch.delattr(subprocess, "Popen")
    for one in BACKENDS.values():
        assert trust.refusal(one) == f"{one.name}: it does not run on {system} ({machine})"


def test_a_call_that_the_kernel_refuses_is_told_by_its_number() -> None:
    with pytest.raises(seal.UnsealedError, match="system call 446"):
        seal._call(446, -1, 0)
