"""Whether a model's folder can be loaded at all, seen from its files in a part of a second: no torch.

What this finds is answered at once; what it cannot know, or would take long to know, whoever loads the model
says. Weights of more than `MOST` bytes are not looked through here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from trueup.errors import TrueupError
from trueup.settings.stored import INDEX, LONGEST
from trueup.settings.weights import CONFIGS

MOST = 512 << 20
"Bytes of weights in which NaN and infinite numbers are looked for, at most."
ADAPTER = "adapter_model.safetensors"
_TOKENIZERS = ("tokenizer*", "vocab*", "*.model", "*.tiktoken", "merges.txt")
# The bits of the exponent: all set, they mean an infinite number or none. By size, and where they lie.
_EXPONENTS = {"F64": ("<u8", 0x7FF << 52), "F32": ("<u4", 0xFF << 23), "F16": ("<u2", 0x1F << 10)}
_EXPONENTS |= {"BF16": ("<u2", 0xFF << 7)}
_AT_ONCE = 1 << 22
"Numbers looked at at a time."


class Stored(NamedTuple):
    """A tensor in a file: where its bytes begin and end in it."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def check_sound(folder: Path) -> None:
    """Nothing; raises what is wrong with the files of a model's folder.

    An adapter's base is looked at too. E801 for a configuration that is no JSON, or no tokenizer, E802 for
    weights that are missing, pickled or not whole, E817 for weights that are NaN or infinite.
    """
    adapter = (folder / CONFIGS[1]).is_file()
    said = [_json(folder / name, folder) for name in CONFIGS if (folder / name).is_file()]
    base = str(said[-1].get("base_model_name_or_path") or "") if adapter else ""
    if base and base != str(folder) and Path(base).is_dir():
        check_sound(Path(base))
    files = [folder / ADAPTER] if adapter else _files(folder)
    if not adapter and not any(next(folder.glob(kind), None) for kind in _TOKENIZERS):
        remedy = "copy the tokenizer's files (tokenizer.json, tokenizer_config.json) beside the weights"
        raise TrueupError("E801", "no tokenizer in this folder", where=str(folder), remedy=remedy)
    tensors = {file: list(_tensors(file, folder)) for file in files if file.is_file()}
    if sum(one.end - one.begin for found in tensors.values() for one in found) <= MOST:
        for file, found in tensors.items():
            _refuse_non_finite(file, found, folder)


def not_finite(name: str, bad: int, of: int, where: str) -> TrueupError:
    """The error for a tensor with NaN or infinite numbers (E817)."""
    reason = f"{bad:,} of the {of:,} numbers in {name} are NaN or infinite"
    remedy = "start from a checkpoint before the numbers broke, or fetch the files again"
    return TrueupError("E817", reason, where=where, remedy=remedy)


def no_safetensors(where: str) -> TrueupError:
    """The error for a folder without weights that can be read (E802)."""
    reason = "no safetensors weights; weights in pickle files are not read"
    return TrueupError("E802", reason, where=where, remedy="convert them to safetensors where they come from")


def _json(file: Path, folder: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
        reason = "is no JSON object"
    except ValueError as error:  # UnicodeDecodeError is one too
        reason = f"is no JSON: {error}"
    remedy = "copy or save the model again"
    raise TrueupError("E801", f"its {file.name} {reason}", where=str(folder), remedy=remedy)


def _files(folder: Path) -> list[Path]:
    """The files of the weights. E802 where there are none, or one that the index names is missing."""
    if (folder / INDEX).is_file():
        named = _json(folder / INDEX, folder).get("weight_map")
        names = sorted({str(name) for name in named.values()}) if isinstance(named, dict) else []
        for name in names:
            if not (folder / name).is_file():
                reason, remedy = f"{INDEX} names {name}, which is not there", "copy the model again, whole"
                raise TrueupError("E802", reason, where=str(folder), remedy=remedy)
        return [folder / name for name in names]
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise no_safetensors(str(folder))
    return files


def _tensors(file: Path, folder: Path) -> Iterator[Stored]:
    """The tensors that a file's header names. E802 where it is no safetensors file, or not a whole one."""
    size = file.stat().st_size
    try:
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            if not 0 < length <= min(LONGEST, size - 8):
                raise ValueError(f"{file.name} is no safetensors file, or is cut")
            header = json.loads(opened.read(length))
        for name, said in header.items():
            if name != "__metadata__":
                begin, end = said["data_offsets"]
                if 8 + length + end > size:
                    raise ValueError(f"{file.name} has {size:,} bytes and names {8 + length + end:,}")
                yield Stored(name, said["dtype"], tuple(said["shape"]), 8 + length + begin, 8 + length + end)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason, remedy = f"its weights cannot be read: {error}", "copy or save the model again"
        raise TrueupError("E802", reason, where=str(folder), remedy=remedy) from None


def _refuse_non_finite(file: Path, tensors: list[Stored], folder: Path) -> None:
    """Nothing; raises E817. What has four dimensions is a mask, in which infinite numbers are right."""
    import numpy as np

    for one in tensors:
        if one.dtype not in _EXPONENTS or len(one.shape) > 3:
            continue
        kind, exponent = _EXPONENTS[one.dtype]
        count = math.prod(one.shape)
        bits = np.memmap(file, kind, "r", one.begin, (count,)) if count else np.zeros(0, kind)
        mask, bad = bits.dtype.type(exponent), 0
        for start in range(0, count, _AT_ONCE):
            bad += int(((bits[start : start + _AT_ONCE] & mask) == mask).sum())
        if bad:
            raise not_finite(one.name, bad, count, str(folder))
