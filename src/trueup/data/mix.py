"""What prompts are for, how long and in which language they are, and how two sets of them differ.

Reference: Ouyang et al. 2022 (InstructGPT), table 1, for the ten use cases and their shares.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from trueup.data.words import words
from trueup.engine.groups import Group, Role

INSTRUCTGPT: Mapping[str, float] = {
    "generation": 0.456,
    "open qa": 0.124,
    "brainstorming": 0.112,
    "chat": 0.084,
    "rewrite": 0.066,
    "summarization": 0.042,
    "classification": 0.035,
    "other": 0.035,
    "closed qa": 0.026,
    "extract": 0.019,
}
"Share of the prompts sent to the API, by use case (Ouyang et al. 2022, table 1)."
_RULES: tuple[tuple[str, str], ...] = (
    (
        "chat",
        r"^(?:the following|this) is a conversation|(?:^|\n)(?:human|user|you|me):.*\n+\w+:",
    ),
    (
        "summarization",
        r"\b(?:summar\w+|tl;?dr|in (?:one|a|two|three) (?:sentences?|lines?)\b.*:|key points)\b",
    ),
    (
        "extract",
        r"\b(?:extract|pull out|list (?:all|every) .* (?:in|from) (?:the|this)"
        r"|find (?:all|every) .* in the)\b",
    ),
    (
        "classification",
        r"\b(?:classif\w+|categori[sz]e|label (?:the|this|each)|sentiment|spam or|positive or negative"
        r"|which category|rate the)\b",
    ),
    (
        "rewrite",
        r"\b(?:rewrite|re-write|rephrase|paraphrase|translate|correct the|fix the|make (?:this|it) more"
        r"|proofread|shorten|convert (?:this|the)|edit (?:this|the)|change (?:this|the))\b",
    ),
    (
        "brainstorming",
        r"\b(?:ideas?|brainstorm|suggest(?:ions?)?|name (?:\w+ )?(?:ways|things|reasons)"
        r"|(?:list|give me|what are) (?:\w+ )?(?:\w+ )?(?:ways|names|reasons|titles|tips|things))\b",
    ),
    (
        "closed qa",
        r"\b(?:according to|based on|using|given) (?:the|this) (?:\w+ )?(?:text|passage|article|paragraph"
        r"|context|story|table|information)|\b(?:passage|context|paragraph):.*\?"
        r"|answer .* (?:question|below|from the)",
    ),
    (
        "generation",
        r"\b(?:write|compose|draft|create|generate|make up|tell (?:me )?a (?:story|joke)|invent|design"
        r"|continue)\b",
    ),
    (
        "open qa",
        r"^(?:who|what|when|where|why|how|which|whose|is|are|was|were|do|does|did|can|could|will|should|has)\b"
        r"|\?\s*$|\b(?:explain|define|describe|tell me (?:about|how|why|what))\b",
    ),
)
_COMPILED = tuple((name, re.compile(rule, re.IGNORECASE | re.DOTALL)) for name, rule in _RULES)
_STOPS: Mapping[str, frozenset[str]] = {
    "en": frozenset(
        [
            "the",
            "and",
            "of",
            "to",
            "is",
            "in",
            "that",
            "it",
            "for",
            "you",
            "with",
            "are",
            "what",
            "how",
            "this",
        ]
    ),
    "de": frozenset(
        ["der", "die", "das", "und", "ist", "nicht", "ein", "eine", "mit", "für", "wie", "ich", "von", "zu"]
    ),
    "fr": frozenset(
        [
            "le",
            "la",
            "les",
            "et",
            "est",
            "une",
            "un",
            "des",
            "pour",
            "que",
            "dans",
            "qui",
            "avec",
            "je",
            "comment",
        ]
    ),
    "es": frozenset(
        ["el", "los", "las", "y", "es", "una", "un", "para", "que", "con", "por", "como", "qué", "del"]
    ),
    "it": frozenset(
        ["il", "lo", "gli", "e", "è", "una", "un", "per", "che", "di", "con", "come", "sono", "della"]
    ),
    "pt": frozenset(
        ["o", "os", "as", "e", "é", "uma", "um", "para", "que", "com", "por", "como", "não", "da", "do"]
    ),
    "nl": frozenset(
        ["de", "het", "een", "en", "is", "van", "dat", "niet", "voor", "met", "hoe", "ik", "zijn"]
    ),
}
_SCRIPTS = (
    ("HIRAGANA", "ja"),
    ("KATAKANA", "ja"),
    ("HANGUL", "ko"),
    ("CJK", "zh"),
    ("CYRILLIC", "cyrillic"),
    ("ARABIC", "arabic"),
    ("DEVANAGARI", "devanagari"),
    ("THAI", "th"),
    ("GREEK", "el"),
    ("HEBREW", "he"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """What a set of prompts is made of; shares add up to 1."""

    groups: int
    users: int
    "How many people are named."
    cases: Mapping[str, float]
    "Share of each use case."
    languages: Mapping[str, float]
    kinds: Mapping[str, float]
    "Share of plain, few-shot and user-based prompts, of the rows that say it in `meta.kind`."
    words: tuple[float, float, float]
    "Words of a prompt: the 10th, 50th and 90th of 100."

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        return asdict(self)


def mix(groups: Sequence[Group]) -> Mix:
    """What the prompts are made of, their last turn of a user looked at."""
    texts = [asked(group) for group in groups]
    said = [str(group.meta["kind"]) for group in groups if "kind" in group.meta]
    lengths = np.percentile([len(words(text)) for text in texts], (10, 50, 90)) if texts else (0.0, 0.0, 0.0)
    return Mix(
        groups=len(groups),
        users=len({group.user for group in groups if group.user}),
        cases=_shares([use_case(text) for text in texts]),
        languages=_shares([language(text) for text in texts]),
        kinds=_shares(said),
        words=(float(lengths[0]), float(lengths[1]), float(lengths[2])),
    )


def asked(group: Group) -> str:
    """What the user said last, or the whole of a plain prompt."""
    return next((turn.content for turn in reversed(group.prompt) if turn.role in (Role.USER, Role.TEXT)), "")


def use_case(text: str) -> str:
    """Which of the ten use cases a prompt is, by rules in English: the first that fits, else `other`."""
    return next((name for name, rule in _COMPILED if rule.search(text.strip())), "other")


def language(text: str) -> str:
    """The language of a text by its script and stop words; `unknown` where neither says it.

    Scripts of several languages are named as they are. Short texts without stop words are not guessed at.
    """
    letters = [unicodedata.name(sign, "") for sign in text[:400] if sign.isalpha()]
    counts = Counter(short for name in letters for script, short in _SCRIPTS if name.startswith(script))
    if counts["ja"]:
        return "ja"
    if counts and counts.most_common(1)[0][1] > len(letters) / 3:
        return counts.most_common(1)[0][0]
    said = words(text[:2000])
    hits = {name: sum(word in stops for word in said) for name, stops in _STOPS.items()}
    best = max(hits, key=lambda name: hits[name])
    return best if hits[best] and list(hits.values()).count(hits[best]) == 1 else "unknown"


def drift(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    """The total variation distance of two mixes, from 0, the same, to 1: TV(p, q) = sum |p - q| / 2."""
    return sum(abs(one.get(name, 0.0) - other.get(name, 0.0)) for name in {*one, *other}) / 2


def table(found: Mix, beside: Mix | None) -> list[str]:
    """The lines that show the use cases beside InstructGPT's, and beside another set's."""
    head = f"{'use case':16}{'here':>8}{'InstructGPT':>13}" + (f"{'beside':>9}" if beside else "")
    lines = [head]
    for name, cited in INSTRUCTGPT.items():
        other = f"{beside.cases.get(name, 0.0):>9.1%}" if beside else ""
        lines.append(f"{name:16}{found.cases.get(name, 0.0):>8.1%}{cited:>13.1%}{other}")
    low, middle, high = found.words
    lines.append(f"words of a prompt: {middle:.0f} ({low:.0f} to {high:.0f} for 80 %)")
    for title, shares in (("languages", found.languages), ("kinds", found.kinds)):
        if shares:
            lines.append(f"{title}: " + ", ".join(f"{name} {share:.1%}" for name, share in shares.items()))
    if beside:
        moved = drift(found.cases, beside.cases), drift(found.languages, beside.languages)
        lines.append(f"drift (total variation): use cases {moved[0]:.3f}, languages {moved[1]:.3f}")
    return lines


def card(name: str, found: Mix) -> str:
    """A data card: Markdown behind the YAML front matter that the Hugging Face hub reads."""
    import yaml

    known = sorted(short for short in found.languages if len(short) == 2)
    sizes = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
    size = next((label for most, label in sizes if found.groups < most), "1M<n<10M")
    front = {"pretty_name": name, "size_categories": [size], "task_categories": ["text-generation"]}
    if known:
        front["language"] = known
    shown = "\n".join(table(found, None))
    body = f"# {name}\n\n{found.groups} prompts of {found.users} named users.\n\n```\n{shown}\n```\n\n"
    said = "Use cases are told by rules, languages by script and stop words (trueup data stats).\n"
    return f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n\n{body}{said}"


def _shares(names: Sequence[str]) -> dict[str, float]:
    return {name: count / len(names) for name, count in Counter(names).most_common()}
