"""How many weights a folder holds, by the headers of its safetensors files; nothing heavy is imported."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
FLOATS = ("F64", "F32", "F16", "BF16")
LONGEST = 100_000_000
"Bytes of a header, at most: the format's own bound."


def num_stored(folder: Path) -> int | None:
    """The number of weights; None where the headers do not tell.

    That is where there are no such files, or tensors that may be no weights: packed ones, and masks, which
    have four dimensions.
    """
    try:
        if (folder / WHOLE).is_file():
            names = [WHOLE]
        else:
            index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
            names = sorted({Path(name).name for name in index["weight_map"].values()})
        tensors = [one for name in names for one in _header(folder / name)]
        if all(one["dtype"] in FLOATS and len(one["shape"]) < 4 for one in tensors):
            return sum(math.prod(one["shape"]) for one in tensors)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # damaged: said when it is loaded
        return None
    return None


def _header(file: Path) -> list[dict[str, Any]]:
    with file.open("rb") as opened:
        size = int.from_bytes(opened.read(8), "little")
        said: dict[str, Any] = json.loads(opened.read(size)) if size <= LONGEST else {"": None}
    return [tensor for name, tensor in said.items() if name != "__metadata__"]
