"""TRL as an oracle for RLOO and GRPO: the same loss and gradient on the same random batch.

TRL's own `_compute_loss` runs on a padded batch whose per-token log-probabilities are the parameter that is
differentiated; trueup's objective runs on the packed one.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, fields
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from trueup.annotate.baselines import GroupNormalised, LeaveOneOut
from trueup.annotate.rewards import KLReward
from trueup.engine.batch import Batch, Outputs
from trueup.engine.groups import Completion, Group
from trueup.engine.method import Handles, Objective
from trueup.engine.packing import pack
from trueup.objectives.group_relative import GroupRelative
from trueup.objectives.importance import CISPO, GSPO
from trueup.objectives.reinforce import ClippedSequence, Reinforce

# Deprecations inside TRL and what it builds on; nothing of ours raises them.
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
TOLERANCE = 1e-5
LENGTHS = (3, 7, 1, 5, 4, 6)
K, LONGEST = 3, 8


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@dataclass(frozen=True)
class Case:
    """Random log-probabilities [6, 7] of two prompts' three completions, and their scores."""

    new: Tensor
    old: Tensor
    ref: Tensor
    scores: Tensor
    mask: Tensor


def case(spread: float) -> Case:
    """`spread` is how far the policy is from the old one: 0 is the first update of a step."""
    draw = torch.Generator().manual_seed(0)
    old = -torch.rand(len(LENGTHS), max(LENGTHS), generator=draw, dtype=torch.float64) * 3
    noise = [torch.randn(old.shape, generator=draw, dtype=torch.float64) for _ in range(2)]
    return Case(
        new=(old + spread * noise[0]).requires_grad_(),
        old=old,
        ref=old + 0.3 * noise[1],
        scores=torch.randn(len(LENGTHS), generator=draw, dtype=torch.float64),
        mask=torch.arange(max(LENGTHS))[None, :] < torch.tensor(LENGTHS)[:, None],
    )


def groups_of(given: Case) -> list[Group]:
    """The same completions as trueup's groups."""
    made = [
        Completion(
            text=str(i),
            tokens=np.arange(1, length + 1, dtype=np.int32),
            columns={
                "old_logprobs": given.old[i, :length].numpy(),
                "ref_logprobs": given.ref[i, :length].numpy(),
            },
            marks={"score": float(given.scores[i])},
        )
        for i, length in enumerate(LENGTHS)
    ]
    prompt = np.array([0], np.int32)
    starts = range(0, len(LENGTHS), K)
    return [Group(prompt=(), prompt_tokens=prompt, completions=tuple(made[s : s + K])) for s in starts]


def packed(groups: list[Group]) -> Batch:
    return pack(groups).to("cpu", torch.float64)


def marks(groups: list[Group], name: str) -> Tensor:
    return torch.tensor([c.marks[name] for g in groups for c in g.completions], dtype=torch.float64)


def ours(objective: Objective, groups: list[Group], given: Case) -> tuple[float, Tensor]:
    """Loss and gradient with respect to the padded log-probabilities."""
    batch, logprobs = packed(groups), given.new[given.mask]
    terms = objective(Outputs(logprobs=logprobs, entropy=torch.zeros_like(logprobs).detach()), batch)
    shares = [w * e.values.sum() / batch.count(e.unit) for w, e in terms.losses.values()]
    return differentiated(torch.stack(shares).sum(), given)


def differentiated(loss: Tensor, given: Case) -> tuple[float, Tensor]:
    (found,) = torch.autograd.grad(loss, given.new)
    return loss.item(), found


def theirs(trainer: type, given: Case, advantages: Tensor, **settings: Any) -> tuple[float, Tensor]:
    """Loss and gradient by a TRL trainer's own method, on as much of a trainer as it asks for."""
    accelerator = SimpleNamespace(
        num_processes=1,
        reduce=lambda value, reduction: value,
        gather=lambda value: value,
        gather_for_metrics=lambda value: value,
    )
    asked = {
        "_get_per_token_logps_and_entropies": lambda *args, **kwargs: (
            given.new,
            torch.zeros_like(given.new).detach(),
            None,
        ),
        "_metrics": {"train": defaultdict(list)},
        "model": SimpleNamespace(training=True),
        "accelerator": accelerator,
        "args": SimpleNamespace(
            use_bias_correction_kl=settings.pop("use_bias_correction_kl", False),
            delta=settings.pop("delta", None),
            steps_per_generation=1,
        ),
        "aux_loss_enabled": False,
        "top_entropy_quantile": 1.0,
        "off_policy_mask_threshold": None,
        "importance_sampling_level": "token",
        "use_vllm": False,
        "current_gradient_accumulation_steps": 1,
        "_entropy_bonus_enabled": False,
        "max_completion_length": LONGEST,
        "beta": 0.0,
        "epsilon_low": 0.2,
        "epsilon_high": 0.2,
        **settings,
    }
    ids, mask = torch.ones(given.mask.shape, dtype=torch.int64), given.mask.long()
    inputs = {
        "prompt_ids": ids[:, :1],
        "prompt_mask": mask[:, :1],
        "completion_ids": ids,
        "completion_mask": mask,
        "advantages": advantages,
        "old_per_token_logps": given.old,
        "old_logps": (given.old * given.mask).sum(1),
        "ref_per_token_logps": given.ref,
        "num_items_in_batch": mask.sum(),
    }
    loss = trainer._compute_loss(SimpleNamespace(**asked), None, inputs)  # pyright: ignore
    return differentiated(loss, given)


