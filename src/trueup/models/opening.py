"""Networks and chats opened from settings: from a folder, from the hub, or a world's own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from trueup.chat import Chat
from trueup.engine.method import Method, Role
from trueup.engine.order import derive
from trueup.errors import TrueupError
from trueup.models.forward import LanguageModel
from trueup.models.load import copy_of, load, open_tokenizer, refuse_unfit
from trueup.models.objects import InMemory
from trueup.models.recompute import blocks_of
from trueup.models.shared import Base, networks_over, open_base
from trueup.settings import held
from trueup.settings.blocks import ModelSettings
from trueup.worlds import where_model


def open_chat(settings: ModelSettings) -> Chat:
    """How a model's prompts are put together: its own template or the named one, as settings say."""
    found = in_memory(settings.path)
    tokenizer = found.tokenizer if found is not None else open_tokenizer(model_path(settings.path))
    told: dict[str | None, Any] = {"on": True, "off": False}
    return Chat.of(
        tokenizer,
        settings.template,
        thinking=told.get(settings.thinking, settings.thinking),
        fold_system=settings.system == "fold",
    )


def in_memory(reference: str) -> InMemory | None:
    """The model of the Python session that a reference stands for; None for a folder, an id, the lab's.

    Raises E753 for a model of another session.
    """
    if not reference.startswith(held.OBJECT):
        return None
    found = held.held(reference)
    if found is None:
        raise held.not_held(reference, "model.path", "give the model again: trueup.fit(..., model=...)")
    return found


def open_policy(
    settings: ModelSettings, device: torch.device | None = None, *, seed: int = 0
) -> tuple[Chat, LanguageModel]:
    """A model's chat and its frozen network over one tokenizer, on the device of the settings unless given.

    The chat comes first: what is wrong with a template is said before weights are read.
    """
    chat = replace(open_chat(settings), option="--template NAME", folding="")
    place = pick_device(settings.device, settings.dtype) if device is None else device
    return chat, open_network(Role(trained=False), settings, place, seed=seed, tokenizer=chat.tokenizer)


def model_path(reference: str) -> str:
    """A path or id that `load` takes; a model of a world by `WORLD:NAME` is where that world has it."""
    return where_model(reference)


def pick_device(name: str, dtype: str = "float32") -> torch.device:
    """The device a setting means; `auto` is an NVIDIA GPU where there is one, `mps` an Apple one.

    Raises E706 for a name of no device, E707 for one that is not usable here, or not in this precision.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind = name.partition(":")[0]
    usable = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    try:
        if kind not in usable:
            raise RuntimeError(name)
        device = torch.device(name)
    except RuntimeError:
        raise TrueupError(
            "E706", f"no such device: {name!r}", where="model.device", remedy="cpu, cuda, mps or auto"
        ) from None
    if not usable[kind]:
        why = (
            "no GPU is usable here"
            if kind == "cuda"
            else "this torch has no MPS, or this is no Apple silicon"
        )
        raise TrueupError("E707", why, where="model.device", remedy="use auto, or cpu")
    if kind == "mps" and dtype == "float64":
        raise TrueupError("E707", "MPS has no float64", where="model.dtype", remedy="use device: cpu")
    return device


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
    if in_memory(settings.path) is not None:
        raise TrueupError(
            "E754",
            "networks share a base that lies in a folder, and this model is in memory",
            where="model.roles",
            remedy="save the model and name its folder, or set model.roles: separate",
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
    tokenizer: Any = None,
) -> dict[str, LanguageModel]:
    """The networks of a method's roles; frozen copies of the run's own model share its load, or its base.

    With a `base` (see `open_shared`), every role that can stands on it. All are fed by one chat, so all have
    its `tokenizer` where one is given: what is saved of them carries the template that they were trained in.
    """
    networks: dict[str, LanguageModel] = {}
    # What is frozen shares the weights of a model in memory; with an adapter it is the base itself.
    alive = settings.lora is None and in_memory(settings.path) is not None
    over: dict[str, LanguageModel] = {}
    if base is not None and settings.lora is not None:
        roles = {n: replace(r, start=r.start and model_path(r.start)) for n, r in method.networks.items()}
        over = networks_over(base, roles, lora=settings.lora, seed=seed)
    for name, role in method.networks.items():
        if name in over:
            networks[name] = over[name]
        elif not role.trained and not role.start and "policy" in networks and not alive:
            policy = networks["policy"]
            networks[name] = policy.reference() if settings.lora else copy_of(policy)
        else:
            seeded = derive(seed, "network", name)
            networks[name] = open_network(role, settings, device, seed=seeded, tokenizer=tokenizer)
    own: dict[str, Any] = {} if tokenizer is None else {"tokenizer": tokenizer}
    own["activation_checkpointing"] = settings.activation_checkpointing
    if settings.activation_checkpointing != "none":
        for name in method.trains:
            blocks_of(networks[name].body)
    return {n: replace(net.with_temperature(method.temperature), **own) for n, net in networks.items()}


def open_network(
    role: Role, settings: ModelSettings, device: torch.device, *, seed: int, tokenizer: Any = None
) -> LanguageModel:
    """One network with a role's heads, in the run's precision; frozen unless the role is trained."""
    start = role.start or settings.path
    found = in_memory(start)
    given: Any = {
        "dtype": settings.dtype,
        "device": str(device),
        "heads": role.heads,
        "lora": settings.lora if role.trained else None,
        "logits_budget_mib": settings.logits_budget_mib,
        "dropout": settings.dropout,
        "seed": seed,
    }
    if found is not None:
        network = found.network(**given, trained=role.trained)
        network = replace(network, tokenizer=tokenizer or network.tokenizer)
    else:
        network = load(model_path(start), **given, tokenizer=tokenizer)
        refuse_unfit(network, start)
    if not role.trained:
        network.module.requires_grad_(False).eval()
    return network
