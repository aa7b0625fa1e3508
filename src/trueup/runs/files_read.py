"""The inputs that a stage's settings name: which files each is read from, with a digest of what they hold.

The list is made of the settings alone. Of a model's folder it has the files that are loaded, and what an
adapter stands on; of a folder of data those of the split; of a Python file also those beside it that it
imports; of a file of judges, a task or a world what that names in turn; of a hub's id what was fetched. What
a server answers, and what comes with trueup, is no file and has no digest.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from trueup.data import places
from trueup.data.collected import collected_digest, is_reference
from trueup.engine.inputs import Input
from trueup.errors import TrueupError
from trueup.runs.digests import digest_files
from trueup.settings import schema
from trueup.settings.beside import beside
from trueup.settings.blocks import DataSettings
from trueup.settings.held import FUNCTION, OBJECT, held
from trueup.settings.hub import fetched
from trueup.settings.strict_yaml import read_yaml
from trueup.settings.weights import holds_model, model_folder
from trueup.worlds import door_of, open_world

Files = dict[str, Path]
"By name, as an error says it: from their folder, or as they are reached."
METHOD = "method"
"The name of the input that is a method's own Python file."
_SERVERS = ("http://", "https://", "openai:")
_UNREAD = re.compile(
    r"(?i)\.|(readme|license|licence|notice|use_policy)\b.*|.*\.(md|bin|pt|pth|h5|msgpack|onnx|gguf|py|png|jpg)"
)
"Files of a model's folder that nothing here opens: pickles, code, texts for people."


def inputs_of(
    config: Any, *, method: Path | None = None, outside: Path | None = None, whole: bool = False
) -> list[Input]:
    """Each setting that names files, as an input; those in the folder `outside` are none.

    `method` is the file of a method that is the user's own. `whole` also digests every byte of files of which
    samples are read otherwise.
    """
    named = [(place.key, place.text, files_of_place(place)) for place in schema.places(config)]
    if method is not None:
        named.insert(0, (METHOD, str(method), _python(method)))
    return [
        found
        for key, text, files in named
        if (found := _input(key, text, {n: p for n, p in files.items() if not _in(p, outside)}, whole))
    ]


def files_of(config: Any, *, method: Path | None = None) -> dict[str, str]:
    """The digest of what each setting names, by what the setting says."""
    return {item.what: item.digest for item in inputs_of(config, method=method)}


def files_of_place(place: schema.Place) -> Files:
    """The files that one setting's text stands for; none for a text that names nothing here."""
    if place.key.rpartition(".")[2] == "world" and Path(place.text).is_file():
        return _world(place.text, frozenset())
    return _reached(place.text, place.block, frozenset())


def _input(key: str, text: str, files: Files, whole: bool) -> Input | None:
    if is_reference(text):
        return Input(name=key, kind="files", what=text, digest=collected_digest(text), again=True)
    digest, parts = digest_files(files)
    if not digest:
        return None
    all_of_it = digest_files(files, whole=True)[0] if whole else ""
    return Input(
        name=key,
        kind="files",
        what=text,
        digest=digest,
        again=True,
        parts=parts,
        whole="" if all_of_it == digest else all_of_it,
    )


def _in(path: Path, folder: Path | None) -> bool:
    return folder is not None and path.absolute().is_relative_to(folder.absolute())


def _reached(text: str, block: Any, seen: frozenset[str]) -> Files:
    """The files behind a reference: alone, after `lm:`, before `?`, `#` or `:FUNCTION`, or in options."""
    named = re.sub(r"^(lm:|toxicity:)", "", text)
    if text in seen or named.startswith((*_SERVERS, OBJECT)) or is_reference(named):
        return {}
    seen = seen | {text}
    if named.startswith(FUNCTION):
        return {} if held(named) is not None else _module(named.split(":")[1])
    door = door_of(named)
    if door is not None:
        return _world(door.world, seen)
    before, *options = re.split(r"[?#&]", named)
    found: Files = {}
    for option in options:
        found |= _reached(option.partition("=")[2], None, seen)
    for path in dict.fromkeys((named, before, re.sub(r"(?<=\.py):\w+$", "", before))):
        if _is_path(path):
            return _at(Path(path), block, seen) | found
    return _fetched(before, isinstance(block, DataSettings)) | found


def _is_path(text: str) -> bool:
    return 0 < len(text) < 1024 and "\n" not in text and "\0" not in text and Path(text).exists()


