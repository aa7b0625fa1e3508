"""Work done by several ranks, each a fork of the test's own process, over gloo."""

from __future__ import annotations

import multiprocessing
import os
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from trueup.engine.ranks import Ranks


def on_ranks(count: int, folder: Path, work: Callable[[Ranks], Any]) -> list[Any]:
    """What `work` returned on each rank; raises AssertionError with the traceback of a rank that failed."""
    folder.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("fork")
    told = context.SimpleQueue()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside threads; they are torch's, idle
        children = [
            context.Process(target=_one, args=(index, count, folder / "store", work, told))
            for index in range(count)
        ]
        for child in children:
            child.start()
    found = dict(told.get() for _ in children)
    for child in children:
        child.join(30)
    failed = [said for said in found.values() if isinstance(said, str) and said.startswith("Traceback")]
    assert not failed, failed[0]
    return [found[index] for index in range(count)]


def _one(index: int, count: int, store: Path, work: Callable[[Ranks], Any], told: Any) -> None:
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=index, world_size=count)
    try:
        told.put((index, work(Ranks(index=index, count=count))))
    except BaseException:
        told.put((index, traceback.format_exc()))
        os._exit(1)  # the others' next exchange fails, and they say so too
    distributed.barrier()
    os._exit(0)
