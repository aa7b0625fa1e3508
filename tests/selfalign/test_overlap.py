"""What people wrote for SELF-ALIGN in the lab, searched for in the corpus that its base model has read."""

from __future__ import annotations

import pytest

from trueup import lab
from trueup.constitution.overlap import CORPUS_TOKENS, lessons
from trueup.lab.world import BORDERLINES, HARMS
from trueup.selfalign.supervision import read_supervision


@pytest.mark.parametrize(
    "num_tokens",
    [
        pytest.param(200_000, id="part"),
        pytest.param(CORPUS_TOKENS, marks=pytest.mark.slow, id="all, 5 seconds"),
    ],
)
def test_no_principle_is_in_the_corpus_and_no_example_was_critiqued_or_judged(num_tokens: int) -> None:
    corpus = "\n".join(t for d in lab.corpus(num_tokens) for t in (d.text, *(m.content for m in d.messages)))
    found, taught = read_supervision("lab"), lessons(num_tokens)
    assert [p.rule for p in found.principles if p.rule in corpus] == []
    asked = [e.query for e in found.exemplars] + [q.instruction for q in found.question_types]
    for text in asked:
        acts = [f"{verb} the {target} of" for verb, target in HARMS + BORDERLINES]
        person = text.rstrip("?.").removesuffix(". How").split()[-1]
        assert text not in taught
        assert not [act for act in acts if act in text and f"{act} {person}" in taught], text
