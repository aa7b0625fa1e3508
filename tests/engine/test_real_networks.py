"""The loop on small real decoders: gradients whatever the split, and what holds before learning starts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from tiny_models import VOCABULARY, gpt2, llama
from trueup.engine.groups import Comparison, Completion, Group
from trueup.engine.loop import Step
from trueup.engine.method import Handles, Method, Parts
from trueup.methods import dpo, ppo
from trueup.models.load import from_modules
from trueup.settings import discover
from trueup.settings.blocks import LoopSettings
from trueup.sources.sample import Decoding
from trueup.testing import gradient_of
from trueup.testing.toys import spelled, toy_prompt_ids

STOP = 1
AT_ONCE = ("dpo", "ppo", "reward_model")
"Methods that are tried with activation checkpointing each time; the others are among the slow tests."
BUILDS = [name for name in discover.names() if "build" in vars(discover.find(name))]


def groups(count: int = 5, seed: int = 0) -> list[Group]:
    rng = np.random.default_rng(seed)

    def draw(low: int, high: int) -> np.ndarray:
        return rng.integers(2, VOCABULARY, rng.integers(low, high)).astype(np.int32)

    return [
        Group(
            id=str(number),
            prompt=(),
            prompt_tokens=draw(1, 9),
            completions=tuple(
                Completion(text="", tokens=np.append(draw(1, 8), STOP).astype(np.int32)) for _ in range(2)
            ),
            comparisons=(Comparison(a=0, b=1, choice="a"),),
        )
        for number in range(count)
    ]


def stepped(group: Group) -> Group:
    """The group with each completion as one right step."""
    said = [spelled(c.tokens[:-1]) for c in group.completions if c.tokens is not None]
    return replace(group, meta={"steps": [[{"text": text, "label": True}] for text in said]})


def judge(scored: Sequence[Group]) -> list[list[float]]:
    """A number that differs between completions of one length."""
    return [[float(c.tokens.sum() % 5) for c in g.completions if c.tokens is not None] for g in scored]


def opened(method: Method, *, dtype: torch.dtype, family: object = llama) -> Handles:
    networks = {}
    for name, role in method.networks.items():
        network = from_modules(family().to(dtype), None, heads=role.heads)  # pyright: ignore
        network.module.requires_grad_(role.trained)
        networks[name] = network.with_temperature(method.temperature)
    return Handles(networks=networks, dtype=dtype, judge=judge, microbatch_tokens=64)


def build(name: str, **options: object) -> Method:
    module = vars(discover.find(name))
    known = module["Config"].__dataclass_fields__
    tiny = {
        "loop": LoopSettings(batch=5),
        "decoding": Decoding(max_new_tokens=7),
        "minibatch": None,
        "missing_eos": None,  # what random weights write may never end, and would get one score
        **options,
    }
    config = module["Config"](**{key: value for key, value in tiny.items() if key in known})
    if hasattr(getattr(config, "algorithm", None), "missing_eos"):
        config = replace(config, algorithm=replace(config.algorithm, missing_eos=None))
    parts = Parts(
        groups=[stepped(group) for group in groups()],
        held_out=[],
        decode=spelled,
        stop_ids=(STOP,),
        prompt_ids=toy_prompt_ids,
        more=lambda settings: groups(),
    )
    return module["build"](config, parts)


def collected(method: Method, handles: Handles) -> list[Group]:
    with torch.no_grad():
        made = method.source(0, handles)
        for annotator in method.annotate:
            made = annotator(made, handles)
    return made


def moved(name: str, family: object = llama) -> tuple[Method, Handles, list[Group]]:
    """A method in float64, its networks after they have moved, so that ratios differ from 1, and groups."""
    method = build(name)
    handles = opened(method, dtype=torch.float64, family=family)
    made = collected(method, handles)
    noise = torch.Generator().manual_seed(0)
    for network in method.trains:
        for p in handles.networks[network].module.parameters():
            p.data.add_(0.03 * torch.randn(p.shape, generator=noise, dtype=p.dtype))
    return method, handles, made


@pytest.mark.parametrize("name", BUILDS)
def test_the_gradient_does_not_depend_on_the_microbatches(name: str) -> None:
    """float64, after the policy has moved so that ratios differ from 1: equal to 1e-10 for any split."""
    method, handles, made = moved(name)
    whole = gradient_of(Step(method, replace(handles, microbatch_tokens=10**9), made))
    assert max(g.abs().max().item() for g in whole.values()) > 1e-3
    for tokens in (1, 37):
        cut = gradient_of(Step(method, replace(handles, microbatch_tokens=tokens), made))
        for key, expected in whole.items():
            assert (cut[key] - expected).abs().max().item() < 1e-10, key


@pytest.mark.parametrize(
    "name", [name if name in AT_ONCE else pytest.param(name, marks=pytest.mark.slow) for name in BUILDS]
)
def test_the_gradient_does_not_depend_on_what_is_computed_again(name: str) -> None:
    """float64: with activation checkpointing loss and gradient of every method are the same to 1e-10."""
    method, handles, made = moved(name)
    step = Step(method, handles, made)
    loss, whole = step.evaluate()["loss"], gradient_of(step)
    for policy in ("block", "selective"):
        kept = {
            n: replace(network, activation_checkpointing=policy)  # pyright: ignore
            for n, network in handles.networks.items()
        }
        again = Step(method, replace(handles, networks=kept), made)
        for key, found in gradient_of(again).items():
            assert (found - whole[key]).abs().max().item() < 1e-10, key
        assert abs(again.backward()["loss"] - loss) < 1e-10


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("family", [llama, gpt2], ids=["llama", "gpt2"])
def test_ppos_first_ratio_is_1(family: object, temperature: float) -> None:
    """Old log-probs recomputed by the trainer: ratio 1 to 1e-6 at every token, nothing clipped, no KL."""
    method = build("ppo", decoding=Decoding(max_new_tokens=7, temperature=temperature))
    handles = opened(method, dtype=torch.float32, family=family)
    noted: dict[str, float] = {}
    handles = replace(handles, record=noted.update)
    made = collected(method, handles)
    for terms in (terms for _, terms in Step(method, handles, made)._terms(method.objective, made)):
        assert (terms.metrics["policy/ratio"].values - 1).abs().max().item() < 1e-6
        assert terms.metrics["policy/clipfrac"].values.sum().item() == 0
        assert terms.metrics["policy/approxkl"].values.max().item() < 1e-12
    assert abs(noted["kl"]) < 1e-6
    assert noted["sampler_gap"] < 1e-4


def test_the_samplers_log_probs_are_close_and_the_gap_is_logged() -> None:
    method = build("ppo", algorithm=ppo.Algorithm(old="sampler"))
    handles = opened(method, dtype=torch.float32)
    noted: dict[str, float] = {}
    made = collected(method, replace(handles, record=noted.update))
    ratios = [
        terms.metrics["policy/ratio"].values
        for _, terms in Step(method, handles, made)._terms(method.objective, made)
    ]
    assert (torch.cat(ratios) - 1).abs().max().item() < 1e-4
    assert 0 <= noted["sampler_gap"] < 1e-4


@pytest.mark.parametrize("old", ["trainer", "sampler"])
def test_a_sampler_that_is_off_is_seen_in_the_gap(old: str) -> None:
    """Recorded log-probs shifted by .3: the gap says .3, and only the sampler setting trains on them."""
    method = build("ppo", algorithm=ppo.Algorithm(old=old))  # pyright: ignore
    handles = opened(method, dtype=torch.float32)
    with torch.no_grad():
        sampled = method.source(0, handles)
    shifted = [
        g.with_completions(
            [c.with_columns(sampled_logprobs=c.columns["sampled_logprobs"] - 0.3) for c in g.completions]
        )
        for g in sampled
    ]
    noted: dict[str, float] = {}
    for annotator in method.annotate[:2]:
        shifted = annotator(shifted, replace(handles, record=noted.update))
    assert noted["sampler_gap"] == pytest.approx(0.3, abs=1e-4)
    gap = (
        shifted[0].completions[0].columns["old_logprobs"]
        - sampled[0].completions[0].columns["sampled_logprobs"]
    )
    assert np.abs(gap).max() == pytest.approx(0.3 if old == "sampler" else 0.0, abs=1e-4)


@pytest.mark.parametrize("family", [llama, gpt2], ids=["llama", "gpt2"])
def test_dpos_first_loss_is_log_2_although_the_model_has_dropout(family: object) -> None:
    def dropping() -> object:
        rate = {"attention_dropout": 0.3} if family is llama else {"attn_pdrop": 0.3, "resid_pdrop": 0.3}
        return family(**rate).train()  # pyright: ignore

    method = build("dpo", beta=1.0)
    handles = opened(method, dtype=torch.float32, family=dropping)
    numbers = Step(method, handles, collected(method, handles)).backward()
    assert numbers["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert numbers["rewards/margins"] == pytest.approx(0, abs=1e-5)
    assert dpo.Config().beta == 0.1
