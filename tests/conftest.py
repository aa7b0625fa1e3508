"""What every test runs under: shapes and types checked as the code runs, hypothesis in a fixed order."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

if TYPE_CHECKING:
    from trueup.sandbox.backends import Backend

settings.register_profile("trueup", derandomize=True, deadline=None, print_blob=True)
# `make fuzz`: other examples every time; a failure prints what repeats it.
settings.register_profile(
    "fuzz",
    parent=settings.get_profile("trueup"),
    derandomize=False,
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "2000")),
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "trueup"))

# No test reaches for the network by accident.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

CHECKED = ("trueup.engine.batch", "trueup.objectives", "trueup.annotate")
"Modules whose shape annotations are enforced while the tests run (never outside them)."

install_import_hook(CHECKED, "shape_checks.check")


@pytest.fixture
def strongest() -> Backend:
    """The back end of the sandbox that is chosen where none is named; without one the test is skipped."""
    from trueup.errors import TrueupError
    from trueup.sandbox.trust import pick

    try:
        return pick()
    except TrueupError as error:
        pytest.skip(f"not on this machine: {error.reason}")
