"""What a folder holds that is watched: one run, the stages of a recipe, or the jobs of a comparison."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trueup.engine.lines import METRICS
from trueup.errors import TrueupError
from trueup.runs.hold import is_held
from trueup.settings.names import check_within
from trueup.watching.files import Files
from trueup.watching.stage import Look, Stage, State

MOST_FOLDERS = 2000
"Stages or jobs of one folder; a comparison has some hundred."
MOST_DRAWN = 8
"Stages of one comparison whose curves are drawn."
_STAGE = re.compile(r"(.+)-[0-9a-f]{10}")
_JOB_ENDED = "(all stages done)"
RECIPE, STAGES, RESULT, PAGE = "recipe.resolved.yaml", "stages", "comparison.json", "comparison.html"


@dataclass(frozen=True, kw_only=True)
class Part:
    """A stage of a recipe, or a job of a comparison, in a word."""

    name: str
    state: State
    said: str = ""
    "Of a job the last line that it wrote."


@dataclass(frozen=True, kw_only=True)
class RunLook:
    """A watched folder at a moment."""

    name: str
    folder: Path
    state: State
    why: str = ""
    "The error of what failed, or where the report of what is done lies."
    parts: Sequence[Part] = ()
    "The stages in the recipe's order, or the jobs by name."
    are: str = ""
    "What the parts are: stages, jobs, or nothing."
    shown: Sequence[Look] = ()
    "The stage at work, or the last that was; of a comparison those that train, or that last did."


class Run:
    """The reader of one watched folder; it remembers what it has read."""

    def __init__(self, folder: Path, name: str = "") -> None:
        self.folder, self.name = folder, name or folder.resolve().name
        self._files = Files(folder)
        self._stages: dict[Path, tuple[tuple[int, int], Stage]] = {}
        self._was_there = False

    def look(self, now: Callable[[], float] = time.time) -> RunLook:
        """What the folder shows now."""
        if not self.folder.is_dir():
            self._stages.clear()
            gone: State = "gone" if self._was_there else "waiting"
            return RunLook(name=self.name, folder=self.folder, state=gone)
        self._was_there = True
        if (self.folder / "jobs").is_dir() or (self.folder / RESULT).is_file():
            return self._comparison(now)
        if (self.folder / RECIPE).is_file() or (self.folder / STAGES).is_dir():
            return self._recipe(now)
        stage = self._reader(self.folder, self.name).look(now)
        return RunLook(name=self.name, folder=self.folder, state=stage.state, why=stage.why, shown=(stage,))

    def _reader(self, folder: Path, name: str) -> Stage:
        """The reader of a stage's folder: the same one for as long as the folder is the same."""
        facts = folder.stat()
        key = (facts.st_dev, facts.st_ino)
        if folder not in self._stages or self._stages[folder][0] != key:
            self._stages[folder] = (key, Stage(folder, name))
        return self._stages[folder][1]

    def _recipe(self, now: Callable[[], float]) -> RunLook:
        settings = self._files.yaml(RECIPE)
        found = self._folders()
        names = list(settings) or list(found)
        readers = [self._current(name, found.get(name, ()), settings.get(name)) for name in names]
        absent: tuple[State, str] = ("waiting", "")
        states = [absent if reader is None else reader.state() for reader in readers]
        parts = [Part(name=n, state=s) for n, (s, _) in zip(names, states, strict=True)]
        state, why = _of_parts(states, is_held(self.folder))
        begun = [
            (r, s) for r, (s, _) in zip(readers, states, strict=True) if r is not None and s != "waiting"
        ]
        shown = ([r for r, s in begun if s != "done"] or [r for r, _ in begun])[-1:]
        return RunLook(
            name=self.name, folder=self.folder, state=state, why=why, parts=parts, are="stages",
            shown=[reader.look(now) for reader in shown],
        )  # fmt: skip

    def _folders(self) -> dict[str, list[Path]]:
        """The stages' folders by the stage's name."""
        found: dict[str, list[Path]] = {}
        for folder in _entries(self.folder / STAGES):
            named = _STAGE.fullmatch(folder.name)
            if folder.is_dir() and self._is_inside(folder):
                found.setdefault(named[1] if named else folder.name, []).append(folder)
        return found

    def _is_inside(self, path: Path) -> bool:
        try:
            check_within(self.folder, path, "")
        except TrueupError:
            return False
        return True

    def _current(self, name: str, folders: Sequence[Path], settings: object) -> Stage | None:
        """Of a stage that was done again, the folder with the recipe's settings; else the newest."""
        readers = [self._reader(folder, name) for folder in folders]
        same = [r for r in readers if len(readers) == 1 or r.settings == settings]
        return max(same or readers, key=lambda r: r.folder.stat().st_mtime, default=None)

    def _comparison(self, now: Callable[[], float]) -> RunLook:
        parts = [self._job(path.stem) for path in _entries(self.folder / "jobs") if path.suffix == ".yaml"]
        held = is_held(self.folder)
        state: State = "interrupted"
        if held or any(part.state == "running" for part in parts):
            state = "running"
        elif (self.folder / RESULT).is_file():
            state = "done"
        elif held is None:
            state = "unknown"
        work = self._at_work()
        shown = [
            replace(self._reader(folder, name).look(now), name=self._track(name, folder, work))
            for name, folder in work
        ]
        report = self.folder / PAGE
        why = f"its report is {report}" if state == "done" and report.is_file() else ""
        return RunLook(
            name=self.name, folder=self.folder, state=state, why=why, parts=parts, are="jobs", shown=shown
        )

    def _at_work(self) -> list[tuple[str, Path]]:
        """The stages at work that have numbers; between two, those of the name that was at work last."""
        numbered = [(n, f) for n, fs in self._folders().items() for f in fs if (f / METRICS).is_file()]
        if held := [(n, f) for n, f in numbered if is_held(f)]:
            return held[:MOST_DRAWN]
        latest = sorted(numbered, key=lambda one: _written(one[1] / METRICS), reverse=True)
        return sorted([one for one in latest if one[0] == latest[0][0]][:MOST_DRAWN])

    def _track(self, name: str, folder: Path, among: Sequence[tuple[str, Path]]) -> str:
        """A stage's name; where several have it that of its job, or else the beginning of its digest too."""
        if [n for n, _ in among].count(name) == 1:
            return name
        said = self._reader(folder, name).settings
        jobs = [
            path.stem
            for path in _entries(self.folder / "jobs")
            if path.name.startswith(f"{name}-") and _asks(self._files.yaml(f"jobs/{path.name}"), name, said)
        ]
        return jobs[0] if len(jobs) == 1 else folder.name[:-6]

    def _job(self, name: str) -> Part:
        """A job by its log: who writes it holds it, and its last line tells how it ended."""
        log = f"logs/{name}.log"
        line = self._files.last_line(log)
        stage = line.partition(":")[0]
        stages = self._files.yaml(f"jobs/{name}.yaml").get("stages")
        known = stages if isinstance(stages, dict) else {}
        if is_held(self.folder, log):
            said = stage if stage in known else line * (line != _JOB_ENDED)
            return Part(name=name, state="running", said=said)
        if line == _JOB_ENDED:
            return Part(name=name, state="done")
        stopped = not line or stage in known
        return Part(name=name, state="interrupted" if stopped else "failed", said=line)


