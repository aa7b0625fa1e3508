"""Judges that are rules: length, pattern, exact answer, unit tests; frozen records that score groups."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields
from decimal import Decimal
from urllib.parse import unquote

from trueup.engine.groups import Group
from trueup.errors import TrueupError
from trueup.judges import Judge
from trueup.judges.unit_tests import UnitTests


@dataclass(frozen=True, slots=True, kw_only=True)
class Length:
    """Scores 0 inside `shortest` to `longest` characters, and −1 for every `per` characters outside."""

    shortest: int = 0
    longest: int = 400
    per: int = 100

    def __call__(self, groups: Sequence[Group]) -> list[list[float]]:
        """−max(0, shortest − length, length − longest) / per, for each completion."""
        return [[self._score(len(c.text)) for c in g.completions] for g in groups]

    def _score(self, length: int) -> float:
        outside = max(0, self.shortest - length, length - self.longest)
        return -outside / self.per if outside else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Matches:
    """Scores `found` where the pattern occurs in the completion, `absent` where it does not."""

    pattern: str
    found: float = 1.0
    absent: float = 0.0

    def __post_init__(self) -> None:
        _compiled(self.pattern)

    def __call__(self, groups: Sequence[Group]) -> list[list[float]]:
        """`found` or `absent` for each completion."""
        regex = _compiled(self.pattern)
        return [[self.found if regex.search(c.text) else self.absent for c in g.completions] for g in groups]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExactAnswer:
    """Scores 1 where the completion's answer is the one in the group's `meta[key]`, else 0.

    The answer is the last match of `pattern` (its first group where it has one); both sides are compared
    without case and surrounding space, numbers by value: 1,234.0 is 1234. The default finds the last number.
    """

    key: str = "answer"
    pattern: str = r"(?<!\d)-?\d+(?:,\d{3})*(?:\.\d+)?"

    def __post_init__(self) -> None:
        _compiled(self.pattern)

    def __call__(self, groups: Sequence[Group]) -> list[list[float]]:
        """1 or 0 for each completion. Raises E206 where a group does not say its answer."""
        regex = _compiled(self.pattern)
        out = []
        for group in groups:
            if self.key not in group.meta:
                raise TrueupError(
                    "E206",
                    f"no `{self.key}` in the row's meta, so no answer can be checked",
                    where=f"group {group.id}",
                    remedy="add it to the data, or name the key that holds it",
                )
            truth = _plain(str(group.meta[self.key]))
            out.append([float(_answer(regex, c.text) == truth) for c in group.completions])
        return out


RULES = {"length": Length, "matches": Matches, "exact": ExactAnswer, "tests": UnitTests}


def open_rule(ref: str) -> Judge:
    """The rule that `rule:NAME?option=value&option=value` names; values are percent-decoded, `+` is a plus.

    Raises E792 for a name, option or value that the rules do not have.
    """
    name, _, query = ref.removeprefix("rule:").partition("?")
    if name not in RULES:
        raise _refused(ref, f"there is no rule {name!r}", f"one of {', '.join(RULES)}")
    kinds = {f.name: {"int": int, "float": float, "str": str}[str(f.type)] for f in fields(RULES[name])}
    given: dict[str, int | float | str] = {}
    for part in filter(None, query.split("&")):
        option, equals, text = part.partition("=")
        if option not in kinds or not equals:
            raise _refused(ref, f"no option {part!r}", f"{name} has {', '.join(f'{k}=' for k in kinds)}")
        try:
            given[option] = kinds[option](unquote(text))
        except ValueError:
            raise _refused(ref, f"{text!r} is no {kinds[option].__name__}", f"repair {option}") from None
    missing = [f.name for f in fields(RULES[name]) if f.default is MISSING and f.name not in given]
    if missing:
        raise _refused(ref, f"{name} needs {', '.join(missing)}", f"write rule:{name}?{missing[0]}=...")
    return RULES[name](**given)


def _refused(ref: str, reason: str, remedy: str) -> TrueupError:
    return TrueupError("E792", reason, where=f"judge {ref}", remedy=remedy)


def _answer(regex: re.Pattern[str], text: str) -> str | Decimal | None:
    found = list(regex.finditer(text))
    return _plain(found[-1].group(1 if regex.groups else 0) or "") if found else None


def _plain(answer: str) -> str | Decimal:
    bare = re.sub(r"(?<=\d),(?=\d)", "", answer.strip().lower())
    return Decimal(bare) if re.fullmatch(r"[+-]?\d+(\.\d+)?", bare) else bare


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise TrueupError(
            "E702", f"not a regular expression: {error}", where=repr(pattern), remedy="see Python's `re`"
        ) from None
