"""`fit` a method on paths or objects."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

from trueup.api.given import Given
from trueup.api.models import GivenModel, Model
from trueup.api.results import Trained
from trueup.api.rows import Source
from trueup.errors import TrueupError
from trueup.runs.devices import joined
from trueup.runs.files_read import files_of
from trueup.runs.one_stage import refuse_other_run, stage_of
from trueup.runs.rates import rate_lines
from trueup.runs.recipe import Stage, run_stage
from trueup.runs.shareable import check_trains
from trueup.runs.signals import stop_requests
from trueup.runs.training import Step, Watch
from trueup.runs.unchanged import Terms, own_file
from trueup.settings import config as configuration
from trueup.settings import schema
from trueup.settings.blocks import DataSettings
from trueup.settings.discover import find
from trueup.settings.stages import AnyStage

logger = logging.getLogger("trueup")
GivenJudge: TypeAlias = "str | os.PathLike[str] | Trained | Model | Callable[..., Any]"
"A judge as functions take it: a reference, a reward model, any callable."


def fit(
    method: str | os.PathLike[str] | ModuleType,
    *,
    model: GivenModel | Mapping[str, Any] | None = None,
    tokenizer: Any = None,
    data: Source | Mapping[str, Any] | None = None,
    prompts: Source | Mapping[str, Any] | None = None,
    judge: GivenJudge | None = None,
    out: str | os.PathLike[str] | None = None,
    world: str | os.PathLike[str] | None = None,
    callbacks: Callable[[Step], object] | Iterable[Callable[[Step], object]] = (),
    samples: int = 0,
    accept_changed_inputs: bool = False,
    full_digests: bool = False,
    shard: bool = False,
    **settings: Any,
) -> Trained:
    """The finished run of a method; one that was interrupted goes on, one that is done is read.

    `method` is a name, a path or a module. `model` is where the run starts, `data` the demonstrations,
    comparisons or labels that it learns from, `prompts` what it samples for, `judge` who scores: each a path,
    an object, or None for the method's default. Settings are keywords, blocks as dictionaries
    (`loop={"epochs": 1}`), by their own names or other toolkits'; `model` and `data` may be such blocks
    with the object as `path`. Without `out` the folder is `runs/METHOD-DIGEST`, where the same call finds
    the same run. Each of `callbacks` is called after every step, with its first `samples` groups.

    A run goes on with the files and objects that it began with; `accept_changed_inputs` goes on with others,
    and `inputs.json`, the report and the card say so. `full_digests` reads large weights whole to compare.

    In a script that `torchrun` has started on several devices they train together, each with a part of the
    weights if `shard`; callbacks are called on the first.

    Raises what `trueup train` says of wrong settings (E711 ...), E723 where `out` holds another run, E752 or
    E820 where that began with other objects or files, E821 where it cannot go on with others at all, E754
    for an object that cannot be used, `Interrupted` when it was asked to end and has saved.
    """
    plan = planned(
        method, model=model, tokenizer=tokenizer, data=data, prompts=prompts, judge=judge, out=out,
        world=world, settings=settings,
    )  # fmt: skip
    watch = _watch(plan.stage.module, callbacks, samples)
    refuse_other_run(plan.stage)
    device = getattr(getattr(plan.stage.config, "model", None), "device", "auto")
    with (
        plan.given.holding(),
        stop_requests() as stop_requested,
        joined(shard=shard, device=device) as ranks,
    ):
        check_trains(plan.stage.module, ranks)
        for line in rate_lines(plan.stage.module, plan.stage.config, plan.stage.settled):
            logger.log(logging.WARNING if line.startswith("warning") else logging.INFO, line)
        terms = Terms(accept=accept_changed_inputs, whole=full_digests)
        run_stage(
            plan.stage,
            stop_requested=stop_requested,
            watch=watch,
            given=plan.given.inputs,
            terms=terms,
            ranks=ranks,
        )
    return Trained.of(plan.stage.folder)


@dataclass(frozen=True, kw_only=True, eq=False)
class Planned:
    """A run before it begins: its stage with every setting, and the objects that it was given."""

    stage: Stage
    given: Given

    @contextmanager
    def in_place(self) -> Iterator[Callable[[DataSettings], DataSettings]]:
        """Inside, data settings can be read before the run has a folder: rows lie in another for so long."""
        kept = {str(self.stage.folder / item.file): item for item in self.given.inputs if item.file}
        with tempfile.TemporaryDirectory(prefix="trueup-") as folder:

            def moved(settings: DataSettings) -> DataSettings:
                item = kept.get(settings.path)
                if item is None:
                    return settings
                path = Path(folder) / Path(item.file).name
                path.write_bytes(item.content)
                return replace(settings, path=str(path))

            yield moved


def planned(
    method: str | os.PathLike[str] | ModuleType,
    *,
    model: Any,
    tokenizer: Any,
    data: Any,
    prompts: Any,
    judge: Any,
    out: str | os.PathLike[str] | None,
    world: str | os.PathLike[str] | None,
    settings: Mapping[str, Any],
) -> Planned:
    """The run that `fit` would begin with the same arguments."""
    module = _module(method)
    given = Given(tokenizer=tokenizer)
    values: dict[str, Any] = given.plain(settings, "")
    first: dict[str, Any] = {}  # below what is said, so that `bf16=True` is no second answer
    if model is not None:
        block = _is_block(module, "model")
        values["model"] = given.model_setting(model, block=block)
        first = {"model": given.defaults_of(model)} if block else {}
    if judge is not None:
        values["judge"] = given.plain(judge, "judge")
    configuration.typed(AnyStage, values, where="fit")  # raises where two exclude each other
    kept: dict[str, str] = {}
    for place, value in _placed(module, data, prompts):
        _put(values, place, given.data_setting(value, place, kept, block=_is_block(module, place)))
    if world is not None:
        values["world"] = os.fspath(world)
    name = Path(str(vars(module)["__file__"])).stem
    folder = _tidy(out) if out is not None else _folder(module, name, [first, values], given)
    for place, file in kept.items():
        _put(values, place, str(folder / file))
    with given.holding():  # how large a model is decides its learning rate
        stage = stage_of(module, first, values, name=name, folder=folder, where="fit")
    return Planned(stage=stage, given=given)


def _module(method: str | os.PathLike[str] | ModuleType) -> ModuleType:
    """The module of a method; another package's is found again by its file, as a run's folder names it."""
    if not isinstance(method, ModuleType):
        return find(os.fspath(method))
    file = vars(method).get("__file__")
    if file is None:
        raise TrueupError(
            "E702",
            f"the module {method.__name__} lies in no file",
            where="method",
            remedy="save it as a .py file and name that",
        )
    return method if method.__name__.startswith("trueup") else find(file)


def _watch(
    module: ModuleType,
    callbacks: Callable[[Step], object] | Iterable[Callable[[Step], object]],
    samples: int,
) -> Watch:
    called = (callbacks,) if callable(callbacks) else tuple(callbacks)
    if called and "build" not in vars(module):
        raise TrueupError(
            "E702", "it makes no steps to be told of", where="callbacks", remedy="leave callbacks out"
        )
    return Watch(callbacks=called, num_samples=samples if called else 0)


def _placed(module: ModuleType, data: Any, prompts: Any) -> Iterator[tuple[str, Any]]:
    """The keys under which a method reads its data and its prompts, each with what is to be read there."""
    needs = vars(module).get("NEEDS")
    samples = needs is None or "prompts" in needs
    if prompts is not None and not samples:
        wanted = ", ".join(
            need for need in needs or () if need in ("demonstrations", "comparisons", "labels")
        )
        raise TrueupError(
            "E702", f"the method reads {wanted}, no prompts", where="prompts", remedy="give them as data="
        )
    if prompts is None or data is None:
        if prompts is not None or data is not None:
            yield "data", data if prompts is None else prompts
        return
    others = [place for place in _data_blocks(vars(module)["Config"]) if place != "data"]
    if len(others) != 1:
        raise TrueupError(
            "E702",
            "the method reads one kind of data, its prompts",
            where="data",
            remedy="give prompts= alone",
        )
    yield "data", prompts
    yield others[0], data


def _data_blocks(config: type, before: str = "") -> Iterator[str]:
    """The keys of the blocks that say which data are read."""
    for item in schema.items(config):
        for block in schema.blocks(item.hint):
            if block is DataSettings:
                yield before + item.name
            else:
                yield from _data_blocks(block, f"{before}{item.name}.")


def _is_block(module: ModuleType, place: str) -> bool:
    """Whether a key of a method's settings holds a block; a plain text otherwise."""
    hints = {item.name: item.hint for item in schema.items(vars(module)["Config"])}
    return place not in hints or bool(schema.blocks(hints[place]))


def _put(values: dict[str, Any], place: str, value: Any) -> None:
    """Nothing; what stands at a dotted place is `value`, blocks merged, a text within a block its `path`."""
    *outer, last = place.split(".")
    for key in outer:
        values = values.setdefault(key, {})
    before = values.get(last)
    if isinstance(before, Mapping):
        values[last] = {**before, **(value if isinstance(value, Mapping) else {"path": value})}
    else:
        values[last] = value


def _tidy(out: str | os.PathLike[str]) -> Path:
    """The folder by one name however it was given, since the settings of a run hold it."""
    path = Path(os.path.abspath(out))
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _folder(module: ModuleType, name: str, layers: Sequence[Mapping[str, Any]], given: Given) -> Path:
    """`runs/NAME-DIGEST`: of the settings, of the files that they name, and of the objects."""
    with given.holding():
        stage = stage_of(module, *layers, name=name, folder=None, where="fit", begun=False)
        files = files_of(stage.config, method=own_file(module))
    known = {item.name: item.digest for item in given.inputs}
    digest = configuration.digest({"stage": stage.digest, "files": files, "inputs": known})
    return Path("runs") / f"{name}-{digest[:10]}"
