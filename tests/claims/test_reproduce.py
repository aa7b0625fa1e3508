"""Claims: verdicts from intervals, the command, the page; and the directions of KL against closed forms."""

from __future__ import annotations

import json
import math
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from markupsafe import Markup

from trueup.citations import cite
from trueup.claims import reproduce
from trueup.claims.experiment import SHARED, read_stages
from trueup.claims.files import kl_directions
from trueup.claims.files.kl_directions import GRID, M, S, divergence, gaussian, mixture, nearest
from trueup.claims.finding import Effect, Finding
from trueup.cli import main
from trueup.errors import TrueupError
from trueup.settings.strict_yaml import read_yaml


@pytest.mark.parametrize(
    ("value", "interval", "verdict"),
    [
        (0.5, None, "holds"),
        (1.5, None, "does not hold here"),
        (0.5, (0.1, 0.9), "holds"),
        (0.5, (0.1, 1.1), "undecided"),
        (1.2, (0.9, 1.5), "undecided"),
        (1.5, (1.1, 1.9), "does not hold here"),
        (-0.5, (-1.0, -0.1), "does not hold here"),
        (math.nan, None, "does not hold here"),
    ],
)
def test_a_verdict_is_where_the_interval_lies(
    value: float, interval: tuple[float, float] | None, verdict: str
) -> None:
    """Wanted is 0 to 1."""
    assert Effect(name="x", value=value, interval=interval, wanted=(0.0, 1.0)).verdict == verdict


def finding(*values: float) -> Finding:
    effects = tuple(Effect(name="<b>", value=v, interval=(v, v + 1), wanted=(0.0, 2.0)) for v in values)
    return Finding(effects=effects, setting="a & b", figure=Markup("<svg></svg>"), caption="")


def test_a_claim_holds_where_all_its_effects_do() -> None:
    assert finding(0.5, 0.7).verdict == "holds"
    assert finding(0.5, 1.7).verdict == "undecided"
    assert finding(0.5, 1.7, 9.0).verdict == "does not hold here"
    assert finding().verdict == "undecided"


def test_every_claim_says_what_and_who() -> None:
    assert "kl-directions" in reproduce.claims()
    for name in reproduce.claims():
        said = reproduce.about(name)
        assert said["claim"].endswith(".")
        assert cite(said["references"]).count("@") == len(said["references"]) > 0
        assert "measure" in vars(kl_directions)
    with pytest.raises(TrueupError, match=r"E702.*did you mean 'kl-directions'"):
        reproduce.about("kl-direction")


def test_a_recipe_says_what_it_shares_and_in_what_a_stage_differs(tmp_path: Path) -> None:
    """Of a block that is given the other keys stay, of a value nothing; what is like `dpo` runs `dpo`."""
    path = tmp_path / "claim.yaml"
    path.write_text(
        "shared: [sft, dpo]\nstages:\n  faster: {like: dpo, update: {lr: 1.0e-3}, beta: 0.2}\n"
        "  longer: {like: faster, loop: {epochs: 9}}\n",
        encoding="utf-8",
    )
    found = read_stages(path)
    assert list(found) == ["sft", "dpo", "faster", "longer"] and "method" not in found["dpo"]
    loop, update = found["dpo"]["loop"], {"lr": 1e-3}
    assert found["dpo"]["update"] == {"lr": 1e-4}, "what is shared stays as it is"
    assert found["faster"] == {**found["dpo"], "method": "dpo", "update": update, "beta": 0.2}
    assert found["longer"] == {**found["faster"], "loop": {**loop, "epochs": 9}}
    for text in ("shared: [sfft]\n", "stages: {x: {like: sfft}}\n"):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(TrueupError, match=r"E713 .*there is no stage 'sfft'"):
            read_stages(path)


