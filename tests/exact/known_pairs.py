"""DPO and its family: exact minimisers under labels that are Bradley-Terry in a known reward."""

from __future__ import annotations

import torch

from exact.solutions import solution
from exact.world import EVEN, Table, World, distance, random_scores, random_table
from trueup.groups import Comparison, Group
from trueup.loop import fit
from trueup.method import Handles, Method, Parts
from trueup.methods import dpo
from trueup.settings import LoopSettings
from trueup.update.adamw import AdamW


def labelled(world: World, scores: torch.Tensor) -> list[Group]:
    """For each prompt one group of all its completions, and all pairs with Bradley-Terry soft labels."""
    count = len(world.completions)
    labels = torch.sigmoid(scores[:, :, None] - scores[:, None, :]).tolist()
    return [
        world.group(
            x,
            range(count),
            comparisons=tuple(
                Comparison(a=i, b=j, choice="a", probability=labels[x][i][j])
                for i in range(count)
                for j in range(i)
            ),
        )
        for x in range(len(world.prompts))
    ]


def trained(method: Method, policy: Table, reference: Table, num_steps: int, num_groups: int) -> Table:
    """The policy after that many steps of the method."""
    handles = Handles(networks={"policy": policy, "reference": reference}, dtype=torch.float64)
    fit(method, handles, num_steps=num_steps, groups_per_step=num_groups)
    return policy


@solution(
    "dpo",
    known="ρ e^{r/β} / Z under Bradley-Terry labels, whatever the prompt's constant in r",
    measured="KL(π ‖ π*)",
    tolerance=1e-3,
)
def dpo_even() -> float:
    reference, scores = random_table(EVEN, 4), random_scores(EVEN, 5)
    parts = Parts(groups=labelled(EVEN, scores + 3), held_out=[], decode=str, stop_ids=())
    update = AdamW(lr=0.2, warmup=0, final=0, max_grad_norm=10)
    config = dpo.Config(beta=0.7, loop=LoopSettings(batch=1), update=update)
    policy = trained(dpo.build(config, parts), reference.copy(), reference, 80, 1)
    return distance(policy, reference, scores, 0.7)
