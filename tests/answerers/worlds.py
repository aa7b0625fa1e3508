"""A small model that serves, and a proxy before it that does what servers do wrong."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from eval_stubs import byte_chat, tiny_model
from trueup.answerers.cache import Cache
from trueup.answerers.local import LocalAnswerer
from trueup.answerers.remote import RemoteAnswerer
from trueup.answerers.serve import make_server
from trueup.answerers.service import service_of
from trueup.answerers.transport import Transport
from trueup.groups import Message, Role

MODEL = "tiny"
CHATS = [(Message(Role.USER, f"what is {i}?"),) for i in range(4)]
TEXTS = [(Message(Role.TEXT, f"Once upon {i}"),) for i in range(3)]


@functools.cache
def local() -> LocalAnswerer:
    """A random one-layer model that reads bytes."""
    return LocalAnswerer(name=MODEL, network=tiny_model(), chat=byte_chat())


@contextmanager
def listening(server: ThreadingHTTPServer) -> Iterator[str]:
    """The address of a server that answers meanwhile."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def serving() -> Iterator[str]:
    """The address of `trueup serve` with the small model."""
    with listening(make_server(service_of(local(), MODEL))) as address:
        yield address


def remote(address: str, folder: Path | None, **options: Any) -> RemoteAnswerer:
    """A client that is quick to try again."""
    names = ("timeout", "retries", "pause", "key", "pace")
    transport = {"timeout": 5, "retries": 2, "pause": 0.01}
    transport |= {name: options.pop(name) for name in names if name in options}
    return RemoteAnswerer(
        transport=Transport(url=f"{address}/v1", **transport), model=MODEL, cache=Cache(folder), **options
    )


Fault = Callable[["Proxy", BaseHTTPRequestHandler, bytes], bool]
"What goes wrong with one question; whether it is then answered after all."


class Proxy:
    """Passes questions on, all but those that `fault` spoils; counts them, and when they came."""

    def __init__(self, address: str, fault: Fault) -> None:
        self.address, self.fault = address, fault
        self.asked: list[bytes] = []
        self.times: list[float] = []
        self.headers: list[dict[str, str]] = []
        self.lock = threading.Lock()


@contextmanager
def proxied(address: str, fault: Fault) -> Iterator[tuple[str, Proxy]]:
    """A proxy before the server at `address`."""
    proxy = Proxy(address, fault)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with proxy.lock:
                proxy.asked.append(body)
                proxy.times.append(time.monotonic())
                proxy.headers.append(dict(self.headers))
                good = proxy.fault(proxy, self, body)
            if good:
                status, said = forward(address, self.path, body)
                answer(self, status, said)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: a test's output is its result."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    with listening(server) as at:
        yield at, proxy


def forward(address: str, path: str, body: bytes) -> tuple[int, bytes]:
    connection = HTTPConnection(address.removeprefix("http://"), timeout=10)
    connection.request("POST", path, body, {"Content-Type": "application/json"})
    said = connection.getresponse()
    found = said.status, said.read()
    connection.close()
    return found


def answer(handler: BaseHTTPRequestHandler, status: int, said: bytes, **headers: str) -> bool:
    """False: the question was answered here."""
    handler.send_response(status)
    for name, text in {"Content-Length": str(len(said)), **headers}.items():
        handler.send_header(name.replace("_", "-"), text)
    handler.end_headers()
    handler.wfile.write(said)
    return False
