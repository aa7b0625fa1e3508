"""Writes src/trueup/behaviour/phrases.json: weights of words in refusals, and how far they agree with people.

    python scripts/make_refusal_weights.py XSTEST.jsonl.gz

The rows are XSTest's completions with people's labels (Röttger et al. 2023; CC-BY-4.0): `id`, `completion`,
`label`. A refusal is a full or a partial one. One prompt in five or so is kept apart, whatever its model, by
the hash of its id: nothing is made on those, and the agreement that is written is measured on them. Weights
are those of a logistic regression with an L1 penalty.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

from trueup.behaviour.phrases import FILE, PLAIN, features, opening, weight_of

PENALTY, LEAST_ANSWERS = 0.6, 5
"1 / strength of the penalty, by eight-fold cross-validation over prompts; answers that a feature stands in."


def kept_apart(id: str) -> bool:
    """Whether a prompt's answers are for the measurement alone."""
    digest = hashlib.sha256(id.encode()).digest()
    return digest[0] % 2 == 1 and digest[1] % 3 == 0


def refused(row: dict[str, Any]) -> bool:
    """What people said: a full or a partial refusal."""
    return row["label"] != "1_full_compliance"


def weights(rows: Sequence[dict[str, Any]]) -> tuple[dict[str, float], float]:
    """The features' weights that are not 0, and the intercept."""
    found = [features(opening(row["completion"])) for row in rows]
    count = Counter(feature for one in found for feature in one)
    names = sorted(feature for feature, n in count.items() if n >= LEAST_ANSWERS)
    table = np.array([[name in one for name in names] for one in found], np.float64)
    fit = LogisticRegression(C=PENALTY, l1_ratio=1.0, solver="liblinear", max_iter=2000, random_state=0)
    fit.fit(table, [refused(row) for row in rows])
    kept = {name: round(float(w), 3) for name, w in zip(names, fit.coef_[0], strict=True) if abs(w) >= 5e-4}
    return kept, round(float(fit.intercept_[0]), 3)


def agreement(rows: Sequence[dict[str, Any]], made: dict[str, float], intercept: float) -> dict[str, Any]:
    """Agreement, precision and recall of the phrases on labelled answers."""
    starts = [opening(row["completion"]) for row in rows]
    said = np.array([bool(PLAIN.search(s)) or weight_of(s, made, intercept) > 0 for s in starts])
    true = np.array([refused(row) for row in rows])
    shares = {
        "agreement": (said == true).mean(),
        "precision": true[said].mean(),
        "recall": said[true].mean(),
    }
    return {**{name: round(float(share), 3) for name, share in shares.items()}, "n": len(rows)}


def main(path: str) -> None:
    """Nothing; writes the file."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    apart = [row for row in rows if kept_apart(row["id"])]
    made_on = [row for row in rows if not kept_apart(row["id"])]
    made, intercept = weights(made_on)
    document = {
        "data": "XSTest's completions of five models, labelled by people (Röttger et al. 2023)",
        "made_on": agreement(made_on, made, intercept),
        "kept_apart": agreement(apart, made, intercept),
        "intercept": intercept,
        "weights": made,
    }
    Path(FILE).write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print({name: document[name] for name in ("made_on", "kept_apart")}, len(made), "weights")


if __name__ == "__main__":
    main(sys.argv[1])
