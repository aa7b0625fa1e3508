"""`trueup serve` under load, at its end, and without the packages it needs."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from answerers.worlds import listening, local, remote, serving
from trueup.answerers.serve import make_server
from trueup.answerers.transport import Said, Session
from trueup.cli import main
from trueup.engine.groups import Message, Role
from trueup.errors import EXIT_PREEMPTED, EXIT_UNAVAILABLE
from trueup.sources.sample import Decoding

GREEDY = Decoding(greedy=True, max_new_tokens=2)
CHATS = "/v1/chat/completions"


class Slow:
    """A service that writes one answer at a time, each once `gate` is open, and remembers them."""

    def __init__(self) -> None:
        self.gate, self.began = threading.Event(), threading.Event()
        self.answered: list[str] = []
        self.threads: set[int] = set()
        self.writing = self.most = 0

    def read(self, path: str, body: Mapping[str, Any]) -> str:
        """The request's own word."""
        return body["say"]

    def answer(self, request: str, given_up: Callable[[], bool]) -> dict[str, Any]:
        """The word again, in the form of an answer."""
        self.writing += 1
        self.most = max(self.most, self.writing)
        self.threads.add(threading.get_ident())
        self.began.set()
        assert self.gate.wait(60)
        self.answered.append(request)
        self.writing -= 1
        choice = {"finish_reason": "stop", "message": {"content": request}}
        return {"said": request, "choices": [choice]}


@contextmanager
def slow(waiting: int) -> Iterator[tuple[Slow, str]]:
    """Such a service behind a server that lets so many wait; its gate opens at the end at the latest."""
    service: Any = Slow()
    service.state = (server := make_server(service, waiting)).server_state
    with listening(server) as address:
        try:
            yield service, address.removeprefix("http://")
        finally:
            service.gate.set()


def until(true: Callable[[], bool]) -> None:
    """Returns once something is true; it is a matter of moments."""
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def ask(place: str, say: str) -> tuple[int, str | None, dict]:
    """Status, Retry-After and body of the answer to one word."""
    connection = HTTPConnection(place, timeout=60)
    try:
        body = json.dumps({"say": say})
        connection.request("POST", CHATS, body, {"Content-Type": "application/json"})
        found = connection.getresponse()
        return found.status, found.getheader("Retry-After"), json.loads(found.read())
    finally:
        connection.close()


def test_of_more_at_once_than_may_wait_the_others_are_told_when_to_come_back() -> None:
    num, waiting = 64, 16
    told = threading.Semaphore(0)

    def one(number: int) -> tuple[int, str | None, dict]:
        together.wait(60)
        found = ask(place, str(number))
        if found[0] == 503:
            told.release()
        return found

    together = threading.Barrier(num)
    with slow(waiting) as (service, place):
        with ThreadPoolExecutor(num) as pool:
            asked = [pool.submit(one, number) for number in range(num)]
            # None of those in line is answered before all others were refused.
            assert all(told.acquire(timeout=60) for _ in range(num - waiting))
            service.gate.set()
            found = [future.result() for future in asked]
        assert ask(place, "afterwards")[0] == 200
    taken = [(number, body) for number, (status, _, body) in enumerate(found) if status == 200]
    refused = [(pause, body) for status, pause, body in found if status == 503]
    assert len(taken) == waiting and len(refused) == num - waiting
    assert all(body["said"] == str(number) for number, body in taken)
    assert all(1 <= int(pause or 0) <= 60 for pause, _ in refused)
    assert all(f"{waiting} requests wait already" in body["error"]["message"] for _, body in refused)
    assert len(service.threads) == service.most == 1, "one thread writes, one answer at a time"
    assert sorted(service.answered) == sorted([*(str(number) for number, _ in taken), "afterwards"])


def test_many_clients_at_once_are_all_answered_as_one_would_be() -> None:
    """Far more connections than the five that the standard library's server lets wait."""
    num = 64
    words = [f"what is {number % 8}?" for number in range(num)]
    chats = [(Message(Role.USER, word),) for word in words]
    near = {word: local().complete([chat], decoding=GREEDY) for word, chat in zip(words, chats, strict=True)}
    threads = threading.active_count()
    with serving() as address:
        client = remote(address, None, concurrency=num, retries=0, timeout=60)
        found = client.complete(chats, decoding=GREEDY, logprobs=True)
        again = client.complete(chats[:1], decoding=GREEDY, logprobs=True)
        # The server's own, the one that reads and the one that writes.
        assert threading.active_count() <= threads + 3
    assert [row[0].text for row in found] == [near[word][0][0].text for word in words]
    same = [row[0].logprobs.tolist() for row in found[::8]]
    assert same == [again[0][0].logprobs.tolist()] * 8, "an answer depends on its request alone"


