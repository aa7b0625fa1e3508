"""What is seen first, for a notebook: of the report's own parts, and nothing outside it is touched."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from fake_comparison import FAMILIES, write_fake_comparison
from fake_run import write_fake_run
from reports.test_write import Page
from trueup.errors import TrueupError
from trueup.reports import first_screen, write_report
from trueup.reports.comparison import write_comparison
from trueup.reports.page import drawing_style


def plots(page: str) -> list[str]:
    """The charts of a page, each with all that is in it."""
    return re.findall(r'<svg class="plot".*?</svg>(?=</div>)', page)


def said(page: str) -> str:
    return " ".join("".join(Page(page).text).split())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fake_run(tmp_path_factory.mktemp("screen") / "run")


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fake_comparison(tmp_path_factory.mktemp("screen") / "compared")


def test_a_run_is_its_sentence_its_charts_and_every_policy(run: Path) -> None:
    found = first_screen(run)
    page = write_report(run).read_text("utf-8")
    assert len(plots(found)) == 2 and plots(found) == plots(page)[:2]
    text = said(found)
    assert "PPO raised gold reward over SFT by +0.123 [+0.092, +0.154] at KL 2.13" in text.replace(
        "\u00a0", " "
    )
    assert found.count('<th scope="row">') == 6 and "400 prompts" in text
    assert "Learning curves" not in text, "what is further down the report is not in it"


def test_a_comparison_is_its_sentence_its_charts_and_every_method(compared: Path) -> None:
    found = first_screen(compared)
    assert plots(found) == plots(write_comparison(compared).read_text("utf-8"))[:2]
    assert "PPO gains most: gold reward +0.21" in said(found)
    assert found.count('<th scope="row">') == len(FAMILIES)


def test_a_training_run_is_what_it_held_out_and_its_first_curves(tmp_path: Path) -> None:
    folder = tmp_path / "dpo-0123456789"
    folder.mkdir()
    names = ("loss", "kl", "margin", "entropy")
    rows = [{"step": k, "phase": "train", **dict.fromkeys(names, 1.0 / k)} for k in range(1, 7)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    held_out = {"accuracy": {"mean": 0.5, "ci95": [0.168, 0.832], "n": 6}}
    (folder / "held_out.json").write_text(json.dumps(held_out))
    text = said(first_screen(folder))
    assert text.count("Trained DPO for 6 steps.") == 1
    assert re.search(r"accuracy\W*0\.500\W+0\.168,\W0\.832", text)
    assert all(name in text for name in names[:3]) and "entropy" not in text


def test_it_is_whole_and_asks_for_nothing(run: Path, compared: Path) -> None:
    for found in map(first_screen, (run, compared)):
        parsed = Page(found)
        assert parsed.open == [] and parsed.links == []
        assert not parsed.ids, "two outputs of one notebook would have them twice"
        assert not {tag for tag, _ in parsed.elements} & {
            "script",
            "iframe",
            "img",
            "link",
            "html",
            "body",
            "h1",
        }
        assert not any(name.startswith("on") for _, names in parsed.elements for name in names)
        assert len(found.encode()) < 100_000


def test_its_style_holds_for_it_alone(run: Path) -> None:
    """Every rule names the fragment's class, so that a notebook's own tables keep their looks."""
    (style,) = re.findall(r"<style>(.*?)</style>", first_screen(run), re.DOTALL)
    rules = re.sub(r"/\*.*?\*/|@media[^{]*\{", "", style, flags=re.DOTALL)
    selectors = [
        s.strip() for rule in re.findall(r"([^{}]+)\{", rules) for s in re.split(r",(?![^(]*\))", rule)
    ]
    assert len(selectors) > 60
    assert not [s for s in selectors if not re.match(r"(:is\([^)]*\) )?\.trueup\b", s)]
    assert "color-scheme: dark" in style and ":root" not in style


def test_a_file_that_stands_alone_names_its_colours() -> None:
    """Readers of SVG that know no variables and no schemes draw it too."""
    assert "var(" not in drawing_style() and "light-dark" not in drawing_style()
    assert ".trueup .c2 { color: #2a6bb3; }" in drawing_style()


@pytest.mark.parametrize(
    "payload", ["</style><script>alert(1)</script>", '" onmouseover="x', "{{ 7 * 7 }}\u202e"]
)
def test_no_text_changes_it(payload: str, tmp_path: Path) -> None:
    hostile = first_screen(write_fake_run(tmp_path / "hostile" / "run", text=payload, steps=3))
    benign = first_screen(write_fake_run(tmp_path / "benign" / "run", text="b" * len(payload), steps=3))
    assert Page(hostile).elements == Page(benign).elements and "\u202e" not in hostile


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrueupError, match="E801"):
        first_screen(tmp_path / "nowhere")
    assert "This run holds no evaluated policy yet." in said(first_screen(tmp_path))
