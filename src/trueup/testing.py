"""Checks that any objective and any method must pass, for the package's own and for other people's.

    from trueup.testing import check_method, check_objective

    check_objective(MyLoss(beta=0.1), at_reference=math.log(2))
    check_method(discover.find("my_method.py"), tmp_path)

Both raise AssertionError with a message that names what failed. Objectives are checked in float64 on
networks of a few hundred parameters; methods are trained for four steps on a random decoder.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import ModuleType
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from trueup.batch import Batch, Outputs
from trueup.checkpoint import state_digest
from trueup.groups import Comparison, Group
from trueup.keeper import RunKeeper
from trueup.loop import Progress, Step, fit
from trueup.meter import METRICS, Meter
from trueup.method import Handles, Method, Network, Objective, Parts, Rule
from trueup.models.shared import Base, networks_over
from trueup.objectives.mix import Sum
from trueup.order import derive
from trueup.packing import pack
from trueup.settings import LoopSettings, LoraSettings
from trueup.sources.sample import Decoding, sample_groups
from trueup.toys import (
    PROMPT_ONLY,
    STOP,
    StandIn,
    nearby,
    share_of_even_tokens,
    shuffled,
    tiny_llama,
    tiny_network,
    toy_groups,
    toy_prompt_ids,
    with_columns,
)
from trueup.update.adamw import AdamW

# ------------------------------------------------------------------------------------------ objectives


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
    method = Method(name="check", source=_Given(objective.reads), objective=objective, update=AdamW())
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
        _require(
            abs(loss - expected) < 1e-9,
            f"{name}: where the policy is its reference the loss is {loss!r}, not {expected!r}",
        )


def check_documented(kind: type) -> None:
    """Nothing; raises AssertionError unless a class's docstrings hold equation, reference and shapes."""
    text = kind.__doc__ or ""
    call = vars(kind).get("__call__")
    said = f"{text}\n{call.__doc__ if call else ''}"
    name = kind.__name__
    _require("=" in text, f"{name}: the docstring has no equation")
    _require(
        bool(re.search(r"[Rr]eferences?:(?s:.*)\b(19|20)\d\d\b", text)), f"{name}: no reference with a year"
    )
    _require(bool(re.search(r"\[[TNPG][ ,\]]", said)), f"{name}: no shapes ([T], [N], [P] or [G])")


def _check_gradient(
    name: str, objective: Objective, networks: Mapping[str, StandIn], groups: Sequence[Group]
) -> None:
    whole = minibatch(objective, networks, groups)
    expected, said = gradient_of(whole), whole.evaluate()
    for key, value in said.items():
        _require(math.isfinite(value), f"{name}: {key} is {value}")
    for key, value in expected.items():
        _require(bool(value.isfinite().all()), f"{name}: the gradient of {key} is not finite")
    _require(any(bool(v.any()) for v in expected.values()), f"{name}: the gradient is zero everywhere")
    for key, value in expected.items():
        inside = value[PROMPT_ONLY] if key.rpartition(".")[2] != "place" else value[:0]
        _require(not bool(inside.any()), f"{name}: a prompt's tokens get a gradient in {key}")
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
            _require(
                abs(again[key] - value) < 1e-10, f"{name}: {key} is {again[key]}, not {value}, with {how}"
            )
        for key, value in gradient_of(step).items():
            gap = float((value - expected[key]).abs().max())
            _require(gap < 1e-10, f"{name}: the gradient of {key} changes by {gap:.2g} with {how}")


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
    _require(
        0.5 * rate * norm < fell < 2 * rate * norm,
        f"{name}: along the gradient the loss falls by {fell:.3g}, by {rate * norm:.3g} to first order",
    )
    for key in ("rises", "rewards/margins", "margin"):
        if key in before:
            _require(after[key] > before[key], f"{name}: a step lowers {key}: {before[key]} to {after[key]}")


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


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)


# ------------------------------------------------------------------------------------------ methods


def check_method(
    module: ModuleType,
    folder: Path,
    *,
    config: Any = None,
    judge: Callable[[Sequence[Group]], list[list[float]]] = share_of_even_tokens,
    improves: int = 0,
    lora: LoraSettings | None = None,
) -> None:
    """Nothing; raises AssertionError unless a method's file is sound.

    Trains it on toy groups with a random decoder of a few thousand weights, for four steps, in `folder`.
    Checked: two runs with one seed end at the same bits, weights, optimiser, state and metrics; a run that
    ended after two steps and was started again ends at those bits too; with `improves` = n > 0, n steps raise
    the judge's mean score of what the output network samples. `config` replaces the tiny settings; its `loop`
    must have 4 steps and save after every one. With `lora`, every network is an adapter over one base, and no
    weight of the base may change.
    """
    name = module.__name__.rpartition(".")[2]
    chosen = config if config is not None else tiny_config(module)
    whole = _train(module, chosen, judge, folder / "whole", lora=lora)
    again = _train(module, chosen, judge, folder / "again", lora=lora)
    _require(whole == again, f"{name}: two runs with one seed differ in {_difference(whole, again)}")
    _train(module, chosen, judge, folder / "resumed", stop_after=2, lora=lora)
    resumed = _train(module, chosen, judge, folder / "resumed", lora=lora)
    _require(
        whole == resumed,
        f"{name}: 2 + 2 resumed steps differ from 4 in {_difference(whole, resumed)}",
    )
    if improves:
        loop = replace(chosen.loop, steps=improves, save_every=0, eval_every=0, batch=16)
        method, handles = _open(module, replace(chosen, loop=loop), judge, lora)
        before = _sampled_score(method, handles, judge)
        fit(method, handles, num_steps=improves, groups_per_step=loop.batch)
        after = _sampled_score(method, handles, judge)
        _require(
            after > before,
            f"{name}: {improves} steps move the judge's score from {before:.3f} to {after:.3f}",
        )


