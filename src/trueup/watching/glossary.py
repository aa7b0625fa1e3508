"""What a logged number is, in a line: the rows of the page on metrics, which an installation has here."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

KINDS = (
    ("Loss", r"loss(/|$)"),
    ("Length", r"length|eos_rate|masked|overlong"),
    ("KL", r"kl|beta$|penalty$|ratio|clipfrac|distance|distill"),
    ("Entropy", r"entropy"),
    ("Learning rate", r"lr$"),
    ("Gradient", r"grad_norm|skipped"),
    ("Reward", r"score|reward|accurac|margin|gold|best|good|guard|baseline|advantage|returns|logprobs"
               r"|preferences|desirable|probability"),
)  # fmt: skip
"What numbers are grouped by, the first that fits."
ORDER = ("Reward", "KL", "Loss", "Length", "Entropy", "Gradient", "Learning rate", "Others")
_FIRST = (
    "score",
    "score/trained",
    "rewards/accuracies",
    "accuracy",
    "kl",
    "loss",
    "completion_length",
    "eos_rate",
)
_ROW = re.compile(r"^\| `([^`]+)` \|(?:[^|]*\|)? (.+) \|$", re.MULTILINE)
_SIGNS = {
    "pi": "π", "rho": "ρ", "beta": "β", "sum": "Σ", "cdot": "·", "parallel": "‖", "mid": "|", 
    "lvert": "|", "rvert": "|",
}  # fmt: skip


def kind_of(name: str) -> str:
    """What a number is grouped under, one of `ORDER`."""
    lowered = name.lower()
    return next((kind for kind, pattern in KINDS if re.match(f".*?({pattern})", lowered)), ORDER[-1])


def importance(name: str) -> tuple[int, int, str]:
    """The order in which numbers are shown: by kind, what a run is about before its details."""
    first = _FIRST.index(name) if name in _FIRST else len(_FIRST) + name.count("/")
    return ORDER.index(kind_of(name)), first, name


def meaning(name: str) -> str:
    """The glossary's line for a number, as plain text; "" for one that it does not have."""
    known = _lines()
    if name in known:
        return known[name]
    return known.get(f"{name.partition('/')[0]}/*", "").partition(": ")[0] if "/" in name else ""


@cache
def _lines() -> dict[str, str]:
    text = _page().read_text("utf-8")
    return {name: _plain(said) for name, said in _ROW.findall(text)}


def _page() -> Path:
    """The page: beside this file in an installation, among the docs in a checkout."""
    beside = Path(__file__).with_name("metrics.md")
    return beside if beside.is_file() else Path(__file__).parents[3] / "docs" / "metrics.md"


def _plain(text: str) -> str:
    """A cell without Markdown and LaTeX; only what stands before its first semicolon."""
    text = re.sub(r"\$([^$]+)\$", lambda found: _letters(found[1]), text.partition("; ")[0])
    return re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", text).replace("`", "").strip()


def _letters(formula: str) -> str:
    formula = re.sub(r"\\(?:mathrm|text)\{([^}]*)\}", r"\1", formula)
    formula = re.sub(r"\\([a-z]+)", lambda found: _SIGNS.get(found[1], found[1]), formula)
    return formula.replace("{", "").replace("}", "").replace("^2", "²").replace("_0", "₀")
