"""Mixtures of whole weights: experts of several rewards, read once, mixed as often as asked.

    θ_w = θ_0 + Σ_i w_i (θ_i − θ_0) = Σ_i w_i θ_i + (1 − Σ_i w_i) θ_0

(Ramé et al. 2023; Wortsman et al. 2022.) Every tensor is mixed: norms, biases and embeddings too. Sums are
taken in float64 and rounded once, and what has weight 0 takes no part, so a one-hot mixture is its expert to
the bit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast, final

import torch
from torch import Tensor

from trueup.citations import cite
from trueup.errors import TrueupError, counted
from trueup.models.export import CardFacts, Figure, export
from trueup.models.forward import LanguageModel
from trueup.models.load import DTYPES, DType, load
from trueup.models.opening import model_path
from trueup.models.shared import same_weights
from trueup.soups import simplex
from trueup.soups.adapters import AdapterSoup, plain_over_one_base
from trueup.soups.lineage import check_fit, check_start, shared_start
from trueup.soups.simplex import Weights

REFERENCES = ("rame2023", "wortsman2022")


class Soup(Protocol):
    """Experts that can be mixed by any weights."""

    @property
    def experts(self) -> tuple[str, ...]: ...

    @property
    def start(self) -> str: ...

    def at(self, weights: Sequence[float]) -> LanguageModel: ...

    def save(self, weights: Sequence[float], folder: Path, card: CardFacts) -> Path: ...


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class WeightSoup:
    """Whole weights of N experts in memory, and one network that takes on their mixtures."""

    experts: tuple[str, ...]
    start: str
    "What all were trained from, where it is known."
    network: LanguageModel
    tensors: tuple[Mapping[str, Tensor], ...]
    "Of each expert, by name, on the CPU."
    origin: Mapping[str, Tensor] | None = field(default=None)
    "θ_0, where weights may leave the simplex."

    def at(self, weights: Sequence[float]) -> LanguageModel:
        """The network with the mixture's weights in place, until it is asked for another.

        Raises E736 for weights off the simplex, unless a start was named.
        """
        given = simplex.check(weights, len(self.experts), simplex=self.origin is None)
        held = self.network.module["model"].state_dict()
        with torch.no_grad():
            for name, tensor in mixture(self.tensors, given, self.origin).items():
                held[name].copy_(tensor)
        return self.network

    def save(self, weights: Sequence[float], folder: Path, card: CardFacts) -> Path:
        """The mixture as an ordinary Hugging Face folder; E846 when it exists and is not empty."""
        return export(self.at(weights), folder, card=card)


def mixture(
    experts: Sequence[Mapping[str, Tensor]], weights: Weights, origin: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """θ_w by name, in the experts' dtype. Whole numbers (buffers of indices) are the first expert's."""
    rest = 1.0 - sum(weights)
    parts = [(w, expert) for w, expert in zip(weights, experts, strict=True) if w]
    if origin is not None and abs(rest) > simplex.ROUNDING:
        parts.append((rest, origin))
    if not parts:
        parts = [(1.0, experts[0] if origin is None else origin)]
    first = parts[0]
    mixed: dict[str, Tensor] = {}
    for name, tensor in experts[0].items():
        if not tensor.is_floating_point():
            mixed[name] = tensor.clone()
            continue
        # It begins with a product, not with 0, so that −0 stays −0.
        total = first[0] * first[1][name].double()
        for weight, part in parts[1:]:
            total += weight * part[name].double()
        mixed[name] = total.to(tensor.dtype)
    return mixed


def open_soup(experts: Sequence[str], *, start: str = "", beyond: bool = False, device: str = "cpu") -> Soup:
    """The experts in these folders, checked to be fit for mixing.

    LoRA adapters over one base stay adapters (`adapters.AdapterSoup`): the base is held once, however many
    there are. Otherwise whole weights are read, adapters added into theirs. `start` is checked to be what the
    records say. With `beyond` weights may leave the simplex: the rest is the start's, which must be known.

    Raises E736 for fewer than two experts or an unknown start, E850 when they are not of one architecture and
    tokenizer, E851 when they were not trained from one model.
    """
    if len(experts) < 2:
        raise TrueupError("E736", counted(len(experts), "expert"), where="experts", remedy="name two or more")
    if start:
        check_start(experts, start)
    known = start or shared_start(experts)
    if beyond and not known:
        raise TrueupError(
            "E736", "no start is known that the rest of the weights could be", where="start", remedy="name it"
        )
    adapters = plain_over_one_base(experts)
    if adapters and not (beyond and start and not same_weights(adapters[0].base, model_path(start))):
        return AdapterSoup.over(adapters, device=device, free=beyond)
    dtype = _stored_dtype([model_path(name) for name in experts])
    networks = [load(model_path(name), dtype=dtype) for name in experts]
    held = [_parts(network) for network in networks]
    for name, mine in zip(experts[1:], held[1:], strict=True):
        check_fit(name, mine, held[0])
    origin = None
    if beyond:
        other = _parts(load(model_path(known), dtype=dtype))
        for name, mine in zip(experts, held, strict=True):
            check_fit(name, mine, other)
        origin = other[2]
    networks[0].module.requires_grad_(False).to(device)
    return WeightSoup(
        experts=tuple(experts),
        start=known,
        network=networks[0],
        tensors=tuple(tensors for _, _, tensors in held),
        origin=origin,
    )


def card_of(
    soup: Soup,
    weights: Sequence[float],
    *,
    name: str,
    names: Sequence[str] = (),
    measured: Mapping[str, Figure] | None = None,
) -> CardFacts:
    """What the model card of a mixture says: its experts, its weights, and the rewards that were measured.

    Experts without `names` are called by their folders; where two have one name, by their place too.
    """
    labels = list(names) or [short_name(expert) for expert in soup.experts]
    if len(set(labels)) < len(labels):
        labels = [f"{label} ({i})" for i, label in enumerate(labels, 1)]
    return CardFacts(
        name=name,
        method="soup",
        summary="A weighted average of the weights of several models trained from one start.",
        base=short_name(soup.start) if Path(soup.start).is_dir() else soup.start,
        settings={
            "weights": dict(zip(labels, map(float, weights), strict=True)),
            "rewards": {reward: str(figure) for reward, figure in (measured or {}).items()},
        },
        bibtex=cite(REFERENCES),
    )


def short_name(model: str) -> str:
    """What a model is called where its whole path is too long: of `runs/short/model`, `short`."""
    path = Path(model)
    return path.parent.name if path.name == "model" and path.parent.name else path.name


def _parts(network: LanguageModel) -> tuple[Any, Any, dict[str, Tensor]]:
    state = network.module["model"].state_dict()
    return network.config, network.tokenizer, {name: t.detach().cpu().clone() for name, t in state.items()}


def _stored_dtype(folders: Sequence[str]) -> DType:
    """The precision that all experts are stored in, so that a mixture is rounded to that; else float32."""
    found = set()
    for folder in folders:
        path = Path(folder) / "config.json"
        said = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        found.add(said.get("dtype") or said.get("torch_dtype"))
    (one, *others) = found
    return cast(DType, one) if not others and one in DTYPES else "float32"
