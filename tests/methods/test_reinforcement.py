"""What the policy-gradient methods do beyond their checks: on random decoders, and between each other."""

from __future__ import annotations

from dataclasses import fields, replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from trueup.engine.groups import Group
from trueup.engine.loop import Step, fit
from trueup.engine.method import Handles, Method, Parts
from trueup.errors import TrueupError
from trueup.methods import apa, cispo, grpo, gspo, ppo, ppo_ptx, reinforce, reinforce_pp, rloo, scst
from trueup.objectives.reinforce import ClippedSequence
from trueup.settings.blocks import LoopSettings
from trueup.sources.sample import Decoding, sample_groups
from trueup.testing import check_method, tiny_config
from trueup.testing.toys import STOP, share_of_even_tokens, tiny_network, toy_groups
from trueup.update.adamw import AdamW

PARTS = Parts(
    groups=toy_groups(6, seed=1),
    held_out=[],
    decode=str,
    stop_ids=(STOP,),
    more=lambda settings: toy_groups(5, seed=3),
)


def opened(module: ModuleType, config: Any) -> tuple[Method, Handles]:
    method = module.build(config, PARTS)
    networks = {n: tiny_network(role.heads, trained=role.trained) for n, role in method.networks.items()}
    return method, Handles(networks=networks, judge=share_of_even_tokens)


def annotated(method: Method, handles: Handles) -> list[Group]:
    with torch.no_grad():
        groups = method.source(0, handles)
        for stage in method.annotate:
            groups = stage(groups, handles)
    return groups


def gradient(method: Method, handles: Handles, groups: list[Group], number: int | None = 0) -> Tensor:
    """The policy's gradient of one minibatch, flattened."""
    parameters = list(handles.networks["policy"].module.parameters())
    for network in handles.networks.values():
        network.module.zero_grad()
    Step(method, handles, groups, number).backward()
    found = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    return torch.cat([g.flatten() for g in found])


def test_a_sample_that_is_greedy_gives_no_gradient() -> None:
    """A policy that always says its likeliest word is its own baseline: every advantage and gradient is 0."""
    decoding = Decoding(max_new_tokens=6, greedy=True)
    config = scst.Config(decoding=decoding, loop=LoopSettings(steps=1, batch=4))
    method, handles = opened(scst, config)
    groups = annotated(method, handles)
    assert [c.marks["advantage"] for g in groups for c in g.completions] == pytest.approx([0] * 4, abs=1e-6)
    assert gradient(method, handles, groups).abs().max() < 1e-5


def test_the_greedy_baseline_follows_the_policy() -> None:
    """Other weights, another greedy completion: the baseline is refreshed at every step."""
    method, handles = opened(scst, tiny_config(scst))
    noted: list[float] = []
    told = replace(handles, record=lambda m: noted.append(m["baseline"]) if "baseline" in m else None)
    annotated(method, told)
    with torch.no_grad():
        for p in handles.networks["policy"].module.parameters():
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(1)))
    annotated(method, told)
    assert noted[0] != noted[1]


@pytest.mark.parametrize("module", [reinforce, scst, rloo], ids=lambda m: m.__name__.rpartition(".")[2])
def test_the_judges_score_rises(module: ModuleType, tmp_path: Any) -> None:
    """Without a fixed score for what was cut off, which at six tokens would teach to stop instead."""
    config = replace(tiny_config(module), missing_eos=None, num_completions=4)
    check_method(module, tmp_path, config=config, improves=15)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(
    "module", [gspo, cispo, reinforce_pp, grpo], ids=lambda m: m.__name__.rpartition(".")[2]
)
def test_the_judges_score_rises_at_each_seed(module: ModuleType, seed: int) -> None:
    """Also with DAPO's settings, an entropy bonus and a dual clip, as far as the method has them."""
    loop, update = LoopSettings(steps=15, batch=16), AdamW(lr=1e-2, warmup=0.0)
    config = replace(tiny_config(module), num_completions=4, seed=seed, loop=loop, update=update)
    wanted = {"missing_eos": None, "entropy": 1e-3, "dual_clip": 3.0, "max_batches": 3, "overlong_cache": 1}
    has = {f.name for f in fields(config.algorithm)}
    algorithm = replace(config.algorithm, **{name: v for name, v in wanted.items() if name in has})
    method, handles = opened(module, replace(config, algorithm=algorithm))
    handles = replace(handles, seed=seed)

    def score() -> float:
        groups = sample_groups(
            toy_groups(24, seed=5), handles.networks["policy"], decode=str, stop_ids=(STOP,), k=4,
            decoding=Decoding(max_new_tokens=6), seed=7,
        )  # fmt: skip
        return float(np.mean([s for row in share_of_even_tokens(groups) for s in row]))

    before = score()
    fit(method, handles, num_steps=15, groups_per_step=16)
    assert score() > before + 0.1


