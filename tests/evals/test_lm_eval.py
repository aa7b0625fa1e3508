"""Our numbers for every item against those of the LM evaluation harness, on a real model and real benchmarks.

In float64 on both sides: two implementations of the same network differ by up to 2e-5 in a summed
log-probability in float32, and by 1e-13 in float64.
"""

from __future__ import annotations

import functools
import gzip
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared_data import shared
from trueup.chat.encoder import Chat
from trueup.engine.groups import Group
from trueup.errors import TrueupError
from trueup.evals.benchmarks import choice, items_of
from trueup.evals.figures import figure_items
from trueup.evals.lm_eval import Harness, write_task
from trueup.evals.task_files import find_task
from trueup.evals.tasks import SCORES, Task
from trueup.evals.view import PolicyView
from trueup.models.load import load

pytest.importorskip("lm_eval", reason="the extra trueup[eval] is not installed")
pytestmark = pytest.mark.slow  # the harness alone takes 7 s to import

START = "Once upon a time, there was a little"
ENDINGS = """
name: endings
version: 1
about: HellaSwag in the shape that the harness prepares
reference: Zellers et al. 2019
score: character
items: {fields: {query: doc.query, endings: doc.choices, answer: doc.gold}}
query: "{query}"
each: endings
answer: answer
"""


def endings(folder: Path) -> list[Group]:
    """The first items of HellaSwag, by a task file of the user's own; the file has four rows for each."""
    with gzip.open(shared("hellaswag/requests_first_100.jsonl.gz"), "rt", encoding="utf-8") as file:
        rows = [line for line in file][:24:4]
    (folder / "rows.jsonl").write_text("".join(rows), encoding="utf-8")
    (folder / "endings.yaml").write_text(ENDINGS, encoding="utf-8")
    return items_of(find_task(str(folder / "endings.yaml")), str(folder / "rows.jsonl"))


@functools.cache
def harness() -> Harness:
    return Harness.of(str(shared("stories260K/config.json").parent), dtype="float64")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Task, list[Group], list[Any], Any]]:
    """For each task: it, its items, the harness's record of them, and our own values and evidence."""
    folder = shared("stories260K/config.json").parent
    network = load(folder, dtype="float64")
    view = PolicyView(name="stories", network=network, chat=Chat.of(network.tokenizer), context=512)
    truth = str(shared("truthfulqa/first_100.jsonl.gz"))
    here = tmp_path_factory.mktemp("endings")
    hella = endings(here)
    asked = {
        "lambada": items_of(find_task("lambada"), str(shared("lambada/first_200.jsonl.gz")), limit=16),
        "endings": hella,
        "truthfulqa_mc1": items_of(find_task("truthfulqa_mc1"), truth, limit=3),
        "truthfulqa_mc2": items_of(find_task("truthfulqa_mc2"), truth, limit=3),
    }
    files = {n: str(here / "endings.yaml") if n == "endings" else n for n in asked}
    tasks = {n: find_task(files[n]).task() for n in asked}
    # One that the model itself wrote: of LAMBADA's words this small model gets none.
    asked["lambada"].append(choice(START, [view.chat.codec.decode(said_by(view))], 0, id="greedy"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = harness().samples({n: (tasks[n], asked[n]) for n in asked})
    return {n: (tasks[n], asked[n], theirs[n], tasks[n].examine(view, asked[n])) for n in asked}


def said_by(view: PolicyView) -> list[int]:
    """The three tokens that the model itself writes next."""
    import torch

    start = view.chat.prompt_ids(choice(START, [" x"], 0).prompt)
    ids = torch.from_numpy(start.astype(np.int64))
    with torch.no_grad():
        for _ in range(3):
            logits = view.network.hf_model(ids[None]).logits[0, -1]  # pyright: ignore[reportAttributeAccessIssue]
            ids = torch.cat([ids, logits.argmax()[None]])
    return ids[len(start) :].tolist()


@pytest.mark.parametrize("name", ["lambada", "endings", "truthfulqa_mc1", "truthfulqa_mc2"])
def test_every_logprob_is_the_harness_s(name: str, both: Any) -> None:
    _, _, theirs, (_, evidence) = both[name]
    for sample, ours in zip(theirs, evidence.logprobs, strict=True):
        np.testing.assert_allclose(ours, [reply[0][0] for reply in sample["resps"]], rtol=0, atol=1e-5)


def test_greedy_flags_and_accuracy_are_the_harness_s(both: Any) -> None:
    _, _, theirs, (values, evidence) = both["lambada"]
    assert [bool(row[0]) for row in evidence.greedy] == [bool(s["resps"][0][0][1]) for s in theirs]
    assert values.tolist() == [sample["acc"] for sample in theirs]
    assert values[-1] == 1.0 and values.min() == 0.0


@pytest.mark.parametrize(
    ("name", "score"), [("endings", "character"), ("endings", "sum"), ("truthfulqa_mc1", "sum")]
)
def test_choices_are_the_harness_s(name: str, score: str, both: Any) -> None:
    _, items, theirs, (_, evidence) = both[name]
    key = "acc_norm" if score == "character" else "acc"
    assert SCORES[score].values(evidence, items).tolist() == [sample[key] for sample in theirs]


def test_mc2_is_the_harness_s(both: Any) -> None:
    from lm_eval.tasks.truthfulqa.utils import process_results_mc2

    _, items, theirs, (values, _) = both["truthfulqa_mc2"]
    for item, sample, value in zip(items, theirs, values, strict=True):
        doc = {"mc2_targets": {"labels": [int(flag) for flag in item.meta["true"]]}}
        replies = [(float(a), b) for ((a, b),) in (reply for reply in sample["resps"])]
        assert value == pytest.approx(process_results_mc2(doc, replies)["acc"], abs=1e-5)


def test_the_harness_runs_its_own_task_files_offline(tmp_path: Path, both: Any) -> None:
    task, items, theirs, _ = both["endings"]
    path = write_task(task, items, tmp_path)
    assert json.loads(path.read_text())["task"] == "endings"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found, samples = harness().own_tasks(["endings"], tmp_path)
        with pytest.raises(TrueupError, match=r"E745.*lm-eval knows no task 'nothing'"):
            harness().own_tasks(["nothing"], tmp_path)
    figures = {figure.metric: figure for figure in found}
    assert figures["acc_norm"].value == pytest.approx(np.mean([sample["acc_norm"] for sample in theirs]))
    assert {figure.num_items for figure in found} == {len(items)}
    values = figures["acc_norm"].values
    assert values is not None and values.tolist() == [sample["acc_norm"] for sample in theirs]
    lines = figure_items(samples)["endings"]
    assert [line["values"]["acc_norm"] for line in lines] == values.tolist()
    assert lines[2]["row"]["query"] == items[2].prompt[0].content
    # The harness warns of what it drops; this model reads 512 tokens.
    assert figures["acc"].cut == 0 and harness().context == 512


def test_what_the_harness_drops_of_a_long_text_is_counted(tmp_path: Path) -> None:
    long = choice(" ".join(["word"] * 600), [" one", " two"], 0, id="long")
    task = find_task("multiple_choice").task()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evidence = harness().evidence(task, [choice("a", [" one", " two"], 0, id="short"), long])
    ids = harness().model.tok_encode(long.prompt[0].content + " one")
    other = harness().model.tok_encode(long.prompt[0].content + " two")
    assert evidence.cut == [0, max(len(ids), len(other)) - 513]
