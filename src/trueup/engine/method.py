"""A method as a value: where groups come from, what is written on them, what is minimised, how.

    source -> annotate* -> objective, and an update rule

`Method` checks when it is built that every stage reads only what an earlier stage wrote, so a wrong chain
fails before a model loads. Nothing here knows any method by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from trueup.engine.batch import Batch, Outputs, Unit
from trueup.engine.groups import Group, Message
from trueup.engine.ranks import ALONE, Ranks
from trueup.errors import TrueupError

HeadName = Literal["logprobs", "values", "rewards", "embeddings"]
"What a head of a network says."
Wants = Mapping[str, tuple[str, ...]]
'Which outputs are needed of which network: `{"policy": ("logprobs",)}`.'


# ------------------------------------------------------------------------------------------ networks


class Network(Protocol):
    """A model with heads: called on a batch, it says what is asked of it.

    `module` holds the parameters. A call keeps gradients unless the caller is inside `torch.no_grad()`.
    """

    @property
    def module(self) -> nn.Module: ...

    def __call__(self, batch: Batch, want: Sequence[str]) -> Outputs: ...


# ------------------------------------------------------------------------------------------ objectives


@dataclass(frozen=True, eq=False)
class Entries:
    """Unreduced numbers, one for each `unit`; the loop divides their sum by the whole minibatch's count."""

    values: Float[Tensor, " n"]
    unit: Unit


@dataclass(frozen=True, eq=False)
class Terms:
    """What an objective returns: weighted losses (with gradient) and metrics (without), all unreduced."""

    losses: Mapping[str, tuple[float, Entries]]
    metrics: Mapping[str, Entries] = field(default_factory=dict)


@runtime_checkable
class Objective(Protocol):
    """A frozen dataclass whose fields are hyper-parameters and whose call is the equation.

    `reads` names the columns and marks that the batch must carry.
    """

    @property
    def reads(self) -> frozenset[str]: ...

    @property
    def wants(self) -> Wants: ...

    def __call__(self, outputs: Outputs, batch: Batch) -> Terms: ...


# ------------------------------------------------------------------------------------------ stages


class Source(Protocol):
    """Yields the groups of a step. `writes` names the columns and marks its groups carry."""

    @property
    def writes(self) -> frozenset[str]: ...

    def __call__(self, step: int, handles: Handles) -> Sequence[Group]: ...


class Annotator(Protocol):
    """A function from groups to groups over the whole batch of a step, without gradient.

    One that has a method `over` does the same to a view, held-out groups that are not in memory, and gives a
    view that holds numbers alone; others are given such groups as a list.
    """

    @property
    def reads(self) -> frozenset[str]: ...

    @property
    def writes(self) -> frozenset[str]: ...

    def __call__(self, groups: list[Group], handles: Handles) -> list[Group]: ...


@dataclass(kw_only=True, eq=False)
class Handles:
    """What stages may use while a run lasts: networks by name, a judge, state that a checkpoint keeps.

    `state` holds the numbers that evolve with the run (the KL coefficient, a normaliser's moments); it is
    saved and restored whole, so a stage keeps nothing that matters anywhere else. `seed` is the run's seed:
    every random choice is a pure function of it and of the counters, never of a generator's hidden position.
    """

    networks: Mapping[str, Network]
    seed: int = 0
    device: torch.device | str = "cpu"
    dtype: torch.dtype = torch.float32
    "Precision of the real-valued columns a batch carries to the networks."
    microbatch_tokens: int = 4096
    "Row tokens in one forward pass, here and in the loop; what fits, it changes no result."
    state: dict[str, float] = field(default_factory=dict)
    judge: Callable[[Sequence[Group]], list[list[float]]] | None = None
    "Scores for each completion of each group."
    epochs: float | None = None
    "Passes over the data that the run is counted in; None where it is counted in steps (`order.span`)."
    record: Callable[[Mapping[str, float]], None] = lambda metrics: None
    "Adds numbers to the step's line in metrics.jsonl."
    ranks: Ranks = ALONE
    "The processes that train together; this one alone by default."
    sampler: Callable[..., list[Group]] | None = None
    "Draws the policy's completions as `sources.sample.draw_groups` does: a server; None is this process."


class Minibatch(Protocol):
    """One minibatch as an update rule sees it: gradients or a value, exact over all its microbatches."""

    def batches(self) -> Iterator[Batch]:
        """The minibatch's own groups a microbatch at a time, for rules that ask the networks themselves."""
        ...

    def backward(self) -> dict[str, float]:
        """Adds the gradient of the whole minibatch's loss to `.grad`; returns reduced losses and metrics."""
        ...

    def evaluate(self) -> dict[str, float]:
        """The same numbers without gradient."""
        ...


