"""The door of `trueup serve` and `watch`: how many come in, how long they take, whose requests pass.

uvicorn reads HTTP; it bounds neither how many connections are open nor how long the head of a request takes
to come. Each connection's protocol is therefore wrapped here, and one timer a server cuts what is overdue.

Before anything else is looked at, a request must name this machine in its one `Host` header, and come from no
web page of another site: then no page open in a browser here can use the model by a name of its own.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple, cast, final

if TYPE_CHECKING:
    import uvicorn

HOST = "127.0.0.1"
BACKLOG = 1024
"How many clients the system lets wait until their connection is taken; that takes no time to speak of."
_HERE = re.compile(r"(?:127\.0\.0\.1|localhost)(?::\d{1,5})?", re.ASCII | re.IGNORECASE)
"What `Host` may say. Any port: it may have been forwarded from another one."


def listen(port: int = 0, host: str = HOST) -> socket.socket:
    """A socket that clients can connect to from now on, on the loopback address; port 0 is any free one."""
    # Made again from its number, it knows its protocol. Without it asyncio leaves TCP_NODELAY out, and every
    # answer waits 40 ms for the client's acknowledgement of its headers.
    return socket.socket(fileno=socket.create_server((host, port), backlog=BACKLOG).detach())


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What clients may take up."""

    connections: int = 384
    "Open at a time; whoever comes when there are as many is told so, by status 503."
    turned_away: int = 128
    "Of those, how many are told at a time; one more is cut without a word."
    head_seconds: float = 10.0
    "From a connection's start, or a later request's first byte, to the end of the request's head."
    seconds: float = 60.0
    "For a request's body, for a client to take its answer, and to come back on a connection that stays."
    bytes: int = 4 << 20
    "Of a request's body."
    bytes_at_once: int = 64 << 20
    "Of the bodies that are being read at a time."


def server_of(app: Any, limits: Limits, *, grace: int | None = None, site: str = "") -> uvicorn.Server:
    """A server of an ASGI application behind this door: `run(sockets=[listen()])` answers until it is ended.

    `site` is an address by which people reach it from elsewhere, `https://NAME`, of an application that asks
    who they are.
    `grace` is for how many seconds an end waits for what is being answered; None is for as long as it takes.
    Raises ImportError without `trueup[serving]`; the command that asked says so, with its own way round.
    """
    import uvicorn
    from uvicorn.protocols.http.h11_impl import H11Protocol

    config = uvicorn.Config(
        guarded(app, site),
        # The same parser and loop whatever else is installed. A protocol is made by calling its class; this
        # makes one as well, and knows the others.
        http=cast(Any, Porch(limits, H11Protocol)),
        loop="asyncio",
        ws="none",
        lifespan="off",
        log_config=None,
        # Nobody stands between a client and this machine.
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=math.ceil(limits.seconds),
        timeout_graceful_shutdown=grace,
    )
    return uvicorn.Server(config)


@final
class Porch:
    """The connections of one server: makes the protocol of each, and cuts those that take too long."""

    def __init__(self, limits: Limits, protocol: Callable[..., Any]) -> None:
        self.limits, self._protocol = limits, protocol
        "`protocol` is uvicorn's, which reads HTTP."
        self.doors: set[Door] = set()
        self._watching = False

    def __call__(self, **given: Any) -> Door:
        """The protocol of one more connection; uvicorn says with which settings."""
        return Door(self, self._protocol(**given))

    def enter(self, door: Door) -> bool | None:
        """Whether a connection may ask; None where it is not even answered."""
        asking = sum(bool(other.admitted) for other in self.doors)
        admitted = asking < self.limits.connections
        if not admitted and len(self.doors) - asking >= self.limits.turned_away:
            return None
        self.doors.add(door)
        if not self._watching:
            self._watching = True
            self._later()
        return admitted

    def _later(self) -> None:
        asyncio.get_running_loop().call_later(min(1.0, self.limits.head_seconds / 4), self._sweep)

    def _sweep(self) -> None:
        now = time.monotonic()
        for door in tuple(self.doors):
            door.cut_if_overdue(now)
        self._watching = bool(self.doors)
        if self._watching:
            self._later()


class _Phase(NamedTuple):
    """What a connection is doing, and of which request; it is timed from when that changed."""

    seconds: float | None
    "How long it may last."
    name: str
    request: int


