"""Tiny runs of SFT, a reward model, DPO and PPO on a random Llama, for the tests of resuming."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from trueup.engine.groups import Comparison, Completion, Group, Message, Role
from trueup.engine.loop import Progress, fit
from trueup.engine.method import Handles, Method, Network, Parts, Rule
from trueup.methods import dpo, ppo, reward_model, sft
from trueup.models.load import from_modules
from trueup.runs.checkpoint import state_digest
from trueup.runs.keeper import RunKeeper
from trueup.runs.meter import Meter
from trueup.settings.blocks import LoopSettings
from trueup.sources.sample import Decoding
from trueup.update.adamw import AdamW

VOCAB, STOP = 32, 1
NUM_GROUPS, BATCH, MINIBATCH = 10, 6, 3
UPDATES_PER_STEP = {"sft": 2, "reward_model": 2, "dpo": 2, "ppo": 4}
NUM_STEPS = {"sft": 7, "reward_model": 7, "dpo": 7, "ppo": 4}
"""14 updates (16 for PPO) in steps that stop inside an epoch: 6 of 10 groups at a time."""

METHODS: dict[str, tuple[ModuleType, dict[str, Any]]] = {
    "sft": (sft, {}),
    "reward_model": (reward_model, {}),
    "dpo": (dpo, {}),
    "ppo": (
        ppo,
        {
            "decoding": Decoding(max_new_tokens=5),
            "minibatch": MINIBATCH,
            "algorithm": ppo.Algorithm(kl_target=0.01, kl_horizon=20, whiten_rewards=True),
        },
    ),
}


def groups(count: int, seed: int) -> list[Group]:
    """Encoded groups of random tokens, the first completion preferred."""
    rng = np.random.default_rng(seed)

    def tokens(low: int, high: int) -> np.ndarray:
        return rng.integers(2, VOCAB, rng.integers(low, high)).astype(np.int32)

    return [
        Group(
            id=f"{seed}-{number}",
            prompt=(Message(Role.TEXT, str(number)),),
            prompt_tokens=tokens(3, 6),
            completions=tuple(
                Completion(text="", tokens=np.append(tokens(1, 5), STOP).astype(np.int32)) for _ in range(2)
            ),
            comparisons=(Comparison(a=0, b=1, choice="a"),),
        )
        for number in range(count)
    ]


def judge(scored: Any) -> list[list[float]]:
    """The share of even tokens in each completion."""
    return [[float((c.tokens % 2 == 0).mean()) for c in group.completions] for group in scored]


def network(heads: tuple[str, ...], trained: bool) -> Network:
    """A random two-layer Llama, always the same one."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=32,
        bos_token_id=None,
        eos_token_id=STOP,
        pad_token_id=0,
    )
    made = from_modules(LlamaForCausalLM(config), None, heads=heads)
    made.module.requires_grad_(trained)
    return made


@dataclass(frozen=True, eq=False)
class Noted:
    """A source that writes down which groups it gave for which step."""

    inner: Any
    path: Path

    @property
    def writes(self) -> frozenset[str]:
        return self.inner.writes

    def __call__(self, step: int, handles: Handles) -> list[Group]:
        given = self.inner(step, handles)
        rows = [[g.id, [c.tokens.tolist() for c in g.completions if c.tokens is not None]] for g in given]
        with self.path.open("a") as file:
            file.write(json.dumps([step, rows]) + "\n")
        return given


@dataclass(eq=False)
class Watched:
    """A keeper that notes a digest after every update, and asks the run to stop after update `stop_after`."""

    keeper: RunKeeper
    per_step: int
    stop_after: int | None
    asked: list[str]
    updated: Callable[[int], None]
    digests: dict[int, str] = field(default_factory=dict)
    weights: dict[int, str] = field(default_factory=dict)

    def restore(self, handles: Handles, rule: Rule) -> Progress | None:
        return self.keeper.restore(handles, rule)

    def _note(self, progress: Progress, handles: Handles, rule: Rule) -> None:
        done = progress.step * self.per_step + progress.update
        self.digests[done] = digest(handles, rule)
        self.weights[done] = weights(handles)
        if done == self.stop_after:
            self.asked.append("SIGTERM")
        self.updated(done)

    def after_update(self, progress: Progress, handles: Handles, rule: Rule) -> None:
        self._note(progress, handles, rule)
        self.keeper.after_update(progress, handles, rule)

    def after_step(
        self, progress: Progress, metrics: Mapping[str, float], handles: Handles, rule: Rule
    ) -> bool:
        self._note(progress, handles, rule)
        return self.keeper.after_step(progress, metrics, handles, rule)

    def left(self, progress: Progress, handles: Handles, rule: Rule) -> None:
        self.keeper.left(progress, handles, rule)


def digest(handles: Handles, rule: Rule) -> str:
    """Of every weight and buffer, the optimiser's state and the stages' state."""
    optimizer, values = rule.state()
    weights = {name: dict(n.module.state_dict()) for name, n in handles.networks.items()}
    return state_digest({**weights, "optimizer": optimizer}, {"rule": values, "state": handles.state})


def weights(handles: Handles) -> str:
    """A digest of every weight and buffer alone."""
    return state_digest({name: dict(n.module.state_dict()) for name, n in handles.networks.items()}, {})


@dataclass(kw_only=True, eq=False)
class Run:
    """Everything of one run, so that a test can put a fault anywhere before it starts."""

    name: str
    folder: Path
    method: Method
    handles: Handles
    settings: LoopSettings

    def go(
        self,
        *,
        stop_after: int | None = None,
        stop_requested: Callable[[], str] = lambda: "",
        updated: Callable[[int], None] = lambda done: None,
    ) -> dict[int, str]:
        """The digest after every update that was made; raises what the run raises."""
        asked: list[str] = []
        keeper = RunKeeper(
            self.folder,
            method=self.method,
            settings=self.settings,
            meter=Meter(self.folder),
            num_steps=NUM_STEPS[self.name],
            stop_requested=lambda: asked[0] if asked else stop_requested(),
        )
        self.watched = Watched(keeper, UPDATES_PER_STEP[self.name], stop_after, asked, updated)
        fit(
            self.method,
            self.handles,
            num_steps=NUM_STEPS[self.name],
            groups_per_step=BATCH,
            keeper=self.watched,
        )
        return self.watched.digests


def make(name: str, folder: Path, *, update: AdamW | None = None, **loop: Any) -> Run:
    """A run of the method in `folder`, from nothing but the arguments."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    module, options = METHODS[name]
    settings = LoopSettings(
        steps=NUM_STEPS[name], batch=BATCH, save_every=2, save_every_updates=0, eval_every=3, keep_last=2
    )
    settings = replace(settings, **loop)
    config = module.Config(loop=settings, update=update or AdamW(lr=1e-2), **options)
    parts = Parts(
        groups=groups(NUM_GROUPS, 1), held_out=groups(3, 2), decode=lambda ids: str(ids), stop_ids=(STOP,)
    )
    method: Method = module.build(config, parts)
    method = replace(
        method,
        source=Noted(method.source, folder / "ids.jsonl"),
        minibatch=MINIBATCH,
    )
    networks = {n: network(r.heads, r.trained) for n, r in method.networks.items()}
    handles = Handles(networks=networks, judge=judge, microbatch_tokens=40)
    return Run(name=name, folder=folder, method=method, handles=handles, settings=settings)
