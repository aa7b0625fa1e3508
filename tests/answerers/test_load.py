"""What a server is spared, how long it is waited for, and what is counted: questions, tokens, cost."""

from __future__ import annotations

import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from answerers.worlds import CHATS, MODEL, Proxy, answer, forward, local, proxied, remote, serving
from trueup.answerers.open import open_server
from trueup.errors import TrueupError
from trueup.sources.sample import Decoding

GREEDY = Decoding(greedy=True, max_new_tokens=6)


@pytest.mark.parametrize("concurrency", [1, 3])
def test_as_many_questions_are_under_way_as_allowed_and_no_more(concurrency: int) -> None:
    together = threading.Barrier(concurrency)

    def meet(proxy: Proxy, handler: BaseHTTPRequestHandler, body: bytes) -> bool:
        together.wait(10)  # Too few at a time, and this breaks.
        return True

    with serving() as address, proxied(address, meet) as (at, proxy):
        found = remote(at, None, concurrency=concurrency, retries=0).complete(CHATS[:3] * 2, decoding=GREEDY)
    texts = [answers[0].text for answers in found]
    assert texts[:3] == texts[3:] and len(proxy.asked) == 6
    assert proxy.most == concurrency


@pytest.mark.parametrize("concurrency", [1, 4])
def test_connections_are_kept_from_one_question_to_the_next(
    concurrency: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect, opened = socket.create_connection, []

    def counted(*given: Any, **named: Any) -> socket.socket:
        opened.append(given)
        return connect(*given, **named)

    with serving() as address:
        monkeypatch.setattr(socket, "create_connection", counted)
        remote(address, None, concurrency=concurrency).complete(CHATS * 5, decoding=GREEDY)
    assert 1 <= len(opened) <= concurrency < len(CHATS * 5)


def test_an_answer_that_does_not_end_is_not_waited_for() -> None:
    ended = threading.Event()

    def trickle(proxy: Proxy, handler: BaseHTTPRequestHandler, body: bytes) -> bool:
        handler.send_response(200)
        handler.end_headers()
        handler.close_connection = True
        while not ended.wait(0.05):
            handler.wfile.write(b" ")
        return False

    with serving() as address, proxied(address, trickle) as (at, _):
        began = time.monotonic()
        with pytest.raises(TrueupError, match=r"E961.*longer than 0\.5 s.*timeout="):
            remote(at, None, timeout=0.5, retries=0).complete(CHATS[:1], decoding=GREEDY)
        waited = time.monotonic() - began
        ended.set()
    assert 0.5 <= waited < 5


def test_tokens_and_cost_are_those_that_the_server_counts(tmp_path: Path) -> None:
    read = sum(len(local().chat.prompt_ids(prompt)) for prompt in CHATS)
    drawn = local().sample(CHATS, decoding=GREEDY, k=1, seed=0)
    written = sum(len(sampled.tokens) for (sampled,) in drawn)
    with serving() as address:
        ref = f"openai:{address}/v1?model={MODEL}&cache={tmp_path}&prompt_price=3&completion_price=15"
        first, again = open_server(ref), open_server(ref)
        for client in (first, again):
            client.complete(CHATS, decoding=GREEDY)
    assert (first.usage.prompt_tokens, first.usage.completion_tokens) == (read, written)
    assert first.usage.cost == pytest.approx((3 * read + 15 * written) / 1e6, rel=1e-12)
    assert (again.usage.cached, again.usage.requests, again.usage.cost) == (len(CHATS), 0, 0)


def test_a_server_that_leaves_the_stop_string_in_is_cut_before_it(tmp_path: Path) -> None:
    decoding = Decoding(greedy=True, max_new_tokens=12)
    (near,) = local().complete(CHATS[:1], decoding=decoding)[0]
    stop = near.text[3:5]
    (near,) = local().complete(CHATS[:1], decoding=decoding, stop=[stop], logprobs=True)[0]
    with serving() as address, proxied(address, without_stop) as (at, _):
        client = remote(at, tmp_path)
        (far,) = client.complete(CHATS[:1], decoding=decoding, stop=[stop], logprobs=True)[0]
    assert (far.text, far.finish, far.tokens) == (near.text, "stop", near.tokens)
    assert near.logprobs is not None and far.logprobs == pytest.approx(near.logprobs, abs=1e-5)


def without_stop(proxy: Proxy, handler: BaseHTTPRequestHandler, body: bytes) -> bool:
    """Answers as if no stop string were given."""
    request = {name: value for name, value in json.loads(body).items() if name != "stop"}
    return answer(handler, *forward(proxy.address, handler.path, json.dumps(request).encode()))
