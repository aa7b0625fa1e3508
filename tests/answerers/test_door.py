"""The door of `trueup serve`: who comes in, how long it may take, what happens when it leaves."""

from __future__ import annotations

import importlib
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from answerers.worlds import CHATS, MODEL, listening, local, remote, serving
from trueup.answerers import door
from trueup.answerers.door import Limits, fault_of, listen
from trueup.answerers.serve import make_server
from trueup.answerers.service import service_of
from trueup.sources.sample import Decoding

GREEDY = Decoding(greedy=True, max_new_tokens=2)
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2, "temperature": 0}
QUICK = Limits(connections=4, turned_away=2, head_seconds=0.4, seconds=0.8)


@contextmanager
def quick(limits: Limits = QUICK) -> Iterator[tuple[str, Any]]:
    """The address and the server of the small model, with little patience."""
    server = make_server(service_of(local(), MODEL), limits=limits)
    with listening(server) as address:
        yield address.removeprefix("http://"), server


def head(place: str, length: int, *more: str) -> bytes:
    lines = ("POST /v1/chat/completions HTTP/1.1", f"Host: {place}", "Content-Type: application/json", *more)
    return "\r\n".join((*lines, f"Content-Length: {length}", "", "")).encode()


def connect(place: str) -> socket.socket:
    host, port = place.split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def heard(connection: socket.socket) -> bytes:
    """All that comes until the other side ends it."""
    found = b""
    try:
        while more := connection.recv(1 << 16):
            found += more
    except ConnectionResetError:
        pass
    return found


def until(true: Callable[[], bool]) -> None:
    """Returns once something is true; it is a matter of moments."""
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def asks(place: str) -> int:
    """The status of one ordinary request."""
    body = json.dumps(CHAT).encode()
    with connect(place) as connection:
        connection.sendall(head(place, len(body), "Connection: close") + body)
        return int(heard(connection).split()[1])


# ------------------------------------------------------------------------------------------ time and room


@pytest.mark.parametrize(
    "what", ["nothing", "a head that drips", "a head after an answer", "a body that drips"]
)
def test_who_takes_too_long_is_cut_and_others_are_answered(what: str) -> None:
    with quick() as (place, server), connect(place) as slow:
        body = json.dumps(CHAT).encode()
        if what == "a head after an answer":
            slow.sendall(head(place, len(body)) + body)
            assert b" 200 " in slow.recv(1 << 16)
        begins = {"nothing": b"", "a body that drips": head(place, 99)}
        began = time.monotonic()
        slow.sendall(begins.get(what, b"GET /health HTTP/1.1\r\nX: "))
        assert asks(place) == 200
        cut, said = False, b""
        slow.settimeout(0.05)
        while not cut:
            assert time.monotonic() - began < 15
            try:
                if what != "nothing":
                    slow.sendall(b" ")
                more = slow.recv(1 << 16)
                said, cut = said + more, not more
            except TimeoutError:
                continue
            except OSError:
                cut = True
        assert time.monotonic() - began >= 0.3
        # A body that is late is told so; its bytes after that are the beginning of nothing, and cut.
        assert said.startswith(b"HTTP/1.1 408") == (what == "a body that drips")
        until(lambda: not server.server_state.connections)
        assert asks(place) == 200


def test_of_too_many_connections_the_last_are_told_so_at_once_and_room_comes_back() -> None:
    with quick(Limits(connections=4, turned_away=2, head_seconds=5.0)) as (place, server):
        idle = [connect(place) for _ in range(4)]
        until(lambda: len(server.server_state.connections) == 4)
        began = time.monotonic()
        assert [asks(place) for _ in range(3)] == [503] * 3
        with connect(place) as told:
            told.sendall(head(place, 0))
            said = heard(told)
        assert b"Retry-After: 1\r\n" in said
        error = json.loads(said.partition(b"\r\n\r\n")[2])["error"]
        assert error == {
            "message": "4 connections are open already; close some, or come back in 1 s",
            "type": "server_error",
            "param": None,
            "code": 503,
        }
        # Those that say nothing are told nothing, and of more than two of them no account is kept.
        mute = [connect(place) for _ in range(8)]
        assert [heard(m) for m in mute[2:]] == [b""] * 6
        assert time.monotonic() - began < 4, "nobody waited for another's time to be up"
        for connection in (*idle, *mute):
            connection.close()
        until(lambda: not server.server_state.connections)
        assert asks(place) == 200


