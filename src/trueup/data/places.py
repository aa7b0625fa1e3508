"""Where rows come from: a file, a folder of files or of a saved Hugging Face dataset, or a dataset's id."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from trueup.data import strict_json, tables
from trueup.data.collected import collected_rows, is_reference
from trueup.data.fields import typed
from trueup.data.memory import memory_rows
from trueup.data.problems import Fault, file_error, nearest, printable
from trueup.data.raw_rows import TEXT_SUFFIXES, RawRow, text_rows, unreadable
from trueup.errors import EXIT_MISSING, EXIT_REFUSED, EXIT_UNAVAILABLE, TrueupError
from trueup.settings.hub import unanswered, use_cache, was_fetched

_ID = re.compile(r"(?!\.)[\w.-]+(/(?!\.)[\w.-]+)?(:[\w.-]+)?")
_SPLIT = re.compile(r"(?!\.)[\w.-]+")
_SPLIT_WORDS = {
    "train": "train", "training": "train", "test": "test", "validation": "validation", "valid": "validation",
    "val": "validation", "dev": "validation", "eval": "validation",
}  # fmt: skip
_SUFFIXES = (*TEXT_SUFFIXES, *(f"{suffix}.gz" for suffix in TEXT_SUFFIXES), *tables.TABLE_SUFFIXES)


def rows_of(path_or_id: Any, split: str) -> Iterator[RawRow]:
    """The raw rows of a file, of a folder's or Hugging Face dataset's split, of an object. Raises E1xx."""
    if not _SPLIT.fullmatch(split):
        remedy = "use train, validation, test ..."
        raise TrueupError("E112", f"not a name of a split: {split!r}", remedy=remedy)
    if not isinstance(path_or_id, str | Path):
        return memory_rows(path_or_id, split)
    text = str(path_or_id)
    if not text:
        raise TrueupError("E102", "the path is empty", remedy="name a file, a folder or a dataset")
    if is_reference(text):
        return collected_rows(text)
    path = _path_of(text)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        mode = None
    except OSError as error:
        raise unreadable(text, error) from None
    except ValueError:
        reason = "not a path: it holds a NUL or half a surrogate pair"
        raise file_error("E102", reason, text, "check the path", EXIT_MISSING) from None
    # Nothing is read yet, but what is wrong with the path is said now.
    if mode is None:
        return _not_a_path(path_or_id, path, split)
    return _chained(*split_of(path, split)) if stat.S_ISDIR(mode) else _file_rows(path, path.name)


def _not_a_path(path_or_id: str | Path, path: Path, split: str) -> Iterator[RawRow]:
    text = str(path_or_id)
    is_file_name = isinstance(path_or_id, Path) or text.lower().endswith(_SUFFIXES)
    if _ID.fullmatch(text) and not is_file_name:
        return hub_rows(text, split)
    try:
        beside = [item.name for item in path.parent.iterdir()] if path.parent.is_dir() else []
    except OSError:
        beside = []
    close = nearest(path.name, beside)
    remedy = f"did you mean {printable(str(path.with_name(close)))}?" if close else "check the path"
    raise file_error("E102", "no such file", text, remedy, EXIT_MISSING)


def _file_rows(path: Path, name: str) -> Iterator[RawRow]:
    try:
        regular = stat.S_ISREG(path.stat().st_mode)
    except OSError as error:
        raise unreadable(name, error) from None
    if not regular:
        remedy = "devices, pipes and sockets are not read: save the data to a file first"
        raise file_error("E112", "not a regular file", str(path), remedy, EXIT_REFUSED)
    lower = path.name.lower()
    if lower.endswith(tables.TABLE_SUFFIXES):
        return tables.table_rows(path, name)
    if lower.removesuffix(".gz").endswith(TEXT_SUFFIXES):
        return text_rows(path, name)
    raise file_error("E111", "unknown kind of file", name, "use " + ", ".join(_SUFFIXES))


def files_of(path_or_id: str, split: str) -> list[tuple[Path, str]] | None:
    """The files whose rows `rows_of` gives, with the names that it gives them; None where there are none."""
    path = _path_of(path_or_id)
    try:
        if path.is_dir():
            root, names = split_of(path, split)
            return [(inside(root, name), name) for name in names]
        return [(path, path.name)] if path.is_file() else None
    except (OSError, ValueError):
        return None


def _path_of(text: str) -> Path:
    return Path(text).expanduser() if text.startswith("~/") else Path(text)


# --------------------------------------------------------------------------------------------- folders


def split_of(root: Path, split: str) -> tuple[Path, list[str]]:
    """The files of a folder's split: where they are, and their names from there. Raises E1xx."""
    if (root / "dataset_dict.json").is_file():
        splits = _as_list(_saved_json(root, "dataset_dict.json").get("splits"))
        if split not in splits:
            raise _no_split(root, split, [str(item) for item in splits])
        return split_of(inside(root, split), split)
    if (root / "state.json").is_file():
        listed = _saved_json(root, "state.json").get("_data_files")
        names = [item.get("filename") if isinstance(item, dict) else item for item in _as_list(listed)]
        known = [name for name in names if isinstance(name, str)]
        if not known or len(known) < len(names):
            raise _damaged(root / "state.json")
        return root, known
    return root, _files_of_split(root, split)


