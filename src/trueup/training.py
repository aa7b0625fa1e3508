"""One training run, from a method's configuration to a folder that holds its model.

FOLDER/
  config.resolved.yaml  metrics.jsonl  timings.jsonl  data.json  quarantine.jsonl
  checkpoints/  best/  samples.jsonl  model/  DONE.json
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from trueup import meter as metering
from trueup.chat import Chat
from trueup.errors import TrueupError
from trueup.evals.statistics import Estimate, mean_ci
from trueup.guard import Guard, check_guarded
from trueup.judges.open import open_judge
from trueup.keeper import RunKeeper, held_out_step
from trueup.loop import Progress, fit
from trueup.method import Handles, Method, Parts, Role
from trueup.models.forward import LanguageModel
from trueup.models.load import copy_of, load, merge, open_tokenizer, save
from trueup.models.shared import Base, networks_over, open_base
from trueup.order import derive
from trueup.settings import LoopSettings, ModelSettings
from trueup.sources.open import Opened, open_groups

BASE_DIGEST = "8857122c31f2e4a56426f7312f33c7f546237122205fcea1e0e62998b85e7e00"
"SHA-256 of the weights of `lab:base`."
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a finished run left: its model's folder, and its numbers."""

    folder: Path
    model: Path
    metrics: Mapping[str, float]
    held_out: Mapping[str, Estimate]
    "Each held-out metric with its 95 % interval over groups."
    cost: metering.Cost


def train(
    module: ModuleType,
    config: Any,
    folder: Path,
    *,
    stop_requested: Callable[[], str] = lambda: "",
    progress_label: str = "",
) -> Trained:
    """The finished run in `folder`: continued from its newest checkpoint where there is one.

    `module` is a method's file and `config` an instance of its `Config`. Raises `Interrupted` when
    `stop_requested` names a signal, after saving.
    """
    folder.mkdir(parents=True, exist_ok=True)
    device = pick_device(config.model.device)
    chat = open_chat(config.model)
    opened = open_groups(config.data, chat, seed=config.seed, quarantine=folder / "quarantine.jsonl")
    _note_data(folder, opened)
    parts = Parts(
        groups=opened.train,
        held_out=opened.held_out,
        decode=chat.decode,
        stop_ids=chat.stop_ids,
        prompt_ids=chat.prompt_ids,
        more=lambda settings: open_groups(settings, chat, seed=config.seed).train,
    )
    method: Method = module.build(config, parts)
    if config.loop.guard is not None:
        check_guarded(method)  # Before a model loads.
    base = open_shared(method, config.model, device)
    networks = open_networks(method, config.model, device, seed=config.seed, base=base)
    handles = Handles(
        networks=networks,
        seed=config.seed,
        device=device,
        dtype=torch.float64 if config.model.dtype == "float64" else torch.float32,
        microbatch_tokens=config.loop.microbatch_tokens,
        judge=open_judge(method.judge, device=str(device), base=base) if method.judge else None,
    )
    return train_method(
        method,
        handles,
        config.loop,
        folder,
        num_steps=num_steps(config.loop, method, len(opened.train)),
        stop_requested=stop_requested,
        label=progress_label,
    )


def train_method(
    method: Method,
    handles: Handles,
    loop: LoopSettings,
    folder: Path,
    *,
    num_steps: int,
    stop_requested: Callable[[], str] = lambda: "",
    label: str = "",
) -> Trained:
    """The finished run of a built method on loaded networks, kept in `folder`; see `train`."""
    meter = metering.Meter(folder, ("jsonl", *loop.trackers))
    guard = open_guard(method, loop, handles)
    keeper = RunKeeper(
        folder,
        method=method,
        settings=loop,
        meter=meter,
        num_steps=num_steps,
        stop_requested=stop_requested,
        guard=guard,
    )
    noted: dict[str, float] = {}
    with metering.progress(num_steps, label or method.name) as advance:

        def progressed(progress: Progress, metrics: Mapping[str, float]) -> None:
            advance(progress.step - int(noted.get("step", 0)), headline(metrics))
            noted.update(metrics, step=progress.step)

        ended = fit(
            method,
            handles,
            num_steps=num_steps,
            groups_per_step=loop.batch,
            keeper=keeper,
            progressed=progressed,
        )
    best = keeper.take_best(handles)
    if best is not None:
        noted["best_step"] = best
    if guard is not None and guard.fall is not None:
        noted["guard/fell"] = guard.steps[guard.fall.at]
    if method.finish is not None:
        noted.update(method.finish(handles))
    held_out = _note_held_out(method, handles, folder)
    model = _save_model(method, handles, folder)
    cost = meter.spend(ended.step, tokens_trained=ended.tokens_trained, tokens_sampled=ended.tokens_sampled)
    meter.close()
    return Trained(folder=folder, model=model, metrics=noted, held_out=held_out, cost=cost)


def open_guard(method: Method, loop: LoopSettings, handles: Handles) -> Guard | None:
    """The run's guard with its judge, where `loop.guard` names one; E743 if there is nothing to guard."""
    if loop.guard is None:
        return None
    check_guarded(method)
    return Guard(settings=loop.guard, judge=open_judge(loop.guard.judge, device=str(handles.device)))


def open_chat(settings: ModelSettings) -> Chat:
    """How a model's prompts are put together: its own template, or the named one."""
    return Chat.of(open_tokenizer(model_path(settings.path)), settings.template)


