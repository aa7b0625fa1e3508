"""The page of a watch: what is on it, that nothing of a run can act in it, and what a look costs."""

from __future__ import annotations

import html
import itertools
import json
import random
import re
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

import trueup
from trueup.cli import main
from trueup.watching.glossary import kind_of, meaning
from trueup.watching.page import SLOTS, Watch
from watching import made

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\u202e\u0000\"'&"


def once(*folders: Path) -> str:
    return Watch(folders).page(live=False)


class Tags(HTMLParser):
    """The tags of a page, with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_the_numbers_of_the_page_are_those_of_the_file(tmp_path: Path) -> None:
    folder = made.run(tmp_path / "grpo", 8, kl=0.25)
    made.lines(folder / "metrics.jsonl", [{"step": s, "phase": "eval", "loss": s / 64} for s in (4, 8)])
    text = html.unescape(re.sub(r"<[^>]+>", " ", once(folder)))
    text = " ".join(text.split())
    assert "grpo: interrupted" in text and "step 8 of 20" in text
    assert "loss 0.125, held out 0.125 the weighted sum of the losses" in text
    assert "score 0.800 " in text and "kl 0.250 " in text
    assert "9 rows: 6 to train on, 3 bad" in text
    assert "loss 0.062 step 4 0.125 step 8" in text, "first and last held-out value"


def test_several_runs_share_a_chart_each_in_its_colour_and_shape(tmp_path: Path) -> None:
    folders = [made.run(tmp_path / name, 5) for name in ("one", "two", "three")]
    looks = Watch(folders)
    curves = looks.parts(looks.look())["curves"]
    assert curves.count("<polyline") == 2 * 3, "two numbers, three runs"
    for slot in SLOTS[:3]:
        assert curves.count(f'<polyline class="c{slot} curve"') == 2
        assert f'class="mark c{slot}"' in curves
    assert len({slot % 5 for slot in SLOTS[:5]}) == 5, "the first five differ in shape"
    assert [run["name"] for run in looks.numbers()] == ["one", "two", "three"]


def test_two_folders_of_one_name_are_told_apart(tmp_path: Path) -> None:
    folders = [made.run(tmp_path / place / "dpo", 2) for place in ("a", "b")]
    assert [run["name"] for run in Watch(folders).numbers()] == [str(folder) for folder in folders]


def test_nothing_that_a_run_says_can_act_in_the_page(tmp_path: Path) -> None:
    folder = made.run(tmp_path / "run", 3)
    made.lines(folder / "metrics.jsonl", [{"step": 4, "phase": HOSTILE, HOSTILE: 1.0, "loss": "nan"}])
    (folder / "warnings.json").write_text(json.dumps([HOSTILE]))
    (folder / "held_out.json").write_text(json.dumps({HOSTILE: {"mean": 1, "ci95": [0, 2], "n": 3}}))
    (folder / "failed.json").write_text(json.dumps({"reason": HOSTILE}))
    row = {"prompt": [{"role": HOSTILE, "content": HOSTILE}], "completions": [{"text": HOSTILE}]}
    made.lines(folder / "samples.jsonl", [{**row, "meta": {"step": 4}}])
    for text in (once(folder), Watch([folder]).page(live=True)):
        tags = Tags(text).found
        scripts = [attributes for tag, attributes in tags if tag == "script"]
        assert scripts in ([], [{"src": "watch.js", "defer": None}])
        assert not [tag for tag, _ in tags if tag in ("img", "iframe", "object", "form", "base")]
        assert not [name for _, attributes in tags for name in attributes if name.startswith("on")]
        assert "\u202e" not in text and "\x00" not in text and "⟦U+202E⟧" in text
    news = json.loads(Watch([folder]).news(""))
    assert not [
        tag for part in news["parts"].values() for tag, _ in Tags(part).found if tag in ("script", "img")
    ]


def test_a_page_by_itself_needs_nothing_and_the_live_one_works_without_a_script(tmp_path: Path) -> None:
    folder = made.run(tmp_path / "run", 3)
    alone, live = once(folder), Watch([folder]).page(live=True)
    assert "<script" not in alone and "default-src 'none'" in alone and "watch.css" not in alone
    assert '<noscript><meta http-equiv="refresh" content="5"></noscript>' in live
    assert "step 3 of" in live and "<polyline" in live, "complete as it comes"
    (said,) = re.findall(r'<[^>]+aria-live="polite"[^>]*>([^<]*)<', live)
    assert said == "run: interrupted", "what is read out changes with the state alone"
    ids = [attributes["id"] for _, attributes in Tags(live).found if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_news_are_the_parts_that_changed(tmp_path: Path) -> None:
    folder = made.run(tmp_path / "run", 3)
    watch = Watch([folder], now=lambda: 0.0, clock=itertools.count(0, 1000).__next__)
    first = json.loads(watch.news(""))
    assert set(first["parts"]) == {"headline", "runs", "curves", "held", "samples"}
    assert json.loads(watch.news(first["have"]))["parts"] == {}
    made.step(folder, [4])
    second = json.loads(watch.news(first["have"]))
    assert set(second["parts"]) == {"headline", "runs", "curves"}
    assert second["runs"][0]["metrics"]["train"] == {"loss": 0.25, "score": 0.4}


def test_curves_are_drawn_again_only_as_often_as_their_share_of_a_core_allows(tmp_path: Path) -> None:
    folder = made.run(tmp_path / "run", 3)
    ticks = iter((100.0, 100.0, 100.0, 100.0, 1e9, 1e9))
    watch = Watch([folder], clock=lambda: next(ticks))
    before = watch.parts(watch.look())["curves"]
    made.step(folder, [4])
    looks = watch.look()
    assert looks[0].shown[0].step == 4 and watch.parts(looks)["curves"] == before
    assert watch.parts(looks)["curves"] != before


def test_samples_show_the_first_and_the_last_two_evaluations(tmp_path: Path) -> None:
    folder = made.run(tmp_path / "run", 8)
    for step in (0, 2, 4, 6, 8):
        completion = {"text": f"said at {step}", "marks": {"score": step / 10}}
        row = {"prompt": [{"role": "user", "content": "hello"}], "completions": [completion]}
        made.lines(folder / "samples.jsonl", [{**row, "meta": {"step": step}}])
    text = once(folder)
    assert re.findall(r"said at (\d)", text) == ["0", "6", "8"]
    assert text.count(">hello<") == 1 and "score 0.600" in text


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("score/trained", "Reward"), ("rewards/margins", "Reward"), ("kl", "KL"), ("policy/approxkl", "KL"),
        ("loss/entropy", "Loss"), ("completion_length", "Length"), ("policy/entropy", "Entropy"),
        ("lr", "Learning rate"), ("grad_norm", "Gradient"), ("mine", "Others"),
    ],
)  # fmt: skip
def test_numbers_are_grouped_by_what_they_are(name: str, kind: str) -> None:
    assert kind_of(name) == kind


def test_names_come_with_the_glossarys_line_as_plain_text() -> None:
    assert meaning("reward") == "summed reward after the KL penalty: score - β · kl"
    assert meaning("loss/nll").startswith("dpo with nll_weight: mean -log π of a chosen token")
    assert meaning("loss/dpo") == "one part of the loss by its name, before its weight"
    assert meaning("mine") == "" and "$" not in meaning("kl") and "\\" not in meaning("kl")


@pytest.mark.parametrize(
    "count", [1, pytest.param(20, marks=pytest.mark.slow(reason="two million numbers are read: ten seconds"))]
)
def test_a_look_costs_little_however_long_the_run_is(tmp_path: Path, count: int) -> None:
    """After 100,000 lines a poll takes under 20 ms of the processor; the quickest of twenty is asked."""
    folder = made.run(tmp_path / "run", 1, of=200_000)
    draw = random.Random(0)
    names = [f"number{n}" for n in range(count)]
    with (folder / "metrics.jsonl").open("a") as file:
        for step in range(2, 100_001):
            numbers = ", ".join(f'"{name}": {draw.random()}' for name in names)
            file.write(f'{{"step": {step}, "phase": "train", {numbers}}}\n')
    watch = Watch([folder], clock=itertools.count(0, 1000).__next__)
    watch.look_through()
    spent = []
    for step in range(100_001, 100_021):
        made.step(folder, [step], **{name: draw.random() for name in names})
        began = time.process_time()
        news = json.loads(watch.news(""))
        spent.append(time.process_time() - began)
        assert news["runs"][0]["step"] == step
    assert min(spent) < 0.020, spent


def test_a_notebook_sees_what_the_page_has(tmp_path: Path) -> None:
    folder = made.run(tmp_path / "run", 8)
    watched = trueup.watch(folder, tmp_path / "later")
    assert str(watched) == "2 runs: 1 interrupted, 1 waiting"
    (found,) = watched.runs
    assert (found["name"], found["step"], found["metrics"]["train"]["loss"]) == ("run", 8, 0.125)
    made.step(folder, [9])
    assert watched.runs[0]["step"] == 9
    shown = watched._repr_html_()
    assert shown.startswith('<div class="trueup screen">') and "<polyline" in shown and "<script" not in shown
    assert watched.write(tmp_path / "page.html").read_text().startswith("<!doctype html>")


def test_a_command_writes_the_page_once_and_refuses_what_is_no_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made.run(tmp_path / "run", 8)
    before = sorted((p.name, p.stat().st_mtime_ns) for p in folder.iterdir())
    assert main(["watch", str(folder), str(tmp_path / "later"), "--once", str(tmp_path / "out.html")]) == 0
    assert capsys.readouterr().out == f"page: {tmp_path / 'out.html'}\n"
    assert "2 runs: 1 interrupted, 1 waiting" in (tmp_path / "out.html").read_text()
    assert sorted((p.name, p.stat().st_mtime_ns) for p in folder.iterdir()) == before, "nothing is written"
    assert main(["watch", str(folder / "metrics.jsonl")]) == 66
    assert "E862" in capsys.readouterr().err
    assert main(["watch"]) == 64
