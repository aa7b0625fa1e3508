"""The page of a measurement: who is best and by how much, and what nobody may conclude from it."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fake_measure import fake_measure, interval, write_fake_measure
from reports.test_comparison import _PAYLOADS, said
from reports.test_write import Page
from trueup.commands.look import report
from trueup.errors import TrueupError
from trueup.reports import first_screen, measured_verdict
from trueup.reports.measured_models import PAGE, render, write_measured
from trueup.reports.measurement import RESULT, Measurement, load, parse
from trueup.reports.visible import visible

Record = dict[str, Any]
TRAINING_SEED = "Whether another training seed would do as well"


def text_of(page: str) -> str:
    return said(" ".join("".join(Page(page).text).split()))


def row(record: Record, name: str) -> Record:
    return next(model for model in record["models"] if model["name"] == name)


def measured(**changes: Any) -> Measurement:
    return parse({**fake_measure(), **changes})


def limits(record: Record) -> str:
    return said(" ".join(measured_verdict.limits(parse(record))))


# ------------------------------------------------------------------------------------------ sentences


def test_the_headline_says_who_how_much_how_far_and_what_it_lost() -> None:
    """KL 1.19; of three exams none has an interval that leaves out zero."""
    assert said(measured_verdict.headline(measured())) == (
        "DPO gains most: rules score +0.128 [+0.096, +0.160] over SFT at KL 1.19; "
        "no measurable tax on 3 exams."
    )
    assert measured_verdict.terms(measured()) == (
        "3 models on the same 200 prompts of my/world.yaml (test), 4 samples of each. "
        "Compared by rules, which this world holds to be true."
    )


@pytest.mark.parametrize(
    ("gain", "half", "sentence"),
    [
        (0.2, 0.03, "DPO raises the rules score over SFT by +0.200 [+0.170, +0.230] at KL 1.19;"),
        (-0.2, 0.03, "DPO lowers the rules score over SFT by −0.200 [−0.230, −0.170] at KL 1.19;"),
        (0.02, 0.03, "DPO does not measurably change the rules score over SFT: +0.020 [−0.010, +0.050] at"),
    ],
)
def test_one_model_raises_lowers_or_neither(gain: float, half: float, sentence: str) -> None:
    record = fake_measure(models=["dpo"])
    row(record, "dpo")["gain"]["rules"] = interval(gain, half)
    assert said(measured_verdict.headline(parse(record))).startswith(sentence)


def test_no_model_is_best_where_no_gain_is_measurable() -> None:
    record = fake_measure()
    row(record, "dpo")["gain"]["rules"] = interval(0.128, 0.2)
    found = parse(record)
    assert said(measured_verdict.headline(found)).startswith(
        "No model measurably raises the rules score over SFT; the largest mean gain is that of DPO: +0.128 ["
    )
    assert not any("cannot be told" in sentence for sentence in measured_verdict.details(found))


def test_a_measurable_gain_goes_before_a_larger_mean_that_is_not() -> None:
    record = fake_measure()
    row(record, "ppo")["gain"]["rules"] = interval(0.5, 0.6)
    assert parse(record).models[0].name == "ppo"
    assert measured_verdict.headline(parse(record)).startswith("DPO gains most: rules score")


def test_without_a_start_the_highest_score_is_named_and_no_gain() -> None:
    record = fake_measure()
    record |= {"start": None, "models": record["models"][1:]}
    for model in record["models"]:
        model |= {"gain": {}, "battles": {}, "kl": None, "perplexity": None, "tax": {}}
    assert said(measured_verdict.headline(parse(record))) == (
        "DPO has the highest rules score, 0.562 [0.540, 0.584]; no gain was computed."
    )
    assert "What training gained: no start was measured beside the models." in limits(record)
    page = text_of(render(record))
    assert "Not in this measurement: the KL to the start" in page and "0.562" in page


def test_a_judge_that_trained_the_best_is_named_as_its_proxy_everywhere() -> None:
    record = fake_measure() | {"truth": None, "by": None, "judges": ["reward"]}
    for model in record["models"]:
        for part in ("scores", "gain", "battles"):
            model[part].pop("rules", None)
    found = parse(record)
    assert found.by == "reward" and found.referees == ()
    assert "at KL 4.40, by the judge that trained it; " in measured_verdict.headline(found)
    assert measured_verdict.terms(found).endswith("Compared by reward, a judge that trained PPO and DPO.")
    assert (
        "Whether PPO and DPO got better, or only better at pleasing reward: that judge trained them, "
        "a proxy; no judge here is a referee."
    ) in limits(record)
    assert "no judge here is known to be right, and reward is an opinion" in limits(record)


def test_without_a_truth_a_referee_goes_before_a_judge_that_trained() -> None:
    found = measured(truth=None, judges=["reward", "rules"])
    assert found.by == "rules" and found.referees == ("rules",)
    assert measured_verdict.terms(found).endswith("Compared by rules, a judge that trained none of them.")
    assert measured(by="reward").by == "reward", "as the file has it"


def test_the_proxy_stands_beside_the_referee() -> None:
    assert (
        "Proxy and referee: reward trained DPO and PPO. It gives PPO +1.310 [+1.190, +1.430]; rules, the "
        "referee, +0.031 [−0.001, +0.063], which is not measurable."
    ) in [said(sentence) for sentence in measured_verdict.details(measured())]
    assert "Judge reward likes PPO best; by rules it is number 2 of 3." in measured_verdict.details(
        measured()
    )


def test_who_can_be_told_from_the_best_paired_where_the_file_pairs() -> None:
    """Gains .128 and .031, both ± .032: .097 apart, more than .032 √2 = .045. Paired [−.01, .2] says less."""
    assert measured_verdict.details(measured())[0] == "Its lead over every other model is measurable."
    record = fake_measure()
    row(record, "ppo")["behind_best"] = interval(0.097, 0.107)
    row(record, "kto")["behind_best"] = interval(0.19, 0.04)
    assert measured_verdict.details(parse(record))[0] == (
        "It cannot be told from PPO; it is measurably ahead of KTO."
    )


def test_wins_length_diversity_and_cost_of_measuring() -> None:
    """distinct_1 is .31 − .3 · .128 = .272 ± .01 against .31 ± .01; 41 + 44 + 47 + 50 s are 182."""
    found = [said(sentence) for sentence in measured_verdict.details(measured())]
    assert found[-4:] == [
        "1 of 3 models measurably raise the rules score over SFT; KTO lowers it.",
        "DPO wins 60.2 % [54.7, 65.7] of prompts against SFT, ties half.",
        "Replies of DPO have 44.0 tokens, those of SFT 40.2; they are less diverse "
        "(distinct words 0.272 against 0.310).",
        "Measuring took 134 k tokens sampled and 3 min 02 s.",
    ]


def test_what_the_page_cannot_say_case_by_case() -> None:
    record = fake_measure()
    whole = limits(record)
    assert whole.startswith("Whether PPO changed the rules score: the interval includes zero, which is not ")
    assert TRAINING_SEED in whole and "few" not in whole and "How far" not in whole
    record["num_prompts"] = 24
    assert "Small differences: 24 prompts are few: a gain within ±0.032 is lost among them." in limits(record)
    record["num_prompts"] = 1
    assert "Anything of other prompts: one was asked, so nothing has an interval." in limits(record)
    record["num_prompts"] = None
    assert "their number is not in the file" in limits(record)
    row(record, "kto")["kl"] = None
    assert "How far KTO moved: the KL to SFT was not measured, or is not defined" in limits(record)
    row(record, "kto")["tax"] = None
    assert "What it cost in other skills: no exam was sat by KTO that the start sat too." in limits(record)
    row(record, "dpo")["ended"] = interval(0.62, 0.05)
    assert "What DPO would have said in full: 38.0 % of its replies met the limit of tokens." in limits(
        record
    )
    row(record, "kto")["ended"] = interval(0.8, 0.05)
    assert "What DPO and KTO would have said in full: up to 38.0 % of their replies met" in limits(record)
    row(record, "dpo")["length"] = interval(80.4, 4)
    assert "Whether DPO is better or longer: its replies are 2.0 times as long" in limits(record)


def test_one_prompt_has_no_interval_and_nothing_is_claimed() -> None:
    record = fake_measure()
    record["num_prompts"] = 1
    for model in record["models"]:
        for gain in model["gain"].values():
            gain["ci95"] = None
    found = parse(record)
    assert said(measured_verdict.headline(found)).startswith(
        "No model measurably raises the rules score over SFT; the largest mean gain is that of DPO: "
        "+0.128 (no interval)"
    )
    assert "includes zero" not in limits(record)


# ------------------------------------------------------------------------------------------ the page


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = write_fake_measure(tmp_path_factory.mktemp("measured") / "run")
    return write_measured(folder).read_text("utf-8")


def test_the_page_is_whole_and_holds_its_numbers(page: str) -> None:
    parsed = Page(page)
    assert parsed.open == [] and max(parsed.ids.values()) == 1
    assert all(parsed.ids[link.removeprefix("#")] == 1 for link in parsed.links[1:])
    assert not re.search(r"url\(|@import|https?:|//\w", page) and "<script" not in page
    text = text_of(page)
    assert "Not in this measurement" not in text and "None" not in text and "nan" not in text.split()
    for number in (
        "+0.128 [+0.096, +0.160]", "0.434 [0.412, 0.456]", "60.2 % [54.7, 65.7]", "1.19 [1.09, 1.29]",
        "56.2 %, 8.0 %, 35.8 %", "44.04 [42.04, 46.04]", "98.0 %", "33.0 k", "+1.310 [+1.190, +1.430]",
        "0.272 [0.262, 0.282]", "rules 0.100", "2 prompts were too long",
    ):  # fmt: skip
        assert number in text, number
    assert page.count("<th ") == page.count("<th scope=")
    assert not re.search(r"\b(lab|gold)\b", page, re.IGNORECASE)


def test_a_model_lies_where_its_kl_and_score_say(page: str) -> None:
    """√1.19 = 1.0909 on a scale from 0 to √4.4 + 10 % of it, 2.3074: 47.28 %."""
    first = page[: page.index('id="judges"')]
    assert re.search(r'class="mark c2" x="47\.28%"', first)
    assert "DPO: 0.562 [0.540,\u00a00.584] at 1.091 √nats" in first


def test_the_win_matrix_by_hand(page: str) -> None:
    """.5 + .9 · (.128 − .031) = .587 and .5 + .9 · (−.062 − .128) = .329: shades 1 and −2."""
    rows = re.search(r'<table class="matrix">.*?</table>', page, re.DOTALL)
    assert rows is not None
    cells = re.findall(r'<td class="(h-?\d|none)">(?:<span class="mean">(\d+)|–)', rows[0])
    assert cells[:4] == [("none", ""), ("h1", "59"), ("h2", "67"), ("h1", "62")]
    assert cells[8] == ("h-2", "33")


def test_every_judge_has_a_picture_and_every_win_a_bar(page: str) -> None:
    assert page.count("Score by rules against the square root of KL") == 2
    assert page.count("Score by reward against the square root of KL") == 1
    bars = re.findall(r'class="(won|tied|lost)" y="0" height="8" x="([\d.]+)%" width="([\d.]+)%"', page)
    assert bars[:3] == [("won", "0.00", "56.24"), ("tied", "56.24", "8.00"), ("lost", "64.24", "35.76")]
    assert page.count("best of 16:") == 4, "two models by two judges"


def test_the_first_screen_is_the_pages_own(tmp_path: Path, page: str) -> None:
    found = first_screen(write_fake_measure(tmp_path / "run"))
    text = text_of(found)
    assert "DPO gains most: rules score +0.128" in text and "What this page cannot say" in text
    assert "Who beats whom" not in text
    plots = r'<svg class="plot".*?</svg>(?=</div>)'
    assert re.findall(plots, found) == re.findall(plots, page)[:2]


@pytest.mark.parametrize("num", [1, 12])
def test_one_model_and_twelve(num: int, tmp_path: Path) -> None:
    names = [f"a-model-of-some-length-{k:02}" for k in range(num)]
    written = write_measured(write_fake_measure(tmp_path / "run", models=names)).read_text("utf-8")
    first = written[: written.index('id="judges"')]
    assert first.count('<th scope="row">') == num + 1
    for name in names:
        short = re.findall(rf"a-mode.{{1,9}}{name[-5:]}(?=</text>)", first)
        assert short, "a name that is cut keeps the end that tells it from the others"


KEYS = (
    "title", "world", "split", "num_prompts", "samples_per_prompt", "start", "truth", "judges",
    "trained_on", "models", "samples", "notes",
)  # fmt: skip
PARTS = (
    "name", "path", "scores", "gain", "battles", "kl", "perplexity", "length", "ended", "refused",
    "diversity", "tax", "exams", "curve", "matrix", "cost",
)  # fmt: skip
ABSENT = {
    "models": "No model was measured.",
    "samples": "Not in this measurement: replies to read.",
    "tax": "Not in this measurement: the tax on exams.",
    "matrix": "Not in this measurement: how the models do against one another.",
    "diversity": "Not in this measurement: figures of diversity.",
    "kl": "Not in this measurement: the KL to the start",
}


@pytest.mark.parametrize("key", [*KEYS, *PARTS])
def test_a_missing_part_is_named_and_never_an_error(key: str) -> None:
    record = fake_measure()
    for held in [record] if key in KEYS else record["models"]:
        held[key] = None
    text = text_of(render(record))
    assert ABSENT.get(key, "") in text
    assert "None" not in text and "nan" not in text.split()


def test_models_of_which_nothing_is_known() -> None:
    text = text_of(render({"models": [{}, {"path": "runs/dpo"}], "judges": ["rules"]}))
    assert "model 1" in text and "runs/dpo" in text
    assert all(sentence in text for key, sentence in ABSENT.items() if key != "models")


def test_an_empty_file_and_a_measurement_that_no_judge_scored() -> None:
    text = text_of(render({}))
    assert "No model was measured." in text and "a judge's scores" in text
    record = fake_measure() | {"judges": [], "truth": None}
    for model in record["models"]:
        model |= {"scores": {}, "gain": {}, "battles": {}}
    text = text_of(render(record))
    assert "No judge scored these models, so nothing here says which is best." in text
    assert "Not in this measurement: a judge's scores." in text and "1.19" in text


def test_the_command_writes_it_and_what_is_none_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_fake_measure(tmp_path / "run")
    (folder / "config.resolved.yaml").write_text("method: measure\n")
    report(folder)
    assert (folder / PAGE).is_file() and str(folder / PAGE) in capsys.readouterr().out
    with pytest.raises(TrueupError, match="E801"):
        write_measured(tmp_path)
    (folder / RESULT).write_text('{"models": [{"name": "a", "scores": {"rules": "high"}}]}')
    with pytest.raises(TrueupError, match=r"E822.*models\.a\.scores\.rules"):
        parse(load(folder))


@pytest.mark.parametrize("payload", _PAYLOADS, ids=range(len(_PAYLOADS)))
def test_no_text_changes_the_document(payload: str) -> None:
    def elements(text: str) -> tuple[Counter[Any], str]:
        written = render(fake_measure(text))
        counted = Page(written).elements
        # Marks are of words, and a payload may be several.
        return Counter({k: v for k, v in counted.items() if k[0] not in ("ins", "del")}), written

    hostile, written = elements(payload)
    assert hostile == elements("b" * len(visible(payload)))[0]
    assert not [c for c in written if unicodedata.category(c) in ("Cf", "Cs", "Cc") and c not in "\n\t"]
