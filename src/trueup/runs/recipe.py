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
import fcntl
import json
import os
import re
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import IO, TYPE_CHECKING, Any, TypeVar

from trueup.errors import TrueupError, options_of
from trueup.runs.done import Done, check_handed_on
from trueup.runs.files_read import files_of
from trueup.runs.manifest import write_atomically
from trueup.runs.rates import Settled, as_begun, rate_lines, settle, size_of
from trueup.settings import config as configuration
from trueup.settings import schema
from trueup.settings.discover import find
from trueup.settings.names import as_name, check_links, check_name, check_within
from trueup.worlds import DEFAULT, lead, leads_to, open_world

if TYPE_CHECKING:
    from trueup.runs.training import Watch

T = TypeVar("T")
STAGE = re.compile(r"(?:^|(?<=[?&])|(?<=^lm:))(\w+=)?stage:([A-Za-z0-9_-]+)(/[^?&#]*)?(?=$|[?&#])")
"Alone, after `lm:`, before options (`stage:NAME?a=1`), or among them (`rule.yaml?a=stage:NAME`)."
KEY = re.compile(r"openai:[^?#]*\?(?:[^#]*&)?key=([^&#]*)")
"The variable that a server's key is in, of all that may be said of a server."


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
        named = [name for text in _strings(self.settings) for name in KEY.findall(text)]
        if not self.done and any(name not in os.environ for name in named):
            # It may be the key itself, and settings are written: neither this error nor any file shows it.
            raise TrueupError(
                "E797",
                "what `key=` names is no variable of the environment",
                where=f"stage {self.name}",
                remedy="export the key, and write the variable's name: `key=NAME`",
            )

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
    recipe = configuration.build(Recipe, values, dict(overrides or {}), where=str(path))
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
    inputs = tuple(dict.fromkeys(stage_inputs(resolved)))
    for needed in inputs:
        if needed not in earlier:
            raise TrueupError(
                "E708",
                f"stage:{needed} is not an earlier stage",
                where=where,
                remedy=f"earlier stages are {', '.join(earlier) or 'none'}",
            )
    digest = _digest(module, config, earlier)
    folder = run_dir / "stages" / f"{name}-{digest[:10]}"
    return Stage(
        name=name,
        module=module,
        config=configuration.build(config_class, _bind(resolved, earlier), where=where),
        folder=check_within(run_dir, folder, where),
        digest=digest,
        inputs=inputs,
        world=world,
        start=_start(resolved, inputs),
        settled=settled,
    )


def _digest(module: ModuleType, config: Any, earlier: Mapping[str, Stage]) -> str:
    resolved = configuration.resolved(config)
    keyed = {
        "method": module.__name__,
        "config": resolved,
        "inputs": {n: earlier[n].digest for n in dict.fromkeys(stage_inputs(resolved)) if n in earlier},
        "files": files_of(config),
    }
    return configuration.digest(keyed)


def _settled(
    name: str, module: ModuleType, config: Any, earlier: Mapping[str, Stage], run_dir: Path
) -> tuple[Any, tuple[Settled, ...]]:
    """The settings with learning rates settled: as this stage's folder has them, or by the table."""
    for folder in sorted((run_dir / "stages").glob(f"{name}-*")):
        begun, settled = as_begun(config, folder)
        if settled and folder.name == f"{name}-{_digest(module, begun, earlier)[:10]}":
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
    stage: Stage, *, stop_requested: Callable[[], str] = lambda: "", watch: Watch | None = None
) -> Done:
    """What the stage handed on; runs it unless it is done. `watch` is told of a method's steps."""
    if stage.done:
        return check_handed_on(stage.folder)
    stage.folder.mkdir(parents=True, exist_ok=True)
    check_links(stage.folder)
    with (stage.folder / "config.resolved.yaml").open("a", encoding="utf-8") as settings:
        _lock(settings, stage)
        if stage.done:  # by another process, between the first look and the lock
            return check_handed_on(stage.folder)
        settings.truncate(0)
        settings.write(configuration.dump_yaml(stage.settings))
        settings.flush()
        return _run(stage, stop_requested, watch)


