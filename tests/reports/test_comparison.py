"""The comparison's page: sentences that its numbers bear out, one document whatever its text says."""

from __future__ import annotations

import itertools
import json
import re
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fake_comparison import FAMILIES, write_fake_comparison
from reports.test_write import Page
from trueup.commands.look import report
from trueup.errors import TrueupError
from trueup.reports import first_screen, verdict
from trueup.reports.charts import Spot, scatter
from trueup.reports.checked import Interval
from trueup.reports.comparison import PAGE, RESULT, load, parse, render, write_comparison
from trueup.reports.headline import label
from trueup.reports.numbers import scientific
from trueup.reports.verdict import Compared, MethodResult
from trueup.reports.visible import visible


def method(name: str, gain: float, half: float | None = 0.02, **given: Any) -> MethodResult:
    """A method whose gain's interval over seeds has this half width."""
    ends = (None, None) if half is None else (gain - half, gain + half)
    defaults: dict[str, Any] = {
        "family": "", "chosen": "", "gold": Interval(0.4 + gain), "gain_over_prompts": None,
        "behind_best": None, "proxy": None, "kl": None, "kl_error": None,
        "length": None, "scores": {}, "tax": {}, "cost": {},
    }  # fmt: skip
    return MethodResult(name=name, gain=Interval(gain, *ends), **{**defaults, **given})


def compared(*methods: MethodResult, **given: Any) -> Compared:
    """A comparison of some methods, three seeds, from a start of gold .4."""
    defaults: dict[str, Any] = {
        "name": "mine", "start": "sft", "start_gold": 0.4, "start_length": None, "budget": 2.5e12,
        "num_seeds": 3, "num_prompts": 500, "failed": {},
    }  # fmt: skip
    return Compared(methods=methods, **{**defaults, **given})


def said(sentence: str) -> str:
    """The sentence with plain spaces and without thin ones."""
    return sentence.replace("\u00a0", " ").replace("\u202f", " ")


def test_the_headline_says_who_how_much_how_far_and_for_what() -> None:
    cost = {"tokens_trained": 118_000.0, "tokens_sampled": 0.0, "seconds": 139.0}
    best = method("ppo", 0.2, kl=3.104, cost=cost)
    assert said(verdict.headline(compared(best, method("dpo", 0.1)))) == (
        "On 2.5·10¹² FLOP a run, PPO gains most: gold reward +0.200 [+0.180, +0.220] over SFT at KL 3.10, "
        "for 118 k tokens trained and 2 min 19 s."
    )


def test_no_gain_is_claimed_where_the_interval_holds_zero() -> None:
    for gain, half in ((0.02, 0.03), (-0.2, 0.01)):
        sentence = verdict.headline(compared(method("ppo", gain, half), budget=None))
        assert sentence.startswith("Without a budget, no method measurably raises the gold reward over SFT; ")
    assert verdict.headline(compared()).startswith("No method of this comparison ended")
    assert verdict.details(compared(failed={"ppo-seed1": "E901"})) == [
        "1 run failed and is left out: ppo-seed1."
    ]


def test_with_one_seed_claims_rest_on_prompts_and_no_winner_is_named_for_another() -> None:
    best = method("ppo", 0.2, None, gain_over_prompts=Interval(0.2, 0.17, 0.23))
    c = compared(best, method("dpo", 0.1, None), num_seeds=1)
    assert "gold reward +0.200 [+0.170, +0.230]" in said(verdict.headline(c))
    assert verdict.details(c)[0] == "With one seed, who would win on another is not known."


def test_who_cannot_be_told_from_the_best_and_who_of_them_is_cheaper() -> None:
    """`dpo` is .01 behind [−.01, .03], so not measurably; `ipo` .1 behind [.08, .12], so it is."""
    c = compared(
        method("ppo", 0.2, kl=5.0, cost={"seconds": 139.0}),
        method("dpo", 0.19, kl=2.2, cost={"seconds": 49.0}, behind_best=Interval(0.01, -0.01, 0.03)),
        method("ipo", 0.1, kl=1.0, cost={"seconds": 40.0}, behind_best=Interval(0.1, 0.08, 0.12)),
        method("kto", -0.1, behind_best=Interval(0.3, 0.28, 0.32)),
    )
    first, second, third, fourth = map(said, verdict.details(c))
    assert first == "Over 3 seeds PPO is measurably ahead of 2 of the other 3, and not of DPO."
    assert second == "Of these and PPO, DPO is the quickest (49 s) and DPO stays nearest to SFT (KL 2.20)."
    assert third == "3 of 4 methods measurably raise the gold reward over SFT; KTO lowers it."
    assert fourth == "The alignment tax was not measured."
    clear = compared(c.methods[0], c.methods[2])
    assert verdict.details(clear)[0] == "Its lead over every other method is measurable over 3 seeds."


