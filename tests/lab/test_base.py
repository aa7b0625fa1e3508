"""The base model that comes with the package: capable, not aligned, and the one that was built."""

from __future__ import annotations

from pathlib import Path

import pytest

from trueup.errors import TrueupError
from trueup.lab import doors
from trueup.lab.build import measure_bands
from trueup.models.opening import model_path


def test_the_shipped_base_lies_within_its_bands() -> None:
    bands = measure_bands("lab:base")
    assert len(bands) == 7
    assert [str(band) for band in bands if not band.holds] == []


def test_the_shipped_base_is_at_most_four_megabytes() -> None:
    assert sum(path.stat().st_size for path in Path(model_path("lab:base")).iterdir()) < 4_000_000


def test_other_weights_in_its_place_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors, "BASE_DIGEST", "0" * 64)
    with pytest.raises(TrueupError, match="E841"):
        model_path("lab:base")
