"""Keeps a run on disk: metrics, held-out evaluations, checkpoints, the best step, and the way back in."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from trueup.engine import disk
from trueup.engine.groups import Group, from_json, to_json
from trueup.engine.loop import Progress, Step, annotated
from trueup.engine.method import Handles, Method, Network, Rule
from trueup.engine.ranks import placed
from trueup.engine.views import View
from trueup.errors import TrueupError
from trueup.runs import checkpoint, manifest
from trueup.runs.checkpoint import Checkpoint
from trueup.runs.guard import Guard
from trueup.runs.meter import Meter, as_words, from_words
from trueup.runs.samples import keep_samples, samples_policy
from trueup.runs.signals import Interrupted
from trueup.settings.blocks import LoopSettings

RUN = ("step", "update", "noted", "tokens_trained", "tokens_sampled")
"What `run.json` in a checkpoint says: the counters, and the numbers noted so far in the step."


def trainable(network: Network) -> dict[str, Tensor]:
    """The tensors that training may change, by name: parameters with a gradient, and every buffer saved."""
    module = network.module
    changing = {name for name, p in module.named_parameters() if p.requires_grad}
    changing |= {name for name, _ in module.named_buffers()}
    return {name: tensor for name, tensor in module.state_dict().items() if name in changing}


def restore_into(network: Network, tensors: Mapping[str, Tensor]) -> None:
    """Nothing; copies saved tensors over the network's own, in place, or each rank's part over its own."""
    for name, tensor in trainable(network).items():
        tensor.copy_(placed(tensors[name], tensor))


def flops(method: Method, handles: Handles, progress: Progress) -> float:
    """What the run has spent on learning and sampling: Σ 6 P trained tokens + 2 P sampled tokens.

    P counts a network's parameters, and a token is one of a completion; every trained network learns from
    each. Prompts, references and judges are left out. (Kaplan et al. 2020, section 2.1, for 6 and 2.)
    """

    def size(name: str) -> int:
        return sum(p.numel() for p in handles.networks[name].module.parameters())

    trained = sum(size(name) for name in method.trains)
    return 6.0 * trained * progress.tokens_trained + 2.0 * size(method.output) * progress.tokens_sampled


class RunKeeper:
    """The keeper of one training run in one folder; see `loop.Keeper`.

    A checkpoint holds the trained networks, the update rule, the stages' state, the counters, the numbers
    noted so far in the step, and the step's groups with every column on them. Random generators need no
    saving: each draw is a function of the seed and the counters. Of several ranks the first reads and writes,
    and tells the others what it found; their folder is one that nobody looks into.
    """

    def __init__(
        self,
        folder: Path,
        *,
        method: Method,
        settings: LoopSettings,
        meter: Meter,
        num_steps: int,
        stop_requested: Callable[[], str] = lambda: "",
        guard: Guard | None = None,
    ) -> None:
        self._folder = folder / "checkpoints"
        self._best_folder = folder / "best"
        self._method, self._settings, self._meter = method, settings, meter
        self._num_steps, self._stop_requested = num_steps, stop_requested
        self._guard = guard
        self._best: dict[str, float] = {}
        self._updates_since_save = 0
        self._saved = 0
        "The last step after which all is saved."

    def restore(self, handles: Handles, rule: Rule) -> Progress | None:
        """Where the newest undamaged checkpoint stands, everything put back as it was; None without one."""
        ranks = handles.ranks
        found = checkpoint.latest(self._folder) if ranks.leads else None
        self._tidy(found)
        told = ranks.first(self._documents(found) if found else None)
        if told is None:
            return self._begin(handles, rule)
        for name in self._method.trains:
            network = handles.networks[name]
            kept = found.tensors(name, trainable(network)) if found else {}
            restore_into(network, ranks.first_tensors(kept))
        run, held = told["run"], told["held"]
        moments = found.tensors("optimizer", told["optimizer"]) if found else {}
        rule.load(ranks.first_tensors(moments), held["rule"])
        handles.state.clear()
        handles.state.update(held["state"])
        self._best = held["best"]
        if self._guard:
            self._guard.load(held["guard"])
        run["noted"] = [from_words(record) for record in run["noted"]]
        progress = Progress(**run, buffer=[from_json(json.loads(line)) for line in told["groups"]])
        self._saved = progress.step
        self._meter.truncate_after(progress.step)
        progress.ended = self._over_budget(progress, handles) or self._guarded(progress)
        if found and progress.step < self._num_steps and not progress.ended:
            disk.require_space(self._folder, sum(facts["size"] for facts in found.files.values()))
        return progress

    def _begin(self, handles: Handles, rule: Rule) -> None:
        """Nothing; a new run has room, and every rank has rank 0's weights."""
        if handles.ranks.leads:
            self._require_space(handles, rule)
        self._meter.truncate_after(-1)
        for name in self._method.trains:
            handles.ranks.spread_weights(trainable(handles.networks[name]).values())
        if self._guard:  # The start may be the peak.
            self._evaluate(Progress(), handles)

    def _documents(self, found: Checkpoint) -> dict[str, Any]:
        """What a checkpoint says beside its tensors, every part that has to be there."""
        evolving = ("rule", "state", "best", *(["guard"] if self._guard else ()))
        names = found.document("names", (*evolving, "optimizer"))
        return {
            "run": found.document("run", RUN),
            "held": {part: found.document(part, names[part]) for part in evolving},
            "optimizer": names["optimizer"],
            "groups": found.lines("groups"),
        }

    def _require_space(self, handles: Handles, rule: Rule) -> None:
        """Nothing; E941 where a new run's checkpoints do not fit: one is whole before the last one goes."""
        loop = self._settings
        several = loop.save_every_updates or 0 < loop.save_every < self._num_steps
        tensors = [t for name in self._method.trains for t in trainable(handles.networks[name]).values()]
        weights = sum(t.numel() * t.element_size() for t in tensors)
        # Two moments of each weight, as wide as what is kept beside it, or as the weight itself.
        beside = sum(t.numel() * t.element_size() for t in rule.state()[0].values())
        parts = weights + beside + 2 * max(weights, beside)
        disk.require_space(self._folder.parent, (2 if several else 1) * parts)

    def _tidy(self, found: Checkpoint | None) -> None:
        """Removes what a kill in a save, or in the removal after it, left; nothing where there is damage."""
        for folder, keep in ((self._folder, self._settings.keep_last), (self._best_folder, 1)):
            if folder.is_dir():
                manifest.clean(folder)
                if found is not None and not found.skipped:
                    checkpoint.retain(folder, keep)

    def after_update(self, progress: Progress, handles: Handles, rule: Rule) -> None:
        """Saves inside a step, when asked to end or when `save_every_updates` says so."""
        self._updates_since_save += 1
        every = self._settings.save_every_updates
        if self._stop_requested() or (every and self._updates_since_save >= every):
            self._save(progress, handles, rule)
            if self._stop_requested():
                raise Interrupted(progress.step, self._stop_requested())

    def after_step(
        self, progress: Progress, metrics: Mapping[str, float], handles: Handles, rule: Rule
    ) -> bool:
        """Writes the step's line, evaluates and saves when due; raises `Interrupted` when asked to end."""
        last = progress.step >= self._num_steps or self._over_budget(progress, handles)
        self._meter.write(progress.step, metrics)
        self._meter.spend(
            progress.step, tokens_trained=progress.tokens_trained, tokens_sampled=progress.tokens_sampled
        )
        if self._due(progress.step, self._settings.eval_every) or last:
            self._evaluate(progress, handles)
            last = last or self._guarded(progress)
        if self._due(progress.step, self._settings.save_every) or last or self._stop_requested():
            self._save(progress, handles, rule)
        if self._stop_requested() and not last:
            raise Interrupted(progress.step, self._stop_requested())
        return last

    def left(self, progress: Progress, handles: Handles, rule: Rule) -> None:
        """Saves, unless the step before is saved; raises `Interrupted` when asked to end."""
        if 0 < progress.step != self._saved:
            self._save(progress, handles, rule)
        if self._stop_requested():
            raise Interrupted(progress.step, self._stop_requested())

    def take_best(self, handles: Handles) -> float | None:
        """The step whose weights the output network now holds, where `best` names a metric; else None."""
        if not self._best:
            return None
        output, kept = handles.networks[self._method.output], {}
        if handles.ranks.leads:
            found = checkpoint.latest(self._best_folder)
            assert found is not None, "the best step is saved when it is found"
            kept = found.tensors("output", trainable(output))
        restore_into(output, handles.ranks.first_tensors(kept))
        return self._best["step"]

    def _over_budget(self, progress: Progress, handles: Handles) -> bool:
        budget = self._settings.budget
        between_steps = not progress.buffer
        return budget is not None and between_steps and flops(self._method, handles, progress) >= budget

    def _guarded(self, progress: Progress) -> bool:
        return self._guard is not None and self._guard.ends and not progress.buffer

    def _due(self, step: int, every: int) -> bool:
        return every > 0 and step % every == 0

    def _evaluate(self, progress: Progress, handles: Handles) -> None:
        def keep(groups: Sequence[Group]) -> None:
            if samples_policy(self._method):
                keep_samples(self._meter.run_dir, progress.step, groups)

        metrics = evaluate(self._method, handles, self._guard, keep)
        if not metrics:
            return
        if self._guard:
            self._guard.observe(progress.step, metrics)
        self._meter.write(progress.step, metrics, phase="eval")
        name = self._settings.best
        if name is None:
            return
        known = name.removeprefix("lowest ").removeprefix("eval/")
        if known not in metrics:
            raise TrueupError(
                "E726",
                f"no held-out metric is called {name!r}",
                where="loop.best",
                remedy=f"one of {', '.join(f'eval/{m}' for m in sorted(metrics))}",
            )
        value = metrics[known]
        sign = -1 if name.startswith("lowest ") else 1
        if math.isfinite(value) and (not self._best or sign * value > sign * self._best["value"]):
            self._best = {"step": progress.step, "value": value}
            output = handles.ranks.whole(trainable(handles.networks[self._method.output]))
            if handles.ranks.leads:
                checkpoint.save(
                    self._best_folder,
                    f"step-{progress.step:06d}",
                    tensors={"output": output},
                    documents={"best": self._best},
                )
                checkpoint.retain(self._best_folder, 1)

    def _save(self, progress: Progress, handles: Handles, rule: Rule) -> None:
        whole = handles.ranks.whole
        optimizer, values = rule.state()
        optimizer = whole(optimizer)
        tensors = {name: whole(trainable(handles.networks[name])) for name in self._method.trains}
        self._updates_since_save = 0
        self._saved = progress.step if progress.update == 0 else self._saved
        if not handles.ranks.leads:
            return
        run = {name: getattr(progress, name) for name in RUN}
        run["noted"] = [as_words(record) for record in progress.noted]
        evolving: dict[str, Any] = {"rule": values, "state": handles.state, "best": self._best}
        if self._guard:
            evolving["guard"] = self._guard.state()
        # Said apart, so that nothing can go missing without a word: a fresh moment or coefficient in place of
        # a saved one would train on as if all were well.
        names = {part: sorted(kept) for part, kept in {**evolving, "optimizer": optimizer}.items()}
        self._meter.sync()
        checkpoint.save(
            self._folder,
            f"step-{progress.step:06d}" + (f"-update-{progress.update:04d}" if progress.update else ""),
            tensors={**tensors, "optimizer": optimizer},
            documents={"run": run, "names": names, **evolving},
            lines={"groups": (json.dumps(to_json(g), ensure_ascii=False) for g in progress.buffer)},
        )
        checkpoint.retain(self._folder, self._settings.keep_last)


