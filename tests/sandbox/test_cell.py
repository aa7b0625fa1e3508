"""Sealed processes from outside: verdicts, limits, deadlines, and that nothing is left behind."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trueup.errors import TrueupError
from trueup.sandbox import cell
from trueup.sandbox.backends import Backend
from trueup.sandbox.cell import Limits, ask, load, sealed
from trueup.sandbox.verdicts import check, check_all

pytestmark = pytest.mark.usefixtures("strongest")
ADD = "def add(a, b):\n    return a + b\n"


def call(program: str, name: str, backend: Backend, limits: Limits | None = None) -> tuple[str, Any]:
    """What a function of a program gives, and how that went."""
    limits = limits or Limits()
    with sealed("program", limits, backend) as running:
        assert load(running, program, limits.seconds) is None
        return ask(running, name, seconds=limits.seconds)


def tree(pid: int) -> Iterator[int]:
    """A process and all that descends from it."""
    yield pid
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split():
        yield from tree(int(child))


def alive(pid: int) -> bool:
    """Whether it runs or could; a dead process that nobody has collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def verdict_of(program: str, tests: str, entry_point: str = "") -> tuple[str, str]:
    """Outcome and detail."""
    found = check(program, tests, entry_point=entry_point)
    return found.outcome, found.detail


@pytest.mark.parametrize(
    "tests",
    [
        "assert add(1, 2) == 3",
        "def check(candidate):\n    assert candidate(1, 2) == 3",
        "import math\nassert math.isclose(add(.1, .2), .3)",
        "values = [add(n, b=n) for n in range(3)]\nassert values == [0, 2, 4]",
        "try:\n    add(1, 'x')\nexcept TypeError as e:\n    assert 'support' in str(e)\nelse:\n    assert 0",
        "assert add((1,), ()) == (1,) and add({1: 'a'}.get(1), 'é') == 'aé' and add(1j, 2.5) == 2.5 + 1j",
        "add = add\nassert add(2, 2) == 4",
    ],
)  # fmt: skip
def test_a_right_program_passes(tests: str) -> None:
    assert verdict_of(ADD, tests, "add") == ("passed", "")


def test_a_program_may_have_a_check_of_its_own() -> None:
    tests = "def check(candidate):\n    assert check(7) and not check(8)"
    assert verdict_of("def check(n): return n % 2 == 1", tests, "check") == ("passed", "")


def test_results_that_are_no_plain_data_are_true_or_false_and_equal_to_nothing() -> None:
    program = "import re\ndef find(text): return re.search('b', text)\ndef each(n): return iter(range(n))"
    assert verdict_of(program, "assert find('abc') and not find('x')")[0] == "passed"
    assert verdict_of(program, "assert find('abc') == find('abc')")[0] == "failed"
    assert verdict_of(program, "assert list(each(2)) == [0, 1]")[0] == "failed"


@pytest.mark.parametrize(
    ("program", "detail"),
    [
        ("def add(a, b): return a - b", "AssertionError: "),
        ("def add(a, b): return a / 0", "ZeroDivisionError: division by zero"),
        ("class Odd(Exception): pass\ndef add(a, b): raise Odd('why')", "ProgramError: Odd: why"),
        ("def plus(a, b): return a + b", "AttributeError: module 'program' has no attribute 'add'"),
        ("def add(a, b: return", "the program does not load: SyntaxError: "),
        ("import numpy", "the program does not load: ModuleNotFoundError: No module named 'numpy'"),
        ("raise KeyboardInterrupt", "the program does not load: KeyboardInterrupt: "),
    ],
)
def test_a_wrong_program_fails_and_says_why(program: str, detail: str) -> None:
    outcome, said = verdict_of(program, "assert add(1, 2) == 3")
    assert outcome == "failed" and said.startswith(detail)


@pytest.mark.parametrize(
    ("tests", "detail"),
    [
        ("assert True", "the tests call nothing of the program"),
        ("assert add(print, 1) == 2", "the tests' arguments: builtin_function_or_method is no plain data"),
        ("assert add(1, 2) = 3", "the tests do not parse"),
        ("add(1, 2)\nraise SystemExit", "the tests end the interpreter"),
    ],
)
def test_tests_that_cannot_judge_are_said_to_be_so(tests: str, detail: str) -> None:
    outcome, said = verdict_of(ADD, tests)
    assert outcome == "unsupported" and said.startswith(detail)


def test_what_a_program_says_stays_on_one_short_line() -> None:
    said = verdict_of("def add(a, b): raise ValueError('one\\n\\x1b[31mtwo' * 200)", "assert add(1, 2)")[1]
    assert "\n" not in said and "\x1b" not in said and len(said) < 1000


