"""The lines of a run's two files: what it measured (`metrics.jsonl`) and what it cost (`timings.jsonl`).

A line is a JSON object with a whole `step`. A number that is not finite is written as what it is, "nan",
"inf" or "-inf", never replaced.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trueup.errors import TrueupError

METRICS, TIMINGS = "metrics.jsonl", "timings.jsonl"
_WORDS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics or timings file, numbers as floats again; a last line cut short is left out."""
    lines = path.read_bytes().split(b"\n")[:-1] if path.is_file() else []
    return [from_words(parse(path, number, line)) for number, line in enumerate(lines, 1)]


def parse(path: Path, number: int, line: bytes) -> dict[str, Any]:
    """The object in a line, as it is written. Raises E841 for what is none, or has no step."""
    try:
        row = json.loads(line)
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            return row
    except (ValueError, RecursionError):
        pass
    raise TrueupError(
        "E841",
        "damaged: not a JSON object with a step",
        where=f"{path}:{number}",
        remedy="remove the line; the checkpoints do not depend on it",
    )


def as_words(metrics: Mapping[str, float]) -> dict[str, float | str]:
    """The numbers as JSON can hold them: what is not finite becomes "nan", "inf" or "-inf"."""
    return {name: value if math.isfinite(value) else str(value) for name, value in metrics.items()}


def from_words(row: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers that `as_words` was given."""
    return {k: _WORDS.get(v, v) if isinstance(v, str) and k != "phase" else v for k, v in row.items()}
