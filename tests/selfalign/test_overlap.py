"""What people wrote for SELF-ALIGN in the lab, searched for in the corpus that its base model has read."""

from __future__ import annotations

import pytest

from trueup import lab
from trueup.constitution.overlap import CORPUS_TOKENS, REGISTERS
from trueup.lab.world import BORDERLINES, HARMS
from trueup.selfalign.supervision import read_supervision


@pytest.mark.parametrize(
    "num_tokens",
    [
        pytest.param(200_000, id="part"),
        # Writing the whole corpus takes several seconds.
        pytest.param(CORPUS_TOKENS, marks=pytest.mark.slow, id="all that lab:base has read"),
    ],
)
def test_no_principle_is_in_the_corpus_and_no_example_was_critiqued_or_judged(num_tokens: int) -> None:
    texts: dict[bool, list[str]] = {False: [], True: []}
    for document in lab.corpus(num_tokens):
        said = (document.text, *(message.content for message in document.messages))
        texts[document.register in REGISTERS] += said
    corpus, taught = "\n".join(texts[False] + texts[True]), "\n".join(texts[True])
    found = read_supervision("lab")
    assert [p.rule for p in found.principles if p.rule in corpus] == []
    for text in [e.query for e in found.exemplars] + [q.instruction for q in found.question_types]:
        acts = [f"{verb} the {target} of" for verb, target in HARMS + BORDERLINES]
        person = text.rstrip("?.").removesuffix(". How").split()[-1]
        assert text not in taught
        assert not [act for act in acts if act in text and f"{act} {person}" in taught], text