@pytest.mark.parametrize("module", [rloo, grpo], ids=lambda m: m.__name__.rpartition(".")[2])
def test_one_completion_a_prompt_is_refused(module: ModuleType) -> None:
    method, handles = opened(module, replace(tiny_config(module), num_completions=1))
    with pytest.raises(TrueupError) as raised:
        annotated(method, handles)
    assert raised.value.code == "E741"


def test_rloo_with_a_clip_takes_several_epochs_and_starts_with_the_same_gradient() -> None:
    plain, handles = opened(rloo, tiny_config(rloo))
    clipped, _ = opened(rloo, replace(tiny_config(rloo), clip=0.2, epochs_per_step=2))
    assert isinstance(clipped.objective, ClippedSequence)
    assert clipped.epochs == 2
    groups = annotated(plain, handles)
    expected = gradient(plain, handles, groups)
    torch.testing.assert_close(gradient(clipped, handles, groups), expected, atol=1e-5, rtol=1e-4)


def test_ppo_ptx_without_text_is_ppo() -> None:
    config = tiny_config(ppo_ptx)
    method, _ = opened(ppo_ptx, replace(config, pretraining=ppo_ptx.Pretraining(coefficient=0.0)))
    plain, _ = opened(ppo, tiny_config(ppo))
    assert method.beside == ()
    assert (method.objective, method.annotate, method.networks) == (
        plain.objective,
        plain.annotate,
        plain.networks,
    )


def test_ppo_ptxs_gradient_is_ppos_plus_gamma_times_the_texts() -> None:
    config = replace(tiny_config(ppo_ptx), pretraining=ppo_ptx.Pretraining(coefficient=3.0, batch=2))
    method, handles = opened(ppo_ptx, config)
    groups = annotated(method, handles)
    (beside,) = method.beside
    alone = replace(method, objective=beside.objective, beside=())
    text = gradient(alone, handles, beside.groups(groups, 0, handles))
    expected = gradient(method, handles, groups, number=None) + 3.0 * text
    torch.testing.assert_close(gradient(method, handles, groups), expected, atol=1e-6, rtol=1e-5)
    assert text.abs().max() > 1e-3


def test_texts_without_a_way_to_open_them_are_refused() -> None:
    alone = Parts(groups=PARTS.groups, held_out=[], decode=str, stop_ids=(STOP,))
    with pytest.raises(TrueupError) as raised:
        ppo_ptx.build(tiny_config(ppo_ptx), alone)
    assert raised.value.code == "E742"


def test_ppo_ptx_walks_through_all_its_texts() -> None:
    config = replace(tiny_config(ppo_ptx), pretraining=ppo_ptx.Pretraining(batch=2))
    method, handles = opened(ppo_ptx, config)
    drawn = [g.id for update in range(5) for g in method.beside[0].groups([], update, handles)]
    assert sorted(drawn) == sorted(["0", "1", "2", "3", "4"] * 2)


def test_apas_reward_is_the_score_alone() -> None:
    method, handles = opened(apa, tiny_config(apa))
    for group in annotated(method, handles):
        for c in group.completions:
            assert c.columns["rewards"].tolist() == [0.0] * (c.num_supervised - 1) + [c.marks["score"]]
