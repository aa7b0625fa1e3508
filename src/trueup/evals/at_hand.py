"""What a model of the real world can be examined on here: the tasks whose items are on this machine."""

from __future__ import annotations

from collections.abc import Mapping

from trueup.errors import TrueupError
from trueup.evals.entries import sampling_entries
from trueup.evals.harness_text import is_installed
from trueup.evals.task_files import find_task, shipped
from trueup.settings.hub import was_fetched
from trueup.worlds import door_of, leads_to

WORLDS = "docs/worlds.md"


def at_hand(data: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """The names of the tasks that can be sat, and of the others what each lacks.

    A task's items are here where `data` names their file, or its data set was fetched from the hub before:
    nothing is fetched that nobody asked for. Raises E766 where no task can be sat.
    """
    ready, missing = [], {}
    for name in dict.fromkeys((*shipped(), *sampling_entries(), *data)):
        place = _place(name) if name in shipped() else ""
        door = door_of(place) is not None or leads_to(place)
        if name in data or (place and not door and was_fetched(place.partition(":")[0])):
            ready.append(name)
        elif place and not door:
            missing[name] = f"--tasks {name} fetches it"
        elif not name.endswith("_overridden"):
            missing[name] = f"--data.{name} FILE"
    if not ready:
        raise TrueupError(
            "E766",
            "the model is of no world, and no task has its items here",
            where="eval",
            remedy=f"{told(missing)}; or --world FILE.yaml, with exams of your own ({WORLDS})",
        )
    return ready, missing


def _place(name: str) -> str:
    """Where a shipped task's items are; nowhere, where the package with its demonstrations is missing."""
    task = find_task(name)
    return "" if task.before_of and not is_installed() else task.items.path


def told(missing: Mapping[str, str]) -> str:
    """What is missing, as one sentence: what the hub has, and what takes a file."""
    fetched = [name for name, how in missing.items() if how.startswith("--tasks")]
    filed = [name for name in missing if name not in fetched]
    parts = [f"--tasks {','.join(fetched)} fetches from the hub"] * bool(fetched)
    return "; ".join([*parts, *[f"--data.TASK FILE brings {', '.join(filed)}"] * bool(filed)])
