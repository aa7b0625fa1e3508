"""This process among those of a run on several devices, as `torchrun` or `runs.launch` has set them up.

    RANK  WORLD_SIZE  LOCAL_RANK  MASTER_ADDR  MASTER_PORT

Each rank shows the others that it is alive, once a second. Where one has ended, or said nothing for
`SILENCE` seconds, the others end with E871 and its number, wherever they are waiting.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from trueup.errors import EXIT_UNAVAILABLE, TrueupError
from trueup.runs.signals import Interrupted

if TYPE_CHECKING:
    from trueup.engine.ranks import Ranks

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
LAUNCHER = "TRUEUP_LAUNCHER"
"The process that started this rank, where that was ours: without it the rank ends."
BEAT, SILENCE, SHORT = 1.0, 15.0, 5.0
"""Seconds between two signs of life; how long a rank may give none; and how long once an exchange has failed,
or the rank was seen to fail."""
AGAIN = "the same command goes on from the newest checkpoint, on as many devices or on others"
_EXCHANGE = re.compile(r"gloo|nccl|connection|peer|socket|store|broken pipe|timed? ?out", re.IGNORECASE)
_ENDED = "ended"


def world_size() -> int:
    """How many processes the environment says that a run has; 1 where it says nothing."""
    size = os.environ.get("WORLD_SIZE", "")
    return int(size) if size.isdecimal() and all(name in os.environ for name in NAMES) else 1


def leads() -> bool:
    """Whether this process is the one of its run that speaks."""
    return world_size() == 1 or os.environ["RANK"] == "0"


@contextmanager
def joined(*, shard: bool = False, device: str = "auto") -> Iterator[Ranks | None]:
    """This process's ranks; None where it is alone, and nothing is imported.

    Inside, ranks but the first say nothing. Raises E871 in place of a failed exchange, where a rank is gone,
    and E872 where `device`, as settings name it, is one alone or there are fewer than ranks.
    """
    if world_size() == 1:
        yield None
        return
    store, ranks = _open(shard, device)
    watch = Watch(store=store, index=ranks.index, count=ranks.count)
    watch.start(ranks)
    try:
        with _quiet(not ranks.leads):
            yield ranks
            ranks.wait()
    except Interrupted:  # all ranks were asked alike, and none leaves while the first still saves
        ranks.wait()
        watch.end(_ENDED)
        raise
    except BaseException as error:
        lost = watch.lost(error)
        watch.end(f"{type(error).__name__}: {error}".splitlines()[0][:300])
        if lost is not None:
            raise lost from None
        raise
    watch.end(_ENDED)
    _close()


def _open(shard: bool, device: str) -> tuple[Any, Ranks]:
    """The store that ranks find each other by, and this process's ranks, once all are there."""
    import torch
    from torch import distributed
    from torch.distributed.rendezvous import rendezvous

    from trueup.engine.ranks import Ranks

    local = int(os.environ["LOCAL_RANK"])
    gpus = torch.cuda.is_available() and device.partition(":")[0] in ("auto", "cuda")
    if device.startswith(("cuda:", "mps")):
        raise TrueupError(
            "E872",
            f"model.device is {device}, one device, and there are {world_size()} ranks",
            where="model.device",
            remedy="--model.device cuda gives each rank a GPU of its own, cpu a process",
        )
    if gpus:
        if local >= torch.cuda.device_count():
            raise too_few(local + 1, torch.cuda.device_count())
        torch.cuda.set_device(local)
    backend = "cpu:gloo,cuda:nccl" if gpus else "gloo"
    # Ranks may wait long for one that saves or asks a judge; who is gone, the watch says.
    store, index, count = next(iter(rendezvous("env://", timeout=timedelta(minutes=10))))
    distributed.init_process_group(
        backend, store=store, rank=index, world_size=count, timeout=timedelta(days=7)
    )
    # For the watch alone, which does not wait for an answer as long as others may.
    apart: Any = store.clone()  # pyright: ignore[reportAttributeAccessIssue] - torch's stubs lack it
    apart.set_timeout(timedelta(seconds=SILENCE))
    return apart, Ranks(index=index, count=count, sharded=shard)


def _close() -> None:
    from torch import distributed

    distributed.destroy_process_group()


def too_few(asked: int, there: int) -> TrueupError:
    """The error E872: more ranks on this machine than devices."""
    return TrueupError(
        "E872",
        f"{asked} devices are asked for on this machine, and {there} can be used",
        where="--devices",
        remedy=f"--devices {there}, or name CPUs: --model.device cpu",
    )


