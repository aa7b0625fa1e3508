"""What any objective must hold to, checked in float64 through the loop's own minibatch."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trueup.engine.batch import Batch, Outputs
from trueup.engine.groups import Group
from trueup.engine.loop import Step
from trueup.engine.method import Handles, Method, Network, Objective
from trueup.engine.packing import pack
from trueup.objectives.mix import Sum
from trueup.testing.toys import PROMPT_ONLY, StandIn, nearby, shuffled, toy_groups, with_columns
from trueup.update.adamw import AdamW


@dataclass(frozen=True)
class _Given:
    """A source whose groups carry whatever is read."""

    writes: frozenset[str]

    def __call__(self, step: int, handles: Handles) -> list[Group]:
        return []


def minibatch(
    objective: Objective,
    networks: Mapping[str, Network],
    groups: Sequence[Group],
    *,
    microbatch_tokens: int = 10**9,
) -> Step:
    """The groups as one minibatch of the loop, in float64, so that a test differentiates what trains."""
    method = Method(name="check", source=_Given(objective.reads), objective=objective, update=AdamW(lr=1e-4))
    handles = Handles(networks=networks, dtype=torch.float64, microbatch_tokens=microbatch_tokens)
    return Step(method, handles, groups)


def gradient_of(step: Step) -> dict[str, Tensor]:
    """The gradient of a minibatch's loss by parameter, zeros where none arrived."""
    named = {
        f"{name}.{parameter}": p
        for name in step.method.objective.wants
        for parameter, p in step.handles.networks[name].module.named_parameters()
    }
    for p in named.values():
        p.grad = None
    step.backward()
    return {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in named.items()}


def check_objective(
    objective: Objective,
    *,
    at_reference: float | Callable[[Batch], float] | None = None,
    rises: Callable[[Outputs, Batch], Tensor] | None = None,
    groups: Sequence[Group] | None = None,
    seed: int = 0,
) -> None:
    """Nothing; raises AssertionError unless the objective is sound.

    Checked, in float64 on stand-in networks and through the loop's own minibatch:
    the docstring has an equation, a reference and shapes; every number is finite; the gradient is the same to
    1e-10 however the minibatch is cut, and in whatever order groups and completions come; tokens of prompts
    get none; the loss falls along it as first order says; `at_reference`, the loss where old and reference
    log-probabilities are the policy's own; `rises`, a number that a step must raise (without it, the metrics
    `rewards/margins` and `margin` where the objective gives them).

    `groups` replaces the toy groups; with it, the columns and marks that the objective reads are yours.
    """
    name = type(objective).__name__
    parts = [part for _, part in objective.parts] if isinstance(objective, Sum) else [objective]
    for part in parts:
        check_documented(type(part))
    networks = {n: StandIn(seed + i) for i, n in enumerate(objective.wants)}
    policy = networks.get("policy", StandIn(seed))
    drawn = groups or with_columns(
        toy_groups(seed=seed), objective.reads, policy=nearby(policy, seed), seed=seed
    )
    _check_gradient(name, objective, networks, drawn)
    _check_step(name, objective, networks, drawn, rises)
    if at_reference is not None:
        own = with_columns(drawn, objective.reads, policy=policy, seed=seed)
        loss = minibatch(objective, networks, own).evaluate()["loss"]
        expected = at_reference(pack(own)) if callable(at_reference) else at_reference
        require(
            abs(loss - expected) < 1e-9,
            f"{name}: where the policy is its reference the loss is {loss!r}, not {expected!r}",
        )


def check_documented(kind: type) -> None:
    """Nothing; raises AssertionError unless a class's docstrings hold equation, reference and shapes."""
    text = kind.__doc__ or ""
    call = vars(kind).get("__call__")
    said = f"{text}\n{call.__doc__ if call else ''}"
    name = kind.__name__
    require("=" in text, f"{name}: the docstring has no equation")
    require(
        bool(re.search(r"[Rr]eferences?:(?s:.*)\b(19|20)\d\d\b", text)), f"{name}: no reference with a year"
    )
    require(bool(re.search(r"\[[TNPG][ ,\]]", said)), f"{name}: no shapes ([T], [N], [P] or [G])")


