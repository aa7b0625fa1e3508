"""A model's folder, looked at before anything of it is opened: nothing heavy is imported, nothing allocated.

Whoever gives a folder away decides what its files say. So every file is a regular one, JSON is JSON, nothing
names code to fetch or import, an index names files of its own folder, and numbers are such as models have.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trueup.errors import TrueupError
from trueup.settings import sealed
from trueup.settings.json_files import read_object, refuse
from trueup.settings.stored import INDEX, damage, tensors_of

AGAIN = "fetch the folder again from where it comes from"
CONFIG, ADAPTER = "config.json", "adapter_config.json"
_TABLES = 64 << 20
"Bytes of an index or of a table of tokens, at most."
_CONFIG_BYTES = 1 << 20
_WHOLE = 1 << 30
"Bytes of a tokenizer's own file, at most; the library that reads it parses it."

PLAIN = ("eager", "flex_attention", "sdpa", "batched_mm", "grouped_mm")
"Implementations that are part of torch or transformers; every other name may be fetched and run."
_CODE = ("use_kernels", "kernel_config", "megatron_config")
DTYPES = ("auto", "bfloat16", "float16", "float32", "float64")
_LAYERS = re.compile(r"(^|_)(n_layers?|num_layers|num_hidden_layers)$")
_LIMITS = (
    (_LAYERS, 1, 1 << 12),
    (
        re.compile(r"^(max_position_embeddings|n_ctx|max_(seq|sequence)_len(gth)?|seq(uence)?_length)$"),
        1,
        1 << 27,
    ),
    # A model that has a vector for each position also holds a mask of their square.
    (re.compile(r"^n_positions$"), 1, 1 << 15),
    (re.compile(r"experts$"), 0, 1 << 13),
    (re.compile(r"(^|_)(size|dim|heads?|embd|inner|channels|rank|groups?|ff|model|kv|r)$"), -1, 1 << 24),
)
"What whole numbers may be, by their keys: far more than any model has, and little enough to be looked at."


def check_folder(folder: Path) -> None:
    """Nothing; the folder's files are what a model's files may be, and the bytes that its manifest names.

    Raises E802 (weights of no readable header), E853 (not what was written), E854 (no regular file, no JSON),
    E855 (names code to load), E856 (a number that no model has), E857 (an index that leads out of the folder,
    or to nothing).
    """
    sealed.verify(folder)
    for path in sorted(folder.iterdir()):
        if path.suffix in sealed.READ:
            _check_file(path)
    if (folder / ADAPTER).exists():
        _check_adapter(folder)
    if (folder / CONFIG).exists():
        check_config(read_object(folder / CONFIG, remedy=AGAIN), folder / CONFIG, len(tensors_of(folder)))


def _check_file(path: Path) -> None:
    if not path.is_file():
        refuse(path, "not a regular file", AGAIN)
    if path.name == INDEX or path.name.endswith(".safetensors.index.json"):
        _check_index(path)
    elif path.suffix == ".safetensors":
        if wrong := damage(path):
            raise TrueupError("E802", f"its weights cannot be read: {wrong}", where=str(path), remedy=AGAIN)
    elif path.name == "tokenizer.json" or path.suffix in (".model", ".txt"):
        if (size := path.stat().st_size) > _WHOLE:
            refuse(path, f"{size} bytes, and {_WHOLE} are the most that it may have", AGAIN)
    elif path.name in ("vocab.json", "added_tokens.json"):
        read_object(path, remedy=AGAIN, largest=_TABLES)
    elif path.name in _OBJECTS:
        _check_values(read_object(path, remedy=AGAIN, largest=_TABLES), path)


_OBJECTS = (
    "generation_config.json", "special_tokens_map.json", "tokenizer_config.json", "trueup_base.json",
    "trueup_heads.json",
)  # fmt: skip


def _check_values(said: Mapping[str, Any], path: Path) -> None:
    """Nothing; what our own two records say is what we write there, and no file speaks of code."""
    heads, held = said.get("heads"), said.get("quantise")
    if path.name == "trueup_heads.json" and not (
        isinstance(heads, list) and all(isinstance(name, str) for name in heads)
    ):
        refuse(path, "damaged: `heads` is no list of names", AGAIN)
    if path.name == "trueup_base.json" and held not in ("none", "nf4"):
        refuse(path, f"damaged: `quantise` is {ascii(held)[:60]}", AGAIN)
    _refuse_code(said, path)


def _check_index(path: Path) -> None:
    """Nothing; raises E857 unless every part that the index names is a file beside it."""
    table = read_object(path, remedy=AGAIN, largest=_TABLES).get("weight_map")
    if not isinstance(table, dict) or not table:
        raise _index(path, "it has no `weight_map`")
    for name in dict.fromkeys(map(str, table.values())):
        if (
            Path(name).name != name
            or "\\" in name
            or "\0" in name
            or name in ("", ".", "..")
            or len(name) > 200
        ):
            raise _index(path, f"it leads out of its folder: {ascii(name)[:80]}")
        if not name.endswith(".safetensors"):
            raise _index(path, f"it names what is no safetensors file: {ascii(name)[:80]}")
        if not path.with_name(name).is_file():
            raise _index(path, f"the folder has no file {ascii(name)[:80]}")


def _index(path: Path, reason: str) -> TrueupError:
    return TrueupError("E857", reason, where=str(path), remedy=AGAIN)


def _check_adapter(folder: Path) -> None:
    path = folder / ADAPTER
    said = read_object(path, remedy=AGAIN, largest=_CONFIG_BYTES)
    kind, base = said.get("peft_type"), said.get("base_model_name_or_path")
    if kind != "LORA":
        raise _code(path, f"the adapter's type is {ascii(kind)[:60]}, and LoRA alone is read")
    if not isinstance(base, str) or not base or "\0" in base:
        raise _number(
            path, f"`base_model_name_or_path` is {ascii(base)[:60]}", "name the adapter's base there"
        )
    if (Path(base) / ADAPTER).exists():
        raise _number(path, f"its base is itself an adapter: {ascii(base)[:80]}", "name whole weights there")
    _refuse_code(said, path)
    _check_numbers(said, path, layers=None)
    rank = said.get("r")
    if type(rank) is not int or rank < 1:
        raise _number(path, f"`r` is {ascii(rank)[:60]}", AGAIN)
    if Path(base).is_dir():
        check_folder(Path(base))


def check_config(said: Mapping[str, Any], path: Path, num_tensors: int = 0) -> None:
    """Nothing; raises E855 or E856 for what a model's configuration may not say."""
    _refuse_code(said, path)
    _check_numbers(said, path, layers=num_tensors or None)
    for key in ("dtype", "torch_dtype"):
        if said.get(key) is not None and str(said[key]).removeprefix("torch.") not in DTYPES:
            raise _number(path, f"`{key}` is {ascii(said[key])[:60]}", f"one of {', '.join(DTYPES)}")


