"""Equations on the pages parse, read the same on GitHub as on the site, and none is left in plain text."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from page_blocks import DOCS, PAGES, ROOT
from page_equations import SITE, Equation, equations_of, tokens

for package in ("math_core", "myst_parser", "ziamath"):
    pytest.importorskip(package, reason="the site is made with the docs extra")
sys.path.insert(0, str(SITE))
equations = importlib.import_module("equations")

OUTPUT = DOCS / "cli.md"
"What `--help` prints, word for word."
WRITTEN = [page for page in PAGES if page.is_relative_to(DOCS) and page != OUTPUT] + [ROOT / "README.md"]


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


# ------------------------------------------------------------------------------------------ they are sound


def problems(equation: Equation) -> Iterator[str]:
    """What is wrong with an equation, as the site or as GitHub has it."""
    try:
        mathml = equations.mathml(equation.latex, block=equation.block)
    except equations.LatexError as error:
        yield str(error)
        return
    if not re.fullmatch(r"<math( display=\"block\")?>.+</math>", mathml, flags=re.DOTALL):
        yield f"no <math>: {mathml}"
    if "\\" in mathml:
        yield f"a backslash is left in {mathml}"
    if "\\\\" in equation.latex and "\\begin{" not in equation.latex:
        yield "a line ends outside of an environment, where it does not"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_equation_of_a_page_parses(page: Path) -> None:
    found = [(e.latex, problem) for e in equations_of(page) for problem in problems(e)]
    assert not found


@pytest.mark.parametrize(
    "latex", [r"\foo x", r"\frac{1}", r"\left( x", r"x_", r"{x", r"a & b", r"a \\ b", r"\begin{aligned} a"]
)
def test_what_is_no_equation_is_found(latex: str) -> None:
    assert list(problems(Equation(latex, block=True)))


def plain_text(page: Path) -> str:
    """The text of a page's lines as Markdown without equations has it: escapes and emphasis are taken."""
    lines = MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))
    inline = [line.children or [] for line in lines if line.type == "inline"]
    return "\n".join(
        "".join(part.content or "\n" for part in line if part.type != "code_inline") for line in inline
    )


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_no_equation_in_a_line_is_markdown(page: Path) -> None:
    """GitHub takes `\\{` for a brace and `_a_` for emphasis before it looks for equations."""
    text = plain_text(page)
    assert not [e.latex for e in equations_of(page) if not e.block and f"${e.latex}$" not in text]


@pytest.mark.parametrize("latex", [r"\{a\}", r"a\,b", r"(a)_b c_)", "a^*, b^*"])
def test_an_equation_that_markdown_eats_is_found(latex: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"Let ${latex}$ be.\n", encoding="utf-8")
    assert equations_of(page) == [Equation(latex, block=False)] and f"${latex}$" not in plain_text(page)


# ------------------------------------------------------------------------------------------ none is left out

# What only an equation holds: operators, raised and lowered signs, Greek letters beside an index or operator.
RAW = re.compile(
    r"[_^]\{|[∑∏√∇∂∫∝≻⊤‖𝔼𝟙ᵀ]|Σ[ _]|[α-ωΑ-Ω][_^(/]|[α-ωΑ-Ω] ?[=≤≥<>+−·/~∈←] ?\S|\S ?[=≤≥+−·/] ?[α-ωΑ-Ω]"
    r"|[\w)][⁰¹²³⁴-⁹⁺⁻ⁿ]|[A-Za-z][₀-₉]|\blog [b-zB-Zπσρ]\b|\b[a-zA-Z]_[a-z<]\b"
)


NAMES = ("heading_open", "heading_close", "link_open", "link_close")
CHAIN = " -> "
"Between the stages of a method, in a block that names them."


def raw(page: Path) -> Iterator[str]:
    """Lines of a page's sentences, tables and plain blocks that hold an equation in plain text.

    Headings, and links that repeat them, are names: the sidebar and the title of a window show them as text.
    """
    named = 0
    for token in tokens(page):
        named += token.nesting if token.type in NAMES else 0
        lines: list[str] = []
        if token.type == "code_block" or (token.type == "fence" and token.info.strip() in ("", "text")):
            lines = [line for line in token.content.splitlines() if CHAIN not in line]
        elif token.type == "text" and not named:
            lines = [token.content]
        yield from (line.strip() for line in lines if RAW.search(line))


@pytest.mark.parametrize("page", WRITTEN, ids=name)
def test_no_equation_is_left_in_plain_text(page: Path) -> None:
    assert not list(raw(page))


BEFORE = [
    "    L = q ℓ(z) + (1 − q) ℓ(−z),  z = β (h(y_w) − h(y_l))",
    "```text\nL = −(1 / T) Σ_t log π_θ(y_t | x, y_<t)\n```",
    "```\ny* = argmax r(x, y_i),  y_i ~ ρ\n```",
    "The minimum is ρ e^{r/β} / Z for every reward.",
    "| `loss` | −log σ(z) |\n|---|---|\n",
    "against √KL for both",
    "It starts at log V and falls.",
    "for two experts it is off by w_1 and y_l",
    "the variance is σ² and λ / 2",
    "* KL(π ‖ ρ) is what it costs",
]


@pytest.mark.parametrize("text", BEFORE)
def test_an_equation_in_plain_text_is_found(text: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"{text}\n", encoding="utf-8")
    assert list(raw(page))


@pytest.mark.parametrize(
    "text",
    [
        "p is the label, β a strength of .1 to .5, and K completions are drawn at λ of 0 and 1.",
        "    sample -> score, old log-probs, KL reward -> hinge + λ NLL",
        "`a_b` and `log V` are names; the Jensen-Shannon divergence; 20 %, 1e-6, v2.1, ½ and 3–8.",
        "# The scale 400 · β\n\nIn $\\beta \\cdot 400$ points.",
        "```sh\ntrueup train dpo --beta 0.1  # β = .1\n```",
    ],
)
def test_what_is_no_equation_passes(text: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"{text}\n", encoding="utf-8")
    assert not list(raw(page))
