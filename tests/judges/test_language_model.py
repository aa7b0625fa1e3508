"""A language model as a judge: what must hold whatever it says, and real models that say it."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from answerers.worlds import MODEL, local, serving
from trueup.answerers import Answer, Conversation, Floats
from trueup.cli import main
from trueup.engine.groups import Completion, Group, Message, Role, read_jsonl, write_jsonl
from trueup.errors import TrueupError
from trueup.judges.language_model import open_pairwise, open_pointwise
from trueup.judges.open import open_judge
from trueup.judges.wording import read_wording
from trueup.procedures import label
from trueup.ratings.battles import battles_from_groups, read_battles
from trueup.ratings.wins import pair_wins
from trueup.settings.blocks import DataSettings
from trueup.sources.sample import Decoding


@dataclass(frozen=True)
class Scripted:
    """Says what functions of the question say: log-probs of the labels, or a text for each vote."""

    odds: Callable[[str], Sequence[float]] = lambda question: (0.0, 0.0)
    say: Callable[[str, int], str] = lambda question, vote: ""
    name: str = "scripted"

    def complete(self, prompts: Sequence[Conversation], *, k: int = 1, **_: object) -> list[list[Answer]]:
        return [[Answer(text=self.say(p[-1].content, i)) for i in range(k)] for p in prompts]

    def logprobs(self, prompts: Sequence[Conversation], candidates: Sequence[Sequence[str]]) -> list[Floats]:
        return [np.array(self.odds(p[-1].content), np.float64) for p in prompts]


def group(*texts: str, sources: Sequence[str] = (), name: str = "g") -> Group:
    completions = [
        Completion(text=text, source=source)
        for text, source in itertools.zip_longest(texts, sources, fillvalue="")
    ]
    return Group(prompt=(Message(Role.USER, "2 + 3?"),), completions=tuple(completions), id=name)


def by_digest(question: str) -> tuple[float, float]:
    """Some opinion on every question, unlike in the two orders."""
    x = sum(ord(c) * (i % 7 + 1) for i, c in enumerate(question)) % 1000 / 100
    return -x, -5.0


@pytest.mark.parametrize("favour", [-0.1, -1e-9, -3.0, -50.0])
def test_a_judge_that_always_names_the_first_says_exactly_a_half(favour: float) -> None:
    judge = open_pairwise("lm:x", Scripted(odds=lambda q: (favour, math.log(-math.expm1(favour)))))
    (verdict,) = judge.compare([(group("five", "six"), 0, 1)])
    assert verdict.probability == 0.5 and verdict.consistent is False


def test_what_one_side_wins_the_other_loses() -> None:
    judge = open_pairwise("lm:x", Scripted(odds=by_digest))
    texts = [f"answer {i}" for i in range(6)]
    many = group(*texts)
    for a, b in itertools.combinations(range(6), 2):
        one, other = judge.compare([(many, a, b), (many, b, a)])
        assert one.probability is not None and other.probability is not None
        assert one.probability + other.probability == 1.0
        assert one.shown_first == pytest.approx(1 - (other.shown_second or 0))


def sigma(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_labels_are_the_mean_of_the_orders_by_hand() -> None:
    # log-odds 2 for whoever says "five", and 1 for the first place: sigma(3) and sigma(1).
    def odds(question: str) -> tuple[float, float]:
        first = question.index("[[[five]]]") < question.index("[[[six]]]")
        return (1.0 + (2.0 if first else -2.0), 0.0)

    judge = open_pairwise("lm:x", Scripted(odds=odds))
    ((labelled,), account) = judge.label([group("five", "six", "six")], seed=0)
    kept = {(c.a, c.b): c for c in labelled.comparisons}
    assert account.identical == 1 and account.pairs == 2 and account.unread == 0 and account.inconsistent == 0
    assert kept[0, 1].probability == pytest.approx((sigma(3) + sigma(1)) / 2)
    assert kept[0, 1].choice == "a" and kept[0, 1].labeler == "lm:scripted" and kept[0, 1].shown is None
    clamped = open_pairwise("lm:x#clamp=0.4", Scripted(odds=odds))
    assert clamped.compare([(group("five", "six"), 0, 1)])[0].probability == 0.6


def test_orders_apart_are_battles_and_position_shows() -> None:
    sources = ("good", "bad")
    groups = [group("five", "six", sources=sources, name=str(i)) for i in range(4)]

    def odds(question: str) -> tuple[float, float]:
        return (1.0, 0.0)

    labelled, account = open_pairwise("lm:x", Scripted(odds=odds)).label(groups, orders="apart")
    assert account.inconsistent == 1.0
    assert [(c.choice, c.shown) for c in labelled[0].comparisons] == [("a", (0, 1)), ("b", (1, 0))]
    found = battles_from_groups(labelled)
    assert len(found.battles) == 8 and not found.left_out
    (wins,) = pair_wins(found.battles)
    assert wins.rate.estimate.mean == 0.5 and wins.rate.inconsistent == 1.0 and wins.swapped == 4


def test_written_verdicts_are_read_and_what_cannot_be_read_is_counted() -> None:
    def say(question: str, vote: int) -> str:
        if "odd" in question:
            return "I would rather not say. A is fine, [[C]]."
        first = question.index("[[[five]]]") < question.index("[[[six]]]")
        return ["At first [[B]], no: [[A]]", "[[tie]]", "no idea"][vote] if first else "[[B]]"

    judge = open_pairwise("lm:x#read=text&votes=3", Scripted(say=say))
    readable, odd = judge.compare([(group("five", "six"), 0, 1), (group("odd", "even"), 0, 1)])
    # Shown first: A, tie and nothing: (1 + .5) / 2. Shown second: B three times.
    assert readable.shown_first == 0.75 and readable.shown_second == 1.0 and readable.probability == 0.875
    assert readable.mass == pytest.approx((2 / 3 + 1) / 2)
    assert odd.probability is None and odd.consistent is None
    labelled, account = judge.label([group("odd", "even")])
    assert account.unread == account.pairs == 1 and not labelled[0].comparisons


def test_one_readable_order_does_not_stand_for_both() -> None:
    def odds(question: str) -> tuple[float, float]:
        first = question.index("[[[five]]]") < question.index("[[[six]]]")
        return (-0.1, -2.0) if first else (-math.inf, -math.inf)

    (verdict,) = open_pairwise("lm:x", Scripted(odds=odds)).compare([(group("five", "six"), 0, 1)])
    assert verdict.shown_first is not None and verdict.probability is None


def test_scores_are_means_over_the_labels_or_an_error() -> None:
    judge = open_pointwise("lm:x", Scripted(odds=lambda q: [math.log(p) for p in (0.1, 0.2, 0.4, 0.2, 0.1)]))
    assert judge([group("five", "six"), Group(prompt=())]) == [[pytest.approx(3.0)] * 2, []]
    texts = open_pointwise("lm:x#read=text", Scripted(say=lambda q, v: "[[4]]" if "five" in q else "four"))
    assert texts([group("five")]) == [[4.0]]
    with pytest.raises(TrueupError, match=r"E798.*1 of 2 answers"):
        texts([group("five", "six")])


def test_a_wording_and_a_principle_can_be_replaced_and_texts_fill_no_gaps(tmp_path: Path) -> None:
    asked: list[str] = []

    def odds(question: str) -> tuple[float, float]:
        asked.append(question)
        return 0.0, 0.0

    judge = open_pairwise("lm:x#principle=Be brief.", Scripted(odds=odds))
    judge.compare([(group("{second} {principle}", "six"), 0, 1)])
    assert "[[[{second} {principle}]]]" in asked[0] and "Be brief." in asked[0]
    assert asked[0].index("{second}") < asked[0].index("six") and "The user says: 2 + 3?" in asked[0]
    path = tmp_path / "mine.yaml"
    path.write_text("labels: [' 1', ' 2']\ntext: '{first} or {second}:'\n", encoding="utf-8")
    asked.clear()
    open_pairwise(f"lm:x#prompt={path}", Scripted(odds=odds)).compare([(group("five", "six"), 0, 1)])
    assert asked == ["five or six:", "six or five:"]
    path.write_text("labels: [' 1']\ntext: '{first}'\n", encoding="utf-8")
    with pytest.raises(TrueupError, match=r"E715.*two labels"):
        open_pairwise(f"lm:x#prompt={path}", Scripted())


@pytest.mark.parametrize(
    "options", ["read=minds", "votes=0", "clamp=0.5", "speed=1", "votes=x", "prompt=none"]
)
def test_options_that_cannot_be_meant_are_refused(options: str) -> None:
    with pytest.raises(TrueupError, match=r"E792|E801"):
        open_pairwise(f"lm:x#{options}", Scripted())


def test_every_wording_that_comes_along_is_one() -> None:
    for name in ("compare", "compare_text"):
        assert len(read_wording(name).labels) == 2
    for name in ("score", "score_text"):
        assert read_wording(name).values == (1, 2, 3, 4, 5)


# ------------------------------------------------------------------------------------------ real models


def test_a_model_here_and_behind_a_server_judge_alike(tmp_path: Path) -> None:
    short = tmp_path / "short.yaml"
    short.write_text("labels: [' (A)', ' (B)']\ntext: '{first}|{second}:'\n", encoding="utf-8")
    duels = [(group("five", "six"), 0, 1), (group("5", "it is 5"), 0, 1)]
    near = open_pairwise(f"lm:x#prompt={short}", local()).compare(duels)
    with serving() as address:
        ref = f"lm:openai:{address}/v1?model={MODEL}&cache={tmp_path / 'kept'}#prompt={short}"
        far = open_pairwise(ref).compare(duels)
    for mine, theirs in zip(near, far, strict=True):
        assert mine.probability == pytest.approx(theirs.probability, abs=1e-5)
        assert mine.mass == pytest.approx(theirs.mass, abs=1e-5) and 0 < mine.mass < 1


def test_the_labs_model_labels_its_own_samples_for_training(tmp_path: Path) -> None:
    config = label.Config(
        data=DataSettings(path="lab:prompts", held_out=0.0, limit=2),
        num_completions=2,
        num_comparisons=1,
        labeler="lm:lab:base#prompt=compare_text",
        decoding=Decoding(max_new_tokens=8),
    )
    done = label.run(config, tmp_path, stop_requested=lambda: "")
    groups = read_jsonl(str(tmp_path / "groups.jsonl"))
    found = [c for g in groups for c in g.comparisons]
    assert found and all(c.labeler == "lm:lab:base" and 0 < (c.probability or 0) < 1 for c in found)
    assert done.metrics["pairs"] == len(found) and done.metrics["judge/unread"] == 0
    assert sum(len(g.pairs()) for g in groups) == len(found)


def test_a_key_is_in_no_file_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "s3cret-key")
    with serving() as address:
        server = f"openai:{address}/v1?model={MODEL}&key=SOME_KEY&cache={tmp_path / 'kept'}"
        short = tmp_path / "short.yaml"
        short.write_text("labels: [' (A)', ' (B)']\ntext: '{first}|{second}:'\n", encoding="utf-8")
        arguments = [
            "--data.limit", "2", "--num_completions", "2", "--num_comparisons", "1",
            "--decoding.max_new_tokens", "4", "--labeler", f"lm:{server}#prompt={short}",
        ]  # fmt: skip
        assert main(["train", "label", "--out", str(tmp_path / "run"), *arguments]) == 0
    files = [f for f in tmp_path.rglob("*") if f.is_file()]
    assert any("kept" in str(f) for f in files) and any("run" in str(f) for f in files)
    assert not [f for f in files if b"s3cret" in f.read_bytes()]


def test_judged_files_are_ranked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows, out = tmp_path / "rows.jsonl", tmp_path / "judged.jsonl"
    write_jsonl(str(rows), [group("five", "six", sources=("one", "two"), name=str(i)) for i in range(2)])
    short = tmp_path / "short.yaml"
    short.write_text("labels: [' (A)', ' (B)']\ntext: '{first}|{second}:'\n", encoding="utf-8")
    by = f"lm:lab:base#prompt={short}"
    assert main(["judge", str(rows), str(out), "--by", by]) == 0
    assert "2 pairs judged in both orders" in capsys.readouterr().out
    assert len(read_battles(out).battles) == 4
    assert main(["judge", str(rows), str(out), "--by", "rule:length?shortest=4", "--how", "scores"]) == 0
    first = json.loads(out.read_text(encoding="utf-8").splitlines()[0])
    assert [s["value"] for s in first["scores"]] == [0.0, -0.01]
    assert main(["judge", str(rows), str(out), "--by", "rule:length"]) == 64
    assert len(open_judge("lm:lab:base#prompt=score_text")(read_jsonl(str(rows)))[0]) == 2
