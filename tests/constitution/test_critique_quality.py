"""The base's own success at critiquing, measured: on critics and judges whose success is known."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from constitution.scripted import SMALL, Scripted, assistant, user
from trueup import lab
from trueup.answerers import Answer, Conversation
from trueup.constitution.opening import Author, Model
from trueup.constitution.revision import Plan, review, talk
from trueup.engine.order import derive
from trueup.errors import TrueupError
from trueup.lab.graders import grade
from trueup.lab.procedures import critique_quality
from trueup.lab.replies import right
from trueup.lab.world import generator
from trueup.runs.signals import Interrupted

NUM_PROMPTS = 400
RECORDS = {g.prompt[-1].content: g.meta["request"] for g in lab.prompts("new_test", NUM_PROMPTS)}
ASKED = re.compile(r"Request: (.*) Answer A: (.*) Answer B: (.*) Which answer")


def never() -> str:
    return ""


def wise(conversation: Conversation, seed: int, place: int) -> str:
    """The fair critique of the last answer, or the best answer there is."""
    if conversation[-1].content.endswith(lab.CRITIQUE_REQUEST):
        request, answer, _ = conversation[-3:]
        return lab.critique(RECORDS[request.content], answer.content)
    return right(generator(place), RECORDS[conversation[-5].content])


def stern(conversation: Conversation, seed: int, place: int) -> str:
    """Finds harm in everything, and gives the same answer again."""
    if conversation[-1].content.endswith(lab.CRITIQUE_REQUEST):
        return "That answer is harmful."
    return conversation[-4].content


def just(conversation: Conversation) -> tuple[float, float]:
    """Prefers the answer that does no harm, and place A besides."""
    found = ASKED.match(conversation[-1].content)
    assert found
    a, b = (grade(RECORDS[found[1]], found[place]).harmless for place in (2, 3))
    return (2 * a, 2 * b - 1)


def measured(monkeypatch: pytest.MonkeyPatch, folder: Path, model: Scripted, **settings: Any) -> Any:
    """What `critique_quality.json` says of a model."""
    monkeypatch.setattr(critique_quality, "open_model", lambda *_, **__: Model(model, Author("scripted", "")))
    config = critique_quality.Config(**{"num_prompts": NUM_PROMPTS, "batch": 8, "examples": 0, **settings})
    critique_quality.run(config, folder, stop_requested=never)
    return json.loads((folder / "critique_quality.json").read_text(encoding="utf-8"))


def means(found: Any, part: str = "all") -> dict[str, float]:
    return {name: estimate["mean"] for name, estimate in found["parts"][part].items()}


def test_a_wise_critic_and_a_just_judge_do_everything_right(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = measured(monkeypatch, tmp_path, Scripted(say=wise, odds=just))
    assert {name for name, mean in means(found).items() if mean != 1.0} == {
        "compare/probability",
        "compare/inconsistent",
    }
    # Log-odds of 3 with the harmless answer first and of 1 with it second: σ((3 + 1) / 2).
    assert means(found)["compare/probability"] == pytest.approx(0.8808, abs=1e-4)
    assert means(found)["compare/inconsistent"] == 0.0
    sizes = {part: numbers["critique/fair"]["n"] for part, numbers in found["parts"].items()}
    assert sizes["all"] == sizes["harmful"] + sizes["toxic_start"]
    assert min(sizes.values()) > 0 and found["rejected"] == {}


def test_a_critic_who_always_finds_harm_and_a_judge_of_places_are_at_chance(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = measured(monkeypatch, tmp_path, Scripted(say=stern))
    assert means(found) == {
        "critique/names_harm": 1.0,
        "critique/clears_harmless": 0.0,
        "critique/accuracy": 0.5,
        "critique/fair": pytest.approx(means(found)["critique/fair"]),
        "revision/mends_harm": 0.0,
        "revision/gold": 0.0,
        "revision/keeps_harmless": 1.0,
        "compare/accuracy": 0.5,
        "compare/probability": 0.5,
        "compare/inconsistent": 1.0,
    }
    assert 0 < means(found)["critique/fair"] < 1


def test_who_says_nothing_clears_nobody_and_mends_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = measured(monkeypatch, tmp_path, Scripted(say=lambda *_: ""))
    assert means(found)["critique/accuracy"] == 0.0 == means(found)["revision/mends_harm"]
    assert found["rejected"] == {"empty_critique": 2 * found["parts"]["all"]["critique/fair"]["n"]}


def test_killed_and_resumed_the_records_are_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = Scripted(say=lambda _, seed, place: f"text {derive(seed, place) % 1000}", odds=just)
    for name in ("whole", "halves"):
        (tmp_path / name).mkdir()
    measured(monkeypatch, tmp_path / "whole", model)
    asked, model.calls = model.calls, 0
    stops = iter(["", "SIGTERM", "SIGTERM"])
    config = critique_quality.Config(num_prompts=NUM_PROMPTS, batch=8, examples=0)
    with pytest.raises(Interrupted):
        critique_quality.run(config, tmp_path / "halves", stop_requested=lambda: next(stops))
    measured(monkeypatch, tmp_path / "halves", model)
    assert model.calls == asked, "nothing that was written is asked for again"
    for file in ("critiques.jsonl", "critique_quality.json"):
        assert (tmp_path / "halves" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_answers_do_harm_or_none_for_every_kind_of_request() -> None:
    for row, group in enumerate(lab.prompts("dev", 200)):
        said, record = critique_quality.answers(group, 0, row), group.meta["request"]
        assert [grade(record, said[side]).harmless for side in ("harmful", "harmless")] == [0.0, 1.0]


def test_a_review_is_a_talk_whose_first_answer_is_given() -> None:
    plan, prompt = Plan(constitution=SMALL, steps=2), (user("Say hi."),)
    asked: list[list[Conversation]] = [[], []]
    records: list[dict[str, Any]] = []
    for number, talking in enumerate((talk(7, prompt, plan), review(7, prompt, "Go away.", plan))):
        replies = iter([*(("Go away.",) if not number else ()), "Rude.", "Go.", "Curt.", "Hello!"])
        try:
            ask = next(talking)
            while True:
                asked[number].append(ask.conversation)
                ask = talking.send(Answer(text=next(replies)))
        except StopIteration as ended:
            records.append(ended.value)
    assert asked[0][1:] == asked[1] and records[0] == records[1]
    assert asked[1][0][-2] == assistant("Go away.")


def test_requests_of_no_such_kind_are_an_error(tmp_path: Path) -> None:
    config = critique_quality.Config(num_prompts=5, kinds=("nothing",))
    with pytest.raises(TrueupError, match="E825"):
        critique_quality.run(config, tmp_path, stop_requested=never)
