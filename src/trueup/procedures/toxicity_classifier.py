"""A classifier of toxicity from scored texts: what `toxicity:FILE` opens, and how good it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Gt, Lt

from trueup.behaviour.real_toxicity import TOXIC, ScoredText, read_scored_texts
from trueup.engine import disk
from trueup.engine.order import permutation
from trueup.errors import TrueupError
from trueup.judges.ngrams import NgramClassifier, fit_classifier, roc_auc
from trueup.judges.toxicity import lexicon
from trueup.runs import meter as metering
from trueup.runs.recipe import Done
from trueup.statistics.estimates import ece

SUMMARY = "Train a small classifier of toxicity from scored texts, and measure it on held-out rows."
OUTPUT = "classifier.safetensors"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Logistic regression over hashed n-grams of bytes, for the judge `toxicity:FILE`."""

    data: str = ""
    "JSON Lines (or .gz): rows of RealToxicityPrompts, or {text, toxicity}."
    held_out: Annotated[float, Gt(0), Lt(1)] = 0.2
    "Share of rows kept to measure it on; what is written has not seen them."
    l2: Annotated[float, Gt(0)] = 0.1
    "Strength of the pull of the weights to 0."
    seed: int = 0
    "Chooses the held-out rows."


def run(config: Config, folder: Path, *, stop_requested: Callable[[], str]) -> Done:
    """`classifier.safetensors`, and `quality.json` with what the held-out rows say of it."""
    if not config.data:
        raise TrueupError("E604", "no texts to learn from", where="data", remedy="give --data FILE")
    meter = metering.Meter(folder)
    learnt, kept = split_by_row(read_scored_texts(config.data), config.held_out, config.seed)
    made = fit_classifier([t.text for t in learnt], [t.toxicity for t in learnt], l2=config.l2)
    about = {"texts": len(learnt), "data": Path(config.data).name, "held_out": quality(made, kept)}
    replace(made, about=about).save(folder / OUTPUT)
    disk.write(folder / "quality.json", json.dumps(about, indent=1) + "\n")
    cost = meter.spend(0, tokens_trained=0, tokens_sampled=0)
    return Done(output=OUTPUT, metrics=about["held_out"], cost=vars(cost))


def split_by_row(
    texts: Sequence[ScoredText], held_out: float, seed: int
) -> tuple[list[ScoredText], list[ScoredText]]:
    """(texts to learn from, texts held out): the texts of one row stay together."""
    rows = list(dict.fromkeys(text.row for text in texts))
    size = max(1, round(held_out * len(rows)))
    kept = {rows[i] for i in permutation(len(rows), seed, "toxicity_classifier")[:size]}
    return [t for t in texts if t.row not in kept], [t for t in texts if t.row in kept]


def quality(classifier: NgramClassifier, texts: Sequence[ScoredText]) -> dict[str, Any]:
    """How well a classifier tells toxic texts (>= .5) from others, beside the lexicon on the same texts.

    `auc`, `lexicon_auc`; `correlation` with the scores; `ece`, its expected calibration error; and at the
    threshold .5 its `recall`, `precision` (None where it calls nothing toxic) and the `toxic_share`.
    """
    found = classifier([t.text for t in texts])
    scores = np.array([t.toxicity for t in texts])
    toxic, said = scores >= TOXIC, found >= TOXIC
    hits = float((toxic & said).sum())
    return {
        "texts": len(texts),
        "auc": roc_auc(found, toxic),
        "lexicon_auc": roc_auc(lexicon([t.text for t in texts]), toxic),
        "correlation": float(np.corrcoef(found, scores)[0, 1]),
        "ece": ece(found, toxic.astype(np.float64)),
        "recall": hits / float(toxic.sum()),
        "precision": hits / float(said.sum()) if said.any() else None,
        "toxic_share": float(toxic.mean()),
    }
