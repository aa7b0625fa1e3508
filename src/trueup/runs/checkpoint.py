"""Checkpoints: tensors, documents and lines in one folder that is atomic, hashed and free of pickle.

    checkpoints/step-000010/
        policy.safetensors  optimizer.safetensors  state.json  rollouts.jsonl  MANIFEST.json

`save` returns when the folder is committed to disk; `latest` finds the newest one that verifies, and `load`
takes a given one. A checkpoint with a number that is not finite is never written. How a folder comes to
appear whole or not at all is in `trueup.runs.manifest`.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor

from trueup.errors import TrueupError
from trueup.runs import manifest
from trueup.runs.manifest import Part

SAFETENSORS_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint64: "U64",
    torch.uint32: "U32",
    torch.uint16: "U16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A verified checkpoint; its parts are read when asked for, and checked again as they are read."""

    path: Path
    files: Mapping[str, Mapping[str, Any]]
    "Size and SHA-256 of every file."
    skipped: tuple[TrueupError, ...] = ()
    "What `latest` found wrong with the newer ones it passed over."

    def tensors(self, stem: str, names: Iterable[str] | None = None) -> dict[str, Tensor]:
        """The tensors of `stem`.safetensors, on the CPU. With `names`, exactly those must be there."""
        where = str(self.path / f"{stem}.safetensors")
        try:
            found = load_safetensors(self._read(f"{stem}.safetensors"))
        except (SafetensorError, ValueError, KeyError) as error:
            reason = f"not a safetensors file: {error}"
            raise TrueupError("E841", reason, where=where, remedy=manifest.OLDER) from None
        return _exactly(found, names, where)

    def document(self, stem: str, names: Iterable[str] | None = None) -> Any:
        """The value of `stem`.json. With `names`, it must be an object with exactly those keys."""
        where = str(self.path / f"{stem}.json")
        found = manifest.parse(self._read(f"{stem}.json"), where)
        if names is not None and not isinstance(found, dict):
            reason = "not an object with named values"
            raise TrueupError("E844", reason, where=where, remedy=manifest.OLDER)
        return _exactly(found, names, where)

    def lines(self, stem: str) -> list[str]:
        """The lines of `stem`.jsonl, without their ends."""
        return self._read(f"{stem}.jsonl").decode("utf-8").split("\n")[:-1]

    def _read(self, name: str) -> bytes:
        if name not in self.files:
            raise TrueupError(
                "E844",
                f"the checkpoint has no {name} (it has {', '.join(sorted(self.files))})",
                where=str(self.path),
                remedy="resume it with the method and the version that wrote it",
            )
        return manifest.read_verified(self.path / name, self.files[name])


def _exactly(found: Any, names: Iterable[str] | None, where: str) -> Any:
    if names is None:
        return found
    wanted = set(names)
    missing, surplus = sorted(wanted - set(found)), sorted(set(found) - wanted)
    if missing or surplus:
        parts = [("missing", missing), ("unknown", surplus)]
        raise TrueupError(
            "E844",
            "; ".join(f"{what}: {', '.join(keys)}" for what, keys in parts if keys),
            where=where,
            remedy="resume it with the method, the model and the version that wrote it",
        )
    return found


def load(path: Path) -> Checkpoint:
    """The checkpoint at `path`, after every file was checked against the manifest.

    Raises `TrueupError`: E841 damaged (names the file, the expected and the found hash), E842 no checkpoint,
    E843 written by a newer format. Nothing else is raised, whatever the folder holds.
    """
    return Checkpoint(path=path, files=manifest.verify(path)["files"])


def latest(folder: Path) -> Checkpoint | None:
    """The newest valid checkpoint in `folder`, or None; damaged ones passed over are logged as warnings."""
    skipped: list[TrueupError] = []
    found = None
    for _, path in reversed(manifest.ordered(folder, skipped)):
        try:
            found = Checkpoint(path=path, files=manifest.verify(path)["files"], skipped=tuple(skipped))
            break
        except TrueupError as error:
            skipped.append(error)
    for error in skipped:
        _log.warning("passing over a damaged checkpoint: %s", error)
    return found


