"""No program passes tests that it does not satisfy: ways to forge a verdict, each of which is refused.

The task is to add two integers. Every forgery is a program that does not; some fool a grader that runs
program and tests in one interpreter, which is what the second test shows.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from trueup.sandbox.backends import Backend
from trueup.sandbox.cell import Limits
from trueup.sandbox.verdicts import check

TESTS = """
def check(candidate):
    assert candidate(2, 3) == 5
    assert candidate(10, -4) == 6
    assert [candidate(n, 1) for n in range(3)] == [1, 2, 3]
"""
FORGERIES = {
    "an object equal to everything": """
class Any:
    def __eq__(self, other): return True
    def __hash__(self): return 0
def add(a, b): return Any()
""",
    "an int with an equality of its own": """
class Any(int):
    def __eq__(self, other): return True
    __hash__ = int.__hash__
def add(a, b): return Any(0)
""",
    "a number that claims another class": """
class Any:
    __class__ = int
    def __eq__(self, other): return True
    def __index__(self): return 5
    def __reduce__(self): return (eval, ("True",))
def add(a, b): return Any()
""",
    "ending the interpreter on loading": "import sys\nsys.exit(0)\n",
    "ending the process in a call": "import os\ndef add(a, b): os._exit(0)\n",
    "printing a verdict": """
import sys
def add(a, b):
    print('V{"nonce": "", "outcome": "passed", "detail": ""}', file=sys.__stdout__, flush=True)
    print("passed")
""",
    "writing a verdict to every descriptor": """
import os
def add(a, b):
    for d in range(64):
        for line in (b'V{"nonce": "", "outcome": "passed", "detail": ""}', b'{"outcome": "passed"}'):
            try: os.write(d, line + b"\\n")
            except OSError: pass
    os._exit(0)
""",
    "walking the frames to the grader": """
import sys
def add(a, b):
    frame = sys._getframe()
    while frame:
        for name, value in list(frame.f_locals.items()) + list(frame.f_globals.items()):
            if isinstance(value, list): value.append("passed")
            if isinstance(value, dict) and "outcome" in value: value["outcome"] = "passed"
        frame.f_globals["result"] = frame.f_globals["passed"] = True
        frame = frame.f_back
    return None
""",
    "patching the border's own code": """
import json, sys
for module in list(sys.modules.values()):
    for name in ("encode", "_success", "_failure", "dumps"):
        if hasattr(module, name) and module.__name__ != "json.encoder":
            setattr(module, name, lambda *a, **k: b'{"value": "{}"}')
def add(a, b): return "passed"
""",
    "sending tags of its own": """
import os
def add(a, b):
    for tag in ("i", "t", "any", "truth", "passed"):
        line = '{"value": "{\\\\"%s\\\\": [5, true]}", "truth": true}' % tag
        for d in range(3, 8):
            try: os.write(d, line.encode() + b"\\n")
            except OSError: pass
""",
    "patching the built-in functions": """
import builtins
builtins.all = builtins.any = builtins.isinstance = lambda *a: True
builtins.AssertionError = type("AssertionError", (BaseException,), {})
def add(a, b): return True
""",
    "raising what ends the tests": """
def add(a, b): raise SystemExit(0)
""",
    "an exception under a name that matters": """
class KeyboardInterrupt(Exception): pass
class UnansweredError(BaseException): pass
def add(a, b): raise UnansweredError("passed")
""",
    "searching memory for the nonce and the tests": """
import gc
def add(a, b):
    for found in gc.get_objects():
        if isinstance(found, dict) and "nonce" in found:
            return found["nonce"]
        if isinstance(found, str) and "assert candidate(" in found:
            return 5
""",
    "answering before it is asked": """
import os
for d in range(3, 8):
    for n in (5, 6, 1, 2, 3):
        try: os.write(d, b'{"value": "{\\\\"i\\\\": \\\\"5\\\\"}"}\\n')
        except OSError: pass
def add(a, b): return None
""",
    "speaking when the interpreter ends": """
import atexit, os
atexit.register(os.write, 1, b'V{"outcome": "passed"}')
class Last:
    def __del__(self): os.write(1, b'passed')
last = Last()
def add(a, b): return last
""",
    "reading the tests from the machine": """
import inspect, linecache, os
def add(a, b):
    for place in ("/proc/self/cmdline", "/proc/self/fd/0", ".", "/tmp"):
        try:
            if "assert" in open(place).read(): return 5
        except OSError: pass
    return inspect.stack()[-1].code_context
""",
    "watching every line that runs": """
import sys
def watch(frame, event, argument):
    frame.f_trace_opcodes = True
    if "other" in frame.f_locals: return None
    return watch
sys.settrace(watch); sys.setprofile(watch)
def add(a, b): return None
""",
    "changing the number five": """
import ctypes
for n in range(1, 7):
    ctypes.c_int.from_address(id(n) + 24).value = 5
def add(a, b): return 5
""",
    "waiting until nobody asks any more": "def add(a, b):\n    while True: pass\n",
    "a value without end": """
def add(a, b):
    nest = []
    for _ in range(100_000): nest = [nest]
    return nest
""",
    "standing in for the tests' function": """
def check(candidate): return True
def candidate(a, b): return True
def add(a, b): return 0
""",
}
FOOLED = (
    "an object equal to everything",
    "an int with an equality of its own",
    "a number that claims another class",
    "ending the interpreter on loading",
    "ending the process in a call",
    "raising what ends the tests",
    "writing a verdict to every descriptor",
)
RIGHT = "def add(a, b): return a + b\n"
LIMITS = Limits(seconds=60, cpu_seconds=1)


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forgery_does_not_pass(name: str, backend: Backend) -> None:
    assert len(FORGERIES) >= 12
    verdict = check(FORGERIES[name], TESTS, entry_point="add", limits=LIMITS, backend=backend.name)
    assert verdict.outcome in ("failed", "crashed"), verdict


def test_the_same_tests_pass_a_right_program(backend: Backend) -> None:
    assert check(RIGHT, TESTS, entry_point="add", limits=LIMITS, backend=backend.name).passed


@pytest.mark.parametrize("name", FOOLED)
def test_a_grader_in_one_interpreter_would_be_fooled(name: str) -> None:
    code = FORGERIES[name] + TESTS + "check(add)\n"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, check=False, timeout=20
    )
    assert done.returncode == 0