def evaluate(
    method: Method,
    handles: Handles,
    guard: Guard | None = None,
    seen: Callable[[Sequence[Group]], None] = lambda groups: None,
) -> dict[str, float]:
    """Held-out losses and metrics: the method's own chain on its held-out groups, learning nothing.

    `seen` is given the groups with what annotators wrote on them.
    """
    noted: dict[str, float] = {}
    step = held_out_step(method, handles, noted, guard)
    if step is None:
        return {}
    seen(step.groups)
    return {**noted, **step.evaluate()}


def held_out_step(
    method: Method, handles: Handles, noted: dict[str, float], guard: Guard | None = None
) -> Step | None:
    """The held-out groups, annotated, as one minibatch; what annotators record goes into `noted`.

    Stages work on a copy of the run's state, so that a controller does not move. None without such groups.
    """
    if method.held_out is None:
        return None
    aside = replace(handles, state=dict(handles.state), record=noted.update, epochs=None)
    groups = method.held_out(0, aside)
    if not groups:
        return None
    if guard:  # Before annotators, which may keep only the completions that the run's own judge prefers.
        guard.score(groups, noted)
    return Step(method, aside, _annotated(groups, method, aside))


def _annotated(groups: Sequence[Group], method: Method, handles: Handles) -> Sequence[Group]:
    """As in a step of training; what is not in memory stays where it lies, if annotators go over it."""
    if not isinstance(groups, View):
        return annotated(list(groups), method, handles)
    for annotator in method.annotate:
        over = getattr(annotator, "over", None) if isinstance(groups, View) else None
        groups = over(groups, handles) if over else annotator(list(groups), handles)
    return groups