def test_the_tax_of_the_best_and_of_how_many_others() -> None:
    lost, kept = Interval(-0.04, -0.06, -0.02), Interval(-0.01, -0.03, 0.01)
    c = compared(
        method("ppo", 0.2, tax={"ethics": lost, "sums": kept}),
        method("dpo", 0.1, tax={"ethics": kept, "sums": kept}),
        method("ipo", 0.1, tax={"ethics": kept, "sums": lost}),
    )
    assert said(verdict.details(c)[-1]) == (
        "PPO: tax on 1 of 2 exams: ethics −0.040; 1 of 3 methods has no measurable tax."
    )
    assert said(verdict.details(compared(*c.methods[::2]))[-1]) == (
        "PPO: tax on 1 of 2 exams: ethics −0.040; "
        "every method pays on some exam, most often on ethics (1 of 2)."
    )


def test_the_proxy_order_by_hand() -> None:
    """Gold .6 .5 .3 and proxy 1 2 3: of three pairs the proxy turns all; swapping two leaves one right."""
    golds = (0.2, 0.1, -0.1)
    wrong = [method(str(i), gain, proxy=float(i)) for i, gain in enumerate(golds, 1)]
    assert verdict.proxy_order(compared(*wrong)) == (
        "The proxy puts 0 of 3 pairs of methods in the order of the gold reward; "
        "the one it likes best, 3, is number 3 of 3 in gold."
    )
    half = [method(n, g, proxy=p) for n, g, p in zip("abc", golds, (2.0, 3.0, 1.0), strict=True)]
    assert verdict.proxy_order(compared(*half)).startswith("The proxy puts 2 of 3 pairs")
    assert verdict.proxy_order(compared(method("a", 0.1))) == ""


def test_the_front_by_hand() -> None:
    """Gold over KL: (1, .5), (2, .45), (3, .6), (4, .6), and one below the start at the least distance."""
    points = {"a": (1.0, 0.1), "b": (2.0, 0.05), "c": (3.0, 0.2), "d": (4.0, 0.2), "e": (0.5, -0.1)}
    c = compared(
        *[method(name, gain, kl=kl) for name, (kl, gain) in points.items()], method("unmeasured", 0.3)
    )
    assert [m.name for m in verdict.front(c)] == ["a", "c"]
    assert verdict.front_sentence(c) == (
        "No method has a higher mean gold at less distance than a (KL 1.00, gold 0.500) "
        "and c (KL 3.00, gold 0.600)."
    )


def test_a_distance_and_its_error_by_hand() -> None:
    """KL 4 ± .4: √KL = 2, and its error is .4 / (2 · 2) = .1. An estimate below zero is no distance."""
    found = method("a", 0.1, kl=4.0, kl_error=0.4)
    assert (found.distance, found.distance_error) == (2.0, pytest.approx(0.1))
    assert (method("a", 0.1, kl=-0.1, kl_error=0.4).distance, method("a", 0.1).distance) == (0.0, None)
    assert method("a", 0.1, kl=-0.1, kl_error=0.4).distance_error is None


@pytest.mark.parametrize(("value", "text"), [(2.5e12, "2.5·10¹²"), (1e9, "1·10⁹"), (3.14e20, "3.1·10²⁰")])
def test_large_numbers(value: float, text: str) -> None:
    assert scientific(value) == text


def test_names_do_not_lie_over_each_other() -> None:
    spots = [Spot(f"method {i}", 1, 1.0, Interval(0.5 + 0.001 * i), None) for i in range(6)]
    page = scatter(spots, named={s.name for s in spots}, description="six", unit="nats", height=380)
    texts = re.findall(r'class="spot (start|end)" x="([\d.]+)%" y="([\d.-]+)"', page)
    assert len(texts) == 6
    for side in ("start", "end"):
        lines = sorted(float(y) for where, _, y in texts if where == side)
        assert all(b - a >= 13.9 for a, b in itertools.pairwise(lines))