def test_a_client_that_is_refused_comes_back_and_has_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    post, refused = Session.post, []
    with slow(1) as (service, place):

        def watched(session: Session, url: str, body: bytes) -> Said:
            said = post(session, url, body)
            if said.status == 503:
                refused.append(said.retry_after)
                service.gate.set()
            return said

        monkeypatch.setattr(Session, "post", watched)
        monkeypatch.setattr(service, "read", lambda path, body: body["messages"][0]["content"])
        words = ["first", "second"]
        found = remote(f"http://{place}", None, concurrency=2, timeout=60).complete(
            [(Message(Role.USER, word),) for word in words], decoding=GREEDY
        )
    assert [row[0].text for row in found] == words
    assert refused and min(refused) >= 1


def test_who_hangs_up_while_it_waits_is_not_answered() -> None:
    with slow(8) as (service, place), ThreadPoolExecutor(2) as pool:
        first = pool.submit(ask, place, "first")
        assert service.began.wait(60)
        with socket.create_connection(tuple(place.split(":")), timeout=60) as gone:
            body = json.dumps({"say": "gone"}).encode()
            head = f"POST {CHATS} HTTP/1.1\r\nHost: {place}\r\nContent-Type: application/json\r\n"
            gone.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            until(lambda: len(service.state.tasks) == 2)
        until(lambda: len(service.state.connections) == 1)
        last = pool.submit(ask, place, "last")
        until(lambda: len(service.state.tasks) == 3)
        service.gate.set()
        assert first.result()[0] == last.result()[0] == 200
    assert service.answered == ["first", "last"]


def test_what_was_taken_is_answered_before_the_server_ends() -> None:
    service: Any = Slow()
    server = make_server(service)
    with listening(server) as address, ThreadPoolExecutor(3) as pool:
        place = address.removeprefix("http://")
        asked = [pool.submit(ask, place, str(number)) for number in range(3)]
        until(lambda: len(server.server_state.tasks) == 3)
        server.should_exit = True
        until(lambda: not connects(place))
        assert not service.answered
        service.gate.set()
        assert [future.result()[2]["said"] for future in asked] == ["0", "1", "2"]


def connects(place: str) -> bool:
    try:
        socket.create_connection(tuple(place.split(":")), timeout=60).close()
    except ConnectionRefusedError:
        return False
    return True


CHILD = """
import sys, time
import trueup.answerers.open, trueup.answerers.service, trueup.commands.serve, trueup.settings.weights
from trueup.cli import main

class Service:
    def read(self, path, body):
        return body["seconds"]

    def answer(self, seconds, given_up):
        print("writing", flush=True)
        time.sleep(seconds)
        return {"said": "all of it"}

trueup.commands.serve.check_models = lambda name: None
trueup.settings.weights.check_writes = lambda name: None
trueup.settings.weights.model_folder = lambda name: name
trueup.answerers.open.open_local = lambda *given: None
trueup.answerers.service.service_of = lambda *given: Service()
sys.exit(main(["serve", "model", "--port", "0"]))
"""
"The command itself, with a model that takes as long as it is asked to."


@pytest.mark.slow  # Each is a process that imports torch.
@pytest.mark.parametrize(
    ("signals", "seconds", "ended", "said"),
    [
        (["SIGINT"], 1.0, 0, "stopped"),
        (["SIGTERM"], 1.0, -signal.SIGTERM, ""),
        (["SIGINT", "SIGINT"], 600.0, EXIT_PREEMPTED, "stopped"),
    ],
    ids=["Ctrl-C", "SIGTERM", "Ctrl-C twice"],
)
def test_a_signal_ends_it_once_what_came_is_answered_and_a_second_at_once(
    signals: list[str], seconds: float, ended: int, said: str
) -> None:
    command = [sys.executable, "-c", CHILD]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None and child.stderr is not None
            place = child.stdout.readline().split("http://")[1].split("/")[0]
            with ThreadPoolExecutor(1) as pool:
                asked = pool.submit(hear, place, seconds)
                assert child.stdout.readline() == "writing\n"
                for name in signals:
                    child.send_signal(getattr(signal, name))
                    time.sleep(0.3)
                heard = asked.result()
            code = child.wait(30)
            assert (code, child.stdout.read().strip(), child.stderr.read()) == (ended, said, "")
            assert heard == {"said": "all of it"} if len(signals) == 1 else heard["error"]["code"] == 503
        finally:
            child.kill()


def hear(place: str, seconds: float) -> dict:
    """The answer to one request."""
    connection = HTTPConnection(place, timeout=60)
    try:
        body = json.dumps({"seconds": seconds})
        connection.request("POST", CHATS, body, {"Content-Type": "application/json"})
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


@pytest.mark.parametrize("package", ["starlette", "uvicorn"])
def test_without_its_packages_the_command_names_the_extra(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "trueup.answerers.serve")
    monkeypatch.chdir(tmp_path)
    # Before a model is looked for: loading one takes long.
    assert main(["serve", "no-model"]) == EXIT_UNAVAILABLE
    error = capsys.readouterr().err
    assert error.startswith("error E811 trueup serve — ") and error.endswith(
        "pip install 'trueup[serving]'\n"
    )
    assert f"the package {package}" in error and not os.listdir(tmp_path)
