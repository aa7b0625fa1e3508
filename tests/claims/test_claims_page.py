"""The page of claims is made of what `trueup reproduce` kept, whatever the verdicts are."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from markupsafe import Markup

from trueup.claims import reproduce
from trueup.claims.files import kl_directions
from trueup.claims.finding import Effect, Finding

ROOT = Path(__file__).parents[2]


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("claims_page", ROOT / "scripts" / "make_claims_page.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [((0.2, 0.4), "holds"), ((-0.4, -0.2), "does not hold here"), ((-0.1, 0.3), "undecided")],
)
def test_the_page_says_what_was_kept(
    interval: tuple[float, float], verdict: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    effect = Effect(
        name="a | b", value=sum(interval) / 2, interval=interval, wanted=(0.0, None), by_seed=(0.1,)
    )
    finding = Finding(
        effects=(effect,) * 3, setting="It was so.", figure=Markup("<svg>it</svg>"), caption="Dots."
    )
    monkeypatch.setattr(kl_directions, "measure", lambda trials: finding)
    reproduce.reproduce("kl-directions", tmp_path / "runs", changed={"sft": {"seed": 3}})
    page = script().write(tmp_path / "runs", tmp_path / "results").read_text(encoding="utf-8")
    assert (tmp_path / "results" / "claims" / "kl-directions.svg").read_text() == "<svg>it</svg>\n"
    row = next(line for line in page.splitlines() if line.startswith("| [kl-directions]"))
    assert row.endswith(f"| none | *{verdict}* |") and "a \\| b" in row and "and 1 more" in row
    assert row.replace("\\|", "").count("|") == 7
    assert reproduce.between(interval) in row
    section = page.split("\n## kl-directions\n")[1]
    for part in (
        "It was so. With other settings",
        "](claims/kl-directions.svg)",
        "Dots.",
        "reproduce kl-directions",
    ):
        assert part in section
    for row in reproduce.listing(tmp_path / "none"):
        assert row["name"] == "kl-directions" or f"| `{row['name']}` | {row['claim']} |" in page
    assert f"{len(reproduce.listing(tmp_path / 'runs'))} claims: " in page
    assert f"{verdict} 1" in page and page.count("\n## ") == 1
