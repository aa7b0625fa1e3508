"""Memory that runs out: the same work again in smaller pieces, with the same result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from typing import Protocol, TypeVar

import torch

from trueup.engine.batch import Batch
from trueup.engine.groups import Group
from trueup.engine.method import Handles, Terms
from trueup.engine.packing import num_row_tokens, pack, split
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


def passes(groups: Sequence[Group], handles: Handles, tokens: int) -> Iterator[tuple[list[Group], bool]]:
    """This rank's share of the groups, a pass of at most so many row tokens at a time, and whether it counts.

    The ranks' shares are consecutive, and one pass is held at a time. Where weights are sharded every rank
    makes as many passes as the one with the most: those beyond its own share are over the smallest group, and
    are not to count.
    """
    ranks = handles.ranks
    if ranks.count == 1:
        yield from ((micro, True) for micro in split(groups, tokens))
        return
    shares = ranks.shares([num_row_tokens(group) for group in groups])
    cuts = [split(groups[share.start : share.stop], tokens) for share in shares]
    made = 0
    for micro in cuts[ranks.index]:
        made += 1
        yield micro, True
    if ranks.sharded and groups:
        most = max(sum(1 for _ in cut) for place, cut in enumerate(cuts) if place != ranks.index)
        smallest = min(groups, key=num_row_tokens)
        yield from (([smallest], False) for _ in range(most - made))


def packed(groups: Sequence[Group], handles: Handles) -> Batch:
    """The batch of some groups where the networks are, in the precision of the run's columns."""
    return pack(groups).to(handles.device, handles.dtype)


def counted(batch: Batch, terms: Terms, real: bool) -> Iterator[tuple[Batch, Terms]]:
    """The pass, where it counts; else it goes back with a gradient of 0, beside ranks for which it does."""
    if real:
        yield batch, terms
    elif torch.is_grad_enabled():
        (0.0 * torch.stack([entries.values.sum() for _, entries in terms.losses.values()]).sum()).backward()


def fitting(work: Callable[[int], T], groups: Sequence[Group], handles: Handles) -> T:
    """What `work` makes of these groups at the run's row tokens a pass, fewer where memory runs out.

    `work` is given the budget, cuts the groups by it, and may be called again: what it leaves behind when it
    raises must not matter. Each time memory runs out the largest pass is halved; the smaller budget holds
    from there on, is logged as `microbatch_tokens`, and lies in the run's state, so that a resumed run cuts
    as this one does. Ranks agree on it: `work` tells the others nothing itself, and where memory runs out for
    one all begin again, except where weights are sharded, since its pass then hung on theirs.
    Raises E904 where every group has a pass of its own already.
    """
    while True:
        tokens = budget(handles)
        result: list[T] = []
        said = ""
        try:
            result.append(work(tokens))
        except (RuntimeError, MemoryError) as error:
            if not ran_out(error):
                raise
            said = str(error).splitlines()[0] if str(error) else type(error).__name__
            if handles.ranks.sharded:
                raise no_room(max(map(num_row_tokens, groups), default=0), said) from None
        said = handles.ranks.anyone(said)
        if not said:
            return result[0]
        result.clear()
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

    What it has added to gradients by then is taken back; what was there before it stays. It works on this
    rank's share of the groups: gradients are then summed over ranks, and results put together.
    """

    @wraps(method)
    def fitted(step: S) -> T:
        parameters = {id(p): p for n in step.handles.networks.values() for p in n.module.parameters()}
        before = [(p, p.grad) for p in parameters.values() if p.requires_grad]

        def again(tokens: int) -> T:
            for parameter, _ in before:
                parameter.grad = None
            return method(step)

        result = fitting(again, step.groups, step.handles)
        step.handles.ranks.sum_gradients(p for p, _ in before)
        for parameter, gradient in before:
            if gradient is not None:
                parameter.grad = gradient if parameter.grad is None else gradient + parameter.grad
        return step.handles.ranks.together(result)

    return fitted


def no_room(num_tokens: int, said: str) -> TrueupError:
    """The error E904: not even the smallest piece of work fits."""
    return TrueupError(
        "E904",
        f"memory ran out on a single piece of {num_tokens} tokens ({said[:160]})",
        remedy="--model.activation_checkpointing block, shorter rows (--data.max_tokens, "
        "--decoding.max_new_tokens), --model.dtype bfloat16, or an adapter (--model.lora.rank 16) need less",
        exit_code=EXIT_UNAVAILABLE,
    )


def release(device: torch.device | str) -> None:
    """None; hands memory that nothing uses back to the device."""
    kind = torch.device(device).type
    if kind == "cuda":
        torch.cuda.empty_cache()
    elif kind == "mps":
        torch.mps.empty_cache()
