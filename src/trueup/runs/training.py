"""One training run, from a method's configuration to a folder that holds its model.

FOLDER/
  config.resolved.yaml  metrics.jsonl  timings.jsonl  data.json  quarantine.jsonl
  warnings.json  checkpoints/  best/  samples.jsonl  model/  DONE.json
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from trueup.chat import Chat
from trueup.engine import disk, inputs
from trueup.engine.groups import Group
from trueup.engine.loop import Progress, fit
from trueup.engine.method import Handles, Method, Parts
from trueup.engine.order import spans
from trueup.engine.ranks import ALONE, Ranks
from trueup.errors import TrueupError
from trueup.judges.open import open_judge
from trueup.judges.over_ranks import over_ranks
from trueup.models.forward import LanguageModel
from trueup.models.opening import open_chat, open_networks, open_shared, pick_device
from trueup.models.sharding import shard
from trueup.models.shared import Base
from trueup.rollouts.open import corrected, open_sampler
from trueup.runs import meter as metering
from trueup.runs import warned
from trueup.runs.files_read import inputs_of
from trueup.runs.guard import Guard, check_guarded
from trueup.runs.idle import sum_up, warn_of, warned_before
from trueup.runs.keeper import RunKeeper, held_out_step
from trueup.runs.output import hand_on, opened_again
from trueup.runs.shareable import check_devices
from trueup.runs.signals import Interrupted, end_if_asked
from trueup.settings.blocks import LoopSettings
from trueup.sources.open import Opened, open_groups
from trueup.statistics.estimates import Estimate, mean_ci, win_rate

logger = logging.getLogger("trueup")


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a finished run left: its model's folder, and its numbers."""

    folder: Path
    model: Path
    metrics: Mapping[str, float]
    held_out: Mapping[str, Estimate]
    "Each held-out metric with its 95 % interval over groups."
    cost: metering.Cost


@dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """One step of a run as a callback sees it, after its last update and before it is saved."""

    number: int
    "From 1."
    num_steps: int
    metrics: Mapping[str, float]
    "The step's numbers, as in metrics.jsonl."
    samples: tuple[Group, ...] = ()
    "The first groups that were learned from, with what was measured of them, if they were asked for."


@dataclass(frozen=True, kw_only=True)
class Watch:
    """Who is told of every step, and with how many of its groups."""

    callbacks: tuple[Callable[[Step], object], ...] = ()
    num_samples: int = 0


def train(
    module: ModuleType,
    config: Any,
    folder: Path,
    *,
    stop_requested: Callable[[], str] = lambda: "",
    progress_label: str = "",
    watch: Watch = Watch(),
    ranks: Ranks = ALONE,
) -> Trained:
    """The finished run in `folder`: continued from its newest checkpoint where there is one.

    `module` is a method's file and `config` an instance of its `Config`. Raises `Interrupted` when
    `stop_requested` names a signal, on any of the ranks, after saving, and what a callback raises. Ranks but
    the first are given a folder of their own, to be thrown away.
    """
    disk.make_folder(folder)
    with warned.keeping(folder):
        asked = partial(_asked_any, stop_requested, ranks)
        return _train(module, config, folder, asked, progress_label, watch, ranks)


def _asked_any(stop_requested: Callable[[], str], ranks: Ranks) -> str:
    """The signal that any rank was asked to end by; all ranks have to ask at the same places."""
    return ranks.anyone(stop_requested())


def _train(
    module: ModuleType,
    config: Any,
    folder: Path,
    stop_requested: Callable[[], str],
    label: str,
    watch: Watch,
    ranks: Ranks,
) -> Trained:
    device = pick_device(config.model.device, config.model.dtype)
    chat = open_chat(config.model)
    bad, needs = folder / "quarantine.jsonl", vars(module).get("NEEDS", ())
    with ranks.one_first():
        opened = open_groups(config.data, chat, seed=config.seed, quarantine=bad, needs=needs)
    _note_data(folder, opened)
    metering.say(*opened.unread)
    end_if_asked(stop_requested)
    method = corrected(module.build(config, _parts(config, opened, chat)), config, ranks)
    if config.loop.guard is not None:
        check_guarded(method)  # Before a model loads.
    check_devices(method, config.model, ranks)
    base, networks = _opened(method, config, device, ranks, chat.tokenizer)
    inputs.add(folder, inputs_of(config, outside=folder))  # what was fetched, which was not there before
    check_context(networks, opened, config.data.max_tokens, _new_tokens(config, needs))
    end_if_asked(stop_requested)
    handles = Handles(
        networks=networks,
        seed=config.seed,
        device=device,
        dtype=torch.float64 if config.model.dtype == "float64" else torch.float32,
        microbatch_tokens=config.loop.microbatch_tokens,
        epochs=None if config.loop.steps is not None else config.loop.epochs,
        judge=over_ranks(open_judge(method.judge, device=str(device), base=base, decode=chat.decode), ranks)
        if method.judge
        else None,
        ranks=ranks,
    )
    sampler = open_sampler(config, networks, folder, stop_requested)
    handles = replace(handles, sampler=sampler)
    end_if_asked(stop_requested)
    sizes = step_sizes(config.loop, method, len(opened.train))
    _note_data(folder, opened, len(sizes))
    done = train_method(
        method,
        handles,
        config.loop,
        folder,
        sizes=sizes,
        stop_requested=stop_requested,
        label=label,
        watch=watch,
        again=partial(opened_again, method, config, chat.tokenizer) if ranks.sharded else None,
    )
    if sampler:
        sampler.close()
    return done


