"""Whether a model's folder can be loaded at all, seen from its files in a part of a second: no torch.

What this finds is answered at once; what it cannot know, or would take long to know, whoever loads the model
says. Weights of more than `MOST` bytes are not looked through here.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

from trueup.errors import TrueupError
from trueup.settings.stored import Stored, files_of, tensors_in
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


def check_sound(folder: Path) -> None:
    """Nothing; raises what is wrong with a model's folder that `vetted.check_folder` has let pass.

    An adapter's base is looked at too. E801 for no tokenizer, E802 for weights that are missing or pickled,
    E817 for weights that are NaN or infinite.
    """
    adapter = (folder / CONFIGS[1]).is_file()
    if adapter:
        base = json.loads((folder / CONFIGS[1]).read_text(encoding="utf-8"))["base_model_name_or_path"]
        if Path(base).is_dir():
            check_sound(Path(base))
    elif not any(next(folder.glob(kind), None) for kind in _TOKENIZERS):
        remedy = "copy the tokenizer's files (tokenizer.json, tokenizer_config.json) beside the weights"
        raise TrueupError("E801", "no tokenizer in this folder", where=str(folder), remedy=remedy)
    files = [folder / ADAPTER] if adapter else files_of(folder) or sorted(folder.glob("*.safetensors"))
    if not files:
        raise no_safetensors(str(folder))
    tensors = {file: tensors_in(file) for file in files if file.is_file()}
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
