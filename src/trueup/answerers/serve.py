"""`trueup serve`: an OpenAI-compatible server on this machine alone, for one model, one request at a time.

It listens on the loopback address only; `trueup.answerers.door` says whose requests it answers, and bounds
what clients may take up.

Three threads share the work. The event loop never waits: a second thread reads and checks requests, a third
has the model write, in the order in which they came. An answer depends on its request alone, never on who
else asks. `MAX_WAITING` requests may wait; one more is refused at once, with when to come back. Where a
client leaves, what is written for it ends with the next token.

Importing this raises E811 where the extra `trueup[serving]` is not installed.
"""

from __future__ import annotations

import asyncio
import json
import math
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, final

from trueup.answerers.door import Limits, refusal, server_of
from trueup.answerers.service import PATHS, GivenUpError, Service
from trueup.data.consented import HEADER, Consented
from trueup.errors import TrueupError

try:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import Response
    from starlette.routing import Route
except ImportError as error:
    raise TrueupError(
        "E811",
        f"the package {error.name} is not installed",
        where="trueup serve",
        remedy="pip install 'trueup[serving]'",
    ) from None

MAX_WAITING = 256
"How many requests are taken and not answered yet, at most."
LONGEST_PAUSE = 60
"Seconds after which a client that was refused may come back at the latest."


def make_server(
    service: Service,
    waiting: int = MAX_WAITING,
    limits: Limits | None = None,
    consented: Consented | None = None,
) -> uvicorn.Server:
    """A server: `run(sockets=[listen()])` answers until Ctrl-C or SIGTERM, and then what it has taken.

    What is asked with the header of consent goes to `consented`, and nothing else is kept.
    """
    limits = limits or Limits()
    line = _Line(service, waiting, limits, consented)

    async def models(request: Request) -> Response:
        return _reply(200, service.models())

    async def health(request: Request) -> Response:
        return _reply(200, {"status": "ok"})

    app = Starlette(
        routes=[
            Route("/v1/models", models),
            Route("/health", health),
            *(Route(path, line.answer, methods=["POST"]) for path in PATHS),
        ],
        exception_handlers={
            kind: _refusal for kind in (HTTPException, TrueupError, ClientDisconnect, Exception)
        },
    )
    return server_of(app, limits)


@final
class _Line:
    """The requests that were taken and are not answered yet."""

    def __init__(self, service: Service, most: int, limits: Limits, consented: Consented | None) -> None:
        self._service, self._most, self._limits = service, most, limits
        self._consented = consented
        self._taken, self._seconds, self._bytes = 0, 1.0, 0
        "How many there are, what the last answer took, and how much of bodies is being read."
        self._turn, self._reader, self._writer = asyncio.Lock(), ThreadPoolExecutor(1), ThreadPoolExecutor(1)

    async def answer(self, request: Request) -> Response:
        """The model's answer, or 503 where as many wait as may."""
        asked = await self._asked(request)
        # Counted once it is whole: who takes long to ask is in nobody's way.
        if self._taken >= self._most:
            pause = min(LONGEST_PAUSE, math.ceil(self._taken * self._seconds))
            reason = f"{self._taken} requests wait already; ask fewer at a time, or again in {pause} s"
            raise _busy(reason, pause)
        self._taken += 1
        try:
            answer = await self._answered(request, asked)
            if self._consented is not None and request.headers.get(HEADER, "").strip().lower() == "yes":
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(self._reader, self._consented.keep, asked.conversation)
            return _reply(200, answer)
        except asyncio.CancelledError:
            raise HTTPException(503, "the server was ended") from None
        finally:
            self._taken -= 1

    async def _asked(self, request: Request) -> Any:
        """The request, read and checked."""
        limits, held, parts = self._limits, 0, list[bytes]()
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise HTTPException(415, "send application/json")
        if int(request.headers.get("content-length", "0")) > limits.bytes:
            raise HTTPException(413, f"the request is longer than {limits.bytes} bytes")
        try:
            async with asyncio.timeout(limits.seconds):
                async for part in request.stream():
                    held += len(part)
                    self._bytes += len(part)
                    if held > limits.bytes:
                        raise HTTPException(413, f"the request is longer than {limits.bytes} bytes")
                    if self._bytes > limits.bytes_at_once:
                        raise _busy("too much is being sent at a time; again in 1 s", 1)
                    parts.append(part)
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._reader, self._read, request.url.path, b"".join(parts))
        except TimeoutError:
            raise HTTPException(408, f"the request took longer than {limits.seconds:g} s") from None
        finally:
            self._bytes -= held

    def _read(self, path: str, body: bytes) -> Any:
        try:
            found = json.loads(body, parse_constant=_no_number)
        except (ValueError, RecursionError):
            raise HTTPException(400, "the request is no JSON") from None
        if not isinstance(found, dict):
            raise HTTPException(400, "send a JSON object")
        return self._service.read(path, found)

    async def _answered(self, request: Request, asked: Any) -> dict[str, Any]:
        gone = threading.Event()
        async with self._turn:
            # Who gave up has asked again, or will: what nobody waits for must not keep others waiting.
            if await request.is_disconnected():
                raise ClientDisconnect
            began = time.monotonic()
            loop = asyncio.get_running_loop()
            writing = loop.run_in_executor(self._writer, self._service.answer, asked, gone.is_set)
            leaving = asyncio.ensure_future(_left(request))
            try:
                await asyncio.wait({writing, leaving}, return_when=asyncio.FIRST_COMPLETED)
                if not writing.done():
                    gone.set()
                answer = await writing
            except GivenUpError:
                raise ClientDisconnect from None
            finally:
                gone.set()
                leaving.cancel()
            self._seconds = time.monotonic() - began
        return answer


async def _left(request: Request) -> None:
    """Returns once the client has hung up."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number in JSON")


def _busy(reason: str, pause: int) -> HTTPException:
    return HTTPException(503, reason, {"Retry-After": str(pause)})


async def _refusal(request: Request, error: Exception) -> Response:
    """What a request is told that ended with an error; one that nobody foresaw the server logs as well."""
    if isinstance(error, HTTPException):
        known = f"no such path; there are /v1/models, /health, {', '.join(PATHS)}"
        return _refused(error.status_code, known if error.status_code == 404 else error.detail, error.headers)
    if isinstance(error, TrueupError):
        name = error.where.removeprefix("request ").partition(".")[0]
        return _refused(400, str(error), param=name if name.isidentifier() else None)
    if isinstance(error, ClientDisconnect):
        return Response(status_code=499)  # Nobody reads it; 499 is what servers log of such a request.
    return _refused(500, f"{type(error).__name__}: {error}")


def _refused(
    status: int, reason: str, headers: Mapping[str, str] | None = None, param: str | None = None
) -> Response:
    return Response(refusal(status, reason, param), status, headers, "application/json")


def _reply(status: int, answer: Mapping[str, Any]) -> Response:
    # Half a character is no reason to give no answer, as it would be for Starlette's own JSON.
    body = json.dumps(answer, ensure_ascii=False).encode("utf-8", "replace")
    return Response(body, status, None, "application/json")
