"""The same questions to a model in this process and to one behind a server; what servers do wrong."""

from __future__ import annotations

import json
import threading
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import numpy as np
import pytest

from answerers.worlds import (
    CHATS,
    MODEL,
    TEXTS,
    Fault,
    Proxy,
    answer,
    forward,
    local,
    proxied,
    remote,
    serving,
)
from trueup.answerers import complete_groups
from trueup.answerers.open import open_answerer, open_server
from trueup.answerers.remote import RemoteAnswerer
from trueup.answerers.transport import Pace, retry_after
from trueup.errors import EXIT_UNAVAILABLE, TrueupError
from trueup.groups import Group, Message
from trueup.sources.sample import Decoding

GREEDY = Decoding(greedy=True, max_new_tokens=6)
SAMPLED = Decoding(max_new_tokens=6)


@pytest.mark.parametrize("prompts", [CHATS, TEXTS], ids=["chat", "text"])
def test_a_server_says_what_the_model_in_this_process_says(
    prompts: list[tuple[Message, ...]], tmp_path: Path
) -> None:
    with serving() as address:
        far = remote(address, tmp_path).complete(prompts, decoding=GREEDY, k=2, logprobs=True)
    near = local().complete(prompts, decoding=GREEDY, k=2, logprobs=True)
    for mine, theirs in zip(near, far, strict=True):
        assert len(mine) == len(theirs) == 2
        for a, b in zip(mine, theirs, strict=True):
            assert (a.text, a.finish, a.tokens) == (b.text, b.finish, b.tokens)
            assert a.logprobs is not None and b.logprobs is not None
            np.testing.assert_allclose(a.logprobs, b.logprobs, atol=1e-5)


def test_candidates_are_as_likely_at_a_server(tmp_path: Path) -> None:
    texts = [[" (A)", " (B)", " no"], [" x", " longer words"], [" y"]]
    # A candidate of a chat is one token: a byte. The small model lists 20 of 261, so some are not listed.
    listed = [[chr(code) for code in range(33, 127)]] * len(CHATS)
    with serving() as address:
        server = remote(address, tmp_path)
        far_texts, far_chats = server.logprobs(TEXTS, texts), server.logprobs(CHATS, listed)
    for mine, theirs in zip(local().logprobs(TEXTS, texts), far_texts, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)
    for mine, theirs in zip(local().logprobs(CHATS, listed), far_chats, strict=True):
        known = np.isfinite(theirs)
        assert 0 < known.sum() <= 20
        np.testing.assert_allclose(mine[known], theirs[known], atol=1e-5)
        assert mine[~known].max() <= theirs[known].min()


def test_samples_are_k_and_the_same_again_without_a_question(tmp_path: Path) -> None:
    with serving() as address:
        first = remote(address, tmp_path)
        drawn = first.complete(CHATS, decoding=SAMPLED, k=3, seed=1)
        again = remote(address, tmp_path)
        repeated = again.complete(CHATS, decoding=SAMPLED, k=3, seed=1)
        other = again.complete(CHATS, decoding=SAMPLED, k=3, seed=2)
    assert [[a.text for a in row] for row in drawn] == [[a.text for a in row] for row in repeated]
    assert [[a.text for a in row] for row in drawn] != [[a.text for a in row] for row in other]
    assert len({a.text for a in drawn[0]}) > 1
    assert first.usage.requests == again.usage.requests == again.usage.cached == len(CHATS)
    assert first.usage.completion_tokens > 0 and first.usage.prompt_tokens > 0


def test_stop_strings_end_an_answer_here_and_there(tmp_path: Path) -> None:
    decoding = Decoding(greedy=True, max_new_tokens=12)
    text = local().complete(TEXTS[:1], decoding=decoding)[0][0].text
    stop = text[3:5]
    (near,) = local().complete(TEXTS[:1], decoding=decoding, stop=["", stop], logprobs=True)[0]
    with serving() as address:
        (far,) = remote(address, tmp_path).complete(TEXTS[:1], decoding=decoding, stop=[stop], logprobs=True)[
            0
        ]
    assert near.text == far.text == text[: text.index(stop)] and near.finish == far.finish == "stop"
    assert near.tokens == far.tokens and near.logprobs is not None
    assert len(near.tokens) == len(near.logprobs)


def test_groups_are_answered_by_name(tmp_path: Path) -> None:
    with serving() as address:
        (group,) = complete_groups(
            [Group(prompt=CHATS[0], id="7")], remote(address, tmp_path), decoding=SAMPLED, k=2
        )
    assert group.id == "7" and [c.source for c in group.completions] == [MODEL, MODEL]


# ------------------------------------------------------------------------------------------ what goes wrong


