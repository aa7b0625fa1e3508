"""A number that is not finite makes no step: noticed at once, logged as it is, it changes no weight."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from runs.resume.made_runs import METHODS, NUM_STEPS, UPDATES_PER_STEP, Run, make, weights
from trueup.engine.batch import Batch, Outputs
from trueup.engine.groups import Group
from trueup.engine.method import Entries, Handles, Objective, Terms
from trueup.errors import TrueupError
from trueup.runs import checkpoint
from trueup.runs.meter import METRICS, read
from trueup.update.adamw import AdamW

BAD = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
AT = 5
"""The update that goes wrong: inside a step, so that a checkpoint and a step both lie before it."""


@dataclass(eq=False)
class At:
    """Whether the update at hand is the one that goes wrong."""

    calls: int = 0

    def __call__(self) -> bool:
        self.calls += 1
        return self.calls == AT


@dataclass(frozen=True, eq=False)
class Broken:
    """An objective with one number of its loss, or of its outputs, replaced."""

    inner: Objective
    now: Callable[[], bool]
    value: float
    where: str
    seen: dict[int, bool] = field(default_factory=dict)

    @property
    def reads(self) -> frozenset[str]:
        return self.inner.reads

    @property
    def wants(self) -> Mapping[str, tuple[str, ...]]:
        return self.inner.wants

    def __call__(self, outputs: Outputs, batch: Batch) -> Terms:
        if not torch.is_grad_enabled() or not self.now():
            return self.inner(outputs, batch)
        if self.where == "loss":
            terms = self.inner(outputs, batch)
            name, (weight, entries) = next(iter(terms.losses.items()))
            losses = {**terms.losses, name: (weight, Entries(self._spoil(entries.values), entries.unit))}
            return Terms(losses, terms.metrics)
        given = {n: getattr(outputs, n) for n in ("logprobs", "values", "rewards")}
        spoiled = {n: self._spoil(v) for n, v in given.items() if v is not None}
        return self.inner(replace(outputs, **spoiled), batch)

    def _spoil(self, values: Tensor) -> Tensor:
        spoiled = values.clone()
        spoiled[0] = self.value
        return spoiled


def break_objective(run: Run, value: float, where: str) -> None:
    # One microbatch a minibatch, so that calls count updates.
    run.handles.microbatch_tokens = 10_000
    run.method = replace(run.method, objective=Broken(run.method.objective, At(), value, where))


def spoiler(value: float) -> Callable[[Tensor], Tensor]:
    """Replaces one entry of the tensor that it is given at the update that goes wrong."""
    now = At()

    def spoil(tensor: Tensor) -> Tensor:
        if not now():
            return tensor
        spoiled = tensor.clone()
        spoiled.view(-1)[3 % tensor.numel()] = value
        return spoiled

    return spoil


def trained(run: Run) -> torch.nn.Module:
    run.handles.microbatch_tokens = 10_000
    return run.handles.networks[run.method.trains[0]].module


def break_gradient(run: Run, value: float, which: int) -> None:
    """The finished gradient of one parameter."""
    parameters = [p for p in trained(run).parameters() if p.requires_grad]
    parameters[which].register_hook(spoiler(value))


def layer(run: Run, name: str) -> torch.nn.Module:
    """The module of the trained network whose name ends so."""
    return next(m for n, m in trained(run).named_modules() if n.endswith(name))


def break_backward(run: Run, value: float, name: str) -> None:
    """The gradient that flows back into a module's output, in the middle of a backward pass."""
    spoil = spoiler(value)

    def forward(module: Any, given: Any, output: Any) -> None:
        first = output[0] if isinstance(output, tuple) else output
        if first.requires_grad:
            first.register_hook(spoil)

    layer(run, name).register_forward_hook(forward)