def _of_parts(states: Sequence[tuple[State, str]], held: bool | None) -> tuple[State, str]:
    """The state of a recipe by its stages', and by whether a process is at work in its folder."""
    known = [state for state, _ in states]
    if known and all(state == "done" for state in known):
        return "done", ""
    if held or "running" in known:
        return "running", ""
    for state, why in states:
        if state == "failed":
            return state, why
    if held is None:
        return "unknown", "its file system keeps no locks"
    return ("interrupted" if any(state != "waiting" for state in known) else "waiting"), ""


def _written(path: Path) -> float:
    """When a file was last written to; 0 of one that is gone."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _asks(job: Mapping[str, Any], stage: str, said: Mapping[str, Any]) -> bool:
    """Whether a job's stage is the one with these settings."""
    stages = job.get("stages")
    asked = stages.get(stage) if isinstance(stages, Mapping) else None
    return isinstance(asked, Mapping) and job.get("seed") == said.get("seed") and _holds(said, asked)


def _holds(said: Any, asked: Any) -> bool:
    """Whether settings say all that is asked; references are led elsewhere in them, so they say nothing."""
    if isinstance(asked, Mapping):
        return isinstance(said, Mapping) and all(_holds(said.get(key), one) for key, one in asked.items())
    return said == asked or (isinstance(asked, str) and ":" in asked)


def _entries(folder: Path) -> list[Path]:
    """What a folder holds, by name; nothing where there is no folder."""
    try:
        return sorted(folder.iterdir())[:MOST_FOLDERS]
    except OSError:
        return []
