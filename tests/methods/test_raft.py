"""RAFT and best-of-n finetuning as built: what is sampled, kept, counted and refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from trueup.engine.loop import fit
from trueup.engine.method import Handles, Method, Parts
from trueup.errors import TrueupError
from trueup.methods import best_of_n_sft, raft
from trueup.settings import discover
from trueup.settings.blocks import LoopSettings
from trueup.sources.sample import Decoding
from trueup.testing import check_method, tiny_config
from trueup.testing.toys import STOP, share_of_even_tokens, tiny_network, toy_groups
from trueup.update.adamw import AdamW

PARTS = Parts(groups=toy_groups(8), held_out=[], decode=str, stop_ids=(STOP,))
TINY: dict[str, Any] = {
    "decoding": Decoding(max_new_tokens=4),
    "loop": LoopSettings(batch=6),
    "minibatch": None,
    "missing_eos": None,
}


def handles_of(method: Method) -> Handles:
    networks = {n: tiny_network(role.heads, trained=role.trained) for n, role in method.networks.items()}
    return Handles(networks=networks, judge=share_of_even_tokens)


@pytest.mark.parametrize(
    ("config", "kept", "sampled"),
    [
        (raft.Config(k=4, **TINY), 1, 6),
        (raft.Config(k=3, **TINY), 2, 6),
        (raft.Config(k=2, beta=0.1, **TINY), 3, 6),
        (raft.Config(k=3, select="per_prompt", **TINY), 6, 18),
        (best_of_n_sft.Config(n=3, **TINY), 6, 18),
    ],
    ids=["global", "global 3", "penalised", "per prompt", "best of n"],
)
def test_how_many_are_kept_and_paid_for(config: Any, kept: int, sampled: int) -> None:
    """⌊6 / k⌋ or one a prompt is kept; tokens of all that was sampled count as sampled."""
    module = raft if isinstance(config, raft.Config) else best_of_n_sft
    method = replace(module.build(config, PARTS), update=AdamW(lr=3e-4))
    handles = handles_of(method)
    drawn = method.source(0, handles)
    assert sum(len(g.completions) for g in drawn) == sampled
    groups = drawn
    for annotator in method.annotate:
        groups = annotator(groups, handles)
    assert [len(g.completions) for g in groups] == [1] * kept
    fresh = handles_of(method)
    progress = fit(method, fresh, num_steps=1, groups_per_step=6)
    assert progress.tokens_sampled == sum(c.num_tokens for g in drawn for c in g.completions)
    epochs = config.epochs_per_step
    assert progress.tokens_trained == epochs * sum(c.num_tokens for g in groups for c in g.completions)


def test_fewer_prompts_than_one_in_k_are_refused() -> None:
    with pytest.raises(TrueupError, match="E727"):
        raft.build(raft.Config(k=7, **TINY), PARTS)
    raft.build(raft.Config(k=7, select="per_prompt", **TINY), PARTS)


def test_without_a_penalty_no_reference_is_loaded() -> None:
    assert set(raft.build(raft.Config(**TINY), PARTS).networks) == {"policy"}
    assert set(raft.build(raft.Config(beta=0.1, **TINY), PARTS).networks) == {"policy", "reference"}


def test_the_sampler_of_best_of_n_stays_as_the_run_started() -> None:
    """After an update the policy's samples differ from before; the source's do not."""
    method = best_of_n_sft.build(best_of_n_sft.Config(n=3, update=AdamW(lr=0.1, warmup=0), **TINY), PARTS)
    handles = handles_of(method)

    def drawn() -> list[list[int]]:
        groups = method.source(0, handles)
        return [c.tokens.tolist() for g in groups for c in g.completions if c.tokens is not None]

    before = drawn()
    policy = {n: p.clone() for n, p in handles.networks["policy"].module.named_parameters()}
    fit(method, handles, num_steps=1, groups_per_step=6)
    moved = dict(handles.networks["policy"].module.named_parameters())
    assert any(not p.equal(policy[n]) for n, p in moved.items())
    assert drawn() == before


@pytest.mark.parametrize(
    "change", [{"beta": 0.1}, {"select": "per_prompt", "k": 3}], ids=["penalised", "local"]
)
def test_other_settings_repeat_and_resume_to_the_bit_too(change: dict[str, Any], tmp_path: Path) -> None:
    check_method(raft, tmp_path, config=replace(tiny_config(raft), **change))


@pytest.mark.slow  # twenty steps of sampling several completions
@pytest.mark.parametrize("name", ["raft", "best_of_n_sft"])
def test_the_score_of_a_policy_rises(name: str, tmp_path: Path) -> None:
    check_method(discover.find(name), tmp_path, improves=20)
