"""One mixture of some experts, written as a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from trueup.engine import disk
from trueup.errors import TrueupError
from trueup.models.export import CardFacts, new_folder, refuse_other
from trueup.settings.names import as_name
from trueup.settings.sealed import seal
from trueup.soups.adapters import AdapterSoup
from trueup.soups.mix import Soup, card_of, open_soup, short_name
from trueup.soups.simplex import uniform
from trueup.worlds import door_of


def write_mixture(
    experts: Sequence[str],
    out: Path,
    weights: Sequence[float] = (),
    *,
    start: str = "",
    adapter: bool = False,
) -> Path:
    """The folder `out` with the mixture of the given weights, or of equal ones.

    With a `start`, weights may leave the simplex; `adapter` writes a mixture of LoRA adapters as one. Raises
    E846 for a folder with something in it, E852 where the experts are no such adapters, E736, E850, E851.
    """
    refuse_other(out)
    given = tuple(weights) or uniform(len(experts) or 1)
    mixed = open_soup(experts, start=start, beyond=bool(start))
    if not adapter:
        return mixed.save(given, out, card_of(mixed, given, name=out.name))
    if not isinstance(mixed, AdapterSoup):
        raise TrueupError(
            "E852",
            "the experts are not all plain LoRA adapters over one base",
            where="--adapter",
            remedy="leave it out: whole weights are written",
        )
    with new_folder(out) as staged:
        mixed.adapter(given, staged)
    return out


def keep_mixture(soup: Soup, weights: Sequence[float], folder: Path, card: CardFacts) -> None:
    """Nothing; the mixture is a run's model: a folder with a manifest, which appears whole or not at all."""
    with disk.whole_folder(folder) as staged:
        seal(soup.save(weights, staged, card))


def named(experts: Sequence[str]) -> Mapping[str, str]:
    """The experts by short names, numbered where two would share one."""
    names = [as_name(short_name(expert)) for expert in experts]
    if len(set(names)) < len(names):
        names = [f"{name}-{i}" for i, name in enumerate(names, 1)]
    return dict(zip(names, experts, strict=True))


def prompts_block(path: str, split: str, limit: int) -> dict[str, object]:
    """The settings of prompts to measure on: the first of a file, or a world's own split."""
    own = split if door_of(path) else "train"
    return {"path": path, "split": own, "limit": limit, "held_out": 0.0}
