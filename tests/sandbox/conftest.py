"""The back ends of the sandbox; a test of one that does not work on this machine is skipped, and says why."""

from __future__ import annotations

import pytest

from trueup.sandbox.backends import BACKENDS, Backend
from trueup.sandbox.trust import refusal


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    """Each back end that works here."""
    found = BACKENDS[request.param]
    if why := refusal(found):
        pytest.skip(f"not on this machine: {why}")
    return found
