"""A judge behind HTTP, against a real server on this machine: right answers, garbage, failures, silence."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from trueup.engine.groups import Completion, Group, Message, Role
from trueup.errors import EXIT_UNAVAILABLE, TrueupError
from trueup.judges.endpoint import KEY, Endpoint
from trueup.judges.open import open_judge

Answer = tuple[int, bytes]
Say = Callable[[list[dict[str, Any]]], Answer | None]


class Server:
    """What was asked, with which headers, and where."""

    def __init__(self) -> None:
        self.asked: list[list[dict[str, Any]]] = []
        self.headers: list[dict[str, str]] = []
        self.url = ""


@contextmanager
def serving(say: Say) -> Iterator[Server]:
    """A server that answers as `say` does; None leaves the question without an answer until the end."""
    server, ended = Server(), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            items = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["items"]
            server.asked.append(items)
            server.headers.append(dict(self.headers))
            answer = say(items)
            if answer is None:
                ended.wait(10)
                return
            self.send_response(answer[0])
            self.send_header("Content-Length", str(len(answer[1])))
            if 300 <= answer[0] < 400:
                self.send_header("Location", "/elsewhere")
            self.end_headers()
            self.wfile.write(answer[1])

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: a test's output is its result."""

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    server.url = f"http://127.0.0.1:{listening.server_address[1]}/score?set=a"
    try:
        yield server
    finally:
        ended.set()
        listening.shutdown()
        thread.join()
        listening.server_close()


def scores(*values: object) -> Answer:
    return 200, json.dumps({"scores": values}).encode()


def lengths(items: list[dict[str, Any]]) -> Answer:
    return scores(*[len(item["completion"]) for item in items])


def groups() -> list[Group]:
    prompt = (Message(Role.USER, "2 + 3?"),)
    texts = (("5", "five"), (), ("It is 5 ≠ 6.",))
    return [Group(prompt=prompt, completions=tuple(Completion(text=t) for t in row)) for row in texts]


def judge(server: Server, **options: Any) -> Endpoint:
    return Endpoint(url=server.url, pause=0.01, **{"retries": 1, "timeout": 5, **options})


def test_scores_come_back_in_order_with_what_was_asked() -> None:
    with serving(lengths) as server:
        opened = open_judge(f"{server.url}#batch=2&timeout=5")
        assert opened(groups()) == [[1.0, 4.0], [], [12.0]]
    assert [len(items) for items in server.asked] == [2, 1]
    assert server.asked[1] == [
        {"prompt": [{"role": "user", "content": "2 + 3?"}], "completion": "It is 5 ≠ 6."}
    ]
    assert "Authorization" not in server.headers[0]


def test_no_completions_are_no_question() -> None:
    with serving(lengths) as server:
        assert judge(server)([Group(prompt=())]) == [[]]
    assert not server.asked


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_failure_in_passing_is_asked_again(status: int) -> None:
    answers = iter([(status, b"busy"), (status, b"busy")])
    with serving(lambda items: next(answers, lengths(items))) as server:
        assert judge(server, retries=2)(groups()) == [[1.0, 4.0], [], [12.0]]
    assert len(server.asked) == 3


def test_a_failure_that_stays_is_named() -> None:
    with serving(lambda items: (500, b"out of memory")) as server, pytest.raises(TrueupError) as caught:
        judge(server, retries=2)(groups())
    assert caught.value.code == "E794" and caught.value.exit_code == EXIT_UNAVAILABLE
    assert "3 attempts" in caught.value.reason and "status 500: 'out of memory'" in caught.value.reason
    assert len(server.asked) == 3


def test_silence_is_a_failure() -> None:
    with serving(lambda items: None) as server, pytest.raises(TrueupError, match=r"E794.*[Tt]ime"):
        judge(server, timeout=0.2)(groups())
    assert len(server.asked) == 2


def test_nobody_there_is_a_failure() -> None:
    with serving(lengths) as server:
        pass
    with pytest.raises(TrueupError, match=r"E794.*refused"):
        judge(server)(groups())


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        ((404, b"no such page"), "status 404: 'no such page'"),
        ((302, b""), "status 302"),
        ((200, b"<html>\xff"), "no JSON: '<html>"),
        ((200, b"[" * 100_000), "no JSON"),
        ((200, b""), "no JSON: ''"),
        ((200, b"[1, 2, 3]"), "no list `scores`"),
        ((200, b'{"scores": 3}'), "no list `scores`"),
        (scores(1.0, 2.0), "2 scores for 3 completions"),
        (scores(1.0, 2.0, float("nan")), "the score nan is no finite number"),
        (scores(1.0, float("-inf"), 1.0), "-inf"),
        (scores(1.0, None, 1.0), "None"),
        (scores(1.0, "2", 1.0), "'2'"),
        (scores(1.0, True, 1.0), "True"),
        (scores(1.0, 10**400, 1.0), "is no finite number"),
    ],
)
def test_a_wrong_answer_is_named_and_not_asked_for_again(answer: Answer, named: str) -> None:
    with serving(lambda items: answer) as server, pytest.raises(TrueupError) as caught:
        judge(server)(groups())
    assert caught.value.code == "E795" and named in caught.value.reason
    assert server.url.partition("?")[0] in caught.value.where
    assert len(server.asked) == 1


def test_the_key_comes_from_the_environment_and_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "s3cret")
    with serving(lengths) as server:
        opened = open_judge(server.url)
        opened(groups())
    assert server.headers[0]["Authorization"] == "Bearer s3cret"
    assert "s3cret" not in repr(opened)
    with serving(lambda items: (401, b"wrong key s3cret")) as server:
        with pytest.raises(TrueupError, match=r"wrong key \[key\]") as caught:
            open_judge(server.url)(groups())
        monkeypatch.setenv(KEY, "s3cret\r\nX-Other: 1")
        with pytest.raises(TrueupError, match=r"E792.*no key"):
            open_judge(server.url)
    assert "s3cret" not in str(caught.value)
    monkeypatch.setenv(KEY, "s3cret")
    with pytest.raises(TrueupError, match=r"E792.*unencrypted"):
        open_judge("http://judge.example/score")
    assert isinstance(open_judge("https://judge.example/score"), Endpoint)


@pytest.mark.parametrize(
    "ref",
    [
        "http://",
        "http://host:port/x",
        "http://user:hunter2@host/x",
        "http://host/x#batch=many",
        "http://host/x#speed=9",
        "http://host/x#batch=0",
        "http://host/x#timeout=0",
        "http://host/x#timeout=nan",
        "http://host/x#retries=-1",
        "http://host/x#batch=",
    ],
)
def test_a_reference_that_cannot_be_meant_is_refused(ref: str) -> None:
    with pytest.raises(TrueupError, match="E792") as caught:
        open_judge(ref)
    assert "hunter2" not in str(caught.value)
