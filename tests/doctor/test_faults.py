"""Every kind of fault, planted in dumps of its own, is found; in clean dumps nothing is."""

from __future__ import annotations

import numpy as np
import pytest

from doctor import corpus
from doctor.corpus import CLEAN, FAULTS, Dump
from trueup.doctor import Diagnosis, examine, row_of

FEW, MANY = 2, 20
"Dumps of each kind, by default and in `make test-all`."
RECALL = 0.95


def diagnosed(dump: Dump) -> Diagnosis:
    rows = [row_of(row, line=number) for number, row in enumerate(dump, 1)]
    return examine(rows, corpus.opened())


def missed(seeds: range) -> list[str]:
    """The dumps in which the planted kind is not found."""
    return [
        f"{name}, seed {seed}"
        for seed in seeds
        for name, (kind, plant) in FAULTS.items()
        if kind not in {finding.name for finding in diagnosed(plant(seed)).findings}
    ]


def alarms(seeds: range) -> list[str]:
    """What is found in clean dumps."""
    return [
        f"{name}, seed {seed}: {finding.says}"
        for seed in seeds
        for name, make in CLEAN.items()
        for finding in diagnosed(make(seed)).findings
    ]


def test_the_corpus_is_as_large_as_the_page_says() -> None:
    assert len(FAULTS) == 37 and len({kind for kind, _ in FAULTS.values()}) == 26


def test_planted_faults_are_found() -> None:
    assert not missed(range(FEW))


def test_clean_dumps_are_clean() -> None:
    assert not alarms(range(FEW))


@pytest.mark.slow
def test_planted_faults_are_found_at_many_seeds() -> None:
    """Slow: 740 dumps."""
    found = missed(range(100, 100 + MANY))
    assert len(found) <= (1 - RECALL) * MANY * len(FAULTS), found
    for name in FAULTS:
        assert sum(entry.startswith(f"{name}, ") for entry in found) <= (1 - RECALL) * MANY, found


@pytest.mark.slow
def test_clean_dumps_are_clean_at_many_seeds() -> None:
    """Slow: 120 dumps."""
    assert not alarms(range(100, 100 + MANY))


@pytest.mark.parametrize(
    ("name", "key", "value", "within"),
    [
        ("log-probs of temperature .7", "temperature_factor", 0.7, 1e-3),
        ("trainer without temperature", "temperature_factor", 1.25, 1e-3),
        ("raw log-probs of temperature .7", "temperature_factor", 0.7, 0.05),
        ("top-p renormalised", "top_p", 0.9, 0.011),
        ("top-p renormalised, bfloat16", "top_p", 0.9, 0.011),
        ("top-k renormalised", "top_k", 20, 0),
        ("temperature and top-p", "temperature_factor", 0.7, 0.01),
        ("a batch skipped", "missing", 4, 0),
    ],
)
def test_the_number_is_the_planted_one(name: str, key: str, value: float, within: float) -> None:
    kind, plant = FAULTS[name]
    (found,) = [f for f in diagnosed(plant(0)).findings if f.name == kind]
    assert float(found.measured[key]) == pytest.approx(value, abs=within)


def test_the_mean_shift_is_what_renormalising_added() -> None:
    """-log S of the nucleus in the mean: renormalised less raw log-probs of the same tokens."""
    cut = diagnosed(corpus.top_p(0))
    (found,) = [f for f in cut.findings if f.name == "truncated support"]
    pairs = zip(corpus.top_p(0), corpus.cut_raw(0), strict=True)
    gaps = [
        a - b
        for one, other in pairs
        for a, b in zip(one["sampler_logprobs"], other["sampler_logprobs"], strict=True)
        if a is not None
    ]
    assert float(found.measured["mean_shift"]) == pytest.approx(sum(gaps) / len(gaps), abs=2e-3)


def test_the_rows_are_the_planted_ones() -> None:
    plain, dump = corpus.samples(0), corpus.stale_cache(0)
    lines = {k for k, (a, b) in enumerate(zip(plain, dump, strict=True), 1) if a != b}
    (found,) = [f for f in diagnosed(dump).findings if f.name == "stale weights or cache"]
    assert len(lines) == 12 and set(found.lines) <= lines and len(found.lines) >= 11


def test_without_a_model_what_needs_none_is_looked_at() -> None:
    rows = [row_of(row, line=number) for number, row in enumerate(corpus.off_baseline(0), 1)]
    found = examine(rows)
    assert [f.name for f in found.findings] == ["advantages not zero-mean"]
    assert dict(found.unchecked)["temperature"] == "no --model"


def test_two_engines_that_disagree_are_told_without_a_model() -> None:
    rows = corpus.samples(0)
    for row in rows:
        row["trainer_logprobs"] = [None if v is None else v - 0.2 for v in row["sampler_logprobs"]]
    found = examine([row_of(row, line=number) for number, row in enumerate(rows, 1)])
    (said,) = found.findings
    assert said.name == "sampler against trainer" and said.measured["rms"] == pytest.approx(0.2)


def test_prompts_may_be_meant_to_be_in_the_loss() -> None:
    rows = [row_of(row, line=number) for number, row in enumerate(corpus.on_prompts(0), 1)]
    assert not examine(rows, corpus.opened(), loss_on="everything").findings


def test_advantages_with_the_batch_as_their_baseline_are_clean() -> None:
    """REINFORCE++ whitens over the batch: no group's sum is zero, and nothing is wrong."""
    rows = corpus.samples(0)
    rewards = np.array([row["reward"] for row in rows])
    for row, value in zip(rows, (rewards - rewards.mean()) / rewards.std(), strict=True):
        row["advantages"] = float(np.float32(value))
    assert not examine([row_of(row, line=number) for number, row in enumerate(rows, 1)]).findings
