"""Work done by several ranks, each a fork of the test's own process, over gloo."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import torch

from trueup.engine.ranks import Ranks
from trueup.errors import TrueupError
from trueup.runs.devices import joined
from trueup.runs.signals import Interrupted

KILLED = "killed"


def on_ranks(count: int, work: Callable[[Ranks], Any], *, shard: bool = False) -> list[Any]:
    """What `work` returned on each rank: `KILLED` of one that was killed, the error of one that raised ours.

    Raises AssertionError with the traceback of a rank that failed otherwise.
    """
    context = multiprocessing.get_context("fork")
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    pipes = [context.Pipe(duplex=False) for _ in range(count)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside threads; they are torch's, idle
        children = [
            context.Process(target=_one, args=(index, count, port, work, shard, pipes[index][1]))
            for index in range(count)
        ]
        for child in children:
            child.start()
    for _, end in pipes:
        end.close()
    found = []
    for reading, _ in pipes:
        try:
            found.append(reading.recv())
        except EOFError:
            found.append(KILLED)
    for child in children:
        child.join(30)
    failed = [said for said in found if isinstance(said, str) and said.startswith("Traceback")]
    assert not failed, failed[0]
    return found


def _one(index: int, count: int, port: int, work: Callable[[Ranks], Any], shard: bool, told: Any) -> None:
    os.environ.update(
        RANK=str(index), LOCAL_RANK=str(index), WORLD_SIZE=str(count), MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port), GLOO_SOCKET_IFNAME="lo0" if sys.platform == "darwin" else "lo",
    )  # fmt: skip
    torch.set_num_threads(1)
    try:
        with joined(shard=shard, device="cpu") as ranks:
            assert ranks is not None
            told.send(work(ranks))
    except (TrueupError, Interrupted) as error:
        told.send(str(error))
    except BaseException:
        told.send(traceback.format_exc())
    os._exit(0)