def tiny_config(module: ModuleType) -> Any:
    """The module's `Config` with settings for seconds: 4 steps of 4 groups, completions of up to 6 tokens."""
    kind = vars(module)["Config"]
    tiny = {
        "loop": LoopSettings(steps=4, batch=4, save_every=1, eval_every=2, microbatch_tokens=64),
        "update": AdamW(lr=1e-2, warmup=0.0),
        "decoding": Decoding(max_new_tokens=6),
        "minibatch": 2,
    }
    known = {f.name: f.default for f in fields(kind)}
    if not isinstance(known.get("update"), AdamW):  # another update rule keeps its own settings
        del tiny["update"]
    return kind(**{name: value for name, value in tiny.items() if name in known})


def _open(module: ModuleType, config: Any, judge: Any, lora: LoraSettings | None) -> tuple[Method, Handles]:
    parts = Parts(
        groups=_judged(toy_groups(24, seed=1), judge),
        held_out=_judged(toy_groups(4, seed=2), judge),
        decode=lambda ids: " ".join(map(str, ids)),
        stop_ids=(STOP,),
        prompt_ids=toy_prompt_ids,
        more=lambda settings: toy_groups(8, seed=3),
    )
    method: Method = vars(module)["build"](config, parts)
    networks = {
        # What starts from another model (a teacher) has other weights.
        n: tiny_network(role.heads, trained=role.trained, seed=int(bool(role.start)))
        for n, role in method.networks.items()
    }
    if lora is not None:
        roles = {n: role for n, role in method.networks.items() if not role.start}
        base = Base(model=tiny_llama().requires_grad_(False), tokenizer=None)
        networks |= networks_over(base, roles, lora=lora, seed=config.seed)
    budget = config.loop.microbatch_tokens
    return method, Handles(networks=networks, seed=config.seed, judge=judge, microbatch_tokens=budget)


def _judged(groups: Sequence[Group], judge: Any) -> list[Group]:
    """The groups with one comparison each, of the completion the judge likes best with its least liked."""
    out = []
    for group, scores in zip(groups, judge(groups), strict=True):
        best, worst = int(np.argmax(scores)), int(np.argmin(scores))
        said = (Comparison(a=best, b=worst, choice="a"),) if scores[best] > scores[worst] else ()
        out.append(replace(group, comparisons=said, rankings=()))
    return out


@final
class _Watched:
    """A keeper that ends the run after some step, and notes the state's digest at the end of each."""

    def __init__(self, keeper: RunKeeper, stop_after: int | None) -> None:
        self._keeper, self._stop_after = keeper, stop_after
        self.state: dict[str, str] = {}

    def restore(self, handles: Handles, rule: Rule) -> Progress | None:
        return self._keeper.restore(handles, rule)

    def after_update(self, progress: Progress, handles: Handles, rule: Rule) -> None:
        self._keeper.after_update(progress, handles, rule)

    def after_step(
        self, progress: Progress, metrics: Mapping[str, float], handles: Handles, rule: Rule
    ) -> bool:
        moments, values = rule.state()
        weights = {n: dict(network.module.state_dict()) for n, network in handles.networks.items()}
        self.state = {
            "weights": state_digest(weights, {}),
            "the optimiser": state_digest({"rule": moments}, {"rule": values}),
            "the run's state": state_digest({}, {"state": handles.state}),
        }
        return self._keeper.after_step(progress, metrics, handles, rule) or progress.step == self._stop_after


def _train(
    module: ModuleType,
    config: Any,
    judge: Any,
    folder: Path,
    *,
    stop_after: int | None = None,
    lora: LoraSettings | None = None,
) -> dict[str, str]:
    method, handles = _open(module, config, judge, lora)
    frozen = _frozen(handles) if lora is not None else ""
    meter = Meter(folder)
    steps = config.loop.steps
    keeper = RunKeeper(folder, method=method, settings=config.loop, meter=meter, num_steps=steps)
    watched = _Watched(keeper, stop_after)
    fit(method, handles, num_steps=steps, groups_per_step=config.loop.batch, keeper=watched)
    meter.close()
    name = module.__name__.rpartition(".")[2]
    _require(lora is None or _frozen(handles) == frozen, f"{name}: weights under the adapters changed")
    return {**watched.state, METRICS: (folder / METRICS).read_text(encoding="utf-8")}


def _frozen(handles: Handles) -> str:
    """A digest of every parameter that no update may change."""
    named = {n: network.module.named_parameters() for n, network in handles.networks.items()}
    return state_digest({n: {k: p for k, p in ps if not p.requires_grad} for n, ps in named.items()}, {})


def _difference(a: Mapping[str, str], b: Mapping[str, str]) -> str:
    return ", ".join(name for name in a if a[name] != b[name])


def _sampled_score(method: Method, handles: Handles, judge: Any) -> float:
    drawn = sample_groups(
        toy_groups(12, seed=3),
        handles.networks[method.output],
        decode=lambda ids: "",
        stop_ids=(STOP,),
        k=4,
        decoding=Decoding(max_new_tokens=6),
        seed=derive(handles.seed, "check"),
    )
    return float(np.mean([score for row in judge(drawn) for score in row]))
