"""Policies side by side on held-out prompts of a world: reward, KL, win rate, tax, cost."""

from __future__ import annotations

import logging
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from trueup.chat import Chat
from trueup.data import read
from trueup.engine.groups import Group, read_jsonl
from trueup.engine.order import derive
from trueup.errors import TrueupError
from trueup.evals.papers import exams_of
from trueup.evals.policies import PolicyResult, evaluate_policy
from trueup.evals.reward_quality import reward_model_quality
from trueup.evals.summary import (
    PolicyEntry,
    curve_points,
    frontier_point,
    rounded,
    sample_rows,
    summarise,
    write_json,
)
from trueup.evals.view import PolicyView, open_view
from trueup.judges import Judge
from trueup.judges.open import open_judge, open_measures
from trueup.models.opening import open_chat, pick_device
from trueup.runs import checkpoint
from trueup.runs import meter as metering
from trueup.runs.done import Done, read_done
from trueup.settings.blocks import ModelSettings
from trueup.settings.names import check_name
from trueup.settings.schema import Word
from trueup.sources.context import open_context
from trueup.sources.open import split_held_out, world_groups
from trueup.sources.sample import Decoding
from trueup.worlds import world_of

SUMMARY = "Compare policies on held-out prompts of a world: reward, KL, win rate, tax, cost."
OUTPUT = "summary.json"
logger = logging.getLogger("trueup")
COSTS = ("tokens_trained", "tokens_sampled", "seconds", "peak_mib")
PACKAGES = ("trueup", "torch", "transformers", "peft", "numpy")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Evaluation of a base model, an SFT model and policies trained from it, on one set of prompts."""

    base: str = "world:base"
    world: str = ""
    "Whose prompts, judge and exams: a name or a YAML file; empty is the world that the data came from."
    sft: str = ""
    "The model that gains, KL and win rates are measured against; empty compares with the base alone."
    reward: str = ""
    "A reward model: the proxy, and the chooser of best-of-n."
    labels: str = ""
    "Labelled groups; the held-out part of them tests the reward model."
    labels_held_out: float = 0.1
    policies: Mapping[str, str] = field(default_factory=dict)
    "Names and models of what was trained from the SFT model."
    best_of: int = 16
    hhh_dialogues: int = 14
    "Dialogues of the HHH prompt before the base model; 0 leaves that policy out."
    prompts: str = ""
    "A file of prompts to ask in place of the world's."
    split: Word = "test"
    num_prompts: int = 500
    samples_per_prompt: int = 2
    exam_items: int = 80
    "Items of each exam that the tax is measured on."
    snapshots: bool = True
    "Measure earlier checkpoints of the policies too, on the same prompts, for the reward-KL picture."
    decoding: Decoding = Decoding(max_new_tokens=48)
    seed: int = 0

    def __post_init__(self) -> None:
        for name in self.policies:
            check_name(name, "a policy", f"policies.{name}")


def run(config: Config, folder: Path, *, stop_requested: Callable[[], str]) -> Done:
    """`summary.json`, `frontier.json` and `samples.json`."""
    bench = Bench(config)
    entries: dict[str, PolicyEntry] = {}
    results: dict[str, PolicyResult] = {}
    frontier: list[dict] = []
    jobs = bench.jobs()
    with metering.progress(len(jobs), "evaluate") as advance:
        for name, (model, over) in jobs.items():
            entry, points = bench.measure(name, model, over)
            entries[name], results[name] = entry, entry.result
            frontier.extend(points)
            advance(1, f"{name} gold {float(entry.result.gold.mean()):.3f}")
    summary = summarise(
        entries,
        reward_model=bench.reward_quality(),
        versions=versions(),
        seed=config.seed,
    )
    write_json(folder / "frontier.json", frontier)
    write_json(folder / "samples.json", sample_rows(results, 24))
    write_json(folder / "summary.json", summary)
    metrics = {f"gold/{name}": float(result.gold.mean()) for name, result in results.items()}
    return Done(output=OUTPUT, publish=("summary.json", "frontier.json", "samples.json"), metrics=metrics)


def held_against(
    model: str,
    other: str,
    *,
    num_prompts: int,
    split: str,
    seed: int,
    world: str = "",
) -> dict[str, Any]:
    """A summary, in the form of `summary.json`, of two models: "model", and "base", which it is held against.

    Gain and tax are over the other one, with 95 % intervals over held-out prompts.
    """
    config = Config(
        base=other,
        policies={"model": model},
        world=world,
        hhh_dialogues=0,
        split=split,
        num_prompts=num_prompts,
        snapshots=False,
        seed=seed,
    )
    bench = Bench(config)
    entries = {name: bench.measure(name, ref, over)[0] for name, (ref, over) in bench.jobs().items()}
    return rounded(summarise(entries, versions=versions(), seed=seed))


class Bench:
    """What all policies of one evaluation share: prompts, exams, judges, the reference."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._device = pick_device("auto")
        self._proxy: Judge | None = (
            open_judge(config.reward, device=str(self._device)) if config.reward else None
        )
        made = (config.sft, *config.policies.values(), config.base)
        self._world = world_of(config.world, *made, where="evaluate")
        self._world.believed()  # Before a model loads: what is compared is what somebody believes.
        self._grade, self._judges = open_measures(self._world, device=str(self._device))
        if self._proxy is not None:
            self._judges["proxy"] = self._proxy
        self._prompts = (
            read(config.prompts, limit=config.num_prompts, needs=("prompts",)).groups
            if config.prompts
            else world_groups(self._world, "prompts", split=config.split, limit=config.num_prompts)
        )
        # A base without a template is asked in the one that what was trained from it is spoken to in.
        trained = open_chat(ModelSettings(path=next(filter(None, made))))
        self._template = trained.layout.template.source if trained.layout is not None else None
        self._exams = exams_of(self._world, split=config.split, limit=config.exam_items)
        self._reference = self.view("sft", config.sft) if config.sft else None

    def jobs(self) -> dict[str, tuple[str, str | None]]:
        """Each policy's name, its model, and the policy its gain is over."""
        c = self._config
        jobs: dict[str, tuple[str, str | None]] = {"base": (c.base, None)}
        if c.hhh_dialogues:
            jobs["base_hhh"] = (c.base, "base")
        if c.sft:
            jobs["sft"] = (c.sft, "base")
            if c.reward and c.best_of > 1:
                jobs[f"best_of_{c.best_of}"] = (c.sft, "sft")
        for name, model in c.policies.items():
            if name in jobs:
                remedy = "choose another name"
                raise TrueupError(
                    "E770", f"{name} is measured already", where=f"policies.{name}", remedy=remedy
                )
            jobs[name] = (model, "sft" if c.sft else "base")
        return jobs

    def view(self, name: str, model: str) -> PolicyView:
        """A model as evaluations see it, with what its name adds: the HHH prompt, or best-of-n."""
        context = f"{self._world.name}:hhh"
        best_of = self._config.best_of if name == f"best_of_{self._config.best_of}" else 1
        view = open_view(
            name,
            model,
            self._device,
            prefix=open_context(context, self._config.hhh_dialogues) if name == "base_hhh" else (),
            best_of=best_of,
            judge=self._proxy if best_of > 1 else None,
        )
        if view.chat.layout is None and self._template is not None:
            return replace(view, chat=Chat.of(view.chat.tokenizer, self._template))
        return view

    def measure(self, name: str, model: str, over: str | None) -> tuple[PolicyEntry, list[dict]]:
        """One policy's entry of the summary, and its points on the reward-KL picture."""
        started = time.monotonic()
        view = self.view(name, model)
        result = self._answer(view, self._prompts, compared=over == "sft")
        sampled = sum(c.num_tokens for g in result.groups for c in g.completions) * view.best_of
        seconds = time.monotonic() - started
        plain = view if view.best_of == 1 else self.view("sft", model)
        exams = {
            exam: found.task.run(plain, found.items, derive(self._config.seed, exam))
            for exam, found in self._exams.items()
        }
        trained = name == "sft" or name in self._config.policies
        costs = _costs(Path(model)) if trained and view.best_of == 1 else None
        if costs is None:
            tokens = sampled if view.best_of > 1 else 0
            costs = dict.fromkeys(COSTS, 0.0) | {"tokens_sampled": tokens}
            costs |= {"seconds": seconds, "peak_mib": metering.peak_mib()} if view.best_of > 1 else {}
        entry = PolicyEntry(result=result, over=over, exams=exams, costs=costs)
        if view.best_of > 1:
            return entry, curve_points(name, result)
        if over != "sft":
            return entry, []
        steps = _steps(Path(model).parent)
        points = self._snapshots(view, steps) if self._config.snapshots else []
        return entry, [*points, frontier_point(name, max(steps, default=0), result)]

    def reward_quality(self) -> dict | None:
        """How well the reward model agrees with held-out labels."""
        c = self._config
        if self._proxy is None or not c.labels:
            return None
        _, held_out = split_held_out(read_jsonl(c.labels), c.labels_held_out, c.seed)
        if not any(group.pairs() for group in held_out):
            logger.warning(
                "none of %d held-out labels prefers anything: the reward model's accuracy is not measured",
                len(held_out),
            )
            return None
        return reward_model_quality(self._proxy, held_out)

    def _answer(self, view: PolicyView, prompts: list[Group], *, compared: bool) -> PolicyResult:
        return evaluate_policy(
            view,
            prompts,
            grade=self._grade,
            samples_per_prompt=self._config.samples_per_prompt,
            decoding=self._config.decoding,
            seed=derive(self._config.seed, "evaluate"),
            judges=self._judges,
            reference=self._reference if compared else None,
        )

    def _snapshots(self, view: PolicyView, steps: Mapping[int, Path]) -> list[dict]:
        """A run's earlier checkpoints, answered by the same network with their weights in place.

        A LoRA run's checkpoints hold its adapter, which the loaded model has merged; it gives no points.
        """
        network = view.network
        now = dict(network.module.state_dict())
        last = {name: tensor.clone() for name, tensor in now.items()}
        points = []
        for step, path in steps.items():
            weights = checkpoint.load(path).tensors("policy")
            if not weights.keys() <= now.keys() or all(torch.equal(last[n], weights[n]) for n in weights):
                continue
            network.module.load_state_dict({**last, **weights})
            points.append(frontier_point(view.name, step, self._answer(view, self._prompts, compared=True)))
        network.module.load_state_dict(last)
        return points


def _steps(run: Path) -> dict[int, Path]:
    """A training run's checkpoints by their step."""
    paths = sorted((run / "checkpoints").glob("step-*"))
    return {int(checkpoint.load(path).document("run")["step"]): path for path in paths}


def versions() -> dict[str, str]:
    """The versions of what computed the numbers."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}}


def _costs(model: Path) -> dict[str, float] | None:
    """What the run that made a model cost; None for a model that no run of ours made."""
    if not (model.parent / "DONE.json").is_file():
        return None
    cost = read_done(model.parent).cost
    return {name: cost[name] for name in COSTS} if cost.keys() >= set(COSTS) else None