def test_what_claims_share_is_shared() -> None:
    files = Path(kl_directions.__file__).parent
    said = [read_yaml(path).values.get("shared", ()) for path in files.glob("*.yaml")]
    uses = Counter(name for names in said for name in names)
    assert len(said) > 30 and set(uses) == set(read_yaml(SHARED).values)
    assert not [name for name, times in uses.items() if times < 2]


def test_the_forward_optimum_matches_moments() -> None:
    """KL(P ‖ N(μ, σ²)) by hand is −H(P) + log(σ√2π) + (s² + m² + μ²) / 2σ²: least at 0 and s² + m²."""
    log_p = mixture()
    entropy = -float(np.trapezoid(np.exp(log_p) * log_p, GRID))
    for mu, sigma in ((0.0, 1.0), (0.0, math.sqrt(S**2 + M**2)), (1.5, 3.0)):
        by_hand = -entropy + math.log(sigma * math.sqrt(2 * math.pi)) + (S**2 + M**2 + mu**2) / (2 * sigma**2)
        assert divergence(log_p, gaussian(mu, sigma)) == pytest.approx(by_hand, abs=1e-11)


def test_the_reverse_value_at_a_mode_is_log_2() -> None:
    """There P is half of Q, but for the other mode's e^−128 of it."""
    assert divergence(gaussian(M, S), mixture()) == pytest.approx(math.log(2), abs=1e-12)
    between = nearest(lambda q: divergence(q, mixture()), 0.3, 1.0)
    assert between.mu == pytest.approx(M, abs=1e-6), "a start between the modes goes to one"


class _Words(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)


def test_the_command_measures_keeps_and_lists(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", str(tmp_path)]
    assert main(["reproduce", "--json", *out]) == 0
    before = {row["name"]: row["verdict"] for row in json.loads(capsys.readouterr().out)}
    assert before["kl-directions"] is None
    assert main(["reproduce", "kl-directions", *out]) == 0
    assert "settles on one. holds" in capsys.readouterr().out.replace("\n", " ")
    folder = tmp_path / "kl-directions"
    row = json.loads((folder / "claim.json").read_text(encoding="utf-8"))
    assert row["verdict"] == "holds" and {e["verdict"] for e in row["effects"]} == {"holds"}
    values = {e["name"]: e["value"] for e in row["effects"]}
    assert values["forward: σ²"] == pytest.approx(16.25, abs=1e-6)
    assert values["reverse: μ from a start on the left"] == pytest.approx(-4, abs=1e-6)
    drawing = ElementTree.parse(folder / "figure.svg").getroot()
    svg = "{http://www.w3.org/2000/svg}"
    lines = [line for line in drawing.iter(f"{svg}polyline") if line.find(f"{svg}title") is not None]
    assert [(line[0].text or "").split(",")[0] for line in lines] == ["P", "forward", "reverse", "reverse"]
    assert [(line.get("class") or "").split()[1] for line in lines] == ["filled", "solid", "broken", "solid"]
    words = _Words()
    words.feed((folder / "index.html").read_text(encoding="utf-8"))
    assert "script" not in words.tags and words.tags.count("tr") == 1 + len(row["effects"])
    assert main(["reproduce", *out]) == 0
    assert "holds" in capsys.readouterr().out
    assert main(["reproduce", "kl-directions", "--json", *out]) == 0
    assert json.loads(capsys.readouterr().out) == row, "the same numbers again"


def test_a_claim_that_fails_says_so_by_its_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And text of a claim cannot become markup."""
    monkeypatch.setattr(kl_directions, "measure", lambda trials: finding(9.0))
    assert main(["reproduce", "kl-directions", "--out", str(tmp_path)]) == 1
    assert "does not hold here" in capsys.readouterr().out
    page = (tmp_path / "kl-directions" / "index.html").read_text(encoding="utf-8")
    assert "<b>" not in page.split("<main>")[1] and "&lt;b&gt;" in page and "a &amp; b" in page
    assert "9 (9 to 10)" in page
