"""Short names for what is measured: models and judges, as they are typed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from trueup.errors import TrueupError
from trueup.settings.held import OBJECT
from trueup.settings.names import as_name, check_name
from trueup.settings.weights import model_folder
from trueup.worlds import door_of

_NAMED = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)=(.+)$")
_JUDGE_NAMED = re.compile(r"^([A-Za-z][A-Za-z0-9_-]*)=(.+)$")
YAML = (".yaml", ".yml")
_OF_A_STAGE = re.compile(r"-[0-9a-f]{10}$")


def named_models(models: Sequence[str], start: str | None) -> tuple[dict[str, str], tuple[str, str] | None]:
    """Models by their names, and the start with its own: `NAME=MODEL`, or named after their folders.

    A model that is the start is measured once. Raises E772 for no model, or two of one name.
    """
    first = None if not start else _named(start)
    found: dict[str, str] = {}
    for model in models:
        name, path = _named(model)
        if first is not None and path == first[1]:
            continue
        if name in found or (first is not None and name == first[0]):
            other = found.get(name) or (first or ("", ""))[1]
            raise TrueupError(
                "E772",
                f"two models are called {name}: {other} and {path}",
                where="measure",
                remedy=f"name them apart: {name}-1={other} {name}-2={path}",
            )
        found[name] = path
    if not found and first is None:
        raise TrueupError("E772", "there is no model to measure", where="measure", remedy="name one")
    return found, first


def _named(text: str) -> tuple[str, str]:
    said = _NAMED.match(text)
    if said is not None and not Path(text).exists():
        return check_name(said[1], "a model", f"measure {text}"), _found(said[2])
    door, path = door_of(text), Path(text.removeprefix(OBJECT))
    place = path.parent if path.name == "model" and path.parent.name else path
    name = door.name if door else _OF_A_STAGE.sub("", place.stem if place.suffix == ".gguf" else place.name)
    return as_name(name or path.resolve().name), _found(text)


def _found(text: str) -> str:
    """The model that a run's folder stands for; a door, an id or a model's own folder as it is."""
    return text if door_of(text) else model_folder(text)


def named_judges(judges: Sequence[str]) -> dict[str, str]:
    """References of judges by name: `NAME=REF`, or named after what they are. Raises E772 for two of one."""
    found: dict[str, str] = {}
    for text in judges:
        said = _JUDGE_NAMED.match(text)
        name, reference = (
            (said[1], said[2]) if said and not Path(text).exists() else (_judge_name(text), text)
        )
        if name in found:
            raise TrueupError(
                "E772",
                f"two judges are called {name}",
                where=f"judge {text}",
                remedy=f"name them apart: --judge {name}-2={reference}",
            )
        found[name] = reference
    return found


def _judge_name(reference: str) -> str:
    """What a judge is called that nobody named: its function, rule or folder."""
    door = door_of(reference)
    bare = re.sub(r"[?#].*$", "", reference).rstrip("/")
    if door is not None:
        bare = door.name
    elif bare.startswith(("lm:", "http://", "https://")):
        bare = bare.rpartition("/")[2] or "judge"
    elif ":" in bare:
        bare = bare.rpartition(":")[2]
    place = Path(bare)
    last = place.parent.name if place.name == "model" and place.parent.name else place.stem
    return re.sub(r"[^A-Za-z0-9_-]+", "-", last).strip("-") or "judge"


def named_exams(exams: Sequence[str]) -> dict[str, str]:
    """Exams by name with the file of each: `NAME=FILE`, or a task's YAML; "" for one that a world has."""
    pairs = (text.partition("=") for text in filter(None, map(str.strip, exams)))
    return {
        (Path(name).stem if not file and name.endswith(YAML) else name): file or name * name.endswith(YAML)
        for name, _, file in pairs
    }


def check_place(world: str, prompts: str, judges: Sequence[str], exams: Mapping[str, str]) -> None:
    """Nothing; raises E773 where a world and a command line would each say a half.

    That is where prompts or judges stand beside a world, judges or an exam's file without prompts, or an exam
    without its file beside prompts.
    """
    if world and (prompts or judges):
        raise _halves(
            f"the world {world} has prompts and judges of its own",
            f"write them into {world} if it is a file, or leave --world out",
        )
    if judges and not prompts:
        raise _halves("judges are named, and no prompts", "give --prompts FILE")
    if prompts:
        if bare := [name for name, file in exams.items() if not file]:
            with_files = ",".join(f"{name}={file or 'FILE'}" for name, file in exams.items())
            raise _halves(
                f"nothing says where the items of the exam {bare[0]} are", f"write --exams {with_files}"
            )
    elif own := [f"{name}: {file}" for name, file in exams.items() if file]:
        place = world or "the YAML file of a world, --world FILE.yaml"
        raise _halves(
            f"the exam {own[0].partition(':')[0]} has a file, and the prompts are a world's",
            f"write `exams: {{{', '.join(own)}}}` into {place}, or give --prompts FILE",
        )


def _halves(reason: str, remedy: str) -> TrueupError:
    return TrueupError("E773", reason, where="measure", remedy=remedy)
