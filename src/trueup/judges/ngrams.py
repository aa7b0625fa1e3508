"""A text classifier small enough to read: logistic regression over hashed n-grams of bytes, in NumPy.

    p(x) = σ(w · φ(x) + b),   φ_j(x) ∝ (1 + log n_j(x)) · log(N / N_j),   ‖φ(x)‖ = 1

n_j counts the n-grams of the lower-cased text that fall into bucket j (Weinberger et al. 2009, feature
hashing), N_j the training texts in which the bucket occurs, of N. The weights minimise cross-entropy against
targets in [0, 1] with an L2 penalty, by L-BFGS from zero: the same data give the same file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from scipy import optimize, sparse, special, stats

from trueup.engine import disk
from trueup.errors import TrueupError

Floats = NDArray[np.float64]
FORMAT = "trueup-ngrams-1"
SIZES = (2, 3, 4)
"Lengths of the n-grams, in bytes of UTF-8."
BITS = 18
"The number of buckets, as a power of two."
_FIBONACCI = np.uint64(0x9E3779B97F4A7C15)
"2⁶⁴ / golden ratio: multiplicative hashing (Knuth 1998, section 6.4)."
_MIN_TEXTS = 2
"A bucket of fewer training texts says nothing of others."


@dataclass(frozen=True, kw_only=True, eq=False)
class NgramClassifier:
    """The probability that a text is of the class it was trained to know."""

    buckets: NDArray[np.int64]
    "The buckets that it knows, increasing, [F]; all others are passed over."
    idf: Floats
    "log(N / N_j), [F]"
    weights: Floats
    "[F]"
    bias: float
    about: Mapping[str, Any] = field(default_factory=dict)
    "What it was trained on and how well it did on texts held out; written into its file."

    def __call__(self, texts: Sequence[str]) -> Floats:
        """p(x) for each text, [N]; 0 for a text of white space, which says nothing."""
        found = special.expit(_features(texts, self.buckets, self.idf) @ self.weights + self.bias)
        return np.where([bool(text.strip()) for text in texts], found, 0.0)

    def save(self, path: str | Path) -> None:
        """Writes the safetensors file that `load_classifier` reads."""
        tensors = {
            "buckets": self.buckets.astype(np.int64),
            "idf": self.idf.astype(np.float32),
            "weights": self.weights.astype(np.float32),
            "bias": np.array([self.bias], np.float32),
        }
        # One key only: the order of several is not the same in every run.
        with disk.whole(Path(path)) as staged:
            save_file(tensors, staged, metadata={FORMAT: json.dumps(dict(self.about))})


def load_classifier(path: str | Path) -> NgramClassifier:
    """The classifier in a file. Raises E801 where there is none, E812 for a file of another kind."""
    path = Path(path)
    if not path.is_file():
        raise TrueupError(
            "E801",
            "no such file",
            where=str(path),
            remedy="train one: `trueup train toxicity_classifier --data FILE`",
        )
    try:
        with safe_open(path, framework="numpy") as file:
            meta = file.metadata() or {}
            if FORMAT not in meta:
                raise _unreadable(path, f"its metadata do not name {FORMAT}")
            parts = {name: file.get_tensor(name) for name in ("buckets", "idf", "weights", "bias")}
    except SafetensorError as error:
        raise _unreadable(path, str(error)) from None
    buckets = parts["buckets"]
    same = 0 < len(buckets) == len(parts["idf"]) == len(parts["weights"]) and len(parts["bias"]) == 1
    if not same or not all(np.isfinite(part).all() for part in parts.values()):
        raise _unreadable(path, "its arrays do not fit together, or are not finite")
    return NgramClassifier(
        buckets=buckets,
        idf=parts["idf"].astype(np.float64),
        weights=parts["weights"].astype(np.float64),
        bias=float(parts["bias"][0]),
        about=json.loads(meta[FORMAT]),
    )


def fit_classifier(
    texts: Sequence[str], targets: ArrayLike, *, l2: float = 0.1, about: Mapping[str, Any] | None = None
) -> NgramClassifier:
    """The classifier that minimises Σ_i CE(t_i, p(x_i)) + λ/2 ‖w‖², the bias free.

    `targets` [N] are probabilities: 0 and 1, or the share of people who said so. Raises E827 without texts,
    E205 for targets outside 0 to 1 or of another number.
    """
    t = np.asarray(targets, np.float64)
    if not len(texts):
        raise TrueupError("E827", "no texts to learn from", where="classifier", remedy="give some")
    if t.shape != (len(texts),) or not ((t >= 0) & (t <= 1)).all():
        reason, remedy = "targets are one number in 0 to 1 for each text", "mend the labels"
        raise TrueupError("E205", reason, where="classifier", remedy=remedy)
    found = [np.unique(_hashed(text)) for text in texts]
    buckets, counts = np.unique(np.concatenate(found), return_counts=True)
    kept = counts >= _MIN_TEXTS
    if not kept.any():
        reason, remedy = "no two texts have anything in common", "give more texts"
        raise TrueupError("E827", reason, where="classifier", remedy=remedy)
    buckets, idf = buckets[kept], np.log(len(texts) / counts[kept])
    x = _features(texts, buckets, idf)
    transposed = x.T.tocsr()

    def loss(parameters: Floats) -> tuple[float, Floats]:
        w, b = parameters[:-1], parameters[-1]
        z = x @ w + b
        error = special.expit(z) - t
        value = float(np.sum(np.logaddexp(0, z) - t * z) + 0.5 * l2 * w @ w)
        return value, np.append(transposed @ error + l2 * w, error.sum())

    start = np.zeros(len(buckets) + 1)
    best = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 200}).x
    return NgramClassifier(
        buckets=buckets, idf=idf, weights=best[:-1], bias=float(best[-1]), about=about or {}
    )


def roc_auc(scores: ArrayLike, positive: ArrayLike) -> float:
    """The chance that a positive text scores higher than a negative one, ties half (Mann and Whitney 1947).

    Raises E827 unless there are both.
    """
    s, y = np.asarray(scores, np.float64), np.asarray(positive, bool)
    num_positive = int(y.sum())
    num_negative = len(y) - num_positive
    if not num_positive or not num_negative:
        raise TrueupError("E827", "an AUC needs texts of both kinds", where="roc_auc", remedy="add the other")
    above = float(stats.rankdata(s)[y].sum()) - num_positive * (num_positive + 1) / 2
    return above / (num_positive * num_negative)


# ------------------------------------------------------------------------------------------ the parts


def _hashed(text: str) -> NDArray[np.int64]:
    """The bucket of every n-gram of the lower-cased text, a space at either end, runs of space as one."""
    raw = np.frombuffer(f" {' '.join(text.lower().split())} ".encode(), np.uint8).astype(np.uint64)
    parts = []
    for size in SIZES:
        code = np.full(max(0, len(raw) - size + 1), size, np.uint64)
        for offset in range(size):
            code = (code << np.uint64(8)) | raw[offset : offset + len(code)]
        parts.append((code * _FIBONACCI) >> np.uint64(64 - BITS))
    return np.concatenate(parts).astype(np.int64)


def _features(texts: Sequence[str], buckets: NDArray[np.int64], idf: Floats) -> sparse.csr_array:
    """φ of every text, [N, F]."""
    columns, values, ends = [], [], [0]
    for text in texts:
        found, counts = np.unique(_hashed(text), return_counts=True)
        place = np.searchsorted(buckets, found)
        known = buckets[np.minimum(place, len(buckets) - 1)] == found
        column = place[known]
        value = (1 + np.log(counts[known])) * idf[column]
        norm = float(np.linalg.norm(value))
        columns.append(column)
        values.append(value / norm if norm else value)
        ends.append(ends[-1] + len(column))
    shape = (len(texts), len(buckets))
    return sparse.csr_array((np.concatenate(values), np.concatenate(columns), np.array(ends)), shape=shape)


def _unreadable(path: Path, reason: str) -> TrueupError:
    return TrueupError(
        "E812",
        f"not a classifier of texts: {reason}",
        where=str(path),
        remedy="name a file that `trueup train toxicity_classifier` wrote",
    )