def _check_gradient(
    name: str, objective: Objective, networks: Mapping[str, StandIn], groups: Sequence[Group]
) -> None:
    whole = minibatch(objective, networks, groups)
    expected, said = gradient_of(whole), whole.evaluate()
    for key, value in said.items():
        require(math.isfinite(value), f"{name}: {key} is {value}")
    for key, value in expected.items():
        require(bool(value.isfinite().all()), f"{name}: the gradient of {key} is not finite")
    require(any(bool(v.any()) for v in expected.values()), f"{name}: the gradient is zero everywhere")
    for key, value in expected.items():
        inside = value[PROMPT_ONLY] if key.rpartition(".")[2] != "place" else value[:0]
        require(not bool(inside.any()), f"{name}: a prompt's tokens get a gradient in {key}")
    rng = np.random.default_rng(1)
    mixed = [shuffled(g, [int(i) for i in rng.permutation(len(g.completions))]) for g in groups]
    others = {
        "one group a microbatch": minibatch(objective, networks, groups, microbatch_tokens=1),
        "about two groups a microbatch": minibatch(objective, networks, groups, microbatch_tokens=48),
        "groups in reverse order": minibatch(objective, networks, groups[::-1], microbatch_tokens=48),
        "completions in another order": minibatch(objective, networks, mixed),
    }
    for how, step in others.items():
        again = step.evaluate()
        for key, value in said.items():
            require(
                abs(again[key] - value) < 1e-10, f"{name}: {key} is {again[key]}, not {value}, with {how}"
            )
        for key, value in gradient_of(step).items():
            gap = float((value - expected[key]).abs().max())
            require(gap < 1e-10, f"{name}: the gradient of {key} changes by {gap:.2g} with {how}")


def _check_step(
    name: str,
    objective: Objective,
    networks: Mapping[str, StandIn],
    groups: Sequence[Group],
    rises: Callable[[Outputs, Batch], Tensor] | None,
) -> None:
    moved = {n: copy.deepcopy(network) for n, network in networks.items()}
    gradient = gradient_of(minibatch(objective, networks, groups))
    norm = float(torch.stack([(g**2).sum() for g in gradient.values()]).sum())
    rate = 1e-5 / math.sqrt(norm)
    with torch.no_grad():
        for n, network in moved.items():
            for key, p in network.named_parameters():
                p.sub_(rate * gradient[f"{n}.{key}"])
    before = _numbers(objective, networks, groups, rises)
    after = _numbers(objective, moved, groups, rises)
    fell = before["loss"] - after["loss"]
    require(
        0.5 * rate * norm < fell < 2 * rate * norm,
        f"{name}: along the gradient the loss falls by {fell:.3g}, by {rate * norm:.3g} to first order",
    )
    for key in ("rises", "rewards/margins", "margin"):
        if key in before:
            require(after[key] > before[key], f"{name}: a step lowers {key}: {before[key]} to {after[key]}")


def _numbers(
    objective: Objective,
    networks: Mapping[str, Network],
    groups: Sequence[Group],
    rises: Callable[[Outputs, Batch], Tensor] | None,
) -> dict[str, float]:
    numbers = minibatch(objective, networks, groups).evaluate()
    if rises is not None:
        batch = pack(groups)
        outputs = Outputs()
        with torch.no_grad():
            for network, want in objective.wants.items():
                outputs = outputs.merge(networks[network](batch, want))
            numbers["rises"] = float(rises(outputs, batch))
    return numbers


def require(condition: bool, message: str) -> None:
    """Nothing; raises AssertionError with the message unless the condition holds."""
    if not condition:
        raise AssertionError(message)
