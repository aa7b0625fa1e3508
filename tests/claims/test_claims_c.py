"""RRHF's claims and soups' on fabricated numbers; claims that are not yet there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trueup import reproduce
from trueup.cli import main
from trueup.errors import TrueupError


def test_claims_without_their_method_are_listed_and_not_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not set(reproduce.NOT_YET) & set(reproduce.claims())
    assert main(["reproduce", "--json", "--out", str(tmp_path)]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert {name for name, row in rows.items() if row["verdict"] == "not yet"} == set(reproduce.NOT_YET)
    assert rows["kl-directions"]["verdict"] is None
    with pytest.raises(TrueupError, match=r"E719 claim self-align-truth.*not yet"):
        reproduce.about("self-align-truth")