def test_bodies_are_bounded_each_and_together() -> None:
    limits = Limits(bytes=1 << 16, bytes_at_once=1 << 17, seconds=20.0)
    with quick(limits) as (place, _):
        with connect(place) as long:
            long.sendall(head(place, (1 << 16) + 1))
            assert heard_status(long) == 413
        halves = [connect(place) for _ in range(3)]
        try:
            for half in halves[:2]:
                half.sendall(head(place, 1 << 16) + b" " * 65000)
            time.sleep(0.3)
            halves[2].sendall(head(place, 65000) + b" " * 65000)
            assert heard_status(halves[2]) == 503
            halves[0].sendall(b" " * 536)
            assert heard_status(halves[0]) == 400
        finally:
            for half in halves:
                half.close()
        assert asks(place) == 200


def heard_status(connection: socket.socket) -> int:
    return int(connection.recv(1 << 16).split()[1])


# ------------------------------------------------------------------------------------------ who may ask


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([("Host", "127.0.0.1:8000")], None),
        ([("Host", "LOCALHOST")], None),
        ([("Host", "localhost:9"), ("Origin", "http://localhost:9")], None),
        ([], 400),
        ([("Host", "")], 400),
        ([("Host", "127.0.0.1"), ("Host", "127.0.0.1")], 400),
        ([("Host", "user@127.0.0.1")], 400),
        ([("Host", "evil.example@127.0.0.1:8000")], 400),
        ([("Host", "127.0.0.1:8000@evil.example")], 400),
        ([("Host", "127.0.0.1:")], 400),
        ([("Host", "127.0.0.1:80:80")], 400),
        ([("Host", "127.0.0.1:８０")], 400),
        ([("Host", "127.0.0.1.")], 400),
        ([("Host", "127.1")], 400),
        ([("Host", "2130706433")], 400),
        ([("Host", "localhost.evil.example")], 400),
        ([("Host", "localhost, evil.example")], 400),
        ([("Host", "evil.example"), ("X-Forwarded-Host", "127.0.0.1")], 400),
        ([("Host", "127.0.0.1:8000\n")], 400),
        ([("Host", "localhost:9"), ("Origin", "http://localhost:3000")], 403),
        ([("Host", "localhost"), ("Origin", "https://evil.example")], 403),
        ([("Host", "localhost"), ("Origin", "null")], 403),
        ([("Host", "localhost"), ("Origin", "http://localhost"), ("Origin", "http://evil.example")], 403),
    ],
)
def test_requests_name_this_machine_once_and_come_from_no_other_site(
    headers: list[tuple[str, str]], status: int | None
) -> None:
    fault = fault_of([(name.encode(), text.encode()) for name, text in headers])
    assert (fault and fault[0]) == status


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (b"GET /health HTTP/1.1\r\nHost: evil.example\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: 127.0.0.1\r\n\r\n", 400),
        (b"GET /health HTTP/1.0\r\n\r\n", 400),
        (b"GET /nowhere HTTP/1.1\r\nHost: u@localhost\r\n\r\n", 400),
        (b"POST /v1/completions HTTP/1.1\r\nHost: a.example\r\nContent-Length: 99999999\r\n\r\n", 400),
        (b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n\r\n", 403),
        (b"OPTIONS /v1/models HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n\r\n", 403),
        (b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n" + b"X: " + b"x" * 70000, 400),
        (b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 200),
    ],
)
def test_who_asks_is_looked_at_before_what(request_head: bytes, status: int) -> None:
    with quick() as (place, _), connect(place) as connection:
        connection.sendall(request_head)
        assert heard_status(connection) == status


def test_it_listens_on_the_loopback_address_alone() -> None:
    with listen() as place:
        address, port = place.getsockname()
        assert address == "127.0.0.1"
        table = Path("/proc/net/tcp")
        if table.exists():
            # 0A: it listens. Addresses there are the machine's own numbers, in hexadecimal.
            rows = [line.split()[1:4] for line in table.read_text().splitlines()[1:]]
            mine = [near for near, _, state in rows if state == "0A" and near.endswith(f":{port:04X}")]
            assert [bytes.fromhex(near.split(":")[0])[::-1] for near in mine] == [bytes([127, 0, 0, 1])]


