"""How many weights a folder holds, by the headers of its safetensors files; nothing heavy is imported."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
FLOATS = ("F64", "F32", "F16", "BF16")
LONGEST = 32 << 20
"Bytes of a header, at most: of some hundred thousand tensors."
UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
"What reading a damaged header may raise."


def num_stored(folder: Path) -> int | None:
    """The number of weights; None where the headers do not tell.

    That is where there are no such files, or tensors that may be no weights: packed ones, and masks, which
    have four dimensions.
    """
    tensors = tensors_of(folder)
    if tensors and all(dtype in FLOATS and len(shape) < 4 for dtype, shape in tensors):
        return sum(math.prod(shape) for _, shape in tensors)
    return None


class Stored(NamedTuple):
    """A tensor in a file: what it is, and where its bytes begin and end."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def files_of(folder: Path) -> list[Path]:
    """The files of the folder's weights: one, or those that its index names; none where there are neither."""
    if (folder / WHOLE).is_file():
        return [folder / WHOLE]
    if not (folder / INDEX).is_file():
        return []
    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    return [folder / name for name in sorted({Path(name).name for name in index["weight_map"].values()})]


def tensors_of(folder: Path) -> list[tuple[str, list[int]]]:
    """Dtype and shape of every tensor of the folder's weights; none where their headers cannot be read."""
    try:
        return [(one.dtype, list(one.shape)) for file in files_of(folder) for one in tensors_in(file)]
    except (OSError, *UNREADABLE):
        return []  # damaged: said when it is loaded


def damage(file: Path) -> str:
    """What is wrong with a safetensors file by its header and its size; "" where they fit each other."""
    try:
        tensors, begins = _read(file)
        spans = [[int(n) for n in one["data_offsets"]] for one in tensors.values()]
        counts = [math.prod(_whole(n) for n in one["shape"]) for one in tensors.values()]
    except (OSError, *UNREADABLE) as error:
        return f"its header is damaged ({type(error).__name__})"
    held, size = file.stat().st_size - begins, max((end for _, end in spans), default=0)
    if held != size:
        return f"it holds {held} bytes of weights, and its header describes {size}"
    odd = any(end < start or (count > end - start) for (start, end), count in zip(spans, counts, strict=True))
    packed = any(str(one["dtype"]).startswith(("F4", "F6")) for one in tensors.values())
    return "a tensor does not fit the bytes that its header gives it" if odd and not packed else ""


def tensors_in(file: Path) -> list[Stored]:
    """The tensors that a file's header names. Raises one of `UNREADABLE` for what is no header."""
    tensors, begins = _read(file)
    return [
        Stored(
            name,
            str(one["dtype"]),
            tuple(int(n) for n in one["shape"]),
            *(begins + int(n) for n in one["data_offsets"]),
        )
        for name, one in tensors.items()
    ]


def _whole(number: object) -> int:
    if type(number) is not int or number < 0:
        raise ValueError(number)
    return number


def _read(file: Path) -> tuple[dict[str, dict[str, Any]], int]:
    """The header's tensors by name, and where the bytes of weights begin."""
    with file.open("rb") as opened:
        size = int.from_bytes(opened.read(8), "little")
        if size > min(LONGEST, file.stat().st_size):
            raise ValueError(size)
        said: dict[str, Any] = json.loads(opened.read(size))
    return {name: tensor for name, tensor in said.items() if name != "__metadata__"}, 8 + size
