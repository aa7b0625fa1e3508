"""`make docs`: the site is whole, in the order of docs/README.md, and reads without a network."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from page_blocks import DOCS, PAGES, ROOT
from page_equations import equations_of

SCRIPT = ROOT / "scripts" / "make_docs.py"


def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_docs", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_site_is_whole(tmp_path: Path) -> None:
    pytest.importorskip("sphinx", reason="the site is made with the docs extra")
    site = tmp_path / "site"
    done = subprocess.run([sys.executable, str(SCRIPT), str(site)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    front = (site / "index.html").read_text(encoding="utf-8")
    captions = re.findall(r'<span class="caption-text">([^<]+)</span>', front)
    assert captions == ["Start", "Tasks", "Methods", "Reference", "Results", "The project"]
    written = {path.relative_to(site).with_suffix("").as_posix() for path in site.rglob("*.html")}
    sources = [*DOCS.rglob("*.md"), *ROOT.glob("results/*.md"), ROOT / "README.md"]
    assert written >= {path.relative_to(ROOT).with_suffix("").as_posix() for path in sources}
    assert "over-optimis" in (site / "searchindex.js").read_text(encoding="utf-8")
    check_equations(site)


def check_equations(site: Path) -> None:
    """Every equation of the pages is MathML, in a font that is there, and no script is asked to set it."""
    for page in PAGES:
        html = (site / page.relative_to(ROOT)).with_suffix(".html").read_text(encoding="utf-8")
        assert html.count("<math") == html.count("</math>") >= len(equations_of(page)), page
        assert html.count('<div class="equation">') == len([e for e in equations_of(page) if e.block]), page
        scripts = re.findall(r'<script[^>]* src="([^"]+)"', html)
        assert scripts and not [script for script in scripts if re.search(r"math|katex|//", script)], page
    style = (site / "_static" / "site.css").read_text(encoding="utf-8")
    (font,) = re.findall(r'url\("([^"]+)"\)', style)
    assert (site / "_static" / font).is_file()


BAD = {
    "a link to nowhere": '<a href="b.html">b</a>',
    "an anchor that is not there": '<a href="#c">c</a>',
    "an image of somebody's server": '<img src="https://example.org/a.png">',
    "a script of somebody's server": '<script src="//example.org/a.js"></script>',
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD.keys())
def test_what_makes_a_site_less_than_whole_is_named(body: str, tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(f'<p id="top"><a href="#top">up</a> {body}</p>', encoding="utf-8")
    (problem,) = maker().problems(tmp_path)
    assert problem.startswith("a.html: ")


def test_a_font_from_elsewhere_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.css").write_text("@font-face { src: url('https://example.org/f.woff') }", encoding="utf-8")
    assert len(list(maker().problems(tmp_path))) == 1