def _parts(config: Any, opened: Opened, chat: Chat) -> Parts:
    """What a method is built from: the opened groups, and how the chat encodes and decodes."""
    return Parts(
        groups=opened.train,
        held_out=opened.held_out,
        decode=chat.decode,
        stop_ids=chat.stop_ids,
        prompt_ids=chat.prompt_ids,
        more=lambda settings: open_groups(settings, chat, seed=config.seed).train,
    )


def check_context(
    networks: Mapping[str, LanguageModel], opened: Opened, max_tokens: int, new_tokens: int
) -> None:
    """Nothing. Raises TrueupError E221 where rows, or prompts with what is sampled, pass a context.

    A context that is only shorter than `max_tokens` is warned of.
    """
    contexts = {
        n: getattr(net.config.get_text_config(), "max_position_embeddings", None)
        for n, net in networks.items()
    }
    name, context = min(((n, c) for n, c in contexts.items() if c), key=lambda item: item[1], default=("", 0))
    longest = opened.longest_prompt + new_tokens if new_tokens else opened.longest
    if not context:
        return
    if longest > context:
        what = f"the longest prompt with {new_tokens} new tokens" if new_tokens else "the longest row"
        raise TrueupError(
            "E221",
            f"{what} takes {longest} tokens, data.max_tokens is {max_tokens}, the model's context {context}",
            where=f"network {name}",
            remedy=f"--data.max_tokens {max(2, context - new_tokens)} leaves longer rows out and counts them",
        )
    if context < max_tokens:
        logger.warning(
            "data.max_tokens is %d, and the context of the model is %d; the longest row has %d",
            *(max_tokens, context, longest),
        )


def _new_tokens(config: Any, needs: Sequence[str]) -> int:
    """How many tokens a method samples behind a prompt; 0 for one that learns from files."""
    decoding = getattr(config, "decoding", None)
    return decoding.max_new_tokens if decoding is not None and "sampling" in needs else 0


def _opened(
    method: Method, config: Any, device: torch.device, ranks: Ranks, tokenizer: Any
) -> tuple[Base | None, dict[str, LanguageModel]]:
    """The base, where roles share one, and the networks: on the device, or this rank's part of them."""
    place = torch.device("cpu") if ranks.sharded else device  # a device may not hold a network whole
    base = open_shared(method, config.model, place)
    found = open_networks(method, config.model, place, seed=config.seed, base=base, tokenizer=tokenizer)
    if ranks.sharded:
        shard(found.values(), ranks, device)
    return base, found


def train_method(
    method: Method,
    handles: Handles,
    loop: LoopSettings,
    folder: Path,
    *,
    sizes: Sequence[int],
    stop_requested: Callable[[], str] = lambda: "",
    label: str = "",
    watch: Watch = Watch(),
    again: Callable[[], LanguageModel] | None = None,
) -> Trained:
    """The finished run of a built method on loaded networks, kept in `folder`; see `train`.

    `sizes` says how many groups each step has. Where networks are sharded, `again` opens the output anew.
    """
    num_steps = len(sizes)
    seen = _Seen(count=watch.num_samples)
    if watch.num_samples:
        method = replace(method, settle=(*method.settle, seen))
    meter = metering.Meter(folder, ("jsonl", *(loop.trackers if handles.ranks.leads else ())))
    guard = open_guard(method, loop, handles)
    keeper = RunKeeper(
        folder,
        method=method,
        settings=loop,
        meter=meter,
        num_steps=num_steps,
        stop_requested=stop_requested,
        guard=guard,
    )
    begun: list[int] = []
    idle: set[str] = set()
    with metering.progress(num_steps, label or method.name) as advance:

        def progressed(progress: Progress, metrics: Mapping[str, float]) -> None:
            # Before the first step of this display lie those of the run that is resumed.
            advance(1, headline(metrics), before=0 if begun else progress.step - 1)
            if not begun:
                idle.update(warned_before(folder))
            begun.append(progress.step)
            warn_of(progress.step, metrics, idle)
            for callback in watch.callbacks:
                said, samples = dict(metrics), tuple(seen.groups)
                callback(Step(number=progress.step, num_steps=num_steps, metrics=said, samples=samples))

        ended = fit(
            method, handles, num_steps=num_steps, groups_per_step=sizes, keeper=keeper, progressed=progressed
        )
    sum_up(folder)
    noted, best = _last_numbers(folder), keeper.take_best(handles)
    if best is not None:
        noted["best_step"] = best
    if guard is not None and guard.fall is not None:
        noted["guard/fell"] = guard.steps[guard.fall.at]
    held_out, model = _made(method, handles, folder, noted, ended.step, stop_requested, again)
    cost = meter.spend(ended.step, tokens_trained=ended.tokens_trained, tokens_sampled=ended.tokens_sampled)
    meter.close()
    return Trained(folder=folder, model=model, metrics=noted, held_out=held_out, cost=cost)


