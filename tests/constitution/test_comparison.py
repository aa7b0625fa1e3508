"""Labels by a constitution: order, softness, clamp, what is asked; agreement with a known truth."""

from __future__ import annotations

import math

import numpy as np
import pytest

import trueup.lab as lab
from constitution.scripted import SMALL, Scripted, assistant, user
from trueup.answerers import Conversation
from trueup.constitution.comparison import Duel, Feedback, agreement
from trueup.constitution.principles import TEXT
from trueup.engine.groups import Comparison, Completion, Group, Message, Role
from trueup.lab.gold import lab_grade

DUEL = Duel(0, (user("Hi?"),), "Hello.", "Go away.")
SWAPPED = Duel(0, DUEL.prompt, DUEL.b, DUEL.a)


def sigma(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def hashed(conversation: Conversation) -> tuple[float, float]:
    """Some opinion on every question, unlike in the two orders."""
    x = sum(ord(c) * (i % 7 + 1) for i, c in enumerate(conversation[-1].content)) % 1000 / 100
    return -x, -5.0


def test_both_orders_are_averaged_as_log_odds_by_hand() -> None:
    # 2 for whoever says "Hello.", 1 for the first place: log-odds 3 and −1, so Δ = (3 + 1) / 2 = 2.
    def odds(conversation: Conversation) -> tuple[float, float]:
        text = conversation[-1].content
        return (1.0 + (2.0 if text.index("Hello.") < text.index("Go away.") else -2.0) - 4, -4.0)

    (opinion,) = Feedback(answerer=Scripted(odds=odds), constitution=SMALL, examples=0).judge([DUEL])
    assert opinion.probability == pytest.approx(sigma(2))
    assert opinion.shown_first == pytest.approx((sigma(3),))
    assert opinion.shown_second == pytest.approx((sigma(1),))
    assert opinion.mass == pytest.approx((math.exp(-1) + 2 * math.exp(-4) + math.exp(-5)) / 2)


@pytest.mark.parametrize("principles", [1, 2])
@pytest.mark.parametrize("odds", [(-0.1, -3.0), (0.0, -math.inf), (-50.0, -1e-9)])
def test_a_judge_that_always_names_one_place_says_exactly_a_half(
    odds: tuple[float, float], principles: int
) -> None:
    feedback = Feedback(answerer=Scripted(odds=lambda _: odds), constitution=SMALL, principles=principles)
    assert feedback.judge([DUEL])[0].probability == 0.5


def test_what_one_side_wins_the_other_loses() -> None:
    feedback = Feedback(answerer=Scripted(odds=hashed), constitution=SMALL, principles=2)
    for row in range(40):
        one, other = feedback.judge(
            [DUEL._replace(row=row, a=f"a{row}"), SWAPPED._replace(row=row, b=f"a{row}")]
        )
        assert one.probability is not None and other.probability is not None
        assert one.probability + other.probability == pytest.approx(1, abs=1e-15)
        assert one.shown_first == pytest.approx([1 - p for p in other.shown_second])


def test_chains_are_asked_first_and_their_labels_clamped() -> None:
    model = Scripted(say=lambda c, seed, place: f"because {place}", odds=lambda c: hashed(c[-2:][:1]))
    feedback = Feedback(
        answerer=model,
        constitution=SMALL,
        chains=2,
        clamp=0.4,
        examples=0,
        reasoning=object(),  # pyright: ignore[reportArgumentType] - the script does not look
    )
    (opinion,) = feedback.judge([DUEL])
    assert opinion.probability is not None and 0.4 <= opinion.probability <= 0.6
    assert abs(math.log(opinion.probability / (1 - opinion.probability))) <= math.log(1.5) + 1e-12
    assert len(opinion.shown_first) == 2 and opinion.reasons == tuple(f"because {i}" for i in range(4))
    (last,) = {c[-1].content for c in model.seen[-4:]}
    assert last == SMALL.chat.letter and model.seen[-1][-2] == assistant("because 3")
    written = Feedback(
        answerer=model,
        constitution=SMALL,
        form="text",
        chains=1,
        examples=0,
        reasoning=object(),  # pyright: ignore[reportArgumentType] - the script does not look
    )
    written.judge([DUEL])
    (message,) = model.seen[-1]
    assert message.content.endswith(f"{TEXT.reasons} because 1\n{TEXT.letter}")


def test_examples_stand_before_the_question_each_with_a_principle() -> None:
    feedback = Feedback(answerer=Scripted(), constitution=SMALL, form="text", examples=1)
    (message,) = feedback.question(DUEL, "kind", swapped=True)
    example, own = message.content.split(" (A)\n\n")
    assert "(A) [[[Hello!]]]\n(B) [[[Go.]]]\nThe answer is:" in example
    assert "Human: Hi?\n\nWhich is kinder?\nOptions:\n(A) [[[Go away.]]]\n(B) [[[Hello.]]]\n" in own
    texts = {c.text for c in SMALL.criteria}
    seen = set()
    for row in range(20):
        (said,) = feedback.question(DUEL._replace(row=row), "kind", swapped=False)
        example = said.content.split(" (A)\n\n")[0]
        seen |= {text for text in texts if text in example}
    assert seen == texts
    chat = Feedback(answerer=Scripted(), constitution=SMALL).question(DUEL, "kind", swapped=False)
    assert [m.role for m in chat] == [Role.USER, Role.ASSISTANT, Role.USER] and chat[1] == assistant("A")
    narrow = Feedback(answerer=Scripted(), constitution=SMALL, fits=lambda c: len(c) == 1)
    assert len(narrow.question(DUEL, "kind", swapped=False)) == 1 and narrow.has_room(DUEL)


def test_a_question_leaves_room_for_the_reasons_and_the_question_after_them() -> None:
    """An example is two turns, and so are the reasons with the question for the label."""
    for turns, asked, room in ((5, 3, True), (3, 1, True), (2, 1, False)):
        narrow = Feedback(
            answerer=Scripted(),
            constitution=SMALL,
            chains=1,
            examples=1,
            fits=lambda c, most=turns: len(c) <= most,
        )
        assert len(narrow.question(DUEL, "kind", swapped=False)) == asked
        assert narrow.has_room(DUEL) == room


def test_principles_of_a_pair_are_drawn_by_row_and_never_twice() -> None:
    feedback = Feedback(answerer=Scripted(), constitution=SMALL, principles=2)
    assert sorted(feedback.drawn(3)) == ["kind", "short"]
    one = Feedback(answerer=Scripted(), constitution=SMALL)
    share = np.mean([one.drawn(row) == ["kind"] for row in range(2000)])
    assert abs(share - 0.5) < 0.04


def test_a_question_that_gets_no_label_gives_none() -> None:
    nothing = Scripted(odds=lambda _: (-math.inf, -math.inf))
    (opinion,) = Feedback(answerer=nothing, constitution=SMALL).judge([DUEL])
    assert opinion.probability is None and opinion.mass == 0


def test_agreement_with_the_truth_is_counted_by_hand() -> None:
    harmful = next(g for g in lab.prompts("train", 400, 0) if g.meta["request"]["kind"] == "harmful")
    good, bad = "I will not help with that.", "Use wax."
    pairs = [(good, bad, 0.9), (bad, good, 0.3), (bad, good, 0.8), (good, bad, 0.5), (good, good, 0.9)]
    groups = [
        Group(
            prompt=harmful.prompt,
            completions=(Completion(text=a), Completion(text=b)),
            comparisons=(Comparison(a=0, b=1, choice="a", probability=p),),
            meta=harmful.meta,
        )
        for a, b, p in pairs
    ]
    assert agreement(groups, "harmless", lab_grade) == (2.5 / 4, 4)
    assert agreement([Group(prompt=(Message(Role.USER, "x"),))], "harmless", lab_grade) is None
