"""How many weights a folder holds, by the headers of its safetensors files; nothing heavy is imported."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
FLOATS = ("F64", "F32", "F16", "BF16")
LONGEST = 32 << 20
"Bytes of a header, at most: of some hundred thousand tensors."


def num_stored(folder: Path) -> int | None:
    """The number of weights; None where the headers do not tell.

    That is where there are no such files, or tensors that may be no weights: packed ones, and masks, which
    have four dimensions.
    """
    tensors = tensors_of(folder)
    if tensors and all(dtype in FLOATS and len(shape) < 4 for dtype, shape in tensors):
        return sum(math.prod(shape) for _, shape in tensors)
    return None


def tensors_of(folder: Path) -> list[tuple[str, list[int]]]:
    """Dtype and shape of every tensor of the folder's weights; none where their headers cannot be read."""
    try:
        if (folder / WHOLE).is_file():
            names = [WHOLE]
        else:
            index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
            names = sorted({Path(name).name for name in index["weight_map"].values()})
        return [one for name in names for one in _header(folder / name)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []  # damaged: said when it is loaded


def _header(file: Path) -> list[tuple[str, list[int]]]:
    with file.open("rb") as opened:
        size = int.from_bytes(opened.read(8), "little")
        if size > min(LONGEST, file.stat().st_size):
            raise ValueError(size)
        said: dict[str, Any] = json.loads(opened.read(size))
    tensors = [tensor for name, tensor in said.items() if name != "__metadata__"]
    return [(str(one["dtype"]), [int(n) for n in one["shape"]]) for one in tensors]
