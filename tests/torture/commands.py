"""Tiny commands to torture, each in a world of its own folder, and what two folders must have alike."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import small_world
from trueup.comparison import job
from trueup.comparison.plan import Job
from trueup.runs import manifest
from trueup.settings.config import dump_yaml

MODEL, DATA = "--model.path my-model", "--data.path {}.jsonl --data.held_out 0.25"
LOOP = "--loop.batch 4 --loop.save_every 1"
REINFORCE = "--judge judges.py:many_a --decoding.max_new_tokens 4"
RECIPE = """
name: two
stages:
  sft:
    model: {path: my-model}
    data: {path: demos.jsonl, held_out: 0.25}
    loop: {steps: 2, batch: 4, save_every: 1}
  dpo:
    model: {path: "stage:sft"}
    data: {path: preferences.jsonl, held_out: 0.25}
    loop: {steps: 2, batch: 4, save_every: 1}
"""
COMPARISON = """
name: tiny
seeds: [1]
sweep_seed: 0
choose: {split: dev, num_prompts: 2, decoding: {max_new_tokens: 4}}
report: {split: test, num_prompts: 2, decoding: {max_new_tokens: 4}}
shared:
  sft:
    data: {path: "lab:demonstrations", limit: 8}
    loop: {steps: 1, batch: 4}
methods:
  again:
    method: sft
    model: {path: "stage:sft"}
    data: {path: "lab:demonstrations", limit: 8}
    loop: {steps: 1, batch: 4}
"""
MEASURED_SOUP = (
    "soup one/model two/model --out mixed --judge many_a=judges.py:many_a "
    "--judge short=rule:length?longest=0&per=10 --prompts prompts.jsonl --validation prompts.jsonl "
    "--num_prompts 2 --steps 1 --tries 2"
)


def _train(method: str, data: str, more: str = "", steps: int = 4) -> str:
    return f"train {method} {MODEL} {DATA.format(data)} {LOOP} --loop.steps {steps} {more} --out run"


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command line, and those that make what it needs beforehand."""

    line: str
    before: tuple[str, ...] = ()


TRAINED = _train("sft", "demos")
COMMANDS: dict[str, Command] = {
    "train": Command(line=TRAINED),
    "train-best": Command(line=_train("dpo", "preferences", "--loop.eval_every 1 --loop.best eval/loss")),
    "train-rl": Command(line=_train("reinforce", "prompts", f"{REINFORCE} --loop.save_every_updates 1", 2)),
    "run": Command(line="run recipe.yaml --out two"),
    "compare": Command(line="compare comparison.yaml --out compared --workers 1"),
    "reproduce": Command(line="reproduce kl-directions --out claims"),
    "soup": Command(
        line="soup one/model two/model --out mixed",
        before=tuple(f"{TRAINED[: -len('run')]}{name} --seed {n}" for n, name in enumerate(("one", "two"))),
    ),
    "export": Command(line="export run out", before=(TRAINED,)),
    "report": Command(line="report run", before=(TRAINED,)),
}
COMMANDS["measure-soup"] = Command(line=MEASURED_SOUP, before=COMMANDS["soup"].before)


def make_world(folder: Path) -> Path:
    """The folder, with a model, rows, judges and recipes."""
    small_world.make(folder)
    (folder / "judges.py").write_text("def many_a(prompt, text):\n    return text.count('a')\n")
    (folder / "recipe.yaml").write_text(RECIPE)
    (folder / "comparison.yaml").write_text(COMPARISON)
    return folder


def call(line: str) -> int:
    """The exit code of a command line in this process, its jobs too."""
    from trueup.cli import main

    with mock.patch("trueup.comparison.run.engine_of", Here.in_place):
        return main(line.split())


@dataclass(frozen=True)
class Here:
    """The engine that runs jobs in this process, so that a cut may fall into any of them."""

    workers: int
    stop_requested: Callable[[], str] = lambda: ""

    @classmethod
    def in_place(
        cls, cluster: object, workers: int, stop_requested: Callable[[], str], terms: object
    ) -> Here:
        """This engine, whatever cluster is named."""
        return cls(workers, stop_requested)

    def run(self, jobs: Sequence[Job], folder: Path) -> Iterator[tuple[Job, int]]:
        for one in jobs:
            recipe = folder / "jobs" / f"{one.name}.yaml"
            recipe.parent.mkdir(parents=True, exist_ok=True)
            stages = {name: dict(given) for name, given in one.recipe.stages.items()}
            recipe.write_text(dump_yaml({"name": one.name, "seed": one.seed, "stages": stages}))
            yield one, job.main(str(recipe), str(folder))


CLOCKED = {"seconds", "peak_mib", "step_seconds", "tokens_per_second"}
"Numbers of the clock and the machine."


def bits(folder: Path, but: str = "") -> dict[str, str]:
    """A digest of every file that must be the same; fails where a kill left something behind.

    Left out: the file `but`, what a clock says, the lock, pages (they show costs), all checkpoints but the
    newest of a run, and manifests, which count saves.
    """
    found = {}
    newest = {at.parent: path for at in folder.rglob("checkpoints") if (path := _newest(at))}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = str(path.relative_to(folder))
        assert not re.search(r"/\.(?!lock$)", f"/{name}"), f"left behind: {name}"
        run = next((p.parent for p in path.parents if p.name == "checkpoints"), None)
        if name == but or (run is not None and path.parent != newest.get(run)):
            continue
        if path.name in (".lock", "timings.jsonl", manifest.MANIFEST) or path.suffix == ".html":
            continue
        found[name] = hashlib.sha256(_content(path)).hexdigest()
    return found


def _newest(checkpoints: Path) -> Path | None:
    ordered = manifest.ordered(checkpoints, [])
    return ordered[-1][1] if ordered else None


def _content(path: Path) -> bytes:
    data = path.read_bytes()
    return json.dumps(_unclocked(json.loads(data))).encode() if path.suffix == ".json" else data


def _unclocked(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _unclocked(v) for k, v in value.items() if k not in CLOCKED}
    return [_unclocked(v) for v in value] if isinstance(value, list) else value


def fresh(world: Path, folder: Path) -> Path:
    """The folder as a copy of the world."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(world, folder)
    return folder