def _lock(file: IO[str], stage: Stage) -> None:
    """Nothing; no other process runs the stage until the file is closed, or this process is killed."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise TrueupError(
            "E903",
            "another process is running this stage",
            where=str(stage.folder),
            remedy="wait until it has ended, then run this again; or write to another folder: --out DIR",
        ) from None
    except OSError as error:  # some network file systems keep no locks, and runs go on there
        warnings.warn(f"{stage.folder}: no lock ({error}); keep to one process", stacklevel=2)


def _run(stage: Stage, stop_requested: Callable[[], str], watch: Watch | None) -> Done:
    if "build" in vars(stage.module):
        from trueup.runs.training import Watch, train  # torch loads here, not when a recipe is only looked at

        trained = train(
            stage.module,
            stage.config,
            stage.folder,
            stop_requested=stop_requested,
            progress_label=stage.name,
            watch=watch or Watch(),
        )
        done = Done(output="model", metrics=trained.metrics, cost=dataclasses.asdict(trained.cost))
    else:
        # Written once, at a procedure's end: a kill after it must not leave the same numbers twice.
        (stage.folder / "metrics.jsonl").unlink(missing_ok=True)
        done = vars(stage.module)["run"](stage.config, stage.folder, stop_requested=stop_requested)
    done = dataclasses.replace(done, method=stage.method)
    write_atomically(stage.folder / "DONE.json", json.dumps(dataclasses.asdict(done), indent=1) + "\n")
    return done


def run_recipe(
    recipe: Recipe,
    run_dir: Path,
    *,
    stop_requested: Callable[[], str] = lambda: "",
    say: Callable[[str], None] = lambda line: None,
) -> Path:
    """The run's folder, every stage done. Stages finished before are skipped."""
    stages = plan(recipe, run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    resolved = {s.name: s.settings for s in stages}
    write_atomically(run_dir / "recipe.resolved.yaml", configuration.dump_yaml(resolved))
    for line in world_lines(stages, recipe.world):
        say(line)
    for number, stage in enumerate(stages, 1):
        told = ": done before" if stage.done else why_again(stage)
        say(f"[{number}/{len(stages)}] {stage.name}{told}")
        for line in () if stage.done else rate_lines(stage.module, stage.config, stage.settled):
            say(f"  {line}")
        with options_of(stage.name):
            done = run_stage(stage, stop_requested=stop_requested)
        for name in done.publish:
            staged = run_dir / f".{name}.{os.getpid()}"
            shutil.copyfile(stage.folder / name, staged)
            os.replace(staged, run_dir / name)
    return run_dir


def why_again(stage: Stage) -> str:
    """Why a stage runs that was done before with other settings or inputs; "" where it was not."""
    done = [f.parent for f in stage.folder.parent.glob(f"{stage.name}-*/DONE.json")]
    earlier = [f for f in done if re.fullmatch(r"[0-9a-f]{10}", f.name.removeprefix(f"{stage.name}-"))]
    if not earlier:
        return ""
    last = max(earlier, key=lambda folder: (folder / "DONE.json").stat().st_mtime)
    before = configuration.read_yaml(last / "config.resolved.yaml").values
    changed = changed_settings(before, stage.settings)
    what = f"{', '.join(changed[:5])} changed" if changed else "what it reads changed"
    return f": again, since {what} ({last.name} stays)"


def changed_settings(before: Any, now: Any, prefix: str = "") -> list[str]:
    """The dotted keys in which two resolved settings differ, sorted."""
    now = json.loads(json.dumps(now))
    if not (isinstance(before, Mapping) and isinstance(now, Mapping)):
        return [] if before == now else [prefix.rstrip(".")]
    keys = sorted(before.keys() | now.keys())
    return [k for key in keys for k in changed_settings(before.get(key), now.get(key), f"{prefix}{key}.")]


def world_lines(stages: Sequence[Stage], named: str) -> list[str]:
    """What is said first of the worlds that doors lead to; nothing where settings name all they read."""
    worlds = dict.fromkeys(stage.world for stage in stages if stage.world)
    default = " (the default; --world FILE.yaml leads to yours)"
    return [f"world: {world}{'' if named or world != DEFAULT else default}" for world in worlds]


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _strings(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _strings(part)


def stage_inputs(resolved: Any) -> Iterator[str]:
    """The names of the stages that `stage:NAME` refers to, anywhere in some settings."""
    for text in _strings(resolved):
        yield from (match.group(2) for match in STAGE.finditer(text))


def _bind(value: Any, earlier: Mapping[str, Stage]) -> Any:
    """The same settings with `stage:NAME` replaced by the path of that stage's output."""
    if isinstance(value, str):
        return STAGE.sub(lambda match: _output(match, earlier), value)
    if isinstance(value, Mapping):
        return {key: _bind(part, earlier) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_bind(part, earlier) for part in value]
    return value


def _output(match: re.Match[str], earlier: Mapping[str, Stage]) -> str:
    """The path that a reference to a stage stands for."""
    name, stage, inner = match.groups()
    outputs = vars(earlier[stage].module).get("OUTPUT", "model")
    path = earlier[stage].folder / (inner or f"/{outputs}").lstrip("/")
    return (name or "") + str(check_within(earlier[stage].folder, path, f"stage:{stage}{inner or ''}"))
