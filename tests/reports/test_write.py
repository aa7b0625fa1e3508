"""The page: complete, self-contained, and the same document whatever the text in it says."""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest

from fake_run import write_fake_run
from trueup.reports.record import Reply, Sample, read_run
from trueup.reports.write import MOST_SAMPLES, choose_samples, render, write_report

VOID = {"meta", "link", "input", "br", "img", "hr"}


class Page(HTMLParser):
    """Counts elements with their attribute names, and checks that tags close in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: Counter[tuple[str, tuple[str, ...]]] = Counter()
        self.links: list[str] = []
        self.open: list[str] = []
        self.ids: Counter[str] = Counter()
        self.text: list[str] = []
        self.feed(page)
        self.close()

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag, tuple(sorted(name for name, _ in attrs))] += 1
        for name, value in attrs:
            if name in ("href", "src", "action", "srcset", "xlink:href", "data", "poster"):
                self.links.append(value or "")
            if name == "id":
                self.ids[value or ""] += 1
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    run_dir = write_fake_run(tmp_path_factory.mktemp("runs") / "run")
    return write_report(run_dir).read_text("utf-8")


def test_the_page_is_whole_small_and_well_formed(page: str) -> None:
    parsed = Page(page)
    assert parsed.open == []
    assert max(parsed.ids.values()) == 1
    assert len(page.encode()) < 600_000
    text = " ".join("".join(parsed.text).split())
    assert "PPO raised gold reward over SFT by +0.123\u00a0[+0.092,\u00a0+0.154] at KL 2.13".replace(
        "\u00a0", " "
    ) in text.replace("\u00a0", " ")
    assert "PPO over-optimised" in text
    assert "Not in this run" not in text


def test_the_page_asks_for_nothing(page: str) -> None:
    parsed = Page(page)
    assert parsed.links[0] == "data:,"
    assert all(parsed.ids[link.removeprefix("#")] == 1 for link in parsed.links[1:])
    assert not {tag for tag, _ in parsed.elements} & {"script", "iframe", "img", "object", "embed", "base"}
    assert not re.search(r"url\(|@import|https?:|//\w", page)
    assert "default-src 'none'" in page
    assert not any(name.startswith("on") for _, names in parsed.elements for name in names)


def test_tables_have_headers_and_charts_have_words(page: str) -> None:
    assert page.count("<th ") == page.count("<th scope=")
    drawings = re.findall(r"<svg [^>]*class=\"plot\"[^>]*>", page)
    assert len(drawings) >= 4
    assert all('role="img"' in d and re.search(r'aria-label="[^"]+"', d) for d in drawings)


def test_same_run_same_bytes(tmp_path: Path) -> None:
    run_dir = write_fake_run(tmp_path / "run")
    first = write_report(run_dir, tmp_path / "a.html").read_bytes()
    assert write_report(run_dir, tmp_path / "deep" / "b.html").read_bytes() == first
    assert not list(tmp_path.rglob("*.partial"))


def test_an_empty_run_says_so(tmp_path: Path) -> None:
    parsed = Page(write_report(tmp_path).read_text("utf-8"))
    text = " ".join("".join(parsed.text).split())
    assert "This run holds no evaluated policy yet." in text
    assert text.count("Not in this run:") == 8
    assert "None" not in text and "nan" not in text


def test_a_training_run_shows_what_it_held_out_and_nothing_empty(tmp_path: Path) -> None:
    rows = [{"step": k, "phase": "train", "loss": 1.0 / k} for k in range(1, 7)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    held_out = {"accuracy": {"mean": 0.5, "ci95": [0.168, 0.832], "n": 6}}
    (tmp_path / "held_out.json").write_text(json.dumps(held_out))
    parsed = Page(write_report(tmp_path).read_text("utf-8"))
    text = " ".join("".join(parsed.text).split())
    assert "for 6 steps." in text and "trueup eval RUN --against" in text
    assert re.search(r"accuracy\W*0\.500\W+0\.168,\W0\.832", text)
    assert "Alignment tax" not in text and "frontier.json" not in text and "samples.json" not in text


def test_stages_that_measured_stand_in_one_table(tmp_path: Path) -> None:
    for name, steps in (("requests", (0,)), ("sft", (1, 2)), ("dpo", (1, 2)), ("measure_dpo", ())):
        folder = tmp_path / "stages" / f"{name}-0123456789"
        folder.mkdir(parents=True)
        rows = "".join(json.dumps({"step": k, "phase": "train", "loss": 1.0}) + "\n" for k in steps)
        if rows:
            (folder / "metrics.jsonl").write_text(rows)
    (folder / "measured.json").write_text("{}")
    (folder / "DONE.json").write_text(json.dumps({"metrics": {"gold": 0.625, "evasive": 0.25}}))
    parsed = Page(write_report(tmp_path).read_text("utf-8"))
    text = " ".join("".join(parsed.text).split())
    assert "Trained DPO and SFT." in text and "requests" in text
    assert re.search(r"gold\W*evasive\W*measure_dpo\W*0\.625\W*0\.250", text)
    assert "trueup eval RUN" not in text


def test_what_procedures_found_stands_in_a_table_for_each_of_them(tmp_path: Path) -> None:
    stages = {
        "rounds_a": ("revise", {"harmless/1": 0.875, "rejected/empty": 1.0}),
        "rounds_b": ("revise", {"harmless/1": 0.9375}),
        "label": ("label", {"pairs": 1200.0}),
    }
    for name, (method, metrics) in stages.items():
        folder = tmp_path / "stages" / f"{name}-0123456789"
        folder.mkdir(parents=True)
        (folder / "config.resolved.yaml").write_text(f"method: {method}\nseed: 0\n")
        (folder / "DONE.json").write_text(json.dumps({"metrics": metrics}))
        (folder / "metrics.jsonl").write_text(json.dumps({"step": 0, "phase": method, **metrics}) + "\n")
    (tmp_path / "recipe.resolved.yaml").write_text(
        "".join(f"{name}: {{method: {method}, seed: 0}}\n" for name, (method, _) in stages.items())
    )
    parsed = Page(write_report(tmp_path).read_text("utf-8"))
    text = " ".join("".join(parsed.text).split())
    table = r"revise\W*rounds_a\W*rounds_b\W*harmless/1\W*0\.875\W*0\.938\W*rejected/empty\W*1\W*–"
    assert re.search(table, text)
    assert re.search(r"label\W*label\W*pairs\W*1,200", text)
    assert "frontier.json" not in text, "no policy was evaluated, so nothing is said to be missing of them"


def test_non_finite_values_are_counted_not_drawn(tmp_path: Path) -> None:
    rows = [{"step": k, "phase": "train", "loss": "nan" if k == 2 else 1.0 / k} for k in range(1, 6)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    written = write_report(tmp_path).read_text("utf-8")
    assert "loss (1 value not finite)" in written
    assert not re.search(r'(?:points|x|y)="[^"]*nan', written)


def test_partial_policies_do_not_break_the_page(tmp_path: Path) -> None:
    for policies in (
        {"a": {}},
        {"a": {"gold": 1}},
        {"a": {"win_rate_vs_sft": 0.5}},
        {"a": {"tax": {"x": 0.0}}},
    ):
        (tmp_path / "summary.json").write_text(json.dumps({"policies": policies}))
        (tmp_path / "frontier.json").write_text('[{"policy": "z", "step": 0, "kl": 0}]')
        (tmp_path / "samples.json").write_text('[{"policies": {}}, {}]')
        assert Page(write_report(tmp_path).read_text("utf-8")).open == []


def _sample(kind: str, text: str) -> Sample:
    return Sample(
        prompt=(("user", text),), kind=kind, replies={"sft": Reply(text="x", gold=None, reasons=())}
    )


def test_samples_are_shared_out_over_kinds() -> None:
    samples = [_sample("many", str(k)) for k in range(100)] + [_sample("few", str(k)) for k in range(3)]
    chosen, kinds = choose_samples(samples)
    assert len(chosen) == MOST_SAMPLES
    assert [(k.name, k.count) for k in kinds] == [("many", MOST_SAMPLES - 3), ("few", 3)]
    assert choose_samples([]) == ([], [])


_BREAKOUTS = (
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)>",
    '"><b onmouseover=alert(1)>',
    "' onfocus=alert(1) autofocus='",
    '" style="position:fixed" x="',
    "</title><h1>forged</h1>",
    "</style><style>*{display:none}</style>",
    "</svg><a href=javascript:alert(1)>x</a>",
    "</td></tr></table><table>",
    "</details></section></main>",
    "<!-- ",
    "--><i>",
    "]]><b>",
    "<![CDATA[<b>",
    "<?xml version='1.0'?>",
    "<!doctype html>",
    "&lt;b&gt;",
    "&#60;b&#62;",
    "&amp;lt;b&amp;gt;",
    "{{ 7 * 7 }}",
    "{% raw %}<b>{% endraw %}",
    "{{ run.__class__.__mro__ }}",
    "${7*7} #{7*7} <%= 7 %>",
    "<base href=//evil.example/>",
    "<meta http-equiv=refresh content=0>",
    "<link rel=stylesheet href=x>",
    "<iframe srcdoc='<b>'></iframe>",
    "<textarea>",
    "<plaintext>",
    "<template><b>",
    "<math><mi xlink:href=javascript:alert(1)>",
    "<xmp><b></xmp>",
    "<noscript><p title='</noscript><img>'>",
    "javascript:alert(1)",
    "\x00<b>\x1b]0;title\x07",
    "\u202e<b>evil\u202c\u2066",
    "\u200b\u200d\ufeff",
    "\ud800\udfff",
    "\U000e0001\U000e0042",
    "＜script＞",
    "<b\x0conclick=x>",
    "<b/onclick=x>",
    "\r\r\n<b>",
    "\u2028\u2029",
    "%3Cscript%3E",
    "\\u003cscript\\u003e",
)


_benign: dict[int, Counter[tuple[str, tuple[str, ...]]]] = {}


def _benign_elements(length: int, folder: Path) -> Counter[tuple[str, tuple[str, ...]]]:
    if length not in _benign:
        run_dir = write_fake_run(folder / "benign" / "run", text="b" * length, steps=3)
        _benign[length] = Page(render(read_run(run_dir))).elements
    return _benign[length]


@pytest.mark.parametrize("payload", _BREAKOUTS, ids=range(len(_BREAKOUTS)))
def test_no_text_changes_the_document(payload: str, tmp_path: Path) -> None:
    written = render(read_run(write_fake_run(tmp_path / "run", text=payload, steps=3)))
    hostile = Page(written)
    # The benign text is of the same length, because long prompts are laid out apart.
    assert hostile.elements == _benign_elements(len(payload), tmp_path)
    assert [link for link in hostile.links if not link.startswith("#")] == ["data:,"]
    assert hostile.open == []
    assert not [c for c in written if unicodedata.category(c) in ("Cf", "Cs", "Cc") and c not in "\n\t"]


def test_importing_the_report_loads_no_torch() -> None:
    import subprocess

    code = "import sys, trueup.reports; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
