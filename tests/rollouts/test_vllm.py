"""GRPO through a server for longer, and its law against our own decoder's: a real vLLM where one is named.

`TRUEUP_VLLM_URL` is its address and `TRUEUP_VLLM_MODEL` the folder that it serves, in float32, started as
docs/rollouts.md says. The scripted server goes the same way, so that the test itself is known to work.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scripted_server import Scripted, serving
from small_world import make
from trueup.cli import main
from trueup.engine.groups import Group
from trueup.engine.method import Handles
from trueup.models.forward import LanguageModel
from trueup.models.generate import generate
from trueup.models.shared import open_base
from trueup.rollouts.sampler import ServedSampler
from trueup.rollouts.server import server_of
from trueup.settings.blocks import LoraSettings, SamplerSettings
from trueup.sources.sample import Decoding

pytestmark = pytest.mark.slow  # reason: thousands of requests
URL, MODEL = os.environ.get("TRUEUP_VLLM_URL", ""), os.environ.get("TRUEUP_VLLM_MODEL", "")
JUDGE = "def judge(prompts, completions, **_):\n    return [len(set(c)) / 8 for c in completions]\n"


@dataclass(frozen=True)
class Place:
    """A server, the model it serves, and how much is asked of it."""

    url: str
    model: Path
    steps: int
    draws: int


@pytest.fixture(
    params=[
        "scripted",
        # vLLM pins other versions of torch and transformers than this package, so it cannot be among its test
        # dependencies: it runs in an environment of its own, which whoever has one names.
        pytest.param(
            "vllm",
            marks=pytest.mark.skipif(not URL, reason="no vLLM: start one and name it by TRUEUP_VLLM_URL"),
        ),
    ]
)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Where to sample."""
    make(tmp_path / "small")
    (tmp_path / "judge.py").write_text(JUDGE, encoding="utf-8")
    if request.param == "vllm":
        yield Place(URL, Path(MODEL), steps=20, draws=1000)
        return
    with serving(Scripted(base=tmp_path / "small" / "my-model")) as script:
        yield Place(script.url, script.base, steps=3, draws=100)


def test_a_run_and_the_law_before_and_after_it(place: Place, tmp_path: Path) -> None:
    """The gap stays below 1e-3 nats, and first tokens come as often as from our decoder (p above .01)."""
    given: dict[str, Any] = {
        "model.path": place.model,
        "model.lora.rank": 8,
        "judge": f"{tmp_path / 'judge.py'}:judge",
        "data.path": tmp_path / "small" / "prompts.jsonl",
        "data.held_out": 0.0,
        "num_completions": 4,
        "decoding.max_new_tokens": 16,
        "loop.steps": place.steps,
        "loop.batch": 4,
        "update.lr": 1e-3,
        "sampler.kind": "vllm",
        "sampler.url": place.url,
        "out": tmp_path / "run",
    }
    assert main(["train", "grpo", *(str(w) for k, v in given.items() for w in (f"--{k}", v))]) == 0
    lines = (tmp_path / "run" / "metrics.jsonl").read_text("utf-8").splitlines()
    gaps = [row["sampler_gap"] for row in map(json.loads, lines) if row["phase"] == "train"]
    assert len(gaps) == place.steps and max(gaps) < 1e-3
    base = open_base(str(place.model), dtype="float32", device="cpu")
    fresh = base.network(lora=LoraSettings(rank=8), trained=True)
    trained = base.network(adapter=tmp_path / "run" / "model", trained=True)
    for number, network in enumerate((fresh, trained)):
        assert agreement(place, network, tmp_path / f"law-{number}") > 0.01


def agreement(place: Place, network: LanguageModel, folder: Path) -> float:
    """The p-value that first tokens of the server and of our decoder have one law, over 20 prompts."""
    from scipy.stats import chi2

    rng = np.random.default_rng(0)
    size = network.config.get_text_config().vocab_size
    prompts = [rng.integers(0, min(size, 200), 12).astype(np.int32) for _ in range(20)]
    settings = SamplerSettings(kind="vllm", url=place.url)
    sampler = ServedSampler(server_of(settings), settings, folder)
    sampler.open()
    groups = sampler(
        [Group(prompt=(), prompt_tokens=p) for p in prompts],
        decode=str,
        stop_ids=(),
        k=place.draws,
        decoding=Decoding(max_new_tokens=1),
        seed=1,
        handles=Handles(networks={"policy": network}),
    )
    sampler.close()
    own = generate(network, prompts, k=place.draws, max_new_tokens=1, temperature=1.0, seed=2)
    statistic = freedom = 0.0
    for group, samples in zip(groups, own, strict=True):
        theirs = np.bincount(
            [int(c.tokens[0]) for c in group.completions if c.tokens is not None], None, size
        )
        ours = np.bincount([int(s.tokens[0]) for s in samples], None, size)
        both = theirs + ours
        common = both >= 10
        table = np.array([[*row[common], row[~common].sum()] for row in (theirs, ours)], float)
        table = table[:, table.sum(0) > 0]
        expected = table.sum(0) / 2
        statistic += float(((table - expected) ** 2 / expected).sum())
        freedom += table.shape[1] - 1
    return float(chi2.sf(statistic, freedom)) if freedom else 1.0
