"""Recipes: a list of stages whose inputs name earlier stages, run once each, resumed where they stopped.

    RUN/
      recipe.resolved.yaml
      stages/sft-3f9c21ab04/   config.resolved.yaml ... model/ DONE.json
      summary.json  report.html

A stage's folder is named by a digest of its resolved configuration, of its input stages' digests and of the
files it reads, so what is done is skipped, what was interrupted goes on, and what changed is redone.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from trueup.engine import disk, inputs
from trueup.engine.inputs import Input
from trueup.errors import TrueupError, options_of
from trueup.runs.done import Done, check_handed_on
from trueup.runs.failed import noting_failure
from trueup.runs.files_read import files_of
from trueup.runs.followed import BEGIN, FOUND, follow
from trueup.runs.hold import holding, present
from trueup.runs.rates import Settled, as_begun, rate_lines, settle, size_of
from trueup.runs.references import STAGE, bind, stage_inputs, strings
from trueup.runs.shareable import refuse_ranks
from trueup.runs.unchanged import (
    STRICT,
    Terms,
    folders_of,
    hold,
    left_on_the_way,
    own_file,
    told_first,
)
from trueup.settings import config as configuration
from trueup.settings import schema
from trueup.settings.discover import find
from trueup.settings.names import as_name, check_links, check_name, check_within
from trueup.settings.secret import fault_of_references
from trueup.settings.stages import typed_stages
from trueup.worlds import DEFAULT, lead, leads_to, open_world

if TYPE_CHECKING:
    from trueup.engine.ranks import Ranks
    from trueup.runs.training import Watch

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A named list of stages, each a method or procedure with its settings."""

    name: str
    stages: Mapping[str, Mapping[str, Any]]
    seed: int = 0
    "The seed of every stage that does not set its own."
    world: str = ""
    "Where the doors of every stage lead that does not set its own: a world's name, or its YAML file."


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage, resolved: what it runs, with which settings, in which folder."""

    name: str
    module: ModuleType
    config: Any
    folder: Path
    digest: str
    inputs: tuple[str, ...]
    world: str = ""
    "Where doors of its settings were led; empty where none was left open."
    start: str = ""
    "The model that its own comes from, as settings name it: `stage:NAME`, a folder, an id."
    settled: tuple[Settled, ...] = ()
    "Its learning rates that were `auto`."

    def __post_init__(self) -> None:
        if not self.done and (fault := fault_of_references(strings(self.settings))):
            # It may be the key itself, and settings are written: neither this error nor any file shows it.
            remedy = "export the key, and write its variable: `key=NAME`; a judge's is TRUEUP_JUDGE_KEY"
            raise TrueupError("E797", fault, where=f"stage {self.name}", remedy=remedy)

    @property
    def method(self) -> str:
        """What it runs, by the name that `discover.find` takes."""
        path = (
            vars(self.module).get("__file__") if self.module.__name__.startswith("trueup_method_") else None
        )
        return path or self.module.__name__.rpartition(".")[2]

    @property
    def settings(self) -> dict[str, Any]:
        """The method and its settings as plain values, every default written out: a recipe of one stage."""
        return {"method": self.method, **configuration.resolved(self.config)}

    @property
    def done(self) -> bool:
        """Whether it has finished before."""
        return (self.folder / "DONE.json").is_file()


def read_recipe(path: Path, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe in a YAML file, with overrides merged in. A file with `method` at its top is one stage."""
    values = configuration.read_yaml(path).values
    if "method" in values:
        name = str(values["method"])
        values = {"name": path.stem, "stages": {as_name(Path(name).stem): values}}
    stages = values.get("stages")
    if isinstance(stages, Mapping):  # `sft:` with nothing below it is that stage with its defaults.
        values = {
            **values,
            "stages": {name: {} if given is None else given for name, given in stages.items()},
        }
    over = typed_stages(overrides or {}, "stages")
    recipe = configuration.build(Recipe, values, over, where=str(path))
    if not recipe.stages:
        raise TrueupError("E713", "there is no stage", where=f"{path} stages", remedy="name one: `sft:`")
    return recipe


def plan(recipe: Recipe, run_dir: Path) -> list[Stage]:
    """The recipe's stages with every setting resolved, checked before anything runs.

    Raises E770 for a stage's name that is no plain one, E771 where a path leads out of its folder.
    """
    stages: dict[str, Stage] = {}
    for name, given in recipe.stages.items():
        stages[name] = _resolve(name, given, recipe, stages, run_dir)
    return list(stages.values())