class Rule(Protocol):
    """An update rule at work: it owns the optimiser's state."""

    def step(self, minibatch: Minibatch) -> dict[str, float]:
        """Makes one update; returns what to log (`grad_norm`, `lr`...)."""
        ...

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and plain values that `load` restores to the same bits."""
        ...

    def load(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None: ...


class Update(Protocol):
    """An update rule's configuration: `start` gives the rule for some networks and a number of updates."""

    def start(self, networks: Mapping[str, Network], num_updates: int) -> Rule: ...


# ------------------------------------------------------------------------------------------ method


def _missing(code: str, part: str, needed: str, remedy: str) -> Callable[[Any], Any]:
    def refuse(_: Any) -> Any:
        reason = f"this method {needed}, and was built without a way to do so"
        raise TrueupError(code, reason, where=f"Parts.{part}", remedy=remedy)

    return refuse


@dataclass(frozen=True, kw_only=True, eq=False)
class Parts:
    """What a method is built from: encoded data, and how to encode a prompt, read and end a completion."""

    groups: Sequence[Group]
    held_out: Sequence[Group]
    decode: Callable[[np.ndarray], str]
    stop_ids: tuple[int, ...]
    prompt_ids: Callable[[Sequence[Message]], np.ndarray] = _missing(
        "E705", "prompt_ids", "encodes prompts of its own", "give a chat's `prompt_ids`"
    )
    "Token ids of a conversation up to where the completion begins."
    more: Callable[[Any], Sequence[Group]] = _missing(
        "E742", "more", "opens data of its own", "give a function from data settings to encoded groups"
    )
    "Further data by its settings, encoded alike: texts beside prompts."


@dataclass(frozen=True, kw_only=True)
class Role:
    """What a network is there for: the heads it needs, where its weights start, whether they change.

    `start` is a model reference; "" means the run's own model. A role that is not trained is frozen, and with
    LoRA costs nothing: it is the same network with the adapter switched off.
    """

    heads: tuple[HeadName, ...] = ("logprobs",)
    start: str = ""
    trained: bool = True


def actor_critic(critic: str) -> dict[str, Role]:
    """The policy, its frozen start as the reference, and a value network whose weights start at `critic`."""
    return {
        "policy": Role(),
        "reference": Role(trained=False),
        "value": Role(heads=("values",), start=critic),
    }


@dataclass(frozen=True, kw_only=True, eq=False)
class Beside:
    """A further loss of every update, on groups of its own: w · L(groups), added to the minibatch's loss.

    PPO-ptx's pretraining text, an auxiliary language-modelling loss, demonstrations mixed into preferences:
    each is divided by its own counts, whatever the minibatch holds.
    """

    groups: Callable[[Sequence[Group], int, Handles], list[Group]]
    "(the minibatch, the number of this update within the run, handles) to the groups of this loss."
    objective: Objective
    "What is minimised on them; its losses have names that the method's own do not."
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Method:
    """source -> annotate* -> objective, plus an update rule.

    Each step collects groups from `source`, annotates them, and learns from them for `epochs` passes of
    shuffled minibatches of `minibatch` groups (None: all of the step's groups at once).
    """

    name: str
    source: Source
    objective: Objective
    update: Update
    annotate: tuple[Annotator, ...] = ()
    epochs: int = 1
    "Passes over each step's groups."
    minibatch: int | None = None
    "Groups per update; None is all of the step's."
    networks: Mapping[str, Role] = field(default_factory=lambda: {"policy": Role()})
    output: str = "policy"
    "The network that the run hands on."
    temperature: float = 1.0
    "Divides the logits of every network wherever a log-probability is taken."
    judge: str = ""
    "Reference to the judge that annotators ask, if any."
    held_out: Source | None = None
    "Yields held-out groups; they pass the same annotators and objective for `eval/` metrics."
    beside: tuple[Beside, ...] = ()
    "Further losses of every update, each on groups of its own."
    settle: tuple[Annotator, ...] = ()
    "See the step's groups after its last update, without gradient: controllers that act on what it changed."
    finish: Callable[[Handles], Mapping[str, float]] | None = None
    "Runs once after the last step, before the output is saved; returns numbers to log."

    def __post_init__(self) -> None:
        written = set(self.source.writes)
        for stage in (*self.annotate, self.objective, *self.settle):
            missing = sorted(set(stage.reads) - written)
            if missing:
                raise TrueupError(
                    "E701",
                    f"{type(stage).__name__} reads {', '.join(missing)}, which no earlier stage writes",
                    where=f"method {self.name}",
                    remedy="add the annotator that writes it before this stage",
                )
            written |= set(getattr(stage, "writes", ()))

    @property
    def trains(self) -> tuple[str, ...]:
        """The networks whose parameters the objectives' gradients reach."""
        objectives = (self.objective, *(b.objective for b in self.beside))
        return tuple(dict.fromkeys(name for objective in objectives for name in objective.wants))
