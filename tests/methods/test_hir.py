"""HIR as built: where the instruction stands, who sees it, and that it comes to be heeded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from trueup.annotate.relabel import instructed
from trueup.engine.groups import Group, Message, Role
from trueup.engine.loop import fit
from trueup.engine.method import Handles, Parts
from trueup.errors import TrueupError
from trueup.methods import hir
from trueup.settings.blocks import LoopSettings
from trueup.sources.sample import Decoding, sample_groups
from trueup.testing.toys import STOP, share_of_even_tokens, tiny_network, toy_groups, toy_prompt_ids
from trueup.update.adamw import AdamW

PARTS = Parts(
    groups=toy_groups(12, seed=1), held_out=[], decode=str, stop_ids=(STOP,), prompt_ids=toy_prompt_ids
)
SHORT = Decoding(max_new_tokens=6)


def test_the_instruction_follows_what_the_user_said_last() -> None:
    seen: list[Sequence[Message]] = []

    def prompt_ids(messages: Sequence[Message]) -> np.ndarray:
        seen.append(list(messages))
        return np.array([1], np.int32)

    parts = replace(PARTS, prompt_ids=prompt_ids)
    turns = (Message(Role.USER, "hi"), Message(Role.ASSISTANT, "yes?"), Message(Role.USER, "why"))
    instructed(parts, "be good", Group(prompt=turns))
    instructed(parts, "be good", Group(prompt=(Message(Role.TEXT, "once"),)))
    instructed(parts, "be good", Group(prompt=(Message(Role.SYSTEM, "s"),)))
    assert [m.content for m in seen[0]] == ["hi", "yes?", "why\nbe good"]
    assert [(m.role, m.content) for m in seen[1]] == [(Role.TEXT, "once\nbe good")]
    assert [(m.role, m.content) for m in seen[2]] == [(Role.SYSTEM, "s"), (Role.USER, "be good")]


def test_samples_are_asked_with_the_instruction_and_judged_without() -> None:
    method = hir.build(hir.Config(num_completions=2, decoding=SHORT, loop=LoopSettings(batch=3)), PARTS)
    groups = method.source(0, Handles(networks={"policy": tiny_network()}))
    by_id = {g.id: g for g in PARTS.groups}
    for group in groups:
        asked = instructed(PARTS, hir.Algorithm().instruction, by_id[group.id])
        assert group.prompt_tokens is not None and group.prompt_tokens.tolist() == asked.tolist()
        assert group.prompt == by_id[group.id].prompt


def test_one_instruction_twice_is_refused() -> None:
    algorithm = hir.Algorithm(instruction="same", opposite="same")
    with pytest.raises(TrueupError, match="E734"):
        hir.build(hir.Config(algorithm=algorithm), PARTS)


def test_the_instruction_comes_to_be_heeded() -> None:
    """Twenty steps: asked to be good the policy scores higher than at first, asked to be poor much lower."""
    network = tiny_network()
    handles = Handles(networks={"policy": network}, judge=share_of_even_tokens)
    config = hir.Config(
        decoding=SHORT,
        minibatch=None,
        loop=LoopSettings(batch=16),
        update=AdamW(lr=1e-2, warmup=0.0, schedule="constant"),
    )

    def score(instruction: str) -> float:
        asked = [replace(g, prompt_tokens=instructed(PARTS, instruction, g)) for g in toy_groups(12, seed=3)]
        drawn = sample_groups(
            asked, network, decode=lambda ids: "", stop_ids=(STOP,), k=8, decoding=SHORT, seed=1
        )
        return float(np.mean([s for row in share_of_even_tokens(drawn) for s in row]))

    good, poor = config.algorithm.instruction, config.algorithm.opposite
    before = score(good)
    fit(hir.build(config, PARTS), handles, num_steps=20, groups_per_step=16)
    assert score(good) > before + 0.1
    assert score(good) > score(poor) + 0.2
