"""Internal thoughts: what a base model wrote under the principles, taken apart.

    opening  analysis, rules 2, 8  ANSWER-MARK  answer  USER-MARK ...

(Sun et al. 2023, section 3.2.) Only the answer is ever trained on.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from trueup.selfalign.supervision import Dialogue

_NUMBER = re.compile(r"\d+")


class Thoughts(NamedTuple):
    """A completion in its parts; `reason` says why it has none."""

    analysis: str = ""
    "The thoughts after the fixed opening."
    rules: tuple[int, ...] = ()
    "Numbers of principles that the thoughts name, in order, from 1."
    answer: str = ""
    ended: bool = False
    "Whether the answer came to the next question's mark, or to the model's own end."
    reason: str = ""


def read_thoughts(text: str, form: Dialogue, num_rules: int, *, stopped: bool) -> Thoughts:
    """The parts of a completion; `stopped` says that it ended before its length was up.

    The reason is `opening` where it does not begin by the fixed words, `no answer` where no answer follows.
    Numbers beyond the rules there are name none.
    """
    opening = form.opening.strip()
    start = len(text) - len(text.lstrip()) if opening else 0
    if not text.startswith(opening, start):
        return Thoughts(reason="opening")
    analysis, mark, rest = text[start + len(opening) :].partition(form.answer)
    if not mark:
        return Thoughts(analysis=analysis.strip(), reason="no answer")
    answer, asked, _ = rest.partition(form.user)
    rules = tuple(n for n in _numbers(analysis, form.numbers) if 1 <= n <= num_rules)
    return Thoughts(
        analysis=analysis.strip(), rules=rules, answer=answer.strip(), ended=bool(asked) or stopped
    )


def _numbers(analysis: str, pattern: str) -> list[int]:
    found = [
        int(number) for match in re.finditer(pattern, analysis) for number in _NUMBER.findall(match[1] or "")
    ]
    return list(dict.fromkeys(found))
