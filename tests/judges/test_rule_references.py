"""Rules by reference: their options, and what is refused."""

from __future__ import annotations

import pytest

from trueup.engine.groups import Completion, Group
from trueup.errors import TrueupError
from trueup.judges.open import open_judge
from trueup.judges.rules import ExactAnswer, Length, Matches


def test_options_are_read_in_their_kind() -> None:
    assert open_judge("rule:length") == Length()
    assert open_judge("rule:length?shortest=1&longest=400&per=50") == Length(shortest=1, longest=400, per=50)
    assert open_judge("rule:matches?pattern=%26+b%3F$&found=0.5&absent=-2") == Matches(
        pattern="&+b?$", found=0.5, absent=-2.0
    )
    assert open_judge("rule:matches?pattern=a=b") == Matches(pattern="a=b")
    assert open_judge("rule:exact?key=result") == ExactAnswer(key="result")


def test_a_rule_scores() -> None:
    group = Group(
        prompt=(), completions=(Completion(text="it is 12"), Completion(text="13")), meta={"sum": 12}
    )
    assert open_judge("rule:exact?key=sum")([group]) == [[1.0, 0.0]]


@pytest.mark.parametrize(
    ("ref", "named"),
    [
        ("rule:lenght", "one of length, matches, exact"),
        ("rule:length?longst=3", "longest="),
        ("rule:length?longest", "longest="),
        ("rule:length?longest=many", "'many' is no int"),
        ("rule:matches", "rule:matches?pattern="),
    ],
)
def test_what_is_no_rule_is_refused(ref: str, named: str) -> None:
    with pytest.raises(TrueupError, match="E792") as caught:
        open_judge(ref)
    assert named in str(caught.value)


def test_a_broken_pattern_is_refused() -> None:
    with pytest.raises(TrueupError, match="E702"):
        open_judge("rule:matches?pattern=(")