# ------------------------------------------------------------------------------------------ who leaves


def test_what_is_written_for_a_client_that_left_is_not_written_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model would write 200 tokens, each once the test says so."""
    drawn, go = [], threading.Semaphore(0)
    generate = importlib.import_module("trueup.models.generate")
    pick = generate.pick

    def slow_pick(*given: Any) -> Any:
        drawn.append(1)
        assert go.acquire(timeout=20)
        return pick(*given)

    monkeypatch.setattr(generate, "pick", slow_pick)
    body = json.dumps({**CHAT, "max_tokens": 200, "seed": 0, "temperature": 1}).encode()
    with quick() as (place, server):
        with connect(place) as leaves:
            leaves.sendall(head(place, len(body)) + body)
            until(lambda: len(drawn) == 1)
        until(lambda: not server.server_state.connections)
        go.release()
        until(lambda: not server.server_state.tasks)
        assert len(drawn) == 1, "the token under way when the client left was the last"
        for _ in range(2):
            go.release()
        assert asks(place) == 200


def test_while_the_model_writes_the_server_says_how_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    began, go = threading.Event(), threading.Event()
    prompt_ids = type(local().chat).prompt_ids

    def slow_ids(chat: Any, messages: Any) -> np.ndarray:
        began.set()
        assert go.wait(20)
        return prompt_ids(chat, messages)

    monkeypatch.setattr(type(local().chat), "prompt_ids", slow_ids)
    body = json.dumps(CHAT).encode()
    with quick(Limits()) as (place, _), connect(place) as first:
        first.sendall(head(place, len(body)) + body)
        assert began.wait(20)
        for path in ("/health", "/v1/models"):
            with connect(place) as other:
                other.sendall(f"GET {path} HTTP/1.1\r\nHost: {place}\r\nConnection: close\r\n\r\n".encode())
                assert heard(other).startswith(b"HTTP/1.1 200")
        go.set()
        assert heard_status(first) == 200


# ------------------------------------------------------------------------------------------ many at once


def load(clients: int, seconds: float) -> tuple[int, int, float]:
    """Answers, errors, and the growth of this process's memory between the first fifth and the end."""
    answered, errors, memory = 0, 0, []
    lock = threading.Lock()
    end = time.monotonic() + seconds

    def one(number: int) -> None:
        nonlocal answered, errors
        client = remote(address, None, retries=0, timeout=60)
        first = True
        while first or time.monotonic() < end:
            first = False
            try:
                client.complete(CHATS[number % 4 : number % 4 + 1], decoding=GREEDY)
                good = True
            except Exception:
                good = False
            with lock:
                answered, errors = answered + good, errors + (not good)

    with serving() as address:
        threads = [threading.Thread(target=one, args=(number,)) for number in range(clients)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            time.sleep(seconds / 20)
            memory.append(resident())
    settled = memory[len(memory) // 5 :]
    return answered, errors, max(settled) / settled[0] - 1


def resident() -> int:
    """Bytes of memory that this process has now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


needs_proc = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads memory from /proc")


@needs_proc
def test_forty_clients_are_all_answered_and_memory_stays() -> None:
    answered, errors, growth = load(40, 2.0)
    assert errors == 0 and answered >= 40 and growth < 0.2


@pytest.mark.slow  # A minute.
@needs_proc
def test_two_hundred_clients_are_all_answered_for_a_minute_and_memory_stays() -> None:
    answered, errors, growth = load(200, 60.0)
    print(f"{answered} answers, {errors} errors, memory {growth:+.1%}")
    assert errors == 0 and answered >= 200 and growth < 0.2


def test_nothing_else_in_the_package_listens() -> None:
    """Whoever adds a listener adds it here, with where it binds.

    The sandbox's probes are its own targets; the ranks' launcher asks for a free port of the loopback.
    """
    package = Path(door.__file__).parents[1]
    found = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if re.search(r"create_server|\.listen\(|\.bind\(|uvicorn\.run|HTTPServer", path.read_text("utf-8"))
    }
    assert found == {"answerers/door.py", "runs/launch.py", "sandbox/probes.py"}