def _resolve(
    name: str, given: Mapping[str, Any], recipe: Recipe, earlier: Mapping[str, Stage], run_dir: Path
) -> Stage:
    where = f"stages.{name}"
    check_name(name, "a stage", where)
    module = find(str(given.get("method", name)))
    config_class = vars(module)["Config"]
    layer = _without(given, "method")
    config, world = led(config_class, {"seed": recipe.seed}, layer, where=where, world=recipe.world)
    config, settled = _settled(name, module, config, earlier, run_dir)
    resolved = configuration.resolved(config)
    needs = tuple(dict.fromkeys(stage_inputs(resolved)))
    for needed in needs:
        if needed not in earlier:
            raise TrueupError(
                "E708",
                f"stage:{needed} is not an earlier stage",
                where=where,
                remedy=f"earlier stages are {', '.join(earlier) or 'none'}",
            )
    digest, folder = _located(name, module, config, earlier, run_dir)
    bound = bind(resolved, lambda stage, inner: _output(stage, inner, earlier))
    return Stage(
        name=name,
        module=module,
        config=configuration.build(config_class, bound, where=where),
        folder=check_within(run_dir, folder, where),
        digest=digest,
        inputs=needs,
        world=world,
        start=_start(resolved, needs),
        settled=settled,
    )


def _located(
    name: str, module: ModuleType, config: Any, earlier: Mapping[str, Stage], run_dir: Path
) -> tuple[str, Path]:
    """A stage's digest and folder. An input that is gone counts as what a folder has recorded of it."""
    method = own_file(module)
    files = files_of(config, method=method)
    named = {place.text for place in schema.places(config)} | {str(method)}

    def place(known: Mapping[str, str]) -> tuple[str, Path]:
        digest = _digest(module, config, earlier, known)
        return digest, run_dir / "stages" / f"{name}-{digest[:10]}"

    found = place(files)
    for other in () if found[1].is_dir() else folders_of(run_dir / "stages", name):
        recorded = {item.what: item.digest for item in inputs.read(other) if item.what in named}
        if recorded.keys() - files.keys() and place({**recorded, **files})[1] == other:
            return place({**recorded, **files})
    return found


def _digest(module: ModuleType, config: Any, earlier: Mapping[str, Stage], files: Mapping[str, str]) -> str:
    resolved = configuration.resolved(config)
    keyed = {
        "method": module.__name__,
        "config": resolved,
        "inputs": {n: earlier[n].digest for n in dict.fromkeys(stage_inputs(resolved)) if n in earlier},
        "files": dict(files),
    }
    return configuration.digest(keyed)


def _settled(
    name: str, module: ModuleType, config: Any, earlier: Mapping[str, Stage], run_dir: Path
) -> tuple[Any, tuple[Settled, ...]]:
    """The settings with learning rates settled: as this stage's folder has them, or by the table."""
    for folder in sorted((run_dir / "stages").glob(f"{name}-*")):
        begun, settled = as_begun(config, folder)
        if settled and folder == _located(name, module, begun, earlier, run_dir)[1]:
            return begun, settled
    return settle(module, config, lambda reference: _size(reference, earlier))


def _size(reference: str, earlier: Mapping[str, Stage]) -> int | None:
    """How many weights a model has: the one that a stage starts from, since it hands on as many."""
    named = STAGE.fullmatch(reference)
    if named is None:
        return size_of(reference)
    stage = earlier.get(named[2])
    return None if stage is None else _size(stage.start, earlier)


def _start(resolved: Mapping[str, Any], inputs: Sequence[str]) -> str:
    model = resolved.get("model")
    found = model.get("path") if isinstance(model, Mapping) else model
    return found if isinstance(found, str) else f"stage:{inputs[0]}" if inputs else ""


def led(
    config_class: type[T],
    *layers: configuration.Layer | Mapping[str, Any],
    where: str,
    world: str = "",
    aliases: Mapping[str, Any] | None = None,
) -> tuple[T, str]:
    """A stage's settings with every door led into a world, and that world's name; "" where no door was open.

    The world is what the layers say, the last of them first, else `world`, else the default. It is no setting
    of a method, whose settings say themselves where everything comes from once they are led; procedures that
    measure have one of that name.
    """
    named = [
        layer if isinstance(layer, configuration.Layer) else configuration.Layer(values=layer, name=where)
        for layer in layers
    ]
    chosen = next((str(n.values["world"]) for n in reversed(named) if n.values.get("world")), world)
    if any(item.name == "world" for item in schema.items(config_class)):
        named.append(configuration.Layer(values={"world": chosen} if chosen else {}, name=where))
    else:
        named = [dataclasses.replace(n, values=_without(n.values, "world")) for n in named]
    config = configuration.build(config_class, *named, where=where, aliases=aliases)
    resolved = configuration.resolved(config)
    if not leads_to(resolved):
        return config, ""
    led_to = open_world(chosen or DEFAULT)
    return configuration.build(config_class, lead(resolved, led_to), where=where), led_to.name


def _without(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != name}


