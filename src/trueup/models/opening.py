"""Networks and chats opened from settings: from a folder, from the hub, or the lab's own base."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from importlib import resources
from pathlib import Path

import torch

from trueup.chat import Chat
from trueup.engine.method import Method, Role
from trueup.engine.order import derive
from trueup.errors import TrueupError
from trueup.models.forward import LanguageModel
from trueup.models.load import copy_of, load, open_tokenizer
from trueup.models.shared import Base, networks_over, open_base
from trueup.settings.blocks import ModelSettings

BASE_DIGEST = "8857122c31f2e4a56426f7312f33c7f546237122205fcea1e0e62998b85e7e00"
"SHA-256 of the weights of `lab:base`."


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
    method: Method, settings: ModelSettings, device: torch.device, *, seed: int, base: Base | None = None
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
        network.module.requires_grad_(False).eval()
    return network
