"""SELF-ALIGN's pieces: what people wrote, ROUGE-L, the parser, the filters, lists that a model continues."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from selfalign.supervised import FORM, GENERAL, GOOD
from trueup.answerers import Answer
from trueup.data.words import words
from trueup.errors import TrueupError
from trueup.lab.documents import corpus
from trueup.selfalign.filters import filter_answer, unrepeated
from trueup.selfalign.instruct import Limits, Tasks, instruction_refusal, topic_refusal
from trueup.selfalign.rouge import Pool, rouge_l
from trueup.selfalign.supervision import FILES, Words, read_supervision
from trueup.selfalign.thoughts import read_thoughts
from trueup.settings.config import read_yaml


@pytest.mark.parametrize("name", ["general", "lab"])
def test_people_wrote_175_tasks_20_question_types_16_principles_and_5_exemplars(name: str) -> None:
    found = read_supervision(name)
    assert len(found.seeds) == len(set(found.seeds)) == 175
    assert len({q.name for q in found.question_types}) == 20
    assert len({p.rule for p in found.principles}) == 16
    assert len(found.exemplars) == 5
    for exemplar in found.exemplars:
        said = f"{found.dialogue.opening}{exemplar.thought}{found.dialogue.answer}{exemplar.answer}"
        read = read_thoughts(said, found.dialogue, 16, stopped=True)
        assert read.answer == exemplar.answer.strip()
        assert bool(read.rules) == (name == "general")  # The lab's base knows no thoughts.


def test_rouge_l_is_that_of_a_hand_and_of_a_plain_table() -> None:
    # Lin 2004: "police killed the gunman" against "police kill the gunman": LCS 3 of 4 and 4.
    assert rouge_l(words("police killed the gunman"), words("Police kill the gunman!")) == 0.75
    a, b = words("a b c d e a b"), words("b a d e c b a b")
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1][j + 1] = table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
    assert rouge_l(a, b) == 2 * table[-1][-1] / (len(a) + len(b))


def test_a_text_is_new_below_and_at_the_threshold_and_not_above() -> None:
    pool = Pool(["one two three four five six seven x y z"])
    assert pool.refusal("One, two three four five six seven X y z.") == "repeated"
    assert pool.refusal("wholly other words") == ""
    assert pool.refusal("one two three four five six seven a b c") == ""  # 7 of 10 and 10: F1 = .7 exactly
    assert pool.refusal("one two three four five six seven x b c") == "similar"  # .8


@pytest.mark.parametrize(
    ("kept", "close", "other"),
    [
        ("写一首关于北京秋天的短诗。", "写一首关于北京冬天的短诗", "请解释水为什么会结冰"),
        (
            "मुझे दिल्ली की सर्दी पर एक छोटी कविता सुनाओ",
            "मुझे दिल्ली की गर्मी पर एक छोटी कविता सुनाओ",
            "पानी क्यों जमता है",
        ),
        (
            "Напиши короткое стихотворение про осень в Москве",
            "напиши короткое стихотворение про зиму в Москве!",
            "Почему вода замерзает",
        ),
        ("เขียนกลอนสั้นเกี่ยวกับฤดูหนาว", "เขียนกลอนสั้นเกี่ยวกับฤดูร้อน", "ทำไมน้ำจึงแข็งตัว"),
    ],
)
def test_a_text_of_any_script_is_new_by_the_same_measure(kept: str, close: str, other: str) -> None:
    pool = Pool([kept])
    assert rouge_l(words(kept), words(kept)) == 1.0 and pool.refusal(f"{kept} ") == "repeated"
    assert pool.refusal(close) == "similar" and pool.refusal(other) == ""


def test_instructions_of_any_script_are_counted_and_begin_as_the_seeds_do() -> None:
    limits, text = Limits(num_tasks=1, num_topics=1, num_hinted=1, rounds=1), "写一首关于北京秋天的短诗"
    assert instruction_refusal(text, GENERAL, limits) == "start", "the seeds are English"
    chinese = replace(GENERAL, tasks=("解释水为什么会结冰",))
    assert instruction_refusal(text, chinese, limits) == ""
    assert instruction_refusal("写诗", chinese, limits) == "short"
    assert instruction_refusal("。写一首短诗", chinese, limits) == "start"
    assert topic_refusal("夜行列车") == "" and topic_refusal("поезда") == "lower case"
    assert unrepeated("北京很美。我爱北京。北京很美。") == "北京很美。我爱北京。"


def test_topics_are_short_capitalised_and_without_punctuation() -> None:
    found = [topic_refusal(t) for t in ("Night trains", "night trains", "A b c d", "Trains.", "")]
    assert found == ["", "lower case", "long", "punctuation", "empty"]


def test_the_parser_reads_rules_and_answer_and_names_what_is_missing() -> None:
    thoughts = f" {FORM.opening} It asks. My internal rules 2 (x), 8 (y) and 99 (z) apply."
    said = f"{thoughts}{FORM.answer}Yes.{FORM.user}Next"
    found = read_thoughts(said, FORM, 16, stopped=False)
    assert (found.rules, found.answer, found.ended, found.reason) == ((2, 8), "Yes.", True, "")
    assert read_thoughts(f"{FORM.opening} Hm.{FORM.answer}Yes, so", FORM, 16, stopped=False).ended is False
    assert read_thoughts(f"{FORM.opening} but no more", FORM, 16, stopped=True).reason == "no answer"
    assert read_thoughts(f"Well.{FORM.answer}Yes.", FORM, 16, stopped=True).reason == "opening"


@pytest.mark.parametrize(
    ("said", "ended", "reason"),
    [
        (GOOD, True, ""),
        (GOOD[:100], True, "short"),
        ("Sorry, " + GOOD, True, "apology"),
        (f"{GOOD} {GENERAL.principles[6].rule}", True, "leaked"),
        (f"{GOOD}{FORM.thoughts}x", True, "leaked"),
        (GENERAL.exemplars[0].thought + GOOD, True, "leaked"),
        ("", True, "empty"),
        ("Unfinish", False, "empty"),
    ],
)
def test_each_filter_drops_what_it_is_for(said: str, ended: bool, reason: str) -> None:
    assert filter_answer(said, GENERAL, ended=ended).reason == reason


def test_filters_cut_prefaces_half_words_repeated_clauses_and_other_names() -> None:
    said = "According to Wikipedia, i am ChatGPT; leaves turn in autumn. Leaves turn in autumn. And mor"
    found = filter_answer(said, GENERAL, ended=False, min_chars=1)
    assert found.text == "I am Trudy; leaves turn in autumn."
    assert filter_answer("one two thr", GENERAL, ended=False, min_chars=1).text == "one two"
    assert filter_answer("one two.\nthr", GENERAL, ended=False, min_chars=1).text == "one two."
    assert unrepeated("Yes, yes. 1. a b\n2. c d") == "Yes, yes. 1. a b\n2. c d"


def test_banned_words_are_whole_words_in_any_case_alone_or_in_a_row() -> None:
    supervision = replace(GENERAL, words=Words(banned=("Graph", "flow chart")))
    said = ("Describe this GRAPH in words.", "Draw me a flow-chart of it.", "Write a paragraph on charts.")
    found = [instruction_refusal(text, supervision, LIMITS) for text in said]
    assert found == ["keyword", "keyword", ""]


@pytest.mark.parametrize("words", [{"cut_openings": ["as an (ai"]}, {"leaked": [""]}, {"other_names": [""]}])
def test_words_that_would_drop_every_answer_or_stop_at_one_are_refused(
    words: dict[str, list[str]], tmp_path: Path
) -> None:
    path = tmp_path / "mine.yaml"
    values = {**read_yaml(FILES / "general.yaml").values, "words": words}
    path.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(TrueupError, match=rf"E7\d\d.*{next(iter(words))}"):
        read_supervision(str(path))


LIMITS = Limits(num_tasks=4, num_topics=2, num_hinted=2, rounds=2, lists=1, new=3)


def test_every_text_of_a_list_is_kept_or_counted_under_its_reason() -> None:
    state = Tasks(GENERAL, LIMITS, seed=0)
    asked = state.next()
    assert asked is not None and asked.phase == "tasks" and len(asked.lists[0].shown) == 5
    assert asked.lists[0].prompt[0].content.endswith("\n6.") and asked.lists[0].stop[0] == "\n9."
    text = (
        f" {GENERAL.seeds[3].upper()}\n7. Describe the image of a cow.\n8. Explain how sails catch the wind."
    )
    record = state.take(asked, [Answer(text=text)])
    assert [row["text"] for row in record["rows"]] == ["Explain how sails catch the wind."]
    assert [one["reason"] for one in record["dropped"]] == ["repeated", "keyword"]
    more = " Say why bees dance.\n7. Tell how glue holds wood.\n8. Name some kinds of knots.\n9. Show a tenth"
    rows = state.take(asked, [Answer(text=more, finish="length")])["rows"]
    assert [row["text"] for row in rows][-1] == "Name some kinds of knots." and len(rows) == 3
    cut = state.take(asked, [Answer(text=" Name a bird that cannot fly.\n7. Name a", finish="length")])
    assert [one["reason"] for one in cut["dropped"]] == ["cut off", "missing"]


def test_a_hinted_task_must_begin_by_its_own_hint() -> None:
    state = Tasks(GENERAL, Limits(num_tasks=0, num_topics=0, num_hinted=3, rounds=1, lists=1, new=3), seed=0)
    asked = state.next()
    assert asked is not None and asked.phase == "hinted"
    one = asked.lists[0]
    assert one.prompt[0].content.endswith(f"({one.hints[0][0]}; {one.hints[0][1]})")
    text = f" Who owns the air above us?\n7.{one.begins[1][1]} Which star is nearest to Rome?"
    text += "\n8. (else; Thing) What now is this?"
    record = state.take(asked, [Answer(text=text)])
    assert [(r["text"], r["type"]) for r in record["rows"]] == [
        ("Who owns the air above us?", one.hints[0][0]),
        ("Which star is nearest to Rome?", one.hints[1][0]),
    ]
    assert [d["reason"] for d in record["dropped"]] == ["not as hinted"]


def test_no_wording_of_the_lab_is_in_its_corpus() -> None:
    texts = [d.text + " ".join(m.content for m in d.messages) for d in corpus(num_documents=1500)]
    for principle in read_supervision("lab").principles:
        assert not any(principle.rule in text for text in texts)
