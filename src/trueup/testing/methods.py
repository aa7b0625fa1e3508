"""What any method must hold to: it repeats, it resumes after every update, it learns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from trueup.engine.groups import Comparison, Group
from trueup.engine.loop import fit
from trueup.engine.method import Handles, Method, Parts
from trueup.engine.order import derive
from trueup.models.shared import Base, networks_over
from trueup.runs.checkpoint import latest, state_digest
from trueup.runs.keeper import RunKeeper
from trueup.runs.meter import METRICS, Meter
from trueup.runs.signals import Interrupted
from trueup.settings.blocks import LoopSettings, LoraSettings
from trueup.sources.sample import Decoding, sample_groups
from trueup.testing.objectives import require
from trueup.testing.toys import (
    STOP,
    share_of_even_tokens,
    spelled,
    tiny_llama,
    tiny_network,
    toy_groups,
    toy_prompt_ids,
)
from trueup.update.adamw import AdamW
from trueup.update.rates import AUTO, rates_in, with_rates


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
    Checked: two runs with one seed end at the same bits, weights, optimiser, state and metrics; a run that is
    stopped after every single update and started again from its files ends at those bits too; with `improves`
    = n > 0, n steps raise the judge's mean score of what the output network samples. `config` replaces the
    tiny settings; its `loop` must have 4 steps. No weight that the method does not train may change; with
    `lora`, every network is an adapter over one base.
    """
    name = module.__name__.rpartition(".")[2]
    chosen = config if config is not None else tiny_config(module)
    whole = _train(module, chosen, judge, folder / "whole", lora=lora)
    if lora is None:  # with adapters, the restarted run below repeats as well
        again = _train(module, chosen, judge, folder / "again")
        require(whole == again, f"{name}: two runs with one seed differ in {_difference(whole, again)}")
    relayed: dict[str, str] = {}
    while not relayed:
        relayed = _train(module, chosen, judge, folder / "relayed", stop=True, lora=lora)
    require(
        whole == relayed,
        f"{name}: stopped after every update and started again, it differs in {_difference(whole, relayed)}",
    )
    if improves:
        loop = replace(chosen.loop, steps=improves, save_every=0, eval_every=0, batch=16)
        method, handles = open_toy(module, replace(chosen, loop=loop), judge, lora)
        before = _sampled_score(method, handles, judge)
        fit(method, handles, num_steps=improves, groups_per_step=loop.batch)
        after = _sampled_score(method, handles, judge)
        require(
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
    config = kind(**{name: value for name, value in tiny.items() if name in known})
    return with_rates(config, {key: 1e-3 for key, rate in rates_in(config).items() if rate == AUTO})


def open_toy(
    module: ModuleType, config: Any, judge: Callable[[Sequence[Group]], Any], lora: LoraSettings | None
) -> tuple[Method, Handles]:
    """The method on toy groups and random networks; with `lora`, an adapter each over one base."""
    parts = Parts(
        groups=_judged(toy_groups(24, seed=1), judge),
        held_out=_judged(toy_groups(4, seed=2), judge),
        decode=spelled,
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


def _train(
    module: ModuleType,
    config: Any,
    judge: Any,
    folder: Path,
    *,
    stop: bool = False,
    lora: LoraSettings | None = None,
) -> dict[str, str]:
    """Digests of how the run ended; with `stop`, one more update is made and all but the last say nothing."""
    method, handles = open_toy(module, config, judge, lora)
    frozen = _frozen(handles)
    meter = Meter(folder)
    steps = config.loop.steps
    keeper = RunKeeper(
        folder,
        method=method,
        settings=config.loop,
        meter=meter,
        num_steps=steps,
        stop_requested=lambda: "a check" if stop else "",
    )
    try:
        fit(method, handles, num_steps=steps, groups_per_step=config.loop.batch, keeper=keeper)
    except Interrupted:
        return {}
    finally:
        meter.close()
    name = module.__name__.rpartition(".")[2]
    require(_frozen(handles) == frozen, f"{name}: weights that no update may change have changed")
    last = latest(folder / "checkpoints")
    assert last is not None, "a run saves its last step"
    digest = {file: facts["sha256"] for file, facts in last.files.items()}
    return {
        "weights": ", ".join(digest[f"{n}.safetensors"] for n in method.trains),
        "the optimiser": ", ".join(digest[file] for file in ("optimizer.safetensors", "rule.json")),
        "the run's state": digest["state.json"],
        METRICS: (folder / METRICS).read_text(encoding="utf-8"),
    }


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