def equal(found: tuple[float, Tensor], expected: tuple[float, Tensor]) -> None:
    assert found[0] == pytest.approx(expected[0], abs=TOLERANCE)
    torch.testing.assert_close(found[1], expected[1], atol=TOLERANCE, rtol=0)
    assert expected[1].abs().max() > 1e-2


def normalised(given: Case) -> list[Group]:
    return GroupNormalised()(groups_of(given), Handles(networks={}))


def test_grpos_advantages_are_trls() -> None:
    """(r − mean) / (std + 1e-4), with TRL's own standard deviation: the Bessel-corrected one."""
    from trl.trainer.utils import nanstd

    given = case(0.0)
    rows = given.scores.view(-1, K)
    expected = (rows - rows.mean(1, keepdim=True)) / (nanstd(rows, dim=1)[:, None] + 1e-4)
    torch.testing.assert_close(marks(normalised(given), "advantage"), expected.flatten())


@pytest.mark.parametrize("spread", [0.0, 0.3])
@pytest.mark.parametrize(
    ("objective", "settings"),
    [
        (GroupRelative(beta=0.04), {"loss_type": "grpo", "beta": 0.04}),
        (
            GroupRelative(beta=0.5, penalty="ratio_k3"),
            {"loss_type": "grpo", "beta": 0.5, "use_bias_correction_kl": True},
        ),
        (
            GroupRelative(beta=0.0, average="token", clip_high=0.28),
            {"loss_type": "dapo", "epsilon_high": 0.28},
        ),
        (
            GroupRelative(beta=0.04, average="constant", longest=LONGEST),
            {"loss_type": "dr_grpo", "beta": 0.04},
        ),
        (
            GroupRelative(beta=0.0, average="token", dual_clip=1.3),
            {"loss_type": "dapo", "delta": 1.3},
        ),
        (
            GSPO(clip=0.02, clip_high=0.05, beta=0.04),
            {
                "loss_type": "grpo",
                "importance_sampling_level": "sequence",
                "epsilon_low": 0.02,
                "epsilon_high": 0.05,
                "beta": 0.04,
            },
        ),
    ],
    ids=["grpo", "grpo with ratio k3", "dapo", "dr_grpo", "dual clip", "gspo"],
)
def test_grpo_is_trls(objective: Objective, settings: dict[str, Any], spread: float) -> None:
    from trl import GRPOTrainer

    given = case(spread)
    groups = normalised(given)
    expected = theirs(GRPOTrainer, given, marks(groups, "advantage"), **settings)
    equal(ours(objective, groups, given), expected)


@pytest.mark.parametrize("spread", [0.0, 0.3])
def test_cispos_gradient_is_trls(spread: float) -> None:
    """TRL's `epsilon_high` is the largest weight itself, 1 + ε_high; its value is another."""
    from trl import GRPOTrainer

    given = case(spread)
    groups = normalised(given)
    advantages = marks(groups, "advantage")
    settings = {"loss_type": "cispo", "epsilon_high": 1.1, "beta": 0.04}
    _, expected = theirs(GRPOTrainer, given, advantages, **settings)
    _, found = ours(CISPO(clip_high=0.1, beta=0.04), groups, given)
    torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=0)
    assert expected.abs().max() > 1e-2


def left_one_out(given: Case, beta: float) -> list[Group]:
    handles = Handles(networks={})
    return LeaveOneOut()(KLReward(beta=beta)(groups_of(given), handles), handles)


def test_rloos_advantages_are_trls() -> None:
    """r − β Σ (log π_old − log ρ), less the mean of the other K − 1: TRL's sequence-level penalty."""
    given, beta = case(0.0), 0.3
    rewards = (given.scores - beta * ((given.old - given.ref) * given.mask).sum(1)).view(-1, K)
    expected = rewards - (rewards.sum(1, keepdim=True) - rewards) / (K - 1)
    torch.testing.assert_close(marks(left_one_out(given, beta), "advantage"), expected.flatten())


@pytest.mark.parametrize("spread", [0.0, 0.1])
def test_rloo_with_a_clip_is_trls(spread: float) -> None:
    from trl import RLOOTrainer

    given = case(spread)
    groups = left_one_out(given, 0.3)
    expected = theirs(RLOOTrainer, given, marks(groups, "advantage"))
    equal(ours(ClippedSequence(clip=0.2), groups, given), expected)


def test_plain_rloo_has_trls_first_gradient_and_another_value() -> None:
    """TRL: −mean A ratio, at ratio 1 −mean A. REINFORCE: −mean A Σ log π. Their gradients there are one."""
    from trl import RLOOTrainer

    given = case(0.0)
    groups = left_one_out(given, 0.3)
    advantage = marks(groups, "advantage")
    value, slope = theirs(RLOOTrainer, given, advantage)
    found, same_slope = ours(Reinforce(), groups, given)
    torch.testing.assert_close(same_slope, slope, atol=TOLERANCE, rtol=0)
    assert value == pytest.approx(-float(advantage.mean()), abs=TOLERANCE)
    assert found == pytest.approx(float(-(advantage * (given.old * given.mask).sum(1)).mean()), abs=TOLERANCE)


def test_the_objectives_settings_are_all_compared() -> None:
    """A new setting of GRPO's loss needs a line here; the bonus is held to the exact worlds."""
    compared = {"beta", "penalty", "clip", "clip_high", "average", "longest", "dual_clip", "entropy"}
    assert {f.name for f in fields(GroupRelative)} == compared
