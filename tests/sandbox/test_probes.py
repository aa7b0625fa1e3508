"""Nothing gets out of the sandbox: every probe is refused, and the probes do bite where nothing is sealed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from trueup.sandbox import probes
from trueup.sandbox.backends import Backend
from trueup.sandbox.cell import Limits, ask, load, sealed

EVERY = [(area, name) for area, group in probes.PROBES.items() for name in group]
# Probes that are harmless where nothing holds them; they show that a probe can get through.
HARMLESS = [
    *(("files", name) for name in probes.FILES if name not in (
        "write into the standard library", "read installed packages"
    )),
    *(("network", name) for name in probes.NETWORK if name != "ask for a name"),
    ("processes", "fork"),
    ("processes", "start a program"),
    ("processes", "start a thread"),
    ("processes", "signal the parent"),
    ("processes", "leave its session"),
    ("resources", "make files without end"),
    ("belongings", "find anything in the environment"),
]  # fmt: skip
WRONG = ("NameError", "SyntaxError", "ImportError", "ModuleNotFoundError", "TypeError", "AttributeError")
# What ends a probe other than an answer, where that is how it is held. A busy machine may not give it the
# second of processor time that ends it before its time on the clock.
ENDED = {
    "use the processor without end": ("crashed", "timeout"),
    "sleep without end": "timeout",
    "answer with 5 MB": "flooded",
    "flood its pipe without a line's end": "flooded",
    "use 32-bit system calls": "crashed",
    "use x32 system calls": "crashed",
}


def test_there_are_more_than_thirty_of_six_kinds() -> None:
    assert len(EVERY) >= 30 and len(set(EVERY)) == len(EVERY)
    counts = {area: len(group) for area, group in probes.PROBES.items()}
    least = {"files": 8, "network": 5, "processes": 5, "resources": 6, "kernel": 6, "belongings": 3}
    assert all(counts[area] >= number for area, number in least.items())


@pytest.mark.parametrize(("area", "name"), EVERY, ids=[f"{a}-{n}" for a, n in EVERY])
def test_the_sandbox_holds(area: str, name: str, backend: Backend) -> None:
    (found,) = probes.run_area(area, [name], backend)
    assert found.held, found.how
    assert not any(word in found.how for word in WRONG), (
        "it fails because it is wrong, not because it is held"
    )
    assert found.how.startswith(ENDED.get(name, ("refused", "failed: ")))
    assert found.seconds < probes.ENDLESS + 2


def test_probes_that_share_a_process_are_told_apart(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that gets through, one that ends the process, and one after it that still gets its turn."""
    area = {"in": "return os.getpid()", "out": "return []", "end": "os._exit(0)", "on": "return 'still here'"}
    monkeypatch.setattr(probes, "PROBES", {"files": area})
    found = {one.name: (one.held, one.how) for one in probes.run_probes(backend)}
    assert list(found) == list(area)
    assert found["in"] == found["on"] == (False, "got through")
    assert found["out"] == (True, "refused") and found["end"] == (True, "crashed: the process ended")


def test_the_tools_of_the_probes_work_in_a_sealed_process(backend: Backend) -> None:
    attempt = "return [system(39) == os.getpid(), let_in(39), all_refused((39,)), all_refused((57,))]"
    with sealed("program", Limits(), backend) as cell:
        assert load(cell, probes.source([attempt]), 10) is None
        assert ask(cell, "attempt_0", {}, seconds=10) == ("passed", [True, True, False, True])


@pytest.mark.parametrize(("area", "name"), HARMLESS, ids=[f"{a}-{n}" for a, n in HARMLESS])
def test_the_probe_gets_through_where_nothing_is_sealed(area: str, name: str, tmp_path: Path) -> None:
    with probes.host() as at:
        code = probes.source([probes.PROBES[area][name]])
        code += f"\nimport json\nprint(bool(attempt_0(json.loads({json.dumps(at.facts)!r}))))\n"
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-W", "ignore", "-c", code],
            cwd=tmp_path, capture_output=True, text=True, check=False, timeout=20,
        )  # fmt: skip
    assert done.stdout == "True\n", done.stderr