@contextmanager
def _quiet(silent: bool) -> Iterator[None]:
    """Inside, a silent rank shows and warns of nothing: the first says it."""
    logger = logging.getLogger("trueup")
    if not silent:
        yield
        return
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with (
            open(os.devnull, "w", encoding="utf-8") as nowhere,
            redirect_stdout(nowhere),
            redirect_stderr(nowhere),
        ):
            yield
    finally:
        logger.setLevel(before)


@dataclass(kw_only=True, eq=False)
class Watch:
    """One rank's signs of life, and what it sees of the others', in a thread of its own."""

    store: Any
    index: int
    count: int
    _seen: dict[int, tuple[str, float]] = field(default_factory=dict)
    "What each of the others last showed, and when it was first seen."
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self, ranks: Ranks) -> None:
        """Nothing; signs are given from now on. All ranks come here."""
        self.store.set(_key(self.index), "0")
        ranks.wait()
        self._look()
        self._thread = threading.Thread(target=self._run, name="trueup ranks", daemon=True)
        self._thread.start()

    def end(self, said: str) -> None:
        """Nothing; the others see that this rank has ended, and how."""
        self._over.set()
        if self._thread is not None:
            self._thread.join(2 * BEAT)
        try:
            self.store.set(_key(self.index), said if said == _ENDED else f"failed {said}")
        except Exception:  # the store has gone with the rank that had it
            logging.getLogger("trueup").debug("rank %d: no store to say farewell to", self.index)

    def lost(self, error: BaseException) -> TrueupError | None:
        """E871 where an exchange failed since another rank is gone; None for an error of this rank's own."""
        if isinstance(error, TrueupError) or not isinstance(error, RuntimeError | OSError):
            return None
        if not _EXCHANGE.search(f"{type(error).__name__} {error}"):
            return None
        until = time.monotonic() + SILENCE
        while time.monotonic() < until:
            found = self._gone(SHORT)
            if found is not None:
                return found
            time.sleep(BEAT / 4)
        reason = f"ranks can no longer reach one another: {str(error).splitlines()[0][:200]}"
        return _error(reason, self.index)

    def _run(self) -> None:
        number = 0
        launcher = os.environ.get(LAUNCHER, "")
        while not self._over.wait(BEAT):
            number += 1
            if launcher and os.getppid() != int(launcher):
                launcher = ""
                os.kill(os.getpid(), signal.SIGTERM)  # saved, and gone on with by the same command
            try:
                self.store.set(_key(self.index), str(number))
                self._look()
                gone = self._gone(SILENCE)
            except Exception:
                gone = _error("rank 0, or the process that started the ranks, is gone", self.index)
            if gone is not None and not self._over.wait(SHORT):
                # The main thread waits in an exchange that will not end.
                print(f"error {gone}", file=sys.__stderr__, flush=True)
                os._exit(EXIT_UNAVAILABLE)

    def _look(self) -> None:
        now = time.monotonic()
        for rank in range(self.count):
            shown = self.store.get(_key(rank)).decode()
            if self._seen.get(rank, ("", 0.0))[0] != shown:
                self._seen[rank] = (shown, now)

    def _gone(self, patience: float) -> TrueupError | None:
        """The error of a rank that failed, or was silent for so long: the cause, not who ended for it."""
        now = time.monotonic()
        others = {rank: seen for rank, seen in self._seen.items() if rank != self.index and seen[0] != _ENDED}
        failed = {
            rank: shown.removeprefix("failed ") for rank, (shown, _) in others.items() if shown[0] == "f"
        }
        silent = [
            rank for rank, (_, since) in others.items() if rank not in failed and now - since > patience
        ]
        if silent:
            rank = silent[0]
            return _error(
                f"rank {rank} was killed or hangs: no sign of life for {patience:.0f} s", self.index
            )
        causes = {rank: said for rank, said in failed.items() if "E871" not in said}
        if causes and all(now - others[rank][1] > BEAT for rank in causes):
            rank, said = next(iter(causes.items()))
            return _error(f"rank {rank} ended: {said}", self.index)
        return None


def _key(rank: int) -> str:
    return f"trueup/life/{rank}"


def _error(reason: str, index: int) -> TrueupError:
    return TrueupError("E871", reason, where=f"rank {index}", remedy=AGAIN)