def _files_of_split(root: Path, split: str) -> list[str]:
    """The data files of a split by their names, at the top of the folder or in its `data`."""
    try:
        below = [item for folder in (root, root / "data") if folder.is_dir() for item in folder.iterdir()]
        items = [item for item in below if item.is_file() and not item.name.startswith(".")]
    except OSError as error:
        raise unreadable(str(root), error) from None
    by_split: dict[str, list[str]] = {}
    for item in sorted(str(item.relative_to(root)) for item in items):
        if item.lower().endswith(_SUFFIXES):
            words = re.split(r"[^a-z]+", Path(item).name.lower())
            named = next((_SPLIT_WORDS[word] for word in words if word in _SPLIT_WORDS), "")
            by_split.setdefault(named, []).append(item)
    wanted = _SPLIT_WORDS.get(split, split)
    if wanted == "train" and list(by_split) == [""]:
        wanted = ""
    if wanted not in by_split:
        raise _no_split(root, split, sorted(name or "(files that name no split)" for name in by_split))
    return by_split[wanted]


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _chained(root: Path, names: Iterable[str]) -> Iterator[RawRow]:
    for name in names:
        yield from _file_rows(inside(root, name), name)


def inside(root: Path, name: str) -> Path:
    """`root / name`, when it stays inside `root` with links followed. Raises TrueupError E112."""
    try:
        path = (root / name).resolve()
        stays = path.is_relative_to(root.resolve())
    except (OSError, ValueError, RuntimeError):
        path, stays = root, False
    if not stays:
        reason = "a name that leads out of the folder"
        remedy = "copy the file into the folder, or name it directly"
        raise file_error("E112", reason, f"{root}: {name}", remedy, EXIT_REFUSED)
    return path


def _saved_json(root: Path, name: str) -> dict[str, Any]:
    path = inside(root, name)
    try:
        return typed(strict_json.loads(path.read_bytes()), dict, "", "an object")
    except OSError as error:
        raise unreadable(str(path), error) from None
    except Fault:
        raise _damaged(path) from None


def _damaged(path: Path) -> TrueupError:
    remedy = "save the dataset again with save_to_disk"
    return file_error("E113", "the description of the saved dataset is damaged", str(path), remedy)


def _no_split(root: Path, split: str, known: list[str]) -> TrueupError:
    reason = f"the folder has no {split!r} split (found: {printable(', '.join(known)) or 'no data file'})"
    return file_error("E102", reason, str(root), "name the split with --split, or one file", EXIT_MISSING)


# ----------------------------------------------------------------------------------------- Hugging Face


def hub_rows(name: str, split: str) -> Iterator[RawRow]:
    """The rows of a Hugging Face dataset, `owner/name` or `owner/name:config`. Raises TrueupError E114.

    Code that a dataset brings along is never run: `trust_remote_code` is not passed.
    """
    repo, _, config = name.partition(":")
    why = unanswered()
    if why and not was_fetched(repo):
        reason = f"no such file here, and no Hugging Face dataset of that id can be fetched: {why}"
        remedy = "check the name and the network, or give the path of a file"
        raise file_error("E114", reason, name, remedy, EXIT_UNAVAILABLE)
    import datasets

    if why:
        use_cache()
        vars(import_module("datasets.config"))["HF_HUB_OFFLINE"] = True
    try:
        rows: Any = datasets.load_dataset(repo, config or None, split=split)
    except Exception as error:  # the library raises its own, the network's and the file system's errors
        reason = "no such file here, and the Hugging Face dataset cannot be loaded: "
        reason += f"{type(error).__name__}: {printable(str(error))[:160]}"
        remedy = "check the name, the split and the network (HF_HUB_OFFLINE), or give the path of a file"
        raise file_error("E114", reason, name, remedy, EXIT_UNAVAILABLE) from None
    return (tables.table_row(name, number, values) for number, values in enumerate(rows, 1))