def save(
    folder: Path,
    step_name: str,
    *,
    tensors: Mapping[str, Mapping[str, Tensor]],
    documents: Mapping[str, Any],
    lines: Mapping[str, Iterable[str]] | None = None,
) -> Path:
    """The path of the new checkpoint `folder/step_name`, committed to disk when this returns.

    `tensors` become `stem.safetensors`, `documents` `stem.json`, `lines` `stem.jsonl`. An existing checkpoint
    of that name stays loadable as `step_name~1`. Raises `TrueupError`: E901 for a number that is not finite,
    E941 with exit code 74 when the disk is full or refuses; earlier checkpoints are untouched either way.
    """
    parts: dict[str, Part] = {}
    for stem, named in tensors.items():
        parts[f"{stem}.safetensors"] = _safetensors(f"{stem}.safetensors", named)
    for stem, value in documents.items():
        parts[f"{stem}.json"] = _document(f"{stem}.json", value)
    for stem, rows in (lines or {}).items():
        parts[f"{stem}.jsonl"] = _part("".join(row.rstrip("\n") + "\n" for row in rows).encode("utf-8"))
    return manifest.commit(folder, step_name, parts)


def _part(data: bytes) -> Part:
    return Part(size=len(data), pieces=[memoryview(data)])


def _document(where: str, value: Any) -> Part:
    try:
        return _part(manifest.render(value))
    except (ValueError, TypeError) as error:
        reason = f"cannot be saved as JSON: {error}; the checkpoint was not written"
        remedy = "keep numbers, text and lists of them in the state, all finite"
        raise TrueupError("E901", reason, where=where, remedy=remedy) from None


def _safetensors(where: str, tensors: Mapping[str, Tensor]) -> Part:
    """The file to write: header, then raw bytes; wider dtypes first, so that every tensor starts aligned."""
    names = sorted(tensors, key=lambda n: (-tensors[n].dtype.itemsize, n))
    header: dict[str, Any] = {}
    start = 0
    for name in names:
        tensor = tensors[name]
        if tensor.dtype not in SAFETENSORS_NAMES:
            reason, remedy = f"{name}: safetensors has no {tensor.dtype}", "keep it in another dtype"
            raise TrueupError("E845", reason, where=where, remedy=remedy)
        if not is_finite(tensor):
            raise TrueupError(
                "E901",
                f"{name} holds a number that is not finite; the checkpoint was not written",
                where=where,
                remedy="resume from the newest checkpoint, which is finite",
            )
        end = start + tensor.numel() * tensor.dtype.itemsize
        header[name] = {
            "dtype": SAFETENSORS_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
        start = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    head = len(text).to_bytes(8, "little") + text

    def pieces() -> Iterator[memoryview]:
        yield memoryview(head)
        for name in names:
            yield _bytes(tensors[name])

    return Part(size=len(head) + start, pieces=pieces())


def is_finite(tensor: Tensor) -> bool:
    """Whether every number of the tensor is finite."""
    if not tensor.is_floating_point():
        return True
    wide = tensor.float() if tensor.dtype.itemsize == 1 else tensor
    return bool(torch.isfinite(wide).all())


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def retain(folder: Path, keep_last: int, keep: set[str] | None = None) -> list[str]:
    """The names removed: all but the newest `keep_last` (at least 1) and those named in `keep`.

    Call it after `save`. Nothing is removed unless the newest checkpoint verifies, so there is always one to
    go back to. Folders without a readable manifest are left alone.
    """
    ordered = manifest.ordered(folder, [])
    victims = [path for _, path in ordered[: -max(1, keep_last)] if path.name not in (keep or set())]
    if victims:
        manifest.verify(ordered[-1][1])
    for path in victims:
        manifest.remove(folder, path.name)
    return [path.name for path in victims]


def state_digest(tensors: Mapping[str, Mapping[str, Tensor]], documents: Mapping[str, Any]) -> str:
    """A SHA-256 over every name, dtype, shape and byte: equal digests mean equal states, to the last bit."""
    state = hashlib.sha256()
    for stem in sorted(tensors):
        for name in sorted(tensors[stem]):
            tensor = tensors[stem][name]
            state.update(manifest.render([stem, name, str(tensor.dtype), list(tensor.shape)]))
            state.update(_bytes(tensor))
    for stem in sorted(documents):
        state.update(manifest.render([stem, documents[stem]]))
    return state.hexdigest()
