"""The one event loop that people's asynchronous functions run in."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Sequence
from functools import cache
from threading import Thread
from typing import Any


class Raised(Exception):
    """An awaitable raised."""

    def __init__(self, number: int, error: BaseException) -> None:
        self.number, self.error = number, error
        super().__init__(number, error)


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """The loop, in a thread of its own: a notebook has one that runs already, and clients outlive a step."""
    loop = asyncio.new_event_loop()
    Thread(target=loop.run_forever, name="trueup judges", daemon=True).start()
    return loop


def gather(values: Sequence[Any], limit: int) -> list[Any]:
    """The values in order, those that can be awaited awaited, at most `limit` under way at once.

    The first that raises, whatever it raises, ends the others and is named by `Raised`.
    """

    async def every() -> list[Any]:
        places = asyncio.Semaphore(limit)

        async def one(number: int, value: Any) -> Any:
            async with places:
                try:
                    return await value if inspect.isawaitable(value) else value
                except asyncio.CancelledError:  # another one raised
                    raise
                except BaseException as error:  # a SystemExit would end the loop's thread
                    raise Raised(number, error) from error

        tasks = [asyncio.ensure_future(one(number, a)) for number, a in enumerate(values)]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    future = asyncio.run_coroutine_threadsafe(every(), _loop())
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise
