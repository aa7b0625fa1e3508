"""Memory that runs out: the same work again in smaller pieces, with the same result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Protocol, TypeVar

import torch

from trueup.engine.groups import Group
from trueup.engine.method import Handles
from trueup.engine.packing import num_row_tokens, split
from trueup.errors import EXIT_UNAVAILABLE, TrueupError


class _Step(Protocol):
    @property
    def groups(self) -> Sequence[Group]: ...

    @property
    def handles(self) -> Handles: ...


T = TypeVar("T")
S = TypeVar("S", bound=_Step)


def ran_out(error: BaseException) -> bool:
    """Whether this says that a device, or this machine, has no memory left.

    Devices raise `torch.OutOfMemoryError`; torch's allocator on a CPU raises a plain RuntimeError.
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def budget(handles: Handles) -> int:
    """Row tokens in one forward pass as they are now: fewer than was set where memory has run out."""
    return int(handles.state.get("microbatch_tokens", handles.microbatch_tokens))


def fitting(work: Callable[[int], T], groups: Sequence[Group], handles: Handles) -> T:
    """What `work` makes of these groups at the run's row tokens a pass, fewer where memory runs out.

    `work` is given the budget, cuts the groups by it, and may be called again: what it leaves behind when it
    raises must not matter. Each time memory runs out the largest pass is halved; the smaller budget holds
    from there on, is logged as `microbatch_tokens`, and lies in the run's state, so that a resumed run cuts
    as this one does. Raises E904 where every group has a pass of its own already.
    """
    while True:
        tokens = budget(handles)
        try:
            return work(tokens)
        except (RuntimeError, MemoryError) as error:
            if not ran_out(error):
                raise
            said = str(error).splitlines()[0] if str(error) else type(error).__name__
        # Outside the handler: the error's traceback holds the tensors of the pass that failed.
        # One pass after another, since the groups may be more than memory holds.
        largest = max((sum(map(num_row_tokens, p)) for p in split(groups, tokens) if len(p) > 1), default=0)
        if not largest:
            raise no_room(max(map(num_row_tokens, groups), default=0), said)
        handles.state["microbatch_tokens"] = float(max(1, largest // 2))
        handles.record({"microbatch_tokens": handles.state["microbatch_tokens"]})
        release(handles.device)


def fits(method: Callable[[S], T]) -> Callable[[S], T]:
    """A step's method over its own groups that is done again in smaller passes where memory runs out.

    What it has added to gradients by then is taken back; what was there before it stays.
    """

    @wraps(method)
    def fitted(step: S) -> T:
        networks = step.handles.networks.values()
        before = [(p, p.grad) for network in networks for p in network.module.parameters() if p.requires_grad]

        def again(tokens: int) -> T:
            for parameter, _ in before:
                parameter.grad = None
            return method(step)

        result = fitting(again, step.groups, step.handles)
        for parameter, gradient in before:
            if gradient is not None:
                parameter.grad = gradient if parameter.grad is None else gradient + parameter.grad
        return result

    return fitted


def no_room(num_tokens: int, said: str) -> TrueupError:
    """The error E904: not even the smallest piece of work fits."""
    return TrueupError(
        "E904",
        f"memory ran out on a single piece of {num_tokens} tokens ({said[:160]})",
        remedy="shorter rows (--data.max_tokens, --decoding.max_new_tokens), --model.dtype bfloat16, or an "
        "adapter (--model.lora.rank 16) need less",
        exit_code=EXIT_UNAVAILABLE,
    )


def release(device: torch.device | str) -> None:
    """None; hands memory that nothing uses back to the device."""
    kind = torch.device(device).type
    if kind == "cuda":
        torch.cuda.empty_cache()
    elif kind == "mps":
        torch.mps.empty_cache()
