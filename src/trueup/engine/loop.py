"""The one training loop: collect, annotate, then minibatches of forward, objective, backward, update.

No method's name appears here. A step collects groups and learns from them; an update is one change of the
weights. Everything random is a function of the seed and these counters (see `order`), so a run that stops
after any update and starts again takes the very same path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch

from trueup.engine.batch import Batch, Outputs
from trueup.engine.groups import Group
from trueup.engine.method import Handles, Method, Objective, Rule, Terms
from trueup.engine.order import permutation
from trueup.engine.packing import count, split
from trueup.engine.reduce import Sum, mean_metrics, reduced, sums_of
from trueup.engine.room import budget, counted, fits, packed, passes
from trueup.engine.unfinished import put_back


@dataclass(kw_only=True)
class Progress:
    """How far a run is, and what the step at hand holds; a checkpoint stores all of it."""

    step: int = 0
    update: int = 0
    "Updates made within the present step."
    buffer: list[Group] = field(default_factory=list)
    "The step's annotated groups; empty between steps."
    noted: list[dict[str, float]] = field(default_factory=list)
    "Numbers recorded so far in this step, one mapping for every update and annotator."
    tokens_trained: int = 0
    tokens_sampled: int = 0
    ended: bool = False
    "Whether the keeper has ended the run before its last step."


class Keeper(Protocol):
    """Saves and restores a run; `None` in its place keeps nothing."""

    def restore(self, handles: Handles, rule: Rule) -> Progress | None: ...

    def after_update(self, progress: Progress, handles: Handles, rule: Rule) -> None: ...

    def after_step(
        self, progress: Progress, metrics: Mapping[str, float], handles: Handles, rule: Rule
    ) -> bool:
        """Writes the step's line and saves when due; True ends the run early."""
        ...

    def left(self, progress: Progress, handles: Handles, rule: Rule) -> None:
        """Saves what was learned before a step that found no groups to learn from."""
        ...


@dataclass(frozen=True, eq=False)
class Step:
    """One minibatch as an update rule sees it: exact gradients however it is cut and shared out."""

    method: Method
    handles: Handles
    groups: Sequence[Group]
    number: int | None = None
    "Which update of the run this is; None leaves out the losses beside the method's own."

    @fits
    def backward(self) -> dict[str, float]:
        """Adds the minibatch loss's gradient to `.grad`; returns reduced losses and metrics."""
        sums: list[Sum] = []
        for weight, objective, groups in self._losses():
            counts = count(groups)
            for _, terms in self._terms(objective, groups):
                shares = [w * e.values.sum() / max(1, counts[e.unit]) for w, e in terms.losses.values()]
                (weight * torch.stack(shares).sum()).backward()
                sums += sums_of(terms, counts, weight)
        return reduced(sums)

    @fits
    def evaluate(self) -> dict[str, float]:
        """The same numbers, without gradient."""
        sums: list[Sum] = []
        with torch.no_grad():
            for weight, objective, groups in self._losses():
                counts = count(groups)
                for _, terms in self._terms(objective, groups):
                    sums += sums_of(terms, counts, weight)
        return reduced(sums)

    def batches(self) -> Iterator[Batch]:
        """All of the minibatch's own groups, a microbatch at a time."""
        yield from (packed(micro, self.handles) for micro in split(self.groups, budget(self.handles)))

    @fits
    def by_group(self) -> dict[str, list[float]]:
        """Each metric's mean inside every group that has entries of its unit, without gradient."""
        means: dict[str, list[float]] = {}
        with torch.no_grad():
            for batch, terms in self._terms(self.method.objective, self.groups):
                for name, entries in terms.metrics.items():
                    total = batch.per_group(entries.values, entries.unit)
                    size = torch.bincount(batch.group_of(entries.unit), minlength=batch.num_groups)
                    means.setdefault(name, []).extend((total / size)[size > 0].tolist())
        return means

    def _losses(self) -> Iterator[tuple[float, Objective, Sequence[Group]]]:
        """The method's own loss, then those beside it: weight, objective, groups."""
        yield 1.0, self.method.objective, self.groups
        if self.number is not None:
            for beside in self.method.beside:
                yield beside.weight, beside.objective, beside.groups(self.groups, self.number, self.handles)

    def _terms(self, objective: Objective, groups: Sequence[Group]) -> Iterator[tuple[Batch, Terms]]:
        """Each microbatch of this rank and what the objective says of it."""
        for micro, real in passes(groups, self.handles, budget(self.handles)):
            batch, outputs = packed(micro, self.handles), Outputs()
            for name, want in objective.wants.items():
                outputs = outputs.merge(self.handles.networks[name](batch, want))
            yield from counted(batch, objective(outputs, batch), real)