def run_stage(
    stage: Stage,
    *,
    stop_requested: Callable[[], str] = lambda: "",
    watch: Watch | None = None,
    waits: bool = False,
    given: Sequence[Input] = (),
    terms: Terms = STRICT,
    ranks: Ranks | None = None,
) -> Done:
    """What the stage handed on; runs it unless it is done. `watch` is told of a method's steps.

    With `ranks` it trains on several devices, and the first of them alone has the stage's folder.

    Where another process is running it, that is an error (E903), or one that `waits` takes what it made.
    `given` are the objects of a Python session that it is made of. What it began with is held against what
    is there now on these terms: E820, E821 and E752 of `unchanged.hold`.
    """
    if ranks is None:
        refuse_ranks()
    elif not ranks.leads:
        return follow(stage.module, stage.config, stage.folder, ranks, stop_requested)
    if stage.done:
        hold(stage.folder, stage.module, stage.config, given=given, terms=terms)
        return _handed_on(stage, ranks)
    if not stage.folder.exists():
        _take_over(stage, terms, stop_requested)
    with holding(stage.folder, waits=waits, stop_requested=stop_requested):
        check_links(stage.folder)
        hold(stage.folder, stage.module, stage.config, given=given, terms=terms)
        if stage.done:  # by another process, between the first look and the lock
            return _handed_on(stage, ranks)
        disk.require_space(stage.folder, 0)
        disk.write(stage.folder / "config.resolved.yaml", configuration.dump_yaml(stage.settings))
        with noting_failure(stage.folder):
            return _run(stage, stop_requested, watch, ranks)


def _handed_on(stage: Stage, ranks: Ranks | None) -> Done:
    done = check_handed_on(stage.folder)
    if ranks is not None:
        ranks.first(FOUND)
    return done


def _take_over(stage: Stage, terms: Terms, stop_requested: Callable[[], str]) -> None:
    """Nothing; what was left on the way with other inputs goes on under its new name, if the terms accept."""
    left = left_on_the_way(stage.folder, stage.module, stage.settings)
    if left is None:
        return
    with holding(left, waits=False, stop_requested=stop_requested):
        hold(left, stage.module, stage.config, terms=terms)
        os.rename(left, stage.folder)


def _run(stage: Stage, stop_requested: Callable[[], str], watch: Watch | None, ranks: Ranks | None) -> Done:
    if "build" in vars(stage.module):
        from trueup.runs.training import Watch, train  # torch loads here, not when a recipe is only looked at

        several = {} if ranks is None else {"ranks": ranks}
        if ranks is not None:
            ranks.first(BEGIN)
        trained = train(
            stage.module,
            stage.config,
            stage.folder,
            stop_requested=stop_requested,
            progress_label=stage.name,
            watch=watch or Watch(),
            **several,
        )
        done = Done(output="model", metrics=trained.metrics, cost=dataclasses.asdict(trained.cost))
    else:
        # Written once, at a procedure's end: a kill after it must not leave the same numbers twice.
        disk.remove(stage.folder / "metrics.jsonl")
        done = vars(stage.module)["run"](stage.config, stage.folder, stop_requested=stop_requested)
    done = dataclasses.replace(done, method=stage.method)
    disk.write(stage.folder / "DONE.json", json.dumps(dataclasses.asdict(done), indent=1) + "\n")
    return done


def run_recipe(
    recipe: Recipe,
    run_dir: Path,
    *,
    stop_requested: Callable[[], str] = lambda: "",
    say: Callable[[str], None] = lambda line: None,
    terms: Terms = STRICT,
    given: Callable[[Stage], Sequence[Input]] = lambda stage: (),
) -> Path:
    """The run's folder, every stage done. Stages finished before are skipped.

    `given` are the objects of a Python session that a stage is made of.
    """
    stages = plan(recipe, run_dir)
    disk.make_folder(run_dir)
    resolved = {s.name: s.settings for s in stages}
    disk.write(run_dir / "recipe.resolved.yaml", configuration.dump_yaml(resolved))
    for line in world_lines(stages, recipe.world):
        say(line)
    with present(run_dir):
        for number, stage in enumerate(stages, 1):
            told = told_first(stage.folder, stage.settings, stage.config, stage.module)
            say(f"[{number}/{len(stages)}] {stage.name}{told}")
            for line in () if stage.done else rate_lines(stage.module, stage.config, stage.settled):
                say(f"  {line}")
            with options_of(stage.name):
                done = run_stage(stage, stop_requested=stop_requested, given=given(stage), terms=terms)
            for name in done.publish:
                disk.write(run_dir / name, (stage.folder / name).read_bytes())
    return run_dir


def world_lines(stages: Sequence[Stage], named: str) -> list[str]:
    """What is said first of the worlds that doors lead to; nothing where settings name all they read."""
    worlds = dict.fromkeys(stage.world for stage in stages if stage.world)
    default = " (the default; --world FILE.yaml leads to yours)"
    return [f"world: {world}{'' if named or world != DEFAULT else default}" for world in worlds]


def _output(name: str, inner: str, earlier: Mapping[str, Stage]) -> str:
    """The path that a reference to a stage stands for."""
    outputs = vars(earlier[name].module).get("OUTPUT", "model")
    path = earlier[name].folder / (inner or f"/{outputs}").lstrip("/")
    return str(check_within(earlier[name].folder, path, f"stage:{name}{inner}"))