def test_a_name_that_stands_away_from_its_mark_has_a_line_to_it() -> None:
    spots = [Spot(f"method {i}", 1, 1.0, Interval(0.5), None) for i in range(6)]
    page = scatter(spots, named={s.name for s in spots}, description="six", unit="nats", height=380)
    ((x, y),) = set(re.findall(r'class="mark c1" x="([\d.]+%)" y="([\d.]+)"', page))
    lines = re.findall(r'class="leader" x1="([\d.]+%)" x2="([\d.]+%)" y1="([\d.]+)" y2="([\d.]+)"', page)
    assert len(lines) == 4, "one name fits to the right and one to the left"
    assert {(x1, x2, y2) for x1, x2, _, y2 in lines} == {(x, x, y)}
    assert len({y1 for _, _, y1, _ in lines if float(y1) < float(y)}) == 2, "two lines of text further up"


def test_points_lie_where_their_numbers_say() -> None:
    """x = 0 at the left edge, x = 2 at 2 / (2 + 10 % of 2) of the width; the rest is the house's scale."""
    spots = [Spot("a", 0, 0.0, Interval(0.0), None), Spot("b", 1, 2.0, Interval(1.0, 0.9, 1.1), 0.1)]
    page = scatter(spots, named=set(), description="two", unit="nats", height=100)
    assert re.findall(r'class="mark c(\d)" x="([\d.]+)%"', page) == [("0", "0.00"), ("1", "90.91")]
    assert "b: 1.000 [0.900,\u00a01.100] at 2.000 nats" in page
    assert page.count("thin c1") == 2 and "thin c0" not in page


# ------------------------------------------------------------------------------------------ the page


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = write_fake_comparison(tmp_path_factory.mktemp("compared") / "run")
    return write_comparison(folder).read_text("utf-8")


def test_the_page_answers_first_and_is_whole(page: str) -> None:
    parsed = Page(page)
    assert parsed.open == [] and max(parsed.ids.values()) == 1
    assert parsed.links[0] == "data:,"
    assert all(parsed.ids[link.removeprefix("#")] == 1 for link in parsed.links[1:])
    text = said(" ".join("".join(parsed.text).split()))
    first = text[: text.index("Every method")]
    assert "PPO gains most: gold reward +0.21" in first and "over SFT at KL 5.00" in first
    assert "No method has a higher mean gold at less distance than" in first
    assert "Not in this comparison" not in text
    assert len(page.encode()) < 300_000


def test_every_method_is_in_the_charts_and_the_table(page: str) -> None:
    record = parse_page(page)
    assert len(record["marks"]) == 2 * len(FAMILIES) + (len(FAMILIES) + 1) + 2 * len(FAMILIES)
    for name in FAMILIES:
        assert page.count(f"<bdi>{label(name)}</bdi>") >= 3


def parse_page(page: str) -> dict[str, list[str]]:
    """The marks of the charts, by their titles: two of gains, gold, proxy and cost."""
    return {"marks": re.findall(r"<title>([^<]+)</title></circle>", page)}


def test_a_file_of_an_older_version_says_what_it_lacks(tmp_path: Path) -> None:
    folder = write_fake_comparison(tmp_path / "run")
    record = json.loads((folder / RESULT).read_text())
    for key in ("samples", "num_prompts"):
        del record[key]
    for row in record["methods"]:
        for key in ("family", "behind_best", "proxy", "kl_error", "scores", "gold_over_prompts", "tax"):
            del row[key]
    written = render(record)
    text = "".join(Page(written).text)
    assert "Not in this comparison: completions." in text
    assert "Not in this comparison: a proxy's score of every method." in text
    assert "measurably ahead" not in text and "Not in this comparison: exams." in text


def test_a_comparison_in_which_nothing_ended(tmp_path: Path) -> None:
    folder = write_fake_comparison(tmp_path / "run")
    record = json.loads((folder / RESULT).read_text())
    text = "".join(Page(render({**record, "methods": [], "samples": []})).text)
    assert (
        "No method of this comparison ended" in text
        and "Not in this comparison: a method that ended." in text
    )


