"""What people wrote for SELF-ALIGN in the lab, searched for in the corpus that its base model has read."""

from __future__ import annotations

import pytest

from trueup import lab
from trueup.lab.build import Pretraining
from trueup.lab.world import NEWCOMERS, PEOPLE
from trueup.selfalign.supervision import read_supervision

FACTS = ("home", "trade", "pet", "dish", "town", "work")


@pytest.mark.parametrize(
    "num_tokens",
    [
        pytest.param(200_000, id="part"),
        # Writing the whole corpus takes several seconds.
        pytest.param(Pretraining().tokens, marks=pytest.mark.slow, id="all that lab:base has read"),
    ],
)
def test_no_principle_task_or_example_is_in_the_corpus(num_tokens: int) -> None:
    corpus = "\n".join(
        text for d in lab.corpus(num_tokens) for text in (d.text, *(m.content for m in d.messages))
    )
    found = read_supervision("lab")
    ours = [p.rule for p in found.principles]
    ours += [e.query for e in found.exemplars] + [q.instruction for q in found.question_types]
    ours += found.seeds
    assert len(ours) == 16 + 5 + 20 + 175
    assert [text for text in ours if text in corpus] == []


def test_requests_name_newcomers_unless_they_ask_for_a_fact() -> None:
    """Facts are known of people of the corpus alone."""
    found = read_supervision("lab")
    texts = (
        [e.query for e in found.exemplars] + [q.instruction for q in found.question_types] + [*found.seeds]
    )
    for text in texts:
        words = text.replace("?", " ").replace(".", " ").replace(",", " ").split()
        known, new = ([word for word in words if word in names] for names in (PEOPLE, NEWCOMERS))
        assert not (known and new), text
        if known:
            assert any(fact in words for fact in FACTS), text
    assert sum(any(name in text for name in NEWCOMERS) for text in found.seeds) > 60
