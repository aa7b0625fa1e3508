"""`trueup serve`: an OpenAI-compatible server on this machine alone, for one model, one request at a time.

It listens on the loopback address only, and answers only requests that name it in `Host` and send JSON: a web
page open in a browser on this machine can then neither reach it by a name of its own nor post to it.

The model writes on one thread, in the order in which requests came: an answer depends on its request alone,
never on who else asks. `MAX_WAITING` requests may wait; one more is refused at once, with when to come back.

Importing this raises E811 where the extra `trueup[serving]` is not installed.
"""

from __future__ import annotations

import asyncio
import json
import math
import socket
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, final

from trueup.answerers.service import PATHS, Service
from trueup.errors import TrueupError

try:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
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

HOST = "127.0.0.1"
MAX_BYTES = 16 * 2**20
"A longer request is refused."
MAX_WAITING = 128
"How many requests are taken and not answered yet, at most."
BACKLOG = 1024
"How many clients the system lets wait until their connection is taken; that takes no time to speak of."
PATIENCE = 60
"Seconds that a client may take to send a request, and to come back on a connection that stays open."
LONGEST_PAUSE = 60
"Seconds after which a client that was refused may come back at the latest."


def listen(port: int = 0) -> socket.socket:
    """A socket on the loopback address that clients can connect to from now on; port 0 is any free one."""
    # Made again from its number, it knows its protocol. Without it asyncio leaves TCP_NODELAY out, and every
    # answer waits 40 ms for the client's acknowledgement of its headers.
    return socket.socket(fileno=socket.create_server((HOST, port), backlog=BACKLOG).detach())


def make_server(service: Service, waiting: int = MAX_WAITING) -> uvicorn.Server:
    """A server: `run(sockets=[listen()])` answers until Ctrl-C or SIGTERM, and then what it has taken."""
    line = _Line(service, waiting)

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
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"], www_redirect=False)],
        exception_handlers={
            kind: _refusal for kind in (HTTPException, TrueupError, ClientDisconnect, Exception)
        },
        max_body_size=MAX_BYTES,
    )
    config = uvicorn.Config(
        app,
        # The same parser and loop whatever else is installed.
        http="h11",
        loop="asyncio",
        ws="none",
        lifespan="off",
        log_config=None,
        # Nobody stands between a client and this machine.
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=PATIENCE,
    )
    return uvicorn.Server(config)


@final
class _Line:
    """The requests that were taken and are not answered yet."""

    def __init__(self, service: Service, most: int) -> None:
        self._service, self._most = service, most
        self._taken, self._seconds = 0, 1.0
        "How many there are, and what the last answer took."
        self._turn, self._worker = asyncio.Lock(), ThreadPoolExecutor(1)

    async def answer(self, request: Request) -> Response:
        """The model's answer, or 503 where as many wait as may."""
        if self._taken >= self._most:
            pause = min(LONGEST_PAUSE, math.ceil(self._taken * self._seconds))
            reason = f"{self._taken} requests wait already; ask fewer at a time, or again in {pause} s"
            raise HTTPException(503, reason, {"Retry-After": str(pause)})
        self._taken += 1
        try:
            return _reply(200, await self._answered(request))
        except asyncio.CancelledError:
            raise HTTPException(503, "the server was ended") from None
        finally:
            self._taken -= 1

    async def _answered(self, request: Request) -> dict[str, Any]:
        asked = self._service.read(request.url.path, await _sent(request))
        async with self._turn:
            # Who gave up has asked again, or will: what nobody waits for must not keep others waiting.
            if await request.is_disconnected():
                raise ClientDisconnect
            began = time.monotonic()
            loop = asyncio.get_running_loop()
            answer = await loop.run_in_executor(self._worker, self._service.answer, asked)
            self._seconds = time.monotonic() - began
        return answer


async def _sent(request: Request) -> dict[str, Any]:
    """The JSON object of a request's body."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "send application/json")
    try:
        async with asyncio.timeout(PATIENCE):
            found = await request.json()
    except TimeoutError:
        raise HTTPException(408, f"the request took longer than {PATIENCE} s") from None
    except (ValueError, RecursionError):
        raise HTTPException(400, "the request is no JSON") from None
    if not isinstance(found, dict):
        raise HTTPException(400, "send a JSON object")
    return found


async def _refusal(request: Request, error: Exception) -> Response:
    """What a request is told that ended with an error; one that nobody foresaw the server logs as well."""
    if isinstance(error, HTTPException):
        known = f"no such path; there are /v1/models, /health, {', '.join(PATHS)}"
        return _refused(error.status_code, known if error.status_code == 404 else error.detail, error.headers)
    if isinstance(error, TrueupError):
        return _refused(400, str(error))
    if isinstance(error, ClientDisconnect):
        return Response(status_code=499)  # Nobody reads it; 499 is what servers log of such a request.
    return _refused(500, f"{type(error).__name__}: {error}")


def _refused(status: int, reason: str, headers: Mapping[str, str] | None = None) -> Response:
    said = {"error": {"message": reason, "type": "invalid_request_error", "code": status}}
    return _reply(status, said, headers)


def _reply(status: int, answer: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    # Half a character is no reason to give no answer, as it would be for Starlette's own JSON.
    body = json.dumps(answer, ensure_ascii=False).encode("utf-8", "replace")
    return Response(body, status, headers, "application/json")