def test_a_world_of_ones_own_is_spoken_of_by_its_judge(tmp_path: Path) -> None:
    folder = write_fake_comparison(tmp_path / "run")
    record = json.loads((folder / RESULT).read_text())
    record["comparison"] |= {"world": "my/world.yaml", "shared": {"sft": {"model": {"path": "runs/sft"}}}}
    for row in record["methods"]:
        del row["scores"]
    for truth, word in (("rules", "rules score"), ("my score", "my score"), (None, "score")):
        written = render({**record, "truth": truth})
        text = said(" ".join("".join(Page(written).text).split()))
        assert f"PPO gains most: {word} +0.21" in text
        assert f"in the order of the {word};" in text and f"({'KL 2.20'}, {word} 0.660)" in text
        assert not re.search(r"\b(lab|gold|helpful|honest|harmless)\b", written, re.IGNORECASE)
    (folder / RESULT).write_text(json.dumps(record))
    assert not re.search(r"\b(lab|gold)\b", first_screen(folder), re.IGNORECASE)


def test_a_world_that_only_its_data_name_is_ones_own_too(tmp_path: Path) -> None:
    record = json.loads((write_fake_comparison(tmp_path / "run") / RESULT).read_text())
    assert parse(record).reward == "gold reward"
    record["comparison"]["shared"] = {"sft": {"data": {"path": "my/world.yml:demonstrations"}}}
    assert parse(record).reward == "score"


def test_a_judge_that_measures_what_it_trained_is_called_a_proxy_at_once(tmp_path: Path) -> None:
    folder = write_fake_comparison(tmp_path / "run")
    record = json.loads((folder / RESULT).read_text())
    assert "Proxy, not referee" not in render(record)
    record |= {"measured_by_its_trainer": ["ppo", "grpo"], "truth": "rules"}
    (folder / RESULT).write_text(json.dumps(record))
    sentence = (
        "Proxy, not referee: PPO and GRPO learned from the judge that measures them here, rules. What they "
        "gained says how well it was pleased; a judge that trained no method would be a referee."
    )
    page, first = write_comparison(folder).read_text("utf-8"), first_screen(folder)
    assert sentence in page[: page.index('id="table"')] and sentence in first


def test_replies_are_marked_where_they_differ_from_the_starts(page: str) -> None:
    assert "<del>sft</del><ins>PPO</ins> says 1".replace("PPO", "ppo") in page
    assert 'id="marks" checked> what differs from SFT' in page


def test_the_command_renders_it_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_fake_comparison(tmp_path / "run")
    report(folder)
    assert (folder / PAGE).is_file() and str(folder / PAGE) in capsys.readouterr().out
    report(folder, out=tmp_path / "elsewhere.html")
    assert (tmp_path / "elsewhere.html").read_text() == (folder / PAGE).read_text()


def test_what_is_no_comparison_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrueupError, match="E801"):
        write_comparison(tmp_path)
    (tmp_path / RESULT).write_text('{"methods": [{"method": "ppo"}]}')
    with pytest.raises(TrueupError, match=r"E202.*methods\.ppo"):
        parse(load(tmp_path))


def test_methods_are_sorted_by_gain(tmp_path: Path) -> None:
    found = parse(load(write_fake_comparison(tmp_path / "run")))
    gains = [m.gain.mean for m in found.methods]
    assert gains == sorted(gains, reverse=True) and len(gains) == len(FAMILIES)
    assert found.start_gold == pytest.approx(0.46)


_PAYLOADS = (
    "<script>alert(1)</script>",
    "</title><h1>forged</h1>",
    "</svg><a href=javascript:alert(1)>x</a>",
    '" onmouseover="alert(1)',
    "{{ 7 * 7 }}{% raw %}",
    "\u202e<b>evil\u2066\u200b",
)


@pytest.mark.parametrize("payload", _PAYLOADS, ids=range(len(_PAYLOADS)))
def test_no_text_changes_the_document(payload: str, tmp_path: Path) -> None:
    def elements(text: str, name: str) -> tuple[Counter[Any], str]:
        written = render(load(write_fake_comparison(tmp_path / name, text=text)))
        return Page(written).elements, written

    hostile, written = elements(payload, "hostile")
    # As long as it is shown, so that names stand at the same places in drawings.
    assert hostile == elements("b" * len(visible(payload)), "benign")[0]
    assert not [c for c in written if unicodedata.category(c) in ("Cf", "Cs", "Cc") and c not in "\n\t"]