def model_path(reference: str) -> str:
    """A path or id that `load` takes; `lab:base` is the model that comes with the package."""
    if not reference.startswith("lab:"):
        return reference
    folder = Path(str(resources.files("trueup.lab") / reference.removeprefix("lab:")))
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise TrueupError(
            "E709", f"the lab has no model {reference!r}", where="model.path", remedy="use lab:base"
        )
    found = hashlib.sha256(weights.read_bytes()).hexdigest()
    if found != BASE_DIGEST:
        raise TrueupError(
            "E841",
            f"not the weights that came with this version (sha256 {found[:12]}, not {BASE_DIGEST[:12]})",
            where=str(weights),
            remedy="install trueup again",
        )
    return str(folder)


def pick_device(name: str) -> torch.device:
    """The device a setting means; `auto` is a GPU where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise TrueupError(
            "E706", f"no such device: {name!r}", where="model.device", remedy="cpu, cuda or auto"
        ) from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise TrueupError("E707", "no GPU is usable here", where="model.device", remedy="use auto, or cpu")
    return device


def num_steps(loop: LoopSettings, method: Method, num_groups: int) -> int:
    """How many steps a run has: `steps`, or enough batches for `epochs` over the groups."""
    if loop.steps is not None:
        return loop.steps
    size = len(getattr(method.source, "groups", ())) or num_groups
    return max(1, math.ceil(loop.epochs * size / loop.batch))


def open_shared(method: Method, settings: ModelSettings, device: torch.device) -> Base | None:
    """The weights that all roles stand on, where `model.roles` is `shared`; E708 without an adapter."""
    if settings.roles == "separate":
        return None
    if settings.lora is None:
        raise TrueupError(
            "E708",
            "networks can share their base only when each of them trains an adapter",
            where="model.roles",
            remedy="set model.lora, for example {rank: 16}, or model.roles: separate",
        )
    return open_base(
        model_path(settings.path),
        dtype=settings.dtype,
        device=str(device),
        with_head=any("logprobs" in role.heads for role in method.networks.values()),
        quantised=settings.lora.quantise == "nf4",
        dropout=settings.dropout,
        logits_budget_mib=settings.logits_budget_mib,
    )


def open_networks(
    method: Method,
    settings: ModelSettings,
    device: torch.device,
    *,
    seed: int,
    base: Base | None = None,
) -> dict[str, LanguageModel]:
    """The networks of a method's roles; frozen copies of the run's own model share its load, or its base.

    With a `base` (see `open_shared`), every role that can stands on it.
    """
    networks: dict[str, LanguageModel] = {}
    over: dict[str, LanguageModel] = {}
    if base is not None and settings.lora is not None:
        roles = {n: replace(r, start=r.start and model_path(r.start)) for n, r in method.networks.items()}
        over = networks_over(base, roles, lora=settings.lora, seed=seed)
    for name, role in method.networks.items():
        if name in over:
            networks[name] = over[name]
        elif not role.trained and not role.start and "policy" in networks:
            policy = networks["policy"]
            networks[name] = policy.reference() if settings.lora else copy_of(policy)
        else:
            networks[name] = open_network(role, settings, device, seed=derive(seed, "network", name))
    return {name: network.with_temperature(method.temperature) for name, network in networks.items()}


def open_network(role: Role, settings: ModelSettings, device: torch.device, *, seed: int) -> LanguageModel:
    """One network with a role's heads, in the run's precision; frozen unless the role is trained."""
    network = load(
        model_path(role.start or settings.path),
        dtype=settings.dtype,
        device=str(device),
        heads=role.heads,
        lora=settings.lora if role.trained else None,
        logits_budget_mib=settings.logits_budget_mib,
        dropout=settings.dropout,
        seed=seed,
    )
    if not role.trained:
        network.module.requires_grad_(False)
    return network


def headline(metrics: Mapping[str, float]) -> str:
    """The few numbers that a progress line has room for."""
    shown = ("loss", "accuracy", "rewards/accuracies", "score", "kl", "grad_norm")
    return "  ".join(f"{name} {metrics[name]:.3g}" for name in shown if name in metrics)


def _note_data(folder: Path, opened: Opened) -> None:
    counts = {
        "format": opened.format,
        "rows_in": opened.rows_in,
        "train": len(opened.train),
        "held_out": len(opened.held_out),
        "quarantined": opened.quarantined,
        "overlong": opened.overlong,
        "truncated": opened.truncated,
    }
    (folder / "data.json").write_text(json.dumps(counts, indent=1) + "\n")


def _note_held_out(method: Method, handles: Handles, folder: Path) -> dict[str, Estimate]:
    """Writes `held_out.json`: every metric of the finished model with its interval over held-out groups."""
    step = held_out_step(method, handles, {})
    found = {name: mean_ci(values) for name, values in step.by_group().items()} if step else {}
    rows = {name: estimate.to_json() for name, estimate in found.items()}
    (folder / "held_out.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return found


def _save_model(method: Method, handles: Handles, folder: Path) -> Path:
    """The model's folder, which appears whole or not at all."""
    staged, final = folder / ".model", folder / "model"
    shutil.rmtree(staged, ignore_errors=True)
    network = handles.networks[method.output]
    assert isinstance(network, LanguageModel)
    # An adapter on weights that lie in no folder (another adapter, merged) means nothing by itself.
    save(network if network.hf_model.name_or_path else merge(network), staged)
    shutil.rmtree(final, ignore_errors=True)
    os.replace(staged, final)
    return final
