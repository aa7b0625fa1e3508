"""Distillation: the teacher's law is reached; how the token-level loss relates to the sequence KL."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from exact.solutions import solution
from exact.world import EVEN, RAGGED, Drawn, Table, World, dyadic_table, kl, random_table
from trueup.engine.groups import Group
from trueup.engine.loop import Step, fit
from trueup.engine.method import Handles, Method, Parts
from trueup.methods import context_distillation, distill
from trueup.settings.blocks import LoopSettings
from trueup.update.adamw import AdamW

WORLDS = {"even": EVEN, "ragged": RAGGED}
UPDATE = AdamW(lr=0.2, warmup=0, final=0, max_grad_norm=10, betas=(0.6, 0.9))


def everything(world: World) -> list[Group]:
    """For each prompt a group of all its completions."""
    return [world.group(x, range(len(world.completions))) for x in range(len(world.prompts))]


def built(world: World, **settings: object) -> Method:
    """Distillation on all completions of a world."""
    groups = everything(world)
    parts = Parts(groups=groups, held_out=[], decode=str, stop_ids=())
    loop = LoopSettings(batch=len(groups))
    return distill.build(distill.Config(loop=loop, update=UPDATE, **settings), parts)  # pyright: ignore


def handles(policy: Table, teacher: Table) -> Handles:
    """Both networks, in float64."""
    return Handles(networks={"policy": policy, "teacher": teacher}, dtype=torch.float64)


@dataclass(frozen=True, eq=False)
class Together:
    """A source: 64 stratified draws for each prompt, as one group."""

    policy: Table
    writes: frozenset[str] = field(default=frozenset({"sampled_logprobs"}))

    def __call__(self, step: int, handles: Handles) -> list[Group]:
        """The draws of a step."""
        drawn = Drawn(self.policy, 64)(step, handles)
        apart = [[g for g in drawn if g.meta["prompt"] == x] for x in range(len(self.policy.world.prompts))]
        return [own[0].with_completions([c for g in own for c in g.completions]) for own in apart]


def reached(world: World, steps: int, *, on_policy: bool, **settings: object) -> float:
    """The larger KL(teacher ‖ student) over the prompts, after that many steps from other random logits.

    Mild logits: 64 draws a step then visit every prefix often, and what is never visited cannot be learnt.
    """
    policy, teacher = random_table(world, 1, 0.5), random_table(world, 2, 0.5)
    method = built(world, **settings)
    if on_policy:
        method = replace(method, source=Together(policy))
    fit(method, handles(policy, teacher), num_steps=steps, groups_per_step=1)
    return max(kl(teacher.log_probs(x), policy.log_probs(x)) for x in range(len(world.prompts)))


@solution(
    "distill",
    known="the teacher, by the forward divergence on stored text, two listed ids and a bucket",
    measured="KL(teacher ‖ π), even and ragged",
    tolerance=1e-6,
)
def forward() -> float:
    settings = {"completions": "files", "divergence": "forward", "top_k": 2}
    return max(reached(world, 80, on_policy=False, **settings) for world in WORLDS.values())


@solution(
    "distill",
    known="the teacher, by the reverse divergence on the student's own completions",
    measured="KL(teacher ‖ π), even and ragged",
    tolerance=1e-6,
)
def reverse() -> float:
    settings = {"divergence": "reverse", "top_k": None}
    return max(reached(world, 80, on_policy=True, **settings) for world in WORLDS.values())


@solution(
    "distill",
    known="the teacher, by the Jensen-Shannon divergence (β = .5) on the student's own completions",
    measured="KL(teacher ‖ π), even and ragged",
    tolerance=1e-6,
)
def jensen_shannon() -> float:
    settings = {"divergence": "jsd", "beta": 0.5, "top_k": 2}
    return max(reached(world, 80, on_policy=True, **settings) for world in WORLDS.values())


def loss_and_gradient(world: World, **settings: object) -> tuple[float, Tensor]:
    """The method's loss and gradient on all completions."""
    policy, teacher = random_table(world, 1), random_table(world, 2)
    method, run = built(world, completions="files", **settings), handles(policy, teacher)
    groups = everything(world)
    for annotator in method.annotate:
        groups = annotator(groups, run)
    loss = Step(method, run, groups).backward()["loss"]
    assert policy.logits.grad is not None
    return loss, policy.logits.grad.clone()