def _refuse_code(said: Any, path: Path) -> None:
    for key, value in _entries(said):
        named = value.values() if isinstance(value, dict) else [value]
        if key.endswith(("attn_implementation", "experts_implementation", "_implementation_internal")):
            odd = [name for name in named if name is not None and name not in PLAIN]
            if odd:
                what = f"`{key}` names code that is fetched and run: {ascii(odd[0])[:80]}"
                raise _code(path, what, "remove the key; attention is computed by torch")
        if key in _CODE and value:
            raise _code(path, f"`{key}` names code that is fetched or imported", "remove the key")
        if key in ("quantization_config", "compression_config") and value:
            kind = value.get("quant_method") if isinstance(value, dict) else None
            if kind != "bitsandbytes":
                remedy = "give the folder of the weights before they were quantised"
                raise _code(path, f"`{key}` names a quantiser that brings code: {ascii(kind)[:60]}", remedy)


def _check_numbers(said: Any, path: Path, layers: int | None) -> None:
    for key, value in _entries(said):
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue  # of another meaning in some families; what is wrong with it, the family's class says
        shown = str(value) if abs(value) < 1e18 else "beyond all bounds"
        if not abs(value) < 1e18 and value != float(
            "inf"
        ):  # infinite is a bound of time steps in some families
            raise _number(path, f"`{key}` is {shown}")
        for pattern, least, most in _LIMITS:
            if pattern.search(key):
                if pattern is _LAYERS and layers is not None:
                    most = layers
                if not least <= value <= most:
                    raise _number(
                        path, f"`{key}` is {shown}, and may be {least} to {most}{_why(pattern, layers)}"
                    )
                break


def _why(pattern: re.Pattern[str], layers: int | None) -> str:
    return f", as its files hold {layers} tensors" if pattern is _LAYERS and layers is not None else ""


def _entries(said: Any) -> Iterator[tuple[str, Any]]:
    """Every key with its value, those of blocks inside blocks too."""
    waiting = [said]
    while waiting:
        block = waiting.pop()
        if isinstance(block, dict):
            yield from block.items()
        waiting.extend(
            block.values() if isinstance(block, dict) else block if isinstance(block, list) else ()
        )


def _code(path: Path, reason: str, remedy: str = AGAIN) -> TrueupError:
    return TrueupError("E855", reason, where=str(path), remedy=remedy)


def _number(path: Path, reason: str, remedy: str = AGAIN) -> TrueupError:
    return TrueupError("E856", reason, where=str(path), remedy=remedy)
