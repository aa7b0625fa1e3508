"""Judges: what they score, that they score the text shown, and how good a reward model is."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from eval_stubs import byte_chat, tiny_model, uniform, view_of
from trueup.engine.groups import Comparison, Completion, Group, Message, Ranking, Role
from trueup.engine.packing import pack
from trueup.errors import TrueupError
from trueup.evals.reward_quality import reward_model_quality
from trueup.judges.open import open_judge
from trueup.judges.reward_model import RewardModelJudge
from trueup.judges.rules import ExactAnswer, Length, Matches
from trueup.lab import prompts
from trueup.lab.gold import lab_gold, lab_grade
from trueup.models.load import save
from trueup.sources.sample import Decoding

ASKED = (Message(Role.USER, "What is 2 plus 3?"),)


def group_of(*texts: str, **parts: object) -> Group:
    return Group(prompt=ASKED, completions=tuple(Completion(text=t) for t in texts), **parts)  # pyright: ignore


def test_reward_model_scores_one_completion_as_it_would_alone() -> None:
    judge = RewardModelJudge(network=tiny_model(), chat=byte_chat(), microbatch_tokens=40)
    group = group_of("five", "It is 5.", "no")
    together = judge([group, group_of("other")])
    alone = [judge([group_of(c.text)])[0][0] for c in group.completions]
    assert [len(row) for row in together] == [3, 1]
    np.testing.assert_allclose(together[0], alone, atol=1e-5)
    assert len(set(together[0])) == 3


def test_reward_model_reads_the_text_not_the_policys_tokens() -> None:
    network = tiny_model()
    judge = RewardModelJudge(network=network, chat=byte_chat())
    shown = group_of("five")
    wrong = np.array([7, 8, 9], np.int32)
    carried = replace(
        shown,
        prompt_tokens=np.array([0, 9, 9], np.int32),
        completions=(replace(shown.completions[0], tokens=wrong, columns={"sampled_logprobs": np.zeros(3)}),),
    )
    assert judge([carried]) == judge([shown])
    # The score is read at the end token of the whole conversation.
    ids = byte_chat().encode(shown)
    with torch.no_grad():
        rewards = network(pack([ids]), ("rewards",)).rewards
    assert rewards is not None and judge([shown])[0][0] == pytest.approx(float(rewards[0]), abs=1e-6)


def test_reward_model_sees_that_a_completion_was_cut() -> None:
    judge = RewardModelJudge(network=uniform(), chat=byte_chat())
    whole = Group(prompt=ASKED, completions=(Completion(text="five"),))
    cut = Group(prompt=ASKED, completions=(Completion(text="five", finished=False),))
    # The stub's reward is the number of tokens: 4 bytes, and the end token only of the one that ended.
    assert (judge([whole]), judge([cut])) == ([[5.0]], [[4.0]])
    assert judge([Group(prompt=ASKED, completions=(Completion(text="", finished=False),))]) == [[1.0]]
    assert judge([Group(prompt=ASKED)]) == [[]]


def test_a_prefixed_policys_samples_are_judged_without_the_prefix() -> None:
    network = tiny_model()
    prefix = (Message(Role.USER, "hi"), Message(Role.ASSISTANT, "hello"))
    asked = Group(prompt=ASKED)
    (drawn,) = view_of(network, prefix=prefix).draw([asked], k=2, decoding=Decoding(max_new_tokens=4), seed=0)
    judge = RewardModelJudge(network=network, chat=byte_chat())
    bare = Group(
        prompt=ASKED,
        completions=tuple(Completion(text=c.text, finished=c.finished) for c in drawn.completions),
    )
    assert judge([drawn]) == judge([bare])


def test_gold_is_the_labs_grade() -> None:
    (prompt,) = [p for p in prompts("test", 60) if p.meta["request"]["kind"] == "sum"][:1]
    right = f"It is {prompt.meta['request']['truth']}."
    group = prompt.with_completions([Completion(text=right), Completion(text="Go away, you grubbling.")])
    scores = lab_gold([group])[0]
    assert scores == [lab_grade(group, c.text)["gold"] for c in group.completions]
    assert scores[0] == pytest.approx(1.0) and scores[1] == 0.0
    with pytest.raises(TrueupError, match="E206"):
        lab_gold([group_of("five")])


def test_rules_by_hand() -> None:
    group = group_of("abc", "a" * 14, "x 1,234", "it is -7.5 or 8", meta={"answer": "1234"})
    assert Length(shortest=4, longest=10, per=2)([group]) == [[-0.5, -2.0, 0.0, -2.5]]
    assert Matches(pattern=r"\d", found=2.0, absent=-1.0)([group]) == [[-1.0, -1.0, 2.0, 2.0]]
    assert ExactAnswer()([group]) == [[0.0, 0.0, 1.0, 0.0]]
    said = group_of("18, I think", "It is 18.00", "20-18", "18.5", "1,8", meta={"answer": "18"})
    assert ExactAnswer()([said]) == [[1.0, 1.0, 1.0, 0.0, 0.0]]
    assert ExactAnswer(pattern=r"is (\S+)")([replace(group, meta={"answer": -7.5})])[0][3] == 1.0
    with pytest.raises(TrueupError, match="E206"):
        ExactAnswer(key="truth")([group])
    with pytest.raises(TrueupError, match="E702"):
        Matches(pattern="(")


def test_open_judge_by_name_file_and_folder(tmp_path: Path) -> None:
    assert open_judge("lab:gold") is lab_gold
    file = tmp_path / "mine.py"
    file.write_text("def words(prompt, text):\n    return len(text.split()) + len(prompt)\n\nbad = 3\n")
    judge = open_judge(f"{file}:words")
    assert judge([group_of("one two", "three")]) == [[3.0, 2.0]]
    network = tiny_model()
    save(network, tmp_path / "rm")
    opened = open_judge(str(tmp_path / "rm"))
    group = group_of("five", "six!")
    np.testing.assert_allclose(
        opened([group]), RewardModelJudge(network=network, chat=byte_chat())([group]), atol=1e-6
    )


@pytest.mark.parametrize(
    ("ref", "code"),
    [
        ("lab:silver", "E761"),
        ("", "E792"),
        ("no_such_folder", "E801"),
        ("{tmp}/nothing.py:f", "E801"),
        ("{tmp}/mine.py:absent", "E792"),
        ("{tmp}/mine.py:bad", "E792"),
        ("{tmp}/broken.py:f", "E792"),
        ("{tmp}", "E834"),
    ],
)
def test_a_wrong_reference_is_an_error_with_a_remedy(tmp_path: Path, ref: str, code: str) -> None:
    (tmp_path / "mine.py").write_text("bad = 3\n")
    (tmp_path / "broken.py").write_text("1 / 0\n")
    with pytest.raises(TrueupError, match=code) as caught:
        open_judge(ref.replace("{tmp}", str(tmp_path)))
    assert caught.value.remedy


def test_a_function_must_give_finite_numbers(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def f(prompt, text):\n    return None if text else float('nan')\n")
    judge = open_judge(f"{tmp_path / 'mine.py'}:f")
    for text in ("", "x"):
        with pytest.raises(TrueupError, match="E793"):
            judge([group_of(text)])


# ------------------------------------------------------------------------------------ reward models


def scorer(**scores: float) -> Callable[[list[Group]], list[list[float]]]:
    return lambda groups: [[scores[c.text] for c in g.completions] for g in groups]


def test_quality_counts_ties_half_and_prompts_once() -> None:
    a = group_of("w", "x", comparisons=(Comparison(a=0, b=1, choice="a"),))
    b = group_of("w", "x", comparisons=(Comparison(a=0, b=1, choice="b"),))
    tie = group_of("w", "x", comparisons=(Comparison(a=0, b=1, choice="tie"),))
    ranked = group_of("w", "x", "y", rankings=(Ranking(tiers=((0,), (1,), (2,))),))
    judge = scorer(w=2.0, x=1.0, y=1.0)
    found = reward_model_quality(judge, [a, b, tie, ranked])  # pyright: ignore[reportArgumentType]
    # Prompts: 1, 0, left out, and (1 + 1 + ½) / 3 of the ranking's pairs w>x, w>y, x>y.
    assert found["accuracy"] == pytest.approx((1 + 0 + 2.5 / 3) / 3)
    assert found["pairs"] == 5
    assert found["ci95"][0] < found["accuracy"] < found["ci95"][1]


def test_quality_ece_by_hand() -> None:
    groups = [group_of("w", "x", comparisons=(Comparison(a=0, b=1, choice="a"),))] * 3
    groups += [group_of("w", "x", comparisons=(Comparison(a=0, b=1, choice="b"),))]
    # Confidence σ(log 3) = 0.75 four times, right in three: calibrated. Twice as far apart: 0.9 against 0.75.
    log3 = math.log(3)
    assert reward_model_quality(scorer(w=log3, x=0.0), groups)["ece"] == pytest.approx(0, abs=1e-12)  # pyright: ignore
    assert reward_model_quality(scorer(w=2 * log3, x=0.0), groups)["ece"] == pytest.approx(0.15)  # pyright: ignore


def test_quality_of_soft_labels() -> None:
    soft = group_of("w", "x", comparisons=(Comparison(a=0, b=1, choice="a", probability=0.8),))
    assert reward_model_quality(scorer(w=1.0, x=0.0), [soft])["accuracy"] == pytest.approx(0.8)  # pyright: ignore
    assert reward_model_quality(scorer(w=0.0, x=1.0), [soft])["accuracy"] == pytest.approx(0.2)  # pyright: ignore


def test_quality_needs_judged_pairs() -> None:
    with pytest.raises(TrueupError, match="E827"):
        reward_model_quality(scorer(w=0.0), [group_of("w")])  # pyright: ignore[reportArgumentType]