def _made(
    method: Method,
    handles: Handles,
    folder: Path,
    noted: dict[str, float],
    step: int,
    stop_requested: Callable[[], str],
    again: Callable[[], LanguageModel] | None,
) -> tuple[dict[str, Estimate], Path]:
    """The finished model's held-out numbers, and its folder; what the method notes at its end is noted."""
    if method.finish is not None:
        noted.update(method.finish(handles))
    _end_if_asked(step, stop_requested)
    held_out = _note_held_out(method, handles, folder)
    _end_if_asked(step, stop_requested)
    return held_out, hand_on(method, handles, folder, again)


def _end_if_asked(step: int, stop_requested: Callable[[], str]) -> None:
    """Raises `Interrupted` after the last step, which is saved: the same command makes what is missing."""
    if stop_requested():
        raise Interrupted(step, stop_requested())


@dataclass(kw_only=True, eq=False)
class _Seen:
    """A controller that changes nothing and keeps the first groups of the step at hand."""

    count: int
    groups: list[Group] = field(default_factory=list)

    @property
    def reads(self) -> frozenset[str]:
        """Nothing."""
        return frozenset()

    @property
    def writes(self) -> frozenset[str]:
        """Nothing."""
        return frozenset()

    def __call__(self, groups: list[Group], handles: Handles) -> list[Group]:
        """The groups as they are."""
        self.groups = groups[: self.count]
        return groups


def open_guard(method: Method, loop: LoopSettings, handles: Handles) -> Guard | None:
    """The run's guard with its judge, where `loop.guard` names one; E743 if there is nothing to guard."""
    if loop.guard is None:
        return None
    check_guarded(method)
    judge = over_ranks(open_judge(loop.guard.judge, device=str(handles.device)), handles.ranks)
    return Guard(settings=loop.guard, judge=judge)


def step_sizes(loop: LoopSettings, method: Method, num_groups: int) -> list[int]:
    """How many groups each step of a run has: `steps` whole batches, or `epochs` passes in batches."""
    if loop.steps is not None:
        return [loop.batch] * loop.steps
    size = len(getattr(method.source, "groups", getattr(method.source, "prompts", ()))) or num_groups
    return spans(size, loop.batch, loop.epochs)


def headline(metrics: Mapping[str, float]) -> str:
    """The few numbers that a progress line has room for."""
    shown = ("loss", "accuracy", "rewards/accuracies", "score", "score/trained", "kl", "grad_norm")
    return "  ".join(f"{name} {metrics[name]:.3g}" for name in shown if name in metrics)


def _note_data(folder: Path, opened: Opened, steps: int | None = None) -> None:
    """Nothing; data.json says what became of the rows, and, once that is known, how many steps there are."""
    counts = {
        "format": opened.format,
        "rows_in": opened.rows_in,
        "train": len(opened.train),
        "held_out": len(opened.held_out),
        "quarantined": opened.quarantined,
        "overlong": opened.overlong,
        "truncated": opened.truncated,
        **({} if steps is None else {"steps": steps}),
    }
    disk.write(folder / "data.json", json.dumps(counts, indent=1) + "\n")


def _last_numbers(folder: Path) -> dict[str, float]:
    """The last of each number that steps logged: from the file, since a resumed run made only some steps."""
    noted: dict[str, float] = {}
    for row in metering.read(folder / metering.METRICS):
        if row["phase"] == "train":
            noted.update({name: value for name, value in row.items() if name != "phase"})
    return noted


def _note_held_out(method: Method, handles: Handles, folder: Path) -> dict[str, Estimate]:
    """Writes `held_out.json`: every metric of the finished model with its interval over held-out groups."""
    step = held_out_step(method, handles, {})
    found = {name: _estimate(name, values) for name, values in step.by_group().items()} if step else {}
    rows = {name: estimate.to_json() for name, estimate in found.items()}
    disk.write(folder / "held_out.json", json.dumps(rows, indent=1) + "\n")
    return found


def _estimate(name: str, values: Sequence[float]) -> Estimate:
    # An accuracy's interval stays within 0 and 1, and is no point where a few prompts agree.
    return win_rate(values).estimate if "accurac" in name else mean_ci(values)