def break_forward(run: Run, value: float, name: str) -> None:
    """An entry of a hidden state, in the middle of a forward pass that learns."""
    spoil = spoiler(value)

    def forward(module: Any, given: Any, output: Any) -> Any:
        if not torch.is_grad_enabled():
            return output
        return (spoil(output[0]), *output[1:]) if isinstance(output, tuple) else spoil(output)

    layer(run, name).register_forward_hook(forward)


def break_column(run: Run, value: float, column: str) -> None:
    """One entry of a column, in the second step's groups: updates 5 to 8 of PPO read it."""

    @dataclass(frozen=True, eq=False)
    class Spoils:
        calls: list[int] = field(default_factory=list)
        reads: frozenset[str] = frozenset()
        writes: frozenset[str] = frozenset()

        def __call__(self, groups: list[Group], handles: Handles) -> list[Group]:
            self.calls.append(1)
            if len(self.calls) != 2:
                return groups
            out = []
            for group in groups:
                first, *rest = group.completions
                if column == "score":
                    first = first.with_marks(score=value)
                else:
                    numbers = first.columns[column].copy()
                    numbers[0] = value
                    first = first.with_columns(**{column: numbers})
                out.append(group.with_completions([first, *rest]))
            return out

    stages: list[Any] = []
    for stage in run.method.annotate:
        stages.append(stage)
        if column in stage.writes:
            stages.append(Spoils())
    if column == "advantages":
        stages.append(Spoils())
    run.method = replace(run.method, annotate=tuple(stages))


def break_judge(run: Run, value: float) -> None:
    """The judge itself, for every completion of the second step."""
    calls: list[int] = []
    judge = run.handles.judge
    assert judge is not None

    def broken(groups: Any) -> list[list[float]]:
        calls.append(1)
        scores = judge(groups)
        return [[value for _ in row] for row in scores] if len(calls) == 2 else scores

    run.handles.judge = broken


SITES: dict[str, Callable[[Run, float], None]] = {
    "loss": lambda run, value: break_objective(run, value, "loss"),
    "output": lambda run, value: break_objective(run, value, "output"),
    "first gradient": lambda run, value: break_gradient(run, value, 0),
    "last gradient": lambda run, value: break_gradient(run, value, -2),
    "backward, embedding": lambda run, value: break_backward(run, value, "embed_tokens"),
    "backward, attention": lambda run, value: break_backward(run, value, "layers.0.self_attn"),
    "backward, norm": lambda run, value: break_backward(run, value, "model.norm"),
    "forward, layer": lambda run, value: break_forward(run, value, "layers.0.mlp"),
    "forward, embedding": lambda run, value: break_forward(run, value, "embed_tokens"),
}
PPO_SITES: dict[str, Callable[[Run, float], None]] = {
    "judge": break_judge,
    **{
        column: lambda run, value, column=column: break_column(run, value, column)
        for column in ("score", "old_logprobs", "ref_logprobs", "rewards", "advantages", "old_values")
    },
}
PLACES = [(m, s) for m in METHODS for s in (*SITES, *(PPO_SITES if m == "ppo" else ()))]
ALL = [(method, site, value) for method, site in PLACES for value in BAD]
FEW = [(method, site, list(BAD)[number % len(BAD)]) for number, (method, site) in enumerate(PLACES)]
"""Every place with one of the three values."""


def test_there_are_at_least_108_cases() -> None:
    assert len(ALL) >= 108 and len({site for _, site in PLACES}) >= 9


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[int, str]]:
    """The digest after every update of runs with no fault."""
    digests: dict[str, dict[int, str]] = {}
    for method in METHODS:
        run = make(method, tmp_path_factory.mktemp(method), eval_every=0)
        run.handles.microbatch_tokens = 10_000
        with pytest.raises(Stopped):
            run.go(updated=stop_at(AT - 1))
        digests[method] = run.watched.digests
    return digests


class Stopped(Exception):
    pass


def stop_at(update: int) -> Callable[[int], None]:
    def updated(done: int) -> None:
        if done == update:
            raise Stopped

    return updated


