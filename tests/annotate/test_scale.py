"""Where a finished score's zero and unit lie, and its accuracy by source."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from trueup.annotate.logprobs import measure
from trueup.annotate.scale import accuracy_by_source, set_scale
from trueup.engine.groups import Completion, Group, Message
from trueup.engine.groups import Role as Speaker
from trueup.engine.method import Handles, Parts
from trueup.engine.order import permutation
from trueup.methods import reward_model
from trueup.settings.blocks import LoopSettings
from trueup.testing.toys import tiny_network, toy_groups, toy_prompt_ids


def handles() -> Handles:
    return Handles(
        networks={"reward": tiny_network(("rewards",)), "policy": tiny_network(trained=False)},
        dtype=torch.float64,
    )


def scores(groups: list[Group], given: Handles) -> torch.Tensor:
    return measure(groups, "reward", "rewards", given).double()


def test_mean_and_scale() -> None:
    groups, given = toy_groups(), handles()
    before = scores(groups, given)
    noted = set_scale(groups, "mean", given)
    torch.testing.assert_close(scores(groups, given), before - before.mean(), atol=1e-6, rtol=0)
    assert noted["score/mean_before"] == pytest.approx(before.mean().item())
    assert noted["score/std_before"] == pytest.approx(before.std(correction=0).item())
    for _ in range(2):  # A score that has a scale gets another one in the same way.
        set_scale(groups, "scale", given)
        after = scores(groups, given)
        assert after.mean().item() == pytest.approx(0, abs=1e-5)
        assert after.std(correction=0).item() == pytest.approx(1, abs=1e-5)


def test_accuracy_by_source_does_not_depend_on_how_the_sources_are_mixed() -> None:
    given = handles()
    groups = [replace(g, source="ab"[i % 2]) for i, g in enumerate(toy_groups(10))]
    mixed = [groups[i] for i in permutation(10, 0)]
    found, again = accuracy_by_source(groups, given), accuracy_by_source(mixed, given)
    assert set(found) == {"accuracy/a", "accuracy/b"}
    assert found == pytest.approx(dict(again))
    alone = [g for g in groups if g.source == "a"]
    assert accuracy_by_source(alone, given) == {}
    right = []
    for group in alone:
        own = scores([group], given).tolist()
        right.append(
            np.mean([p.label if own[p.chosen] > own[p.rejected] else 1 - p.label for p in group.pairs()])
        )
    assert found["accuracy/a"] == pytest.approx(np.mean(right))


def built(**settings: Any) -> tuple[Any, list[Group]]:
    demonstration = Group(
        prompt=(Message(Speaker.TEXT, "d"),),
        prompt_tokens=np.array([9, 15], np.int32),
        completions=(Completion(text="d", tokens=np.array([3, 4, 0], np.int32)),),
    )
    groups = [
        *toy_groups(),
        demonstration,
        replace(demonstration, prompt_tokens=np.array([10, 15], np.int32)),
    ]
    config = reward_model.Config(loop=LoopSettings(batch=2), **settings)
    parts = Parts(groups=groups, held_out=[], decode=str, stop_ids=(0,), prompt_ids=toy_prompt_ids)
    return reward_model.build(config, parts), groups


def test_the_zero_may_be_what_nobody_judged() -> None:
    method, groups = built(normalise=reward_model.Normalise(to="mean", on="demonstrations"))
    assert all(g.pairs() for g in method.source.groups), "demonstrations are not learned from"
    given = handles()
    noted = method.finish(given)
    assert scores(groups[-2:], given).mean().item() == pytest.approx(0, abs=1e-6)
    assert abs(scores(groups[:-2], given).mean().item()) > 1e-3
    assert set(noted) == {"score/mean_before", "score/std_before"}


def test_of_many_rows_a_drawn_sample_is_measured() -> None:
    learned = built()[0].source.groups
    assert len(learned) > 2
    drawn = [learned[i] for i in sorted(permutation(len(learned), 0, "normalise")[:2])]
    sampled, whole = handles(), handles()
    built(normalise=reward_model.Normalise(limit=2))[0].finish(sampled)
    assert scores(drawn, sampled).mean().item() == pytest.approx(0, abs=1e-4)
    assert scores(drawn, sampled).std(correction=0).item() == pytest.approx(1, abs=1e-4)
    for limit in (None, len(learned)):
        whole = handles()
        built(normalise=reward_model.Normalise(limit=limit))[0].finish(whole)
        assert scores(learned, whole).mean().item() == pytest.approx(0, abs=1e-4)
    with pytest.raises(ValueError, match="2 or more"):
        reward_model.Normalise(limit=1)


def test_the_zero_may_be_the_model_that_training_began_from() -> None:
    method, groups = built(normalise=reward_model.Normalise(on="samples"))
    assert not method.networks["policy"].trained and method.trains == ("reward",)
    first, second = handles(), handles()
    assert method.finish(first) == method.finish(second), "drawn from the seed"
    assert torch.equal(scores(groups, first), scores(groups, second))
    on_completions, _ = built()
    assert "policy" not in on_completions.networks
    assert on_completions.finish(handles()) != method.finish(handles())


def test_none_leaves_the_score_as_it_is() -> None:
    method, groups = built(normalise=reward_model.Normalise(to="none"))
    given = handles()
    before = scores(groups, given)
    assert method.finish(given) == {}
    assert torch.equal(scores(groups, given), before)
