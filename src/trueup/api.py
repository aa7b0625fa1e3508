"""The library in three verbs: `load` a model, `fit` a method, `evaluate` in the lab."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from trueup.engine.method import Role
from trueup.evals.summary import rounded, summarise
from trueup.models.forward import LanguageModel
from trueup.models.opening import open_network, pick_device
from trueup.procedures.evaluate import Bench, Config, versions
from trueup.runs.training import Trained, train
from trueup.settings import config as configuration
from trueup.settings.aliases import ALIASES
from trueup.settings.blocks import ModelSettings
from trueup.settings.discover import find


def load(path: str = "world:base", **settings: Any) -> LanguageModel:
    """The model in a folder, of a hub id, or the lab's, ready to be called on batches.

    `settings` are those of `ModelSettings`: dtype, device, template, lora ...
    """
    chosen = configuration.build(ModelSettings, {"path": path, **settings}, where="load")
    return open_network(Role(trained=chosen.lora is not None), chosen, pick_device(chosen.device), seed=0)


def fit(method: str, folder: str | Path, settings: Mapping[str, Any] | None = None) -> Trained:
    """A finished training run in `folder`; one that was interrupted goes on.

    `method` is a name or a path as for `trueup train`, `settings` what its recipe would say:
    `fit("sft", "runs/sft", {"data": {"path": "demos.jsonl"}, "update": {"lr": 1e-5}})`.
    """
    module = find(method)
    config = configuration.build(vars(module)["Config"], settings or {}, where="settings", aliases=ALIASES)
    return train(module, config, Path(folder))


def evaluate(
    model: str,
    *,
    against: str = "world:base",
    num_prompts: int = 200,
    split: Literal["train", "dev", "test"] = "test",
    world: str = "",
    seed: int = 0,
) -> dict[str, Any]:
    """A summary, in the form of `summary.json`, of `model` and of the model it is held `against`.

    The policies are called "base" (the other one) and "model"; gain and tax are over "base", with 95 %
    intervals over held-out prompts.
    """
    config = Config(
        base=against,
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
