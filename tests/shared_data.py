"""Where the public sample data lies: `shared/data` beside the checkout, or $TRUEUP_SHARED_DATA."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_ROOT = Path(os.environ.get("TRUEUP_SHARED_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


def shared(name: str) -> Path:
    """The path of one shared file; the calling test is skipped, with the reason, where it is absent."""
    path = _ROOT / name
    if not path.exists():
        pytest.skip(f"public sample data not here: {name} (set TRUEUP_SHARED_DATA to its folder)")
    return path