def test_printing_and_reading_do_no_harm() -> None:
    program = (
        "import sys\nprint('x' * 100_000)\ndef add(a, b):\n    print(a)\n    return sys.stdin.read() or a + b"
    )
    assert verdict_of(program, "assert add(1, 2) == 3") == ("passed", "")


def test_the_same_program_sees_the_same_order_of_a_set(backend: Backend, strongest: Backend) -> None:
    program = "def order(): return list({str(n) for n in range(50)})"
    assert call(program, "order", backend) == call(program, "order", strongest)


def test_what_the_standard_library_links_to_is_there(backend: Backend) -> None:
    """Modules that load libraries of the machine, which a back end could have left outside."""
    names = ("_bz2", "_ctypes", "_hashlib", "_lzma", "_sqlite3", "_ssl", "pyexpat", "readline", "zlib")
    here = [name for name in names if importlib.util.find_spec(name)]
    assert len(here) > 3
    assert call(f"import {', '.join(here)}\ndef there(): return 1", "there", backend) == ("passed", 1)


def test_each_limit_gives_its_outcome(backend: Backend) -> None:
    limits = Limits(seconds=30, cpu_seconds=1, memory_mib=128, message_kib=64)
    program = (
        "import time\ndef sleep(): time.sleep(100)\ndef spin():\n    while True: pass\n"
        "def large(): return 'x' * 70_000\ndef small(): return 'x' * 60_000\n"
        "def memory(): return len(bytearray(2**27))"
    )
    outcomes = {name: call(program, name, backend, limits)[0] for name in ("spin", "large", "small")}
    assert outcomes == {"spin": "crashed", "large": "flooded", "small": "passed"}
    assert call(program, "memory", backend, limits) == ("failed", "MemoryError: ")
    slow = check(program, "sleep()", limits=Limits(seconds=1.5), backend=backend.name)
    assert slow.outcome == "timeout"
    assert check(program, "assert large()", limits=limits, backend=backend.name).outcome == "flooded"


def test_limits_that_start_no_interpreter_are_refused() -> None:
    for wrong in ({"seconds": 0}, {"memory_mib": 8}, {"cpu_seconds": 0}, {"message_kib": 0}):
        with pytest.raises(TrueupError, match="E702"):
            Limits(**wrong)


def test_a_slow_start_is_not_the_programs_time(monkeypatch: pytest.MonkeyPatch) -> None:
    boot = cell._BOOT
    monkeypatch.setattr(cell, "_BOOT", "import time; time.sleep(0.7); " + boot)
    assert check(ADD, "assert add(1, 2) == 3", limits=Limits(seconds=0.6)).passed
    monkeypatch.setattr(cell, "_STARTING", 0.2)
    with pytest.raises(TrueupError, match=r"E951.*did not start: the deadline"):
        check(ADD, "assert add(1, 2) == 3")


def test_every_process_is_dead_within_a_tenth_of_a_second_of_its_end(backend: Backend) -> None:
    with sealed("program", Limits(), backend) as running:
        running.start({"source": "while True: pass"}, time.monotonic() + 20)
        processes = list(tree(running.process.pid))
        assert all(map(alive, processes))
        ended = time.monotonic()
    assert running.process.poll() == -signal.SIGKILL
    while any(map(alive, processes)):
        assert time.monotonic() - ended < 0.1


def test_no_folder_is_left_behind(backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    check(ADD, "assert add(1, 2) == 3", backend=backend.name)
    assert not list(tmp_path.iterdir())


def test_sealed_processes_die_with_the_one_that_started_them(backend: Backend) -> None:
    code = (
        "import os, sys, time\nfrom trueup.sandbox.backends import BACKENDS\n"
        "from trueup.sandbox.cell import Limits, sealed\n"
        "with sealed('program', Limits(), BACKENDS[sys.argv[1]]) as running:\n"
        "    running.start({'source': 'while True: pass'}, time.monotonic() + 30)\n"
        "    print(running.process.pid, flush=True)\n    sys.stdin.read()\n    os._exit(0)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, backend.name], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as starter:
        assert starter.stdin is not None and starter.stdout is not None
        processes = list(tree(int(starter.stdout.readline())))
        assert all(map(alive, processes))
        starter.stdin.close()
        starter.wait(timeout=30)
    until = time.monotonic() + 2
    while any(map(alive, processes)):
        assert time.monotonic() < until
        time.sleep(0.01)


def test_many_are_judged_in_order() -> None:
    jobs = [(ADD, f"assert add({n}, 1) == {n + 1 + n % 2}", "add") for n in range(6)]
    assert [v.passed for v in check_all(jobs, workers=2)] == [True, False, True, False, True, False]
