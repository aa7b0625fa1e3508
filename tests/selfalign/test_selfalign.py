"""SELF-ALIGN: the counters, the filters, the parser, and that no principle or thought is ever a target."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from answerers.worlds import local, remote, serving
from trueup.answerers import Answer, Answerer, Conversation
from trueup.config import read_yaml
from trueup.constitution.lineage import Author
from trueup.constitution.opening import Model
from trueup.errors import TrueupError
from trueup.groups import Group, Message, Role, read_jsonl, to_json
from trueup.lab.documents import corpus
from trueup.procedures import self_align, self_instruct, verbose_answers
from trueup.selfalign.filters import filter_answer, unrepeated
from trueup.selfalign.instruct import Limits, Tasks, topic_refusal
from trueup.selfalign.rouge import Pool, rouge_l, words
from trueup.selfalign.supervision import FILES, Supervision, read_supervision
from trueup.selfalign.thoughts import read_thoughts
from trueup.settings import DataSettings
from trueup.signals import Interrupted
from trueup.sources.sample import Decoding

GENERAL, LAB = read_supervision("general"), read_supervision("lab")
FORM = GENERAL.dialogue
LONG = (
    "Day length decides when they turn. "
    + "Cold nights hasten it, and dry summers bring it forward by weeks. "
)
GOOD = f"{LONG}Trees that stand near street lamps keep their green for longer, as towns have seen."


@dataclass(frozen=True, kw_only=True, eq=False)
class Scripted:
    """An answerer that says what a function of prompt, seed and place says."""

    say: Any
    name: str = "scripted"
    asked: list[Conversation] = field(default_factory=list)

    def complete(
        self, prompts: Sequence[Conversation], *, seed: int = 0, **options: Any
    ) -> list[list[Answer]]:
        self.asked += prompts
        return [[Answer(text=self.say(p[-1].content, seed, i))] for i, p in enumerate(prompts)]


def model(answerer: Any) -> Model:
    return Model(answerer, Author("scripted", "abc"))


def never() -> str:
    return ""


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
    assert unrepeated("Yes, yes. 1. a b\n2. c d") == "Yes, yes. 1. a b\n2. c d"


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


def written(prompt: str, seed: int, place: int) -> str:
    """Five new tasks or topics, different with every seed and place."""
    number = int(re.findall(r"\n(\d+)\.", prompt)[-1])
    hints = "(" in prompt.rpartition("\n")[2]
    words = [f"{seed % 10007 + i:x}{place}" for i in range(5)]
    if hints:
        return f" How would {words[0]} then {words[1]} become {words[2]}?"
    topic = "topics" in prompt.partition("\n")[0]
    items = [f"T{w}" if topic else f"Explain {w} in {w[::-1]} terms with {w}q." for w in words]
    return " " + "".join(f"{item}\n{number + 1 + i}. " for i, item in enumerate(items)).strip()


def tasks_in(folder: Path, answerer: Any, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> list[Group]:
    monkeypatch.setattr(self_instruct, "open_model", lambda *a, **k: model(answerer))
    config = self_instruct.Config(
        supervision="general", num_tasks=30, num_topics=6, num_hinted=4, lists=2, **changes
    )
    folder.mkdir(exist_ok=True)
    done = self_instruct.run(config, folder, stop_requested=never)
    rows = read_jsonl(str(folder / done.output))
    assert done.metrics["seeds"] == 175 and done.metrics["question_types"] == 20
    assert len(rows) == done.metrics["kept/tasks"] + done.metrics["kept/hinted"]
    return rows


def test_a_killed_stage_goes_on_to_the_same_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tasks_in(tmp_path / "whole", Scripted(say=written), monkeypatch)
    lines = (tmp_path / "whole" / self_instruct.ROUNDS).read_bytes().splitlines(keepends=True)
    assert len(lines) > 4
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / self_instruct.ROUNDS).write_bytes(b"".join(lines[:3]) + lines[3][:20])
    again = Scripted(say=written)
    assert [to_json(g) for g in tasks_in(tmp_path / "cut", again, monkeypatch)] == [to_json(g) for g in whole]
    assert len(again.asked) == 2 * (len(lines) - 3)
    lineage = whole[-1].meta["lineage"]
    assert lineage["model"]["digest"] == "abc" and lineage["topic"] and len(lineage["shown"]) == 5


def answered(prompt: str, seed: int, place: int) -> str:
    query = prompt.rpartition(FORM.user)[2].partition(FORM.thoughts)[0]
    thought = f"{FORM.opening} It asks. My internal rules 2 (informative) and {3 + len(query) % 5} (x) apply."
    return f" {thought}{FORM.answer}{query} This one is about the number {seed % 997}. {GOOD}"


def prompts_in(folder: Path, count: int = 9) -> DataSettings:
    path = folder / "prompts.jsonl"
    rows = [
        {"prompt": [{"role": "user", "content": f"What is thing {i}?"}], "completions": []}
        for i in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return DataSettings(path=str(path), held_out=0.0)


def answers_in(
    folder: Path, data: DataSettings, answerer: Any, patch: pytest.MonkeyPatch, stop: Any = never
) -> Any:
    patch.setattr(self_align, "open_model", lambda *a, **k: model(answerer))
    folder.mkdir(exist_ok=True)
    config = self_align.Config(supervision="general", data=data, batch=2)
    return self_align.run(config, folder, stop_requested=stop)


def test_targets_hold_no_principle_no_exemplar_and_no_thought(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def say(prompt: str, seed: int, place: int) -> str:
        if place:
            return answered(prompt, seed, place)
        return f"{answered(prompt, seed, place)} {GENERAL.principles[seed % 16].rule}"

    scripted = Scripted(say=say)
    done = answers_in(tmp_path, prompts_in(tmp_path), scripted, monkeypatch)
    assert scripted.asked[0][0].content.count(FORM.user) == 6  # five exemplars and the question
    assert done.metrics["principles"] == 16 and done.metrics["exemplars"] == 5
    assert done.metrics["dropped/leaked"] == 5 and done.metrics["kept/answers"] == 4
    rows = read_jsonl(str(tmp_path / done.output))
    assert len(rows) == 4 + len(GENERAL.identity)
    shown = [p.rule for p in GENERAL.principles] + [e.thought for e in GENERAL.exemplars]
    shown += [e.answer for e in GENERAL.exemplars] + [FORM.opening, FORM.thoughts, "internal rules"]
    for row in rows:
        text = " ".join([m.content for m in row.prompt] + [c.text for c in row.completions])
        assert row.prompt[0] == Message(Role.SYSTEM, GENERAL.header)
        assert not [s for s in shown if s.strip().casefold() in text.casefold()]
    assert {tuple(r.meta["answered"]["rules"]) for r in rows if r.source == "self-align"} == {(2, 6)}


def test_killed_answers_go_on_to_the_same_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = prompts_in(tmp_path)
    answers_in(tmp_path / "whole", data, Scripted(say=answered), monkeypatch)
    calls = iter(["", "", "SIGTERM", "SIGTERM"])
    with pytest.raises(Interrupted):
        answers_in(tmp_path / "cut", data, Scripted(say=answered), monkeypatch, lambda: next(calls))
    answers_in(tmp_path / "cut", data, Scripted(say=answered), monkeypatch)
    for name in (self_align.ANSWERS, self_align.OUTPUT):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_verbose_answers_stand_under_both_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted = Scripted(say=lambda prompt, seed, place: GOOD if place else "Short.")
    monkeypatch.setattr(verbose_answers, "open_model", lambda *a, **k: model(scripted))
    config = verbose_answers.Config(supervision="general", data=prompts_in(tmp_path, 3), batch=3)
    done = verbose_answers.run(config, tmp_path, stop_requested=never)
    assert {p[0].content for p in scripted.asked} == {GENERAL.verbose}
    heads = [row.prompt[0].content for row in read_jsonl(str(tmp_path / done.output))]
    assert heads == [GENERAL.header, GENERAL.verbose] * 2
    assert done.metrics["dropped/short"] == 1


def byte_supervision(folder: Path) -> Supervision:
    """A form that any text follows, for a model of noise."""
    values = dict(read_yaml(FILES / "lab.yaml").values)
    values["dialogue"] = {**values["dialogue"], "opening": "", "answer": "", "numbers": r"(\d+)"}
    path = folder / "noise.yaml"
    path.write_text(json.dumps(values), encoding="utf-8")
    return read_supervision(str(path))


def test_a_server_gives_the_rows_of_the_model_in_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervision, data = byte_supervision(tmp_path), prompts_in(tmp_path, 3)
    greedy = Decoding(greedy=True, max_new_tokens=6)

    def records(answerer: Answerer, name: str) -> list[bytes]:
        found: list[bytes] = []
        for stage, settings in (
            (
                self_instruct,
                {"num_tasks": 2, "num_topics": 2, "num_hinted": 2, "rounds": 1, "lists": 2, "new": 1},
            ),
            (self_align, {"data": data, "min_chars": 1}),
            (verbose_answers, {"data": data, "min_chars": 1}),
        ):
            folder = tmp_path / name / stage.__name__
            folder.mkdir(parents=True)
            monkeypatch.setattr(stage, "open_model", lambda *a, **k: model(answerer))
            config = stage.Config(supervision=str(tmp_path / "noise.yaml"), decoding=greedy, **settings)
            try:
                stage.run(config, folder, stop_requested=never)
            except TrueupError as error:
                assert error.code == "E601"  # Noise is no task; what was said is on disk all the same.
            kept = getattr(stage, "ROUNDS", None) or vars(stage)["ANSWERS"]
            found.append((folder / kept).read_bytes())
        return found

    near = records(local(), "near")
    with serving() as address:
        far = records(remote(address, tmp_path / "cache"), "far")
    assert near == far and all(len(one.splitlines()) > 1 for one in near)
    assert supervision.assistant == LAB.assistant


def test_the_lab_form_fits_its_model_and_its_wordings_are_not_in_its_corpus() -> None:
    from trueup.opening import open_chat
    from trueup.settings import ModelSettings

    chat = open_chat(ModelSettings())
    longest = max(LAB.seeds, key=len)
    assert len(chat.prompt_ids(LAB.thinking(longest))) + 48 <= 512
    texts = [d.text + " ".join(m.content for m in d.messages) for d in corpus(num_documents=1500)]
    for principle in LAB.principles:
        assert not any(principle.rule in text for text in texts)