def plan(num_groups: int, method: Method, seed: int, step: int) -> list[list[int]]:
    """The minibatches of one step: a fresh permutation for every epoch, cut into runs of `minibatch`."""
    size = method.minibatch or max(1, num_groups)
    return [
        [int(i) for i in order[start : start + size]]
        for epoch in range(method.epochs)
        for order in [permutation(num_groups, seed, "minibatch", step, epoch)]
        for start in range(0, num_groups, size)
    ]


def num_updates(method: Method, num_steps: int, groups_per_step: int) -> int:
    """How many updates so many steps of one size make, for schedules."""
    size = method.minibatch or groups_per_step
    return num_steps * method.epochs * -(-groups_per_step // size)


def fit(
    method: Method,
    handles: Handles,
    *,
    num_steps: int,
    groups_per_step: int | Sequence[int],
    keeper: Keeper | None = None,
    progressed: Callable[[Progress, Mapping[str, float]], None] | None = None,
) -> Progress:
    """Where the run ended, after `num_steps` steps or where the keeper ended it.

    `groups_per_step`, of every step or of each, tells the schedule how many updates to expect. `progressed`
    is called after every step with its metrics (progress bars, notebooks); it changes nothing.
    """
    trained = {name: handles.networks[name] for name in method.trains}
    sizes = [groups_per_step] * num_steps if isinstance(groups_per_step, int) else groups_per_step
    updates = [num_updates(method, 1, size) for size in sizes]
    rule, most = method.update.start(trained, sum(updates)), max(updates, default=0)
    progress = (keeper.restore(handles, rule) if keeper else None) or Progress()
    recording = replace(handles, record=lambda metrics: progress.noted.append(dict(metrics)))
    while progress.step < num_steps and not progress.ended:
        if not progress.buffer:
            with put_back(progress, handles, rule, keeper):
                _collect(method, recording, progress)
        minibatches = plan(len(progress.buffer), method, handles.seed, progress.step)
        for indices in minibatches[progress.update :]:
            torch.manual_seed(handles.ranks.derive(handles.seed, "update", progress.step, progress.update))
            groups = [progress.buffer[i] for i in indices]
            number = progress.step * max(most, len(minibatches)) + progress.update
            progress.noted.append(rule.step(Step(method, recording, groups, number)))
            progress.tokens_trained += sum(c.num_tokens for g in groups for c in g.completions)
            progress.update += 1
            if keeper and progress.update < len(minibatches):
                keeper.after_update(progress, handles, rule)
        with torch.no_grad():
            for controller in method.settle:
                controller(progress.buffer, recording)
        metrics = mean_metrics(progress.noted)
        progress.step, progress.update = progress.step + 1, 0
        progress.buffer, progress.noted = [], []
        if progressed:  # before the keeper, which may end the run here
            progressed(progress, metrics)
        progress.ended = bool(keeper and keeper.after_step(progress, metrics, handles, rule))
    return progress


def _collect(method: Method, handles: Handles, progress: Progress) -> None:
    """Fills the buffer: what the source yields, annotated over the whole step, without gradient."""
    with torch.no_grad():
        groups = list(method.source(progress.step, handles))
        # Before annotators, which may keep only some of them; a source that mixes says so by `samples`.
        if getattr(method.source, "samples", "sampled_logprobs" in method.source.writes):
            drawn = (c for g in groups for c in g.completions if "sampled_logprobs" in c.columns)
            progress.tokens_sampled += sum(c.num_tokens for c in drawn)
        progress.buffer = annotated(groups, method, handles)


def annotated(groups: list[Group], method: Method, handles: Handles) -> list[Group]:
    """The groups as the method's annotators leave them; where one leaves none, the others see none."""
    for annotator in method.annotate:
        if groups:
            groups = annotator(groups, handles)
    return groups
