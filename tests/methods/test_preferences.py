"""What the methods on preferences do beyond their objectives."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from trueup.engine.groups import Group, Score
from trueup.engine.loop import Step
from trueup.engine.method import Handles, Parts
from trueup.errors import TrueupError
from trueup.methods import dpo, kto, online_dpo
from trueup.settings import discover
from trueup.settings.blocks import LoopSettings
from trueup.sources.sample import Decoding
from trueup.testing import check_method, tiny_config
from trueup.testing.toys import STOP, share_of_even_tokens, tiny_network, toy_groups


def parts_of(groups: list[Group]) -> Parts:
    """Parts on toy groups."""
    return Parts(groups=groups, held_out=[], decode=str, stop_ids=(STOP,))


def called(good: int, bad: int) -> list[Group]:
    """Groups of one completion, so many of them called good and so many bad."""
    found = toy_groups(good + bad)
    return [
        replace(
            g,
            completions=g.completions[:1],
            comparisons=(),
            rankings=(),
            scores=(Score(completion=0, value=float(i < good), judge="label"),),
        )
        for i, g in enumerate(found)
    ]


@pytest.mark.parametrize(
    ("good", "bad", "weight", "warned"),
    [(4, 4, 1.0, False), (6, 4, 1.0, False), (7, 4, 1.0, True), (4, 5, 1.0, True), (7, 4, 0.8, False)],
)
def test_kto_warns_where_good_and_bad_are_out_of_balance(
    good: int, bad: int, weight: float, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """λ_D n_D / (λ_U n_U) in [1, 3/2] is quiet: 1, 1.5 and 1.4 are, 1.75 and .8 are not."""
    with caplog.at_level(logging.WARNING, logger="trueup"):
        kto.build(kto.Config(desirable_weight=weight), parts_of(called(good, bad)))
    assert ("ratio between 1 and 1.5" in caplog.text) == warned


def test_kto_without_a_label_is_refused() -> None:
    bare = [replace(g, comparisons=(), rankings=()) for g in toy_groups()]
    with pytest.raises(TrueupError, match="E604"):
        kto.build(kto.Config(), parts_of(bare))


def test_dpo_without_a_reference_keeps_no_second_network() -> None:
    method = dpo.build(dpo.Config(reference_free=True), parts_of(toy_groups()))
    assert set(method.networks) == {"policy"}
    assert not method.annotate


@pytest.mark.parametrize("label", ["hard", "bradley_terry"])
def test_online_dpo_starts_at_log_2_and_learns_from_its_own_samples(label: str) -> None:
    config = online_dpo.Config(
        label=label,  # pyright: ignore[reportArgumentType]
        num_completions=3,
        loop=LoopSettings(steps=1, batch=6),
        decoding=Decoding(max_new_tokens=6),
    )
    method = online_dpo.build(config, parts_of(toy_groups(6)))
    networks = {n: tiny_network(role.heads, trained=role.trained) for n, role in method.networks.items()}
    handles = Handles(networks=networks, judge=share_of_even_tokens)
    with torch.no_grad():
        groups = method.source(0, handles)
        for annotator in method.annotate:
            groups = annotator(groups, handles)
    assert all(len(g.completions) == 3 and c.source == "policy" for g in groups for c in g.completions)
    pairs = [len(g.pairs()) for g in groups]
    assert set(pairs) <= {0, 1} if label == "hard" else set(pairs) == {3}
    assert Step(method, handles, groups).backward()["loss"] == pytest.approx(math.log(2), abs=1e-6)


@pytest.mark.slow  # twenty steps and the checks before them, three times
@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("ipo", {}),
        ("kto", {}),
        # Without the penalty: otherwise its twenty steps are spent on learning to stop.
        ("online_dpo", {"missing_eos": None}),
    ],
)
def test_the_judges_score_rises(name: str, fields: dict[str, Any], tmp_path: Path) -> None:
    module = discover.find(name)
    check_method(module, tmp_path, config=replace(tiny_config(module), **fields), improves=20)