@solution(
    "distill",
    known="V − 1 listed ids are the whole distribution, whoever names them, in every divergence",
    measured="largest difference of loss and gradient",
    tolerance=1e-12,
)
def all_but_one() -> float:
    worst = 0.0
    for divergence in ("forward", "reverse", "jsd"):
        for world in WORLDS.values():
            whole = loss_and_gradient(world, divergence=divergence, top_k=None)
            for name in ("teacher", "policy"):
                listed = loss_and_gradient(world, divergence=divergence, top_k=2, named_by=name)
                worst = max(worst, abs(listed[0] - whole[0]), float((listed[1] - whole[1]).abs().max()))
    return worst


@dataclass(frozen=True, eq=False)
class UnderTheLongPrompt:
    """A source: the short prompt with completions as often as the teacher writes them after the long one."""

    teacher: Table
    writes: frozenset[str] = field(default=frozenset({"sampled_logprobs"}))

    def __call__(self, step: int, handles: Handles) -> list[Group]:
        """64 stratified draws."""
        drawn = Together(self.teacher)(step, handles)[1]
        return [replace(drawn, prompt_tokens=np.array(RAGGED.prompts[0], np.int32), meta={"prompt": 0})]


@solution(
    "context_distillation",
    known="p₀(· | C, x) without C, where C is the token before the prompt; with C nothing moves",
    measured="KL(p₀(· | C, x) ‖ π(· | x)), and |Δ logits| after C, x",
    tolerance=1e-6,
)
def context() -> float:
    policy = random_table(RAGGED, 1)
    teacher = policy.copy()
    long = np.array(RAGGED.prompts[1], np.int32)
    parts = Parts(
        groups=everything(RAGGED)[:1], held_out=[], decode=str, stop_ids=(), prompt_ids=lambda _: long
    )
    config = context_distillation.Config(num_dialogues=1, update=UPDATE, top_k=2)
    method = replace(context_distillation.build(config, parts), source=UnderTheLongPrompt(teacher))
    before = policy.log_probs(1).detach().clone()
    fit(method, handles(policy, teacher), num_steps=80, groups_per_step=1)
    moved = float((policy.log_probs(1).detach() - before).abs().max())
    return max(kl(teacher.log_probs(1), policy.log_probs(0)), moved)


def on_policy() -> tuple[Table, Table, float, Tensor]:
    """Student (dyadic), teacher, and the method's loss and gradient on 64 draws that hold the student."""
    policy, teacher = dyadic_table(EVEN, 1), random_table(EVEN, 2)
    method = replace(built(EVEN, divergence="reverse", top_k=2), source=Drawn(policy, 64))
    run = handles(policy, teacher)
    groups = method.source(0, run)
    for annotator in method.annotate:
        groups = annotator(groups, run)
    loss = Step(method, run, groups).backward()["loss"]
    assert policy.logits.grad is not None
    return policy, teacher, loss, policy.logits.grad.clone()


def sequence_kl(policy: Table, teacher: Table) -> Tensor:
    """KL(π ‖ P) over whole completions, by enumeration, with its gradient."""
    log_pi = policy.log_probs()
    return (log_pi.exp() * (log_pi - teacher.log_probs().detach())).sum()


@solution(
    "distill",
    known="on-policy reverse loss times 3 tokens = KL(π ‖ P) of whole completions",
    measured="difference of the values",
    tolerance=1e-12,
)
def value() -> float:
    policy, teacher, loss, _ = on_policy()
    return abs(3 * loss - float(sequence_kl(policy, teacher).detach()))


@solution(
    "distill",
    known="on-policy reverse gradient = (1/3) Σ_s π(s) ∇KL_s, the visits held constant",
    measured="largest difference of the gradients",
    tolerance=1e-10,
)
def gradient() -> float:
    policy, teacher, _, found = on_policy()
    q, p = (torch.log_softmax(table.logits.detach(), -1) for table in (policy, teacher))
    per_state = (q.exp() * (q - p)).sum(-1, keepdim=True)
    by_hand = q.exp() * (q - p - per_state)
    visits = torch.zeros(len(EVEN.state), 1, dtype=torch.float64)
    for y, mass in zip(EVEN.completions, policy.log_probs().detach().exp(), strict=True):
        for t in range(3):
            visits[EVEN.state[EVEN.prompts[0], y[:t]]] += mass
    return float((found - visits * by_hand / 3).abs().max())


@solution(
    "distill",
    known="the same gradient is that of KL(π ‖ P) at the last position",
    measured="largest difference there, 3 · gradient",
    tolerance=1e-10,
)
def last_position() -> float:
    policy, teacher, _, found = on_policy()
    policy.logits.grad = None
    sequence_kl(policy, teacher).backward()
    assert policy.logits.grad is not None
    last = [i for (_, prefix), i in EVEN.state.items() if len(prefix) == 2]
    return float((3 * found - policy.logits.grad)[last].abs().max())
