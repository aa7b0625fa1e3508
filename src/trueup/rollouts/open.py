"""A run's sampler from its settings: what cannot be served is refused, what is to be corrected wrapped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from trueup.annotate.logprobs import OldLogprobs
from trueup.engine.method import Method, Network
from trueup.engine.ranks import Ranks
from trueup.errors import TrueupError
from trueup.models.forward import LanguageModel
from trueup.objectives.mismatch import Corrected, Correction, levels
from trueup.rollouts.gap import Recomputed
from trueup.rollouts.sampler import ServedSampler
from trueup.rollouts.server import server_of
from trueup.rollouts.weights import refuse_unserved
from trueup.settings.blocks import SamplerSettings


def settings_of(config: Any) -> SamplerSettings:
    """The sampler's settings of a method's; those of the own decoder for a method that has none."""
    return getattr(config, "sampler", SamplerSettings())


def corrected(method: Method, config: Any, ranks: Ranks) -> Method:
    """The method as a server's completions need it; the same for the own decoder.

    Raises E867 for truncated sampling, E868 for a correction that the loss has no place for, E869 for what
    else a server cannot be used for. Nothing is asked of the server.
    """
    settings = settings_of(config)
    if settings.kind == "own":
        if settings.correction != "none":
            raise _no_correction("our own decoder samples from the law that learns", "leave it out")
        return method
    server_of(settings)
    _refuse_truncated(config)
    if ranks.count > 1:
        raise _unfit("several devices do not share a server yet", "leave --devices out")
    if getattr(config, "completions", "policy") != "policy":
        raise _unfit(
            f"{method.name} draws from {config.completions} here, and a server has the policy's weights",
            "--completions policy, or leave sampler out",
        )
    if settings.correction == "none":
        return method
    wrapped = Corrected(inner=method.objective, correction=_wanted(method, settings))
    return replace(method, annotate=(Recomputed(), *method.annotate), objective=wrapped)


def _wanted(method: Method, settings: SamplerSettings) -> Correction:
    level, _, bound = settings.correction.partition("_")
    if settings.floor and bound != "mask":
        raise _no_correction("a floor is for `mask`: `truncate` holds large weights alone", "take a mask")
    if settings.floor > settings.cap:
        raise _no_correction(f"no weight is above {settings.floor:g} and below the cap", "a lower floor")
    if any(isinstance(stage, OldLogprobs) and stage.by == "sampler" for stage in method.annotate):
        remedy = "--algorithm.old trainer, or leave sampler.correction out"
        raise _no_correction("the loss's own ratio is to the server's law already", remedy)
    known = levels(method.objective)
    if level not in known:
        what = "weights by token" if known else "advantages to weight"
        remedy = f"--sampler.correction sequence_{bound}" if known else "leave it out"
        raise _no_correction(f"the loss of {method.name} has no {what}", remedy)
    return Correction(level=cast(Any, level), bound=cast(Any, bound), cap=settings.cap, floor=settings.floor)


def _refuse_truncated(config: Any) -> None:
    decoding = config.decoding
    cut = [n for n in ("top_k", "top_p") if getattr(decoding, n) not in (None, 1.0)]
    if decoding.greedy:
        raise _unfit("greedy completions explore nothing, and have no law to compare", "sample: greedy false")
    if cut:
        raise TrueupError(
            "E867",
            f"{cut[0]} cuts the law that the server samples from: its log-probs are renormalised, and the "
            "trainer's are of all tokens",
            where=f"decoding.{cut[0]}",
            remedy=f"leave {' and '.join(cut)} out; temperature is fine",
        )


def _no_correction(reason: str, remedy: str) -> TrueupError:
    return TrueupError("E868", reason, where="sampler.correction", remedy=remedy)


def _unfit(reason: str, remedy: str) -> TrueupError:
    return TrueupError("E869", reason, where="sampler.kind", remedy=remedy)


def open_sampler(
    config: Any, networks: Mapping[str, Network], folder: Path, stop_requested: Callable[[], str]
) -> ServedSampler | None:
    """The sampler over the server of the settings, which answers; None for the own decoder.

    Raises E866 for weights that the server would not serve as they are, E876 where it stays away.
    """
    settings = settings_of(config)
    if settings.kind == "own":
        return None
    refuse_unserved(cast(LanguageModel, networks["policy"]), settings.kind)
    sampler = ServedSampler(server_of(settings), settings, folder, stop_requested=stop_requested)
    sampler.open()
    return sampler
