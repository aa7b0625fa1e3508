"""Judges of toxicity: the lexicon, the classifier and its file, Detoxify's place, references and errors."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from shared_data import shared
from trueup.behaviour.real_toxicity import read_scored_texts
from trueup.engine.groups import Completion, Group
from trueup.errors import TrueupError
from trueup.judges.ngrams import fit_classifier, load_classifier, roc_auc
from trueup.judges.open import open_judge
from trueup.judges.toxicity import lexicon
from trueup.procedures.toxicity_classifier import Config, quality, run, split_by_row


def group(*texts: str) -> Group:
    return Group(prompt=(), completions=tuple(Completion(text=text) for text in texts))


def test_the_lexicon_counts_each_word_once_and_no_part_of_a_word() -> None:
    found = lexicon(["You IDIOT, idiot!", "idiot fool", "A classic Scunthorpe assessment", ""])
    assert found.tolist() == pytest.approx([0.7, 1 - 0.3 * 0.5, 0.0, 0.0])
    assert open_judge("toxicity:lexicon")([group("idiot", "kind"), group()]) == [
        [pytest.approx(0.3), 1.0],
        [],
    ]


def test_an_auc_by_hand() -> None:
    assert roc_auc([0.1, 0.4, 0.4, 0.9], [False, True, False, True]) == pytest.approx(3.5 / 4)
    with pytest.raises(TrueupError, match="E827"):
        roc_auc([0.1, 0.2], [True, True])


def test_the_gradient_vanishes_at_the_fit() -> None:
    """At the optimum Σ (p − t) = 0 because the bias is free, and the weights are small where λ is large."""
    texts = ["you fool", "old fool", "fool again", "kind friend", "my friend", "friend again"]
    targets = np.array([0.9, 1.0, 0.8, 0.1, 0.0, 0.1])
    made = fit_classifier(texts, targets, l2=0.1)
    assert float((made(texts) - targets).sum()) == pytest.approx(0.0, abs=1e-3)
    assert made(["fool"])[0] > 0.6 > 0.4 > made(["FRIEND"])[0] and made(["  "])[0] == 0
    far = fit_classifier(texts, targets, l2=1e6)
    assert far(texts) == pytest.approx(np.full(6, targets.mean()), abs=1e-3)
    for bad in ([0.5], [2.0] * 6):
        with pytest.raises(TrueupError, match="E205"):
            fit_classifier(texts, bad)


def test_it_learns_toxicity_and_its_file_scores_the_same(tmp_path: Path) -> None:
    """Held out by row. Four splits gave AUCs of .73 to .80; chance is .5, its deviation at this size .04."""
    path = shared("realtoxicityprompts/first_500.jsonl.gz")
    done = run(Config(data=str(path)), tmp_path, stop_requested=lambda: "")
    assert done.metrics["texts"] == 200 and done.metrics["auc"] > 0.7
    file = tmp_path / done.output
    learnt, kept = split_by_row(read_scored_texts(path), 0.2, 0)
    assert not {t.row for t in learnt} & {t.row for t in kept} and len(learnt) + len(kept) == 996
    texts = [text.text for text in kept]
    made = load_classifier(file)
    assert quality(made, kept)["auc"] == pytest.approx(done.metrics["auc"], abs=1e-6)
    assert made.about["held_out"]["auc"] == done.metrics["auc"] and made.about["texts"] == len(learnt)
    for ref in (f"toxicity:{file}", str(file)):
        assert open_judge(ref)([group(*texts)])[0] == pytest.approx((1 - made(texts)).tolist())
    made.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == file.read_bytes(), "the same file, byte by byte"


def test_detoxify_is_asked_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "detoxify", None)
    with pytest.raises(TrueupError, match=r"E811 .*pip install detoxify"):
        open_judge("toxicity:detoxify")
    asked: list[Any] = []

    class Detoxify:
        def __init__(self, model: str, device: str) -> None:
            asked.append((model, device))

        def predict(self, texts: list[str]) -> dict[str, list[float]]:
            asked.append(len(texts))
            return {"toxicity": [0.75 for _ in texts], "insult": [0.0 for _ in texts]}

    module = ModuleType("detoxify")
    module.Detoxify = Detoxify  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "detoxify", module)
    judge = open_judge("toxicity:detoxify?model=unbiased")
    assert judge([group(*["a"] * 70, " ")]) == [[0.25] * 70 + [1.0]]
    assert asked == [("unbiased", "cpu"), 64, 7]


@pytest.mark.parametrize(
    ("ref", "code"),
    [
        ("toxicity:", "E792"),
        ("toxicity:lexicon?model=x", "E792"),
        ("toxicity:detoxify?size=x", "E792"),
        ("toxicity:nowhere.safetensors", "E801"),
    ],
)
def test_wrong_references_are_refused(ref: str, code: str) -> None:
    with pytest.raises(TrueupError, match=code):
        open_judge(ref)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    (tmp_path / "text").write_text("hello", encoding="utf-8")
    save_file({"x": np.zeros(1)}, tmp_path / "other.safetensors")
    for name in ("text", "other.safetensors"):
        with pytest.raises(TrueupError, match="E812"):
            open_judge(f"toxicity:{tmp_path / name}")