def _at(path: Path, block: Any, seen: frozenset[str]) -> Files:
    if path.suffix == ".py" and path.is_file():
        return _python(path)
    if path.is_file():
        return {str(path): path} | (_named_in(path, seen) if path.suffix in (".yaml", ".yml") else {})
    if not path.is_dir():  # a pipe or a device: refused by whoever would read it
        return {}
    if isinstance(block, DataSettings):
        return _data(path, block.split)
    folder = Path(model_folder(str(path)))
    if holds_model(folder):
        return _model(folder, seen)
    return _below(path)


def _below(folder: Path) -> Files:
    """All files of a folder but hidden ones."""
    found = {p.relative_to(folder): p for p in folder.rglob("*") if p.is_file()}
    return {str(name): p for name, p in found.items() if not any(part[0] == "." for part in name.parts)}


def _data(folder: Path, split: str) -> Files:
    try:
        base, names = places.split_of(folder, split)
    except TrueupError:  # whoever reads it says what is wrong
        return _below(folder)
    return {name: base / name for name in names}


def _model(folder: Path, seen: frozenset[str]) -> Files:
    """The files of a model's folder that are loaded; of an adapter also its base's."""
    found = {p.name: p for p in folder.iterdir() if p.is_file() and not _UNREAD.match(p.name)}
    found |= {f"{p.parent.name}/{p.name}": p for p in folder.glob("additional_chat_templates/*.jinja")}
    try:
        said = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        base = str(said.get("base_model_name_or_path") or "")
    except (OSError, ValueError, AttributeError):  # no adapter, or a damaged one: said when it is loaded
        return found
    return found | {f"base/{name}": path for name, path in _reached(base, None, seen).items()}


def _fetched(name: str, data: bool) -> Files:
    """What the cache of the hub has of a model's or data set's id."""
    folder = fetched(name, data=data)
    if folder is None:
        return {}
    if data:
        return _below(folder)
    return _model(folder, frozenset()) if holds_model(folder) else {}


def _world(name: str, seen: frozenset[str]) -> Files:
    """A world's file with all that it names; nothing of a world that comes with trueup."""
    found: Files = {}
    for path in map(str, open_world(name).files()):
        inside = {path: Path(path)} if path == name else _reached(path, None, seen | {name})
        single = set(inside) == {path}
        found |= inside if single else {f"{path}/{n}": p for n, p in inside.items()}
    return found


def _named_in(path: Path, seen: frozenset[str]) -> Files:
    """What a file of weighted judges, or a task's, names."""
    try:
        values = read_yaml(path).values
    except TrueupError:  # whoever reads it says what is wrong
        return {}
    found: Files = {}
    for text in (beside(path.parent, reference) for reference in _references(values)):
        found |= {n if p == Path(n) else f"{text}/{n}": p for n, p in _reached(text, None, seen).items()}
    return found


def _references(values: Mapping[str, Any]) -> Iterator[str]:
    parts, items = values.get("parts"), (values.get("items"), values.get("demonstrations"))
    if isinstance(parts, list):
        yield from (str(part["judge"]) for part in parts if isinstance(part, Mapping) and "judge" in part)
        yield str(values.get("reference", ""))
    yield from (str(source["path"]) for source in items if isinstance(source, Mapping) and "path" in source)


def _python(path: Path) -> Files:
    """A Python file, and those of its folder that it imports, and so on."""
    found: Files = {}
    left = [path]
    while left:
        file = left.pop()
        if str(file) in found or not file.is_file():
            continue
        found[str(file)] = file
        for name in _imports(file):
            near = file.parent / name
            left += [near.with_suffix(".py"), *(near.glob("*.py") if near.is_dir() else ())]
    return found


def _imports(file: Path) -> Iterator[str]:
    """The first names of all that a Python file imports; what a file cannot be read for, it names nothing."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            named = (node.module,) if node.module else tuple(alias.name for alias in node.names)
            yield from (name.partition(".")[0] for name in named)


def _module(name: str) -> Files:
    """The file of an importable module; nothing is imported but what stands above it."""
    try:
        found = find_spec(name)
    except (ImportError, ValueError):
        return {}
    file = Path((found and found.origin) or "")
    if file.suffix != ".py":
        return {}
    # What was installed is versioned by its package, and what it imports lies beside it.
    return {str(file): file} if "site-packages" in file.parts else _python(file)