def check(folder: Path, sound: Mapping[int, str], method: str, site: str, value: str) -> None:
    """The update at fault, AT, changed nothing, and whatever was saved is from before it."""
    run = make(method, folder, eval_every=0)
    run.handles.microbatch_tokens = 10_000
    {**SITES, **PPO_SITES}[site](run, BAD[value])
    with pytest.raises(TrueupError, match=r"E901 .*= (nan|-?inf)") as caught:
        run.go()
    assert caught.value.exit_code != 0
    assert run.watched.digests == sound
    assert weights(run.handles) == run.watched.weights[AT - 1]
    found = checkpoint.latest(folder / "checkpoints")
    assert found is None or found.document("run")["step"] * UPDATES_PER_STEP[method] < AT


# NumPy speaks of an infinity minus itself; the run says the same, and ends.
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.parametrize(("method", "site", "value"), FEW)
def test_the_run_ends_before_the_step(
    tmp_path: Path, sound: dict[str, dict[int, str]], method: str, site: str, value: str
) -> None:
    check(tmp_path, sound[method], method, site, value)


@pytest.mark.slow  # the other two values everywhere
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.parametrize(("method", "site", "value"), [case for case in ALL if case not in FEW])
def test_the_run_ends_before_the_step_everywhere(
    tmp_path: Path, sound: dict[str, dict[int, str]], method: str, site: str, value: str
) -> None:
    check(tmp_path, sound[method], method, site, value)


@pytest.mark.parametrize(
    ("method", "site"),
    [
        ("sft", "loss"),
        ("dpo", "backward, attention"),
        ("ppo", "output"),
        pytest.param("reward_model", "loss", marks=pytest.mark.slow),  # as the others
        pytest.param("ppo", "last gradient", marks=pytest.mark.slow),
    ],
)
def test_skipping_leaves_the_weights_and_logs_the_true_value(tmp_path: Path, method: str, site: str) -> None:
    run = make(method, tmp_path, update=AdamW(lr=1e-2, nonfinite="skip"), save_every_updates=AT)
    SITES[site](run, math.nan)
    digests = run.go()
    assert len(digests) == NUM_STEPS[method] * UPDATES_PER_STEP[method], "the run goes on to its end"
    assert run.watched.weights[AT] == run.watched.weights[AT - 1]
    assert run.watched.weights[AT + 1] != run.watched.weights[AT]
    lines = [row for row in read(tmp_path / METRICS) if row["phase"] == "train"]
    step = (AT - 1) // UPDATES_PER_STEP[method]
    bad = [row["step"] for row in lines if any(isinstance(v, float) and math.isnan(v) for v in row.values())]
    assert bad == [step + 1], "the line of the step says nan, and no other does"
    assert lines[step]["skipped"] == 1


def test_skipping_has_an_end(tmp_path: Path) -> None:
    run = make("sft", tmp_path, update=AdamW(lr=1e-2, nonfinite="skip", max_skips=3))
    broken = Broken(run.method.objective, lambda: True, math.inf, "loss")
    run.method = replace(run.method, objective=broken)
    start = weights(run.handles)
    with pytest.raises(TrueupError, match="E901"):
        run.go()
    assert max(run.watched.digests) == 3
    assert weights(run.handles) == start


def test_a_broken_weight_is_never_committed(tmp_path: Path) -> None:
    """A weight that went bad between updates: the save refuses and the last good checkpoint stands."""
    run = make("sft", tmp_path, save_every=1)

    def updated(done: int) -> None:
        if done == 2 * UPDATES_PER_STEP["sft"]:
            module = run.handles.networks["policy"].module
            next(module.parameters()).data.view(-1)[0] = math.nan

    with pytest.raises(TrueupError, match=r"E901 policy\.safetensors"):
        run.go(updated=updated)
    found = checkpoint.latest(tmp_path / "checkpoints")
    assert found is not None
    assert found.document("run")["step"] == 1
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-000001"]