def once(spoil: Fault) -> Fault:
    """Spoils the first question only."""
    return lambda proxy, handler, body: len(proxy.asked) > 1 or spoil(proxy, handler, body)


def cut(proxy: Proxy, handler: BaseHTTPRequestHandler, body: bytes) -> bool:
    _, said = forward(proxy.address, handler.path, body)
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(said)))
    handler.end_headers()
    handler.wfile.write(said[: len(said) // 2])
    handler.close_connection = True
    return False


def slow(proxy: Proxy, handler: BaseHTTPRequestHandler, body: bytes) -> bool:
    threading.Event().wait(1.8)
    handler.close_connection = True
    return False


FAULTS: dict[str, Fault] = {
    "429": lambda p, h, b: answer(h, 429, b"{}", Retry_After="0"),
    "500": lambda p, h, b: answer(h, 500, b"out of memory"),
    "garbage": lambda p, h, b: answer(h, 200, b"<html>busy"),
    "no choices": lambda p, h, b: answer(h, 200, b'{"choices": []}'),
    "no text": lambda p, h, b: answer(h, 200, b'{"choices": [{"finish_reason": "stop", "message": {}}]}'),
    "cut": cut,
    "slow": slow,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_fails_in_passing_is_asked_again(fault: str, tmp_path: Path) -> None:
    with serving() as address, proxied(address, once(FAULTS[fault])) as (at, proxy):
        found = remote(at, tmp_path, timeout=1.5 if fault == "slow" else 5, concurrency=1).complete(
            CHATS[:2], decoding=GREEDY
        )
    assert found[0][0].text == local().complete(CHATS[:1], decoding=GREEDY)[0][0].text
    assert len(proxy.asked) == 3


@pytest.mark.parametrize("fault", FAULTS)
def test_what_fails_for_good_is_named_and_nothing_answered_is_lost(fault: str, tmp_path: Path) -> None:
    def spoil(proxy: Proxy, handler: BaseHTTPRequestHandler, body: bytes) -> bool:
        return b"what is 2?" not in body or FAULTS[fault](proxy, handler, body)

    options = {"timeout": 1.5 if fault == "slow" else 5, "retries": 1, "concurrency": 1}
    with serving() as address, proxied(address, spoil) as (at, proxy):
        with pytest.raises(TrueupError) as caught:
            remote(at, tmp_path, **options).complete(CHATS, decoding=GREEDY)
        proxy.fault = lambda proxy, handler, body: True
        before = len(proxy.asked)
        client = remote(at, tmp_path, **options)
        assert len(client.complete(CHATS, decoding=GREEDY)) == len(CHATS)
    assert caught.value.code == ("E962" if fault in ("garbage", "no choices", "no text") else "E961")
    assert caught.value.exit_code == EXIT_UNAVAILABLE
    assert at in caught.value.where and "request " in caught.value.where
    assert "2 attempts" in caught.value.reason
    assert client.usage.cached == 2 and len(proxy.asked) - before == 2


def test_a_refusal_is_not_asked_again(tmp_path: Path) -> None:
    def gone(proxy: Proxy, handler: BaseHTTPRequestHandler, body: bytes) -> bool:
        return answer(handler, 404, b"no model")

    with (
        serving() as address,
        proxied(address, gone) as (at, proxy),
        pytest.raises(TrueupError, match=r"E962.*status 404: 'no model'"),
    ):
        remote(at, tmp_path, concurrency=1).complete(CHATS, decoding=GREEDY)
    assert len(proxy.asked) == 1 and not list(tmp_path.rglob("*.json"))


def test_nobody_there_is_a_failure(tmp_path: Path) -> None:
    with serving() as address:
        pass
    with pytest.raises(TrueupError, match=r"E961.*refused"):
        remote(address, tmp_path, retries=0).complete(CHATS[:1], decoding=GREEDY)


def test_everybody_waits_as_long_as_the_server_says(tmp_path: Path) -> None:
    fault = once(lambda p, h, b: answer(h, 429, b"{}", Retry_After="1"))
    with serving() as address, proxied(address, fault) as (at, proxy):
        remote(at, tmp_path, concurrency=1).complete(CHATS[:3], decoding=GREEDY)
        assert proxy.times[1] - proxy.times[0] >= 1
        proxy.fault = lambda p, h, b: answer(h, 429, b"{}", Retry_After="7200")
        with pytest.raises(TrueupError, match=r"E961.*asks to wait 7200 s"):
            remote(at, None).complete(CHATS[:1], decoding=GREEDY)


def test_questions_keep_to_the_rate_and_waits_are_read() -> None:
    pace = Pace(rate=60)
    assert pace.turn() == 0 and 0.9 < pace.turn() <= 1 and 1.9 < pace.turn() <= 2
    pace.hold(9)
    assert 8.9 < pace.turn() <= 9
    assert [retry_after(t) for t in ("3", "soon", "", "Wed, 21 Oct 2015 07:28:00 GMT")] == [3, 0, 0, 0]
    assert retry_after("Fri, 21 Oct 2095 07:28:00 GMT") > 1e6


def test_a_server_that_ignores_n_is_asked_until_there_are_k(tmp_path: Path) -> None:
    def one_only(proxy: Proxy, handler: BaseHTTPRequestHandler, body: bytes) -> bool:
        request = {**json.loads(body), "n": 1}
        return answer(handler, *forward(proxy.address, handler.path, json.dumps(request).encode()))

    with serving() as address, proxied(address, one_only) as (at, proxy):
        (found,) = remote(at, tmp_path).complete(CHATS[:1], decoding=SAMPLED, k=3)
    assert len(found) == len({a.text for a in found}) == 3
    asked = [json.loads(body) for body in proxy.asked]
    assert [request.get("n") for request in asked] == [3, 2, None]
    assert len({request["seed"] for request in asked}) == 3


def test_a_server_without_log_probs_says_so(tmp_path: Path) -> None:
    def silent(proxy: Proxy, handler: BaseHTTPRequestHandler, body: bytes) -> bool:
        status, said = forward(proxy.address, handler.path, body)
        found = json.loads(said)
        for choice in found["choices"]:
            choice["logprobs"] = None
        return answer(handler, status, json.dumps(found).encode())

    with serving() as address, proxied(address, silent) as (at, _):
        client = remote(at, tmp_path)
        assert client.complete(CHATS[:1], decoding=GREEDY)[0][0].logprobs is None
        for act in (
            lambda: client.complete(CHATS[:1], decoding=GREEDY, logprobs=True),
            lambda: client.logprobs(CHATS[:1], [["A"]]),
            lambda: client.logprobs(TEXTS[:1], [[" A"]]),
        ):
            with pytest.raises(TrueupError, match=r"E963 http://127.*gives no log-probs"):
                act()


def test_a_damaged_answer_on_disk_is_asked_for_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with serving() as address:
        remote(address, tmp_path).complete(CHATS[:1], decoding=GREEDY)
        (kept,) = tmp_path.rglob("*.json")
        good = kept.read_text(encoding="utf-8")
        kept.write_text(good[:40], encoding="utf-8")
        client = remote(address, tmp_path)
        client.complete(CHATS[:1], decoding=GREEDY)
    assert client.usage.requests == 1 and "damaged" in caplog.text
    assert json.loads(kept.read_text(encoding="utf-8"))["request"] == json.loads(good)["request"]


# ------------------------------------------------------------------------------------------ keys, references


def test_the_key_is_sent_and_stands_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MY_KEY", "s3cret-key")

    def leaky(proxy: Proxy, handler: BaseHTTPRequestHandler, body: bytes) -> bool:
        text = f"wrong key {handler.headers['Authorization']}"
        if b"what is 1?" in body:
            return answer(handler, 401, text.encode())
        choice = {"finish_reason": "stop", "message": {"content": text}}
        return answer(handler, 200, json.dumps({"choices": [choice]}).encode())

    with serving() as address, proxied(address, leaky) as (at, proxy):
        client = open_server(f"openai:{at}/v1?model=tiny&key=MY_KEY&cache={tmp_path}&concurrency=1")
        with pytest.raises(TrueupError, match=r"E962.*wrong key Bearer \[key\]") as caught:
            client.complete(CHATS, decoding=GREEDY)
    assert proxy.headers[0]["Authorization"] == "Bearer s3cret-key"
    files = list(tmp_path.rglob("*.json"))
    assert files and not [f for f in files if "s3cret" in f.read_text(encoding="utf-8")]
    assert "s3cret" not in repr(client) + str(caught.value) + caplog.text + str(caught.value.to_json())


@pytest.mark.parametrize(
    "ref",
    [
        "openai:http://127.0.0.1:8000/v1",
        "openai:http://127.0.0.1:8000/v1?model=",
        "openai:ftp://127.0.0.1/v1?model=m",
        "openai:http://127.0.0.1:port/v1?model=m",
        "openai:http://user:hunter2@host/v1?model=m",
        "openai:http://host/v1?model=m&speed=3",
        "openai:http://host/v1?model=m&timeout=soon",
        "openai:http://host/v1?model=m&concurrency=0",
        "openai:http://host/v1?model=m&key=NOT_SET_ANYWHERE",
        "openai:http://host/v1?model=m&key=PLAIN_KEY",
        "openai:https://host/v1?model=m&key=BROKEN_KEY",
    ],
)
def test_a_reference_that_cannot_be_meant_is_refused(ref: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAIN_KEY", "hunter2-key")
    monkeypatch.setenv("BROKEN_KEY", "hunter2\r\nX-Other: 1")
    with pytest.raises(TrueupError, match="E797") as caught:
        open_answerer(ref)
    assert "hunter2" not in str(caught.value)


def test_a_reference_says_how_to_ask(tmp_path: Path) -> None:
    client = open_answerer(
        f"openai:https://api.example/v1/?model=org/m&concurrency=2&timeout=9&retries=0&rate=30&cache={tmp_path}"
        "&prompt_price=2&completion_price=10&max_tokens=max_completion_tokens"
    )
    assert isinstance(client, RemoteAnswerer)
    assert client.name == "org/m" and client.transport.url == "https://api.example/v1"
    client.ledger.add(prompt_tokens=1_000_000, completion_tokens=100_000)
    assert client.usage.cost == pytest.approx(3.0)
    assert client.cache.folder == tmp_path and client.max_tokens == "max_completion_tokens"


# ------------------------------------------------------------------------------------------ `trueup serve`


def post(address: str, path: str, body: object, **headers: str) -> tuple[int, dict]:
    connection = HTTPConnection(address.removeprefix("http://"), timeout=10)
    said = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection.request("POST", path, said, {"Content-Type": "application/json", **headers})
    found = connection.getresponse()
    status, text = found.status, found.read()
    connection.close()
    return status, json.loads(text)


CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "named"),
    [
        ("/v1/other", CHAT, {}, 404, "no such path"),
        ("/v1/chat/completions", b"{", {}, 400, "no JSON"),
        ("/v1/chat/completions", [1], {}, 400, "JSON object"),
        ("/v1/chat/completions", {**CHAT, "model": "other"}, {}, 400, "'tiny'"),
        ("/v1/chat/completions", {**CHAT, "temprature": 1}, {}, 400, "temperature"),
        ("/v1/chat/completions", {**CHAT, "tools": []}, {}, 400, "tools"),
        ("/v1/chat/completions", {**CHAT, "stream": True}, {}, 400, "stream"),
        ("/v1/chat/completions", {**CHAT, "n": 0}, {}, 400, "n"),
        ("/v1/chat/completions", {**CHAT, "logprobs": 3}, {}, 400, "top_logprobs"),
        ("/v1/chat/completions", {**CHAT, "max_tokens": 4000}, {}, 400, "over 256"),
        ("/v1/chat/completions", {"model": MODEL, "prompt": "x"}, {}, 400, "messages"),
        ("/v1/completions", CHAT, {}, 400, "prompt"),
        ("/v1/chat/completions", CHAT, {"Content-Type": "text/plain"}, 415, "application/json"),
        ("/v1/chat/completions", CHAT, {"Host": "evil.example"}, 421, "localhost"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(
    path: str, body: object, headers: dict[str, str], status: int, named: str
) -> None:
    with serving() as address:
        found = post(address, path, body, **headers)
    assert found[0] == status and named in found[1]["error"]["message"]


@pytest.mark.slow  # Importing the client takes seconds.
def test_the_official_client_reads_it() -> None:
    openai = pytest.importorskip("openai", reason="comes with the extra trueup[serving]")
    with serving() as address:
        client = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)
        assert [m.id for m in client.models.list()] == [MODEL]
        chat = client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "what is 0?"}],
            temperature=0,
            max_completion_tokens=6,
            logprobs=True,
            top_logprobs=2,
            n=2,
        )
        text = client.completions.create(
            model=MODEL, prompt="Once upon 0", temperature=0, max_tokens=6, logprobs=1, echo=True
        )
        client.close()
    near = local().complete(CHATS[:1], decoding=GREEDY)[0][0]
    assert [c.message.content for c in chat.choices] == [near.text] * 2
    assert [len(t.top_logprobs) for t in chat.choices[0].logprobs.content] == [2] * 6
    assert all(t.logprob == t.top_logprobs[0].logprob for t in chat.choices[0].logprobs.content)
    assert text.choices[0].text == "Once upon 0" + local().complete(TEXTS[:1], decoding=GREEDY)[0][0].text
    said = text.choices[0].logprobs
    spelled = "".join(said.tokens)
    assert spelled.removesuffix("<|end|>") == text.choices[0].text
    places = zip(said.text_offset, said.tokens, strict=True)
    assert [spelled[o : o + len(t)] for o, t in places] == said.tokens


def test_an_empty_conversation_is_refused_like_any_wrong_one() -> None:
    with serving() as address:
        status, found = post(address, "/v1/chat/completions", {**CHAT, "messages": []})
    assert status == 400 and "E355" in found["error"]["message"]
