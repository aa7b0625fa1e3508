"""What servers do wrong: asked again, or named; nothing answered is lost, no key is shown."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from answerers.worlds import (
    CHATS,
    FAULTS,
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
from trueup.answerers import transport
from trueup.answerers.open import open_answerer, open_server
from trueup.answerers.remote import RemoteAnswerer
from trueup.answerers.transport import Pace, WrongAnswerError, retry_after
from trueup.answerers.wire import read_first
from trueup.errors import EXIT_UNAVAILABLE, TrueupError
from trueup.judges.open import open_judge
from trueup.sources.sample import Decoding

GREEDY = Decoding(greedy=True, max_new_tokens=6)
SAMPLED = Decoding(max_new_tokens=6)


def once(spoil: Fault) -> Fault:
    """Spoils the first question only."""
    return lambda proxy, handler, body: len(proxy.asked) > 1 or spoil(proxy, handler, body)


@pytest.mark.parametrize("fault", FAULTS)
def test_what_fails_in_passing_is_asked_again(fault: str, tmp_path: Path) -> None:
    with serving() as address, proxied(address, once(FAULTS[fault])) as (at, proxy):
        found = remote(at, tmp_path, timeout=0.8 if fault == "slow" else 5, concurrency=1).complete(
            CHATS[:2], decoding=GREEDY
        )
    assert found[0][0].text == local().complete(CHATS[:1], decoding=GREEDY)[0][0].text
    assert len(proxy.asked) == 3


NAMED = {
    "429": ("E961", "status 429"),
    "500": ("E961", "status 500: 'out of memory'"),
    "garbage": ("E962", "no JSON: '<html>busy'"),
    "list": ("E962", "no JSON object: '[1, 2]'"),
    "error": ("E962", "no choices: {'error': {'message': 'overloaded'}}"),
    "no text": ("E962", "a choice without text"),
    "cut": ("E961", "peer closed connection without sending complete message body"),
    "slow": ("E961", "ReadTimeout timed out"),
}
"The code of each fault, and what the error says of it."


@pytest.mark.parametrize("fault", FAULTS)
def test_what_fails_for_good_is_named_and_nothing_answered_is_lost(fault: str, tmp_path: Path) -> None:
    def spoil(proxy: Proxy, handler: BaseHTTPRequestHandler, body: bytes) -> bool:
        return b"what is 2?" not in body or FAULTS[fault](proxy, handler, body)

    options = {"timeout": 0.8 if fault == "slow" else 5, "retries": 1, "concurrency": 1}
    with serving() as address, proxied(address, spoil) as (at, proxy):
        with pytest.raises(TrueupError) as caught:
            remote(at, tmp_path, **options).complete(CHATS, decoding=GREEDY)
        proxy.fault = lambda proxy, handler, body: True
        before = len(proxy.asked)
        client = remote(at, tmp_path, **options)
        assert len(client.complete(CHATS, decoding=GREEDY)) == len(CHATS)
    code, found = NAMED[fault]
    assert caught.value.code == code and caught.value.exit_code == EXIT_UNAVAILABLE
    assert f"{at}/v1/chat/completions, model {MODEL}, request " in caught.value.where
    assert found in caught.value.reason and "2 attempts" in caught.value.reason
    assert "run the same again" in caught.value.remedy
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


def test_who_waits_for_a_turn_waits_on_when_the_server_says_so() -> None:
    pace = Pace()
    waited: list[float | None] = []

    class Ended(threading.Event):
        """Set once it was waited for twice; the server speaks up during the first time."""

        def wait(self, timeout: float | None = None) -> bool:
            waited.append(timeout)
            pace.hold(9)
            return len(waited) == 2

    assert pace.wait(0.5, Ended())
    assert waited[0] == 0.5 and 8.9 < (waited[1] or 0) <= 9
    pace = Pace()
    assert not pace.wait(0.01, threading.Event())


def test_questions_keep_to_the_rate_and_waits_are_read() -> None:
    pace = Pace(rate=60)
    assert pace.turn() == 0 and 0.9 < pace.turn() <= 1 and 1.9 < pace.turn() <= 2
    pace.hold(9)
    assert 8.9 < pace.turn() <= 9
    assert [retry_after(t) for t in ("3", "soon", "", "²", "Wed, 21 Oct 2015 07:28:00 GMT")] == [
        3,
        0,
        0,
        0,
        0,
    ]
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
            with pytest.raises(TrueupError, match=rf"E963 {at}.*model {MODEL} — .*no log-probs.*read=text"):
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
        kept.write_text(json.dumps({**json.loads(good), "answer": {"choices": []}}), encoding="utf-8")
        client.complete(CHATS[:1], decoding=GREEDY)
    assert client.usage.requests == 2 and client.usage.cached == 0
    assert json.loads(kept.read_text(encoding="utf-8"))["request"] == json.loads(good)["request"]


def test_an_answer_beyond_all_bounds_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MAX_BYTES", 1000)
    with (
        serving() as address,
        proxied(address, lambda p, handler, b: answer(handler, 200, b" " * 1001)) as (at, proxy),
        pytest.raises(TrueupError, match=r"E961.*longer than 1000 bytes, 2 attempts"),
    ):
        remote(at, tmp_path, retries=1, concurrency=1).complete(CHATS[:1], decoding=GREEDY)
    assert len(proxy.asked) == 2 and not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize("logprobs", [[], [None], {"content": [{"token": "A", "top_logprobs": "A"}]}])
def test_first_tokens_of_another_form_are_no_log_probs(logprobs: object) -> None:
    with pytest.raises(TrueupError, match="E963"):
        read_first({"choices": [{"logprobs": logprobs}]}, ["A"])


@pytest.mark.parametrize("value", [float("nan"), 0.5, True, "-1", pytest.param(-(10**400), id="huge")])
def test_a_log_prob_is_a_number_of_at_most_nothing(value: object) -> None:
    content = [{"token": "A", "top_logprobs": [{"token": "A", "logprob": value}]}]
    with pytest.raises(WrongAnswerError, match="no log-prob"):
        read_first({"choices": [{"logprobs": {"content": content}}]}, ["A"])


def test_half_a_character_can_be_kept(tmp_path: Path) -> None:
    said = rb'{"choices": [{"finish_reason": "length", "message": {"content": "\ud83d\ude00 and \ud83d"}}]}'
    with (
        serving() as address,
        proxied(address, lambda p, handler, b: answer(handler, 200, said)) as (at, proxy),
    ):
        texts = [remote(at, tmp_path).complete(CHATS[:1], decoding=GREEDY)[0][0].text for _ in range(2)]
    assert texts == ["\N{GRINNING FACE} and \ufffd"] * 2 and len(proxy.asked) == 1


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


def test_the_environment_gives_no_proxy_and_no_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password hunter2\n", encoding="utf-8")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.setenv(name.lower(), "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    with serving() as address, proxied(address, lambda *_: True) as (at, proxy):
        remote(at, None, retries=0).complete(CHATS[:1], decoding=GREEDY)
    assert len(proxy.headers) == 1 and "Authorization" not in proxy.headers[0]


def test_no_redirect_is_followed_with_the_key(tmp_path: Path) -> None:
    with serving() as address, proxied(address, lambda *_: True) as (elsewhere, other):

        def moved(proxy: Proxy, handler: BaseHTTPRequestHandler, body: bytes) -> bool:
            return answer(handler, 307, b"", Location=f"{elsewhere}/v1/chat/completions")

        with proxied(address, moved) as (at, proxy), pytest.raises(TrueupError, match=r"E962.*status 307"):
            remote(at, tmp_path, key="s3cret-key").complete(CHATS[:1], decoding=GREEDY)
    assert len(proxy.asked) == 1 and not other.asked


@pytest.mark.parametrize("options", ["key=s3cret-key", "api_key=s3cret-key", "key=s3cret-key&timeout=x"])
def test_a_key_in_place_of_its_variables_name_is_not_shown(options: str) -> None:
    for ref in (f"lm:openai:https://host/v1?model=m&{options}", "lm:openai:https://u:s3cret@host/v1?model=m"):
        with pytest.raises(TrueupError, match="E797") as caught:
            open_judge(ref)
        assert "s3cret" not in str(caught.value)
    with pytest.raises(TrueupError, match="E792") as caught:
        open_judge(f"lm:openai:https://host/v1?model=m&{options}#speed=1")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "ref",
    [
        "openai:http://127.0.0.1:8000/v1",
        "openai:http://127.0.0.1:8000/v1?model=",
        "openai:ftp://127.0.0.1/v1?model=m",
        "openai:http://127.0.0.1:port/v1?model=m",
        "openai:http://[::1/v1?model=m",
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
