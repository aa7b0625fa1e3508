"""What prompts are for: the rules against a small labelled set, languages, drift, the card."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import yaml

from trueup.cli import main
from trueup.data.mix import INSTRUCTGPT, drift, language, use_case

LABELLED = (
    ("generation", "Write a short story about a lighthouse keeper."),
    ("generation", "Compose a poem on autumn."),
    ("generation", "Draft an email to my landlord about the heating."),
    ("generation", "Once upon a time a fox met a bear, and"),
    ("open qa", "Who built the Eiffel tower?"),
    ("open qa", "Why is the sky blue?"),
    ("open qa", "Explain how a diode works."),
    ("open qa", "How do I write a loop in C?"),
    ("brainstorming", "Give me five ideas for a birthday party."),
    ("brainstorming", "List ten ways to save water at home."),
    ("brainstorming", "What are some names for a blue parrot?"),
    ("chat", "The following is a conversation with an assistant.\n\nHuman: Hello\nAI:"),
    ("chat", "User: I feel sad today.\nBot:"),
    ("rewrite", "Rewrite this in plain English: the party of the first part shall pay."),
    ("rewrite", "Translate to French: good morning."),
    ("rewrite", "Make this more polite: send me the file."),
    ("summarization", "Summarize the following for a second grader: the moon is cold."),
    ("summarization", "A long day at sea ended badly. tl;dr:"),
    ("classification", "Classify this review as good or bad: the soup was cold."),
    ("classification", "What is the sentiment of this tweet: I love it"),
    ("closed qa", "Based on the passage, when did the ship leave? The ship left at noon."),
    ("closed qa", "Answer the question from the text below. Tom is six. How old is Tom?"),
    ("extract", "Extract all place names from this article: Rome and Oslo were cold."),
    ("extract", "List all people in the text: Ann met Bo."),
    ("other", "asdf"),
    ("other", "7 7 7"),
)


def test_confusion_of_the_rules() -> None:
    wrong = Counter((label, use_case(text)) for label, text in LABELLED if use_case(text) != label)
    # A story begun asks for its end without a word that says so; a question may be about writing.
    assert wrong == {("generation", "other"): 1, ("open qa", "generation"): 1}
    assert {label for label, _ in LABELLED} == set(INSTRUCTGPT)


def test_cited_mix_is_that_of_the_paper() -> None:
    assert sum(INSTRUCTGPT.values()) == pytest.approx(0.999)


def test_languages() -> None:
    said = {
        "en": "what is the best way to cook rice",
        "de": "wie ist das Wetter und ich gehe nicht",
        "fr": "comment est le temps dans les Alpes",
        "es": "cómo es el clima en los Andes",
        "zh": "今天天气怎么样",
        "ja": "今日はいい天気ですね",
        "ko": "오늘 날씨가 어때요",
        "unknown": "7 + 4",
    }
    assert {name: language(text) for name, text in said.items()} == {name: name for name in said}


def test_drift_is_total_variation() -> None:
    assert drift({"a": 1.0}, {"b": 1.0}) == 1.0
    assert drift({"a": 0.5, "b": 0.5}, {"a": 0.75, "b": 0.25}) == 0.25


def test_stats_and_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"prompt": text, "kind": "few-shot" if place % 2 else "plain"}
        for place, (_, text) in enumerate(LABELLED[:4])
    ]
    one, two, card = tmp_path / "one.jsonl", tmp_path / "two.jsonl", tmp_path / "README.md"
    one.write_text("".join(json.dumps(row) + "\n" for row in rows))
    two.write_text(json.dumps({"prompt": "Who built the Eiffel tower?"}) + "\n")
    assert main(["data", "stats", str(one), "--beside", str(two), "--card", str(card), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["here"]["cases"] == {"generation": 0.75, "other": 0.25}
    assert found["here"]["kinds"] == {"plain": 0.5, "few-shot": 0.5}
    assert found["drift"]["cases"] == 1.0
    front = yaml.safe_load(card.read_text().split("---")[1])
    assert front["size_categories"] == ["n<1K"]
    assert front["language"] == ["en"]
