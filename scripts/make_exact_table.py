"""Writes docs/exact.md: python scripts/make_exact_table.py (from anywhere; needs the test tools)."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests"
PAGE = ROOT / "docs" / "exact.md"
HEAD = """# What is known exactly, and how near each method comes

Each row is a fact that can be worked out without the code it tests: by enumerating every completion of a
small world, by a closed form, or by a generic optimiser on a formula written anew. What is measured is the
method as it is built for real, with its own annotators, objective and update rule. The worlds have 3 tokens:
`even` has 27 completions of 3 tokens under one prompt; `ragged` has two prompts of 1 and 2 tokens and 15
completions of 1 to 3 tokens that may end early. Everything is float64.

The tests (`pytest tests/exact`) ask each row to be within its tolerance; `python scripts/make_exact_table.py`
measures them again and writes this page. The last digits of "reached" may differ on another machine.

| method | what is known | what is measured | tolerance | reached |
|---|---|---|---|---|
"""

# The rows are written in Unicode, as code and terminals have it; on the page their formulas are equations.
TYPESET = {
    "ρ e^{A/β}": r"\rho e^{A/\beta}",
    "Σ ρ e^{A/β} = 1": r"\sum \rho e^{A/\beta} = 1",
    "ρ e^{r/β} / Z": r"\rho e^{r/\beta} / Z",
    "F^n − F⁻^n": r"F^n - (F^-)^n",
    "p₀(· | C, x)": r"p_0(\cdot \mid C, x)",
    "Z(s)": "Z(s)",
    "β = .5": r"\beta = .5",
    "KL(π ‖ P)": r"\mathrm{KL}(\pi \parallel P)",
    "(1/3) Σ_s π(s) ∇KL_s": r"(1/3) \sum_s \pi(s) \nabla \mathrm{KL}_s",
    "(cβ, cr)": r"(c\beta, cr)",
    "∇L": r"\nabla L",
    "ε = c = e = 0": r"\varepsilon = c = e = 0",
    "(P_2 − ρ²) / (1 − Σ ρ²)": r"(P_2 - \rho^2) / (1 - \sum \rho^2)",
    "∝ ρ(y) exp(E_{y'}[p(y ≻ y')] / β)": r"\propto \rho(y) \exp(\mathbb{E}_{y'}[p(y \succ y')] / \beta)",
    "ρ(y) exp(T_y (E_{y'}[p(y ≻ y')] / β + c))": (
        r"\rho(y) \exp(T_y (\mathbb{E}_{y'}[p(y \succ y')] / \beta + c))"
    ),
    "z0": "z_0",
    "z0 = 0": "z_0 = 0",
    "n_w": "n_w",
    "n_l": "n_l",
    "r(GOOD, A) − r(BAD, A) = log n_w / n_l": r"r(\mathrm{GOOD}, A) - r(\mathrm{BAD}, A) = \log (n_w / n_l)",
    "r(GOOD, y) − r(BAD, y)": r"r(\mathrm{GOOD}, y) - r(\mathrm{BAD}, y)",
    "∇J": r"\nabla J",
    "∇L = −∇J": r"\nabla L = -\nabla J",
    "∇L = −∇J / (mean tokens a completion) + γ ∇NLL(text)": (
        r"\nabla L = -\nabla J / \text{(mean tokens a completion)} + \gamma \nabla \text{NLL(text)}"
    ),
    "1/k^t": "1/k^t",
    "log k^t": r"\log k^t",
    "n = k^t": "n = k^t",
    "β = 0": r"\beta = 0",
    "β > 0": r"\beta > 0",
    "r − β log(π / ρ)": r"r - \beta \log(\pi / \rho)",
    "r_w − r_l = log n_w / n_l": r"r_w - r_l = \log (n_w / n_l)",
    "r_w − r_l = log p / (1 − p)": r"r_w - r_l = \log (p / (1 - p))",
    "r = w · f": r"r = w \cdot f",
    "r = log worth + constant": r"r = \log \mathrm{worth} + \mathrm{constant}",
    "log 2": r"\log 2",
    "log K": r"\log K",
    "log K!": r"\log K!",
    "2 (f(n) − f(p))": "2 (f(n) - f(p))",
    "KL(old ‖ new) ≤ δ": r"\mathrm{KL}(\mathrm{old} \parallel \mathrm{new}) \le \delta",
    "KL(teacher ‖ π)": r"\mathrm{KL}(\mathrm{teacher} \parallel \pi)",
    "KL(p₀(· | C, x) ‖ π(· | x))": r"\mathrm{KL}(p_0(\cdot \mid C, x) \parallel \pi(\cdot \mid x))",
    "P(kept = x) ∝ P(the scores of x are not all equal)": (
        r"P(\text{kept} = x) \propto P(\text{the scores of } x \text{ are not all equal})"
    ),
    "the same − η Σ_s P(s) ∇H(s)": r"\text{the same} - \eta \sum_s P(s) \nabla H(s)",
    "−∇J / (σ · mean tokens a completion)": (r"-\nabla J / (\sigma \cdot \text{mean tokens a completion})"),
    "∇E[r]": r"\nabla \mathbb{E}[r]",
    "σ · mean tokens": r"\sigma \cdot \text{mean tokens}",
    "ρ β / (λ − r)": r"\rho \beta / (\lambda - r)",
    "ρ e^x / (2 − e^x)": r"\rho e^x / (2 - e^x)",
    "x = (r − λ)/β": r"x = (r - \lambda) / \beta",
    "ρ / (1 − αx)^2": r"\rho / (1 - \alpha x)^2",
    "α = .5": r"\alpha = .5",
    "V − 1": "V - 1",
    "|Δ logits|": r"\lvert \Delta \mathrm{logits} \rvert",
    "3 · gradient": r"3 \cdot \mathrm{gradient}",
    "KL(π ‖ π*)": r"\mathrm{KL}(\pi \parallel \pi^\ast)",
    "KL(π* ‖ π)": r"\mathrm{KL}(\pi^\ast \parallel \pi)",
    "|L − H|": r"\lvert L - H \rvert",
    "π*": r"\pi^\ast",
    "|error|": r"\lvert \mathrm{error} \rvert",
    "|difference|": r"\lvert \mathrm{difference} \rvert",
    "loss − minimum": r"\mathrm{loss} - \mathrm{minimum}",
    "|r_w − r_l − log(5/2)|": r"\lvert r_w - r_l - \log(5/2) \rvert",
    "|r_w − r_l − log(.8/.2)|": r"\lvert r_w - r_l - \log(.8/.2) \rvert",
    "max |w − sklearn's w|": r"\max \lvert w - w_{\mathrm{sklearn}} \rvert",
    "max |r − log worth|": r"\max \lvert r - \log \mathrm{worth} \rvert",
    "± log(5/2)": r"\pm \log(5/2)",
    "|logit + logit with tags exchanged|": r"\lvert \mathrm{logit} + \text{logit with tags exchanged} \rvert",
    "KL(data ‖ π)": r"\mathrm{KL}(\mathrm{data} \parallel \pi)",
    "KL(winners ‖ π)": r"\mathrm{KL}(\mathrm{winners} \parallel \pi)",
    "KL(P_n ‖ π)": r"\mathrm{KL}(P_n \parallel \pi)",
    "KL(P_4 ‖ π)": r"\mathrm{KL}(P_4 \parallel \pi)",
    "KL(cut ‖ π)": r"\mathrm{KL}(\mathrm{cut} \parallel \pi)",
    "|KL(π ‖ ρ) − log 8|": r"\lvert \mathrm{KL}(\pi \parallel \rho) - \log 8 \rvert",
    "hinge + λ NLL": r"\mathrm{hinge} + \lambda\ \mathrm{NLL}",
    "KL / δ": r"\mathrm{KL} / \delta",
}
FORMULA = re.compile(
    "|".join(rf"(?<!\w){re.escape(f)}(?!\w)" for f in sorted(TYPESET, key=len, reverse=True))
)


def table() -> str:
    """The page, every row measured now."""
    sys.path.insert(0, str(TESTS))
    for path in sorted((TESTS / "exact").glob("known_*.py")):
        importlib.import_module(f"exact.{path.stem}")
    solutions = importlib.import_module("exact.solutions").SOLUTIONS
    lines = [
        f"| {s.method} | {cell(s.known)} | {cell(s.measured)} | {s.tolerance:g} | {s.reach():.1e} |"
        for s in sorted(solutions, key=lambda s: s.method)
    ]
    return HEAD + "\n".join(lines) + "\n"


def cell(text: str) -> str:
    """What a row says, as the table has it: formulas between dollar signs."""
    return FORMULA.sub(lambda found: f"${TYPESET[found[0]]}$", text).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(table(), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")