@final
class Door:
    """One connection, an `asyncio.Protocol`: uvicorn's protocol inside, timed from outside."""

    def __init__(self, porch: Porch, inner: Any) -> None:
        self._porch, self._inner = porch, inner
        self.admitted: bool | None = None
        self._heard = self._stalled = self._told = False
        "Whether it sent the beginning of a head, does not take its answer, was told to come back."
        self._phase, self._since = _Phase(None, "", 0), 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Nothing; lets the connection in, or not."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.admitted = self._porch.enter(self)
        self._phase, self._since = self._now(), time.monotonic()
        if self.admitted is None:
            transport.abort()
        elif self.admitted:
            self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Nothing; passes on what a client sent, or tells it that there is no room."""
        if self.admitted:
            self._inner.data_received(data)
            self._heard = not self._busy
        elif not self._told and self.admitted is not None:
            self._told = True
            # The connection stays for a moment: closed over unread bytes, it would take the answer with it.
            self._transport.write(_no_room(self._porch.limits.connections))
            self._transport.write_eof()

    def eof_received(self) -> bool | None:
        """False: the connection ends."""
        return self._inner.eof_received() if self.admitted else None

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing; there is room for another."""
        self._porch.doors.discard(self)
        if self.admitted:
            self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        """Nothing; the client does not take its answer."""
        self._stalled = True
        if self.admitted:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Nothing; it does again."""
        self._stalled = False
        if self.admitted:
            self._inner.resume_writing()

    def cut_if_overdue(self, now: float) -> None:
        """Nothing; ends the connection where what it does has lasted too long."""
        phase = self._now()
        if phase != self._phase:
            self._phase, self._since = phase, now
        elif phase.seconds is not None and now - self._since > phase.seconds:
            self._transport.abort()

    @property
    def _busy(self) -> bool:
        """Whether the head of a request has come, and its answer has not gone."""
        cycle = self._inner.cycle
        return cycle is not None and not cycle.response_complete

    def _now(self) -> _Phase:
        limits, cycle = self._porch.limits, self._inner.cycle
        if not self.admitted or self._transport.is_closing():
            return _Phase(limits.head_seconds, "leaves", 0)
        if self._stalled:
            return _Phase(limits.seconds, "is answered", id(cycle))
        if self._busy:
            return _Phase(None, "asks", id(cycle))
        if cycle is not None and not self._heard:
            return _Phase(limits.seconds, "stays", id(cycle))
        return _Phase(limits.head_seconds, "begins", id(cycle))


def _no_room(connections: int) -> bytes:
    body = refusal(503, f"{connections} connections are open already; close some, or come back in 1 s")
    head = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n"
    return f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body


# ------------------------------------------------------------------------------------------ whose requests


App = Callable[[Any, Any, Any], Awaitable[None]]


def guarded(app: App, site: str = "") -> App:
    """The app, for requests alone that name this machine, or `site`, and come from no other site."""

    async def gate(scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        fault = fault_of(scope["headers"], site)
        if fault is None:
            await app(scope, receive, send)
            return
        body = refusal(*fault)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        await send({"type": "http.response.start", "status": fault[0], "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return gate


def fault_of(headers: Iterable[tuple[bytes, bytes]], site: str = "") -> tuple[int, str] | None:
    """Status and reason for a request that is not let in; None for one that is.

    `Host` must be there once and be `127.0.0.1` or `localhost`, with or without a port, or what `site` names.
    `Origin`, which browsers add, must be the same address: what it names otherwise is a page of another site.
    """
    said = [(name.lower(), text.decode("latin-1")) for name, text in headers]
    hosts = [text for name, text in said if name == b"host"]
    named = site.partition("://")[2].lower()
    known = len(hosts) == 1 and (_HERE.fullmatch(hosts[0]) or (named and hosts[0].lower() == named))
    if not known:
        return 400, "the Host header must be there once, and be 127.0.0.1 or localhost"
    own = site.lower() if hosts[0].lower() == named else f"http://{hosts[0].lower()}"
    if any(text.lower() != own for name, text in said if name == b"origin"):
        return 403, "the request comes from a web page of another site (its Origin header)"
    return None


def refusal(status: int, reason: str, param: str | None = None) -> bytes:
    """An error as OpenAI's clients read it, JSON. Its reason is at most 2000 characters of what was given."""
    kind = "invalid_request_error" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "server_error"
    shown = reason if len(reason) <= 2000 else f"{reason[:2000]} ..."
    said = {"error": {"message": shown, "type": kind, "param": param, "code": status}}
    return json.dumps(said, ensure_ascii=False).encode("utf-8", "replace")
