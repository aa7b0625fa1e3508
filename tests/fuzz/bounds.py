"""How long the machines of this folder run: a moment by default, thousands of examples under `make fuzz`."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine

EXAMPLES, STEPS = 12, 16
"By default."


def bounded(examples: int = EXAMPLES) -> settings:
    """The settings of a machine: those of the profile, with few examples where it is not `fuzz`."""
    if settings.get_current_profile_name() == "fuzz":
        return settings(stateful_step_count=2 * STEPS)
    return settings(max_examples=examples, stateful_step_count=STEPS)


class Killed(BaseException):
    """What stands for SIGKILL: nobody catches it, and nothing is tidied up after it."""


class InFolder(RuleBasedStateMachine):
    """A machine with a folder of its own."""

    def __init__(self) -> None:
        super().__init__()
        self._temporary = TemporaryDirectory(prefix="fuzz-")
        self.folder = Path(self._temporary.name)

    def teardown(self) -> None:
        """Nothing; the folder is gone."""
        with suppress(OSError):
            self._temporary.cleanup()
