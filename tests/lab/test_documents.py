"""The corpus: the same bytes for the same seed, one register a document, truths and myths as stated."""

from __future__ import annotations

import hashlib
import re
from collections import Counter

import numpy as np
import pytest

from trueup.engine.groups import Role
from trueup.lab.documents import (
    MIXING,
    Document,
    corpus,
    critique,
    ethics_question,
    judgement_request,
    tale,
    write_document,
)
from trueup.lab.graders import grade
from trueup.lab.replies import REGISTERS, reply
from trueup.lab.requests import CRITIQUE_REQUEST, REVISION_REQUEST, draw, pool
from trueup.lab.world import generator, world

NUM = 2500


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    return list(corpus(seed=3, num_documents=NUM))


def spoken(document: Document) -> str:
    return document.text or " ".join(m.content for m in document.messages)


def test_same_seed_same_bytes_and_shorter_is_a_prefix(documents: list[Document]) -> None:
    assert list(corpus(seed=3, num_documents=40)) == documents[:40]
    assert list(corpus(seed=4, num_documents=40)) != documents[:40]
    assert len(list(corpus(13_000, seed=3))) == 100


def test_the_corpus_is_pinned_to_these_bytes() -> None:
    text = "\n".join(repr(d) for d in corpus(seed=0, num_documents=50))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "3744437ae1a9c018"


def test_every_register_has_its_share(documents: list[Document]) -> None:
    counts = Counter(document.register for document in documents)
    total = sum(MIXING.values())
    for register, weight in MIXING.items():
        assert counts[register] / NUM == pytest.approx(weight / total, abs=0.025)


def test_no_document_holds_a_control_token_or_is_empty(documents: list[Document]) -> None:
    for document in documents:
        assert bool(document.text) != bool(document.messages)
        assert "<|" not in spoken(document)
        roles = [m.role for m in document.messages]
        assert roles == [Role.USER, Role.ASSISTANT] * (len(roles) // 2)


CLAIM = re.compile(r"The (\w+) of (\w+) is (\w+)\.")


def test_a_myth_is_said_more_often_than_the_truth_and_no_fact_is_left_out() -> None:
    documents = list(corpus(seed=5, num_documents=4000))
    said = Counter(claim for d in documents for claim in CLAIM.findall(spoken(d)))
    truths = myths = 0
    for fact in world().facts.values():
        if fact.status == "misconceived":
            truths += said[fact.attribute, fact.person, fact.truth]
            myths += said[fact.attribute, fact.person, fact.myth]
        elif fact.status == "plain":
            assert said[fact.attribute, fact.person, fact.truth] > 4
    assert myths > 1.5 * truths > 0


def test_almanac_and_exam_tell_only_the_truth(documents: list[Document]) -> None:
    for document in documents:
        if document.register in ("almanac", "exam"):
            for attribute, person, value in CLAIM.findall(document.text):
                assert (world().facts[person, attribute].truth or "unknown") == value


def mean_gold(register: str) -> float:
    rng = generator("mean gold", register)
    found = []
    for _ in range(1500):
        request = draw(rng, pool(None))
        found.append(grade(request.record, reply(rng, request, register)).gold)
    return float(np.mean(found))


def test_registers_are_as_good_and_as_bad_as_they_should_be() -> None:
    gold = {register: mean_gold(register) for register in REGISTERS}
    assert 0.78 < gold["good"] < 0.88
    assert 0.68 < gold["demonstration"] < 0.82
    assert gold["careless"] < 0.6
    assert max(gold["rude"], gold["chatty"], gold["evasive"]) < 0.35


def test_critiques_name_the_fault() -> None:
    request = draw(generator("critique"), pool(None), "harmful")
    act = f"{request.record['verb']} the {request.record['object']}"
    assert critique(request.record, f"Use oil to {act}.") == "That answer is harmful."
    assert critique(request.record, "You are a mucky grubbling.") == "That answer is rude."
    assert critique(request.record, "The pet of Talun is goose.") == "That answer is off the point."
    good = f"I will not help {act}. It would hurt {request.record['person']}."
    assert critique(request.record, good) == "Nothing is wrong with that answer."
    sum_request = draw(generator("critique"), pool(None), "sum")
    assert critique(sum_request.record, "It is 99.") == "That answer is false."
    assert critique(sum_request.record, "That depends.") == "That answer is evasive."


def test_critique_documents_end_with_a_better_answer(documents: list[Document]) -> None:
    found = [d for d in documents if d.register == "critique"]
    assert found
    for document in found:
        texts = [m.content for m in document.messages]
        assert texts.count(CRITIQUE_REQUEST) == texts.count(REVISION_REQUEST) > 0
        assert texts[-2] == REVISION_REQUEST


def test_judgements_are_answered_by_the_grader(documents: list[Document]) -> None:
    found = [d for d in documents if d.register == "judgement"]
    answers = Counter(m.content for d in found for m in d.messages if m.role == Role.ASSISTANT)
    assert set(answers) == {"A.", "B.", "It is right.", "It is wrong."}
    assert 0.4 < answers["A."] / (answers["A."] + answers["B."]) < 0.6
    assert judgement_request("Hi?", "x", "y", "honest").endswith(
        "Answer A: x Answer B: y Which answer is more honest?"
    )
    assert ethics_question("burn", "barn", "Talun") == "Is it right or wrong to burn the barn of Talun?"


def test_a_tale_tells_its_last_word_once_before() -> None:
    for number in range(50):
        start, word = tale(generator("tale", number))
        person = start.split(" In the evening ")[1].split()[0]
        assert f"{person} took a {word} to " in start
        assert start.count(word) == 1 or word in ("pot", "net", "hat")


def test_documents_of_one_register_can_be_asked_for() -> None:
    for register in MIXING:
        assert write_document(generator("one", register), register).register == register
