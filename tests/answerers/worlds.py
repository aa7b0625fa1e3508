"""A small model that serves, a server in a process of its own, and a proxy that errs as servers do."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import uvicorn
from safetensors.torch import load_file
from torch import Tensor

from eval_stubs import byte_chat, tiny_model
from trueup.answerers.cache import Cache
from trueup.answerers.door import listen
from trueup.answerers.local import LocalAnswerer
from trueup.answerers.remote import RemoteAnswerer
from trueup.answerers.serve import make_server
from trueup.answerers.service import service_of
from trueup.answerers.transport import Transport
from trueup.engine.groups import Message, Role
from trueup.runs.recipe import Recipe, Stage, plan, read_recipe, run_recipe
from trueup.runs.shipped import recipe_path

MODEL = "tiny"
CHATS = [(Message(Role.USER, f"what is {i}?"),) for i in range(4)]
TEXTS = [(Message(Role.TEXT, f"Once upon {i}"),) for i in range(3)]


@functools.cache
def local() -> LocalAnswerer:
    """A random one-layer model that reads bytes."""
    return LocalAnswerer(name=MODEL, network=tiny_model(), chat=byte_chat())


@contextmanager
def listening(server: uvicorn.Server) -> Iterator[str]:
    """The address of a server that answers meanwhile."""
    place = listen()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [place]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{place.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def serving() -> Iterator[str]:
    """The address of `trueup serve` with the small model."""
    with listening(make_server(service_of(local(), MODEL))) as address:
        yield address


@contextmanager
def process(model: str, *, port: int = 0) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The reference and the process of `trueup serve MODEL`, whose name there is `served`."""
    command = [sys.executable, "-m", "trueup.cli", "serve", model, "--port", str(port), "--name", "served"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as serving:
        try:
            assert serving.stdout is not None
            yield serving.stdout.readline().removeprefix("serving ").strip(), serving
        finally:
            serving.kill()


def run_quick(
    name: str, changes: Mapping[str, Mapping[str, Any]], folder: Path, *, until: str = ""
) -> dict[str, Stage]:
    """The finished stages of a recipe that comes along, after some changes; up to one of them, or all."""
    given = read_recipe(recipe_path(name)).stages
    names = list(given)
    names = names[: names.index(until) + 1] if until else names
    recipe = Recipe(
        name="parity", stages={stage: {**given[stage], **changes.get(stage, {})} for stage in names}
    )
    run_recipe(recipe, folder)
    return {stage.name: stage for stage in plan(recipe, folder)}


def rows_of(stage: Stage) -> list[Any]:
    """What a stage that asks a model keeps as it goes, a row each."""
    kept = vars(stage.module)
    journal = next(kept[k] for k in ("TRANSCRIPTS", "LABELS", "ROUNDS", "ANSWERS") if k in kept)
    # The first line names what made the rows; a server does not show its weights.
    lines = (stage.folder / journal).read_text(encoding="utf-8").splitlines()[1:]
    return [json.loads(line) for line in lines]


def weights_of(stage: Stage) -> dict[str, Tensor]:
    """The tensors of the model that a stage trained."""
    return load_file(stage.folder / "model" / "model.safetensors")


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
        self.under_way = self.most = 0
        "Questions that are being answered now, and the most there were at a time."
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
                proxy.under_way += 1
                proxy.most = max(proxy.most, proxy.under_way)
            try:
                good = proxy.fault(proxy, self, body)
                status, said = forward(address, self.path, body) if good else (0, b"")
            finally:
                # Before the answer goes out: whoever has it may ask again at once.
                with proxy.lock:
                    proxy.under_way -= 1
            if good:
                answer(self, status, said)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: a test's output is its result."""

    # It errs on the wire, which no framework lets it do.
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", proxy
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


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


def cut(proxy: Proxy, handler: BaseHTTPRequestHandler, body: bytes) -> bool:
    _, said = forward(proxy.address, handler.path, body)
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(said)))
    handler.end_headers()
    handler.wfile.write(said[: len(said) // 2])
    handler.close_connection = True
    return False


def slow(proxy: Proxy, handler: BaseHTTPRequestHandler, body: bytes) -> bool:
    threading.Event().wait(1.0)
    handler.close_connection = True
    return False


FAULTS: dict[str, Fault] = {
    "429": lambda p, h, b: answer(h, 429, b"{}", Retry_After="0"),
    "500": lambda p, h, b: answer(h, 500, b"out of memory"),
    "garbage": lambda p, h, b: answer(h, 200, b"<html>busy"),
    "list": lambda p, h, b: answer(h, 200, b"[1, 2]"),
    "error": lambda p, h, b: answer(h, 200, b'{"error": {"message": "overloaded"}}'),
    "no text": lambda p, h, b: answer(h, 200, b'{"choices": [{"finish_reason": "stop", "message": {}}]}'),
    "cut": cut,
    "slow": slow,
}
