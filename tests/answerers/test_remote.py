"""The same questions to a model in this process and to one behind `trueup serve`; what that refuses."""

from __future__ import annotations

import json
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import pytest

from answerers.worlds import CHATS, MODEL, TEXTS, local, remote, serving
from trueup.answerers import complete_groups
from trueup.engine.groups import Group, Message
from trueup.models.generate import Sampled
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


def test_the_tokens_before_a_stop_string_say_all_that_comes_before_it() -> None:
    """Each byte is a token: of é, of two bytes, the first alone reads as one character too."""
    tokens = local().chat.codec.encode_content("é!")
    sampled = Sampled(tokens=np.array(tokens), logprobs=np.zeros(len(tokens), np.float32), finished=False)
    found = local().answer(sampled, plain=True, stop=["!"], logprobs=True)
    assert found.text == "".join(found.tokens) == "é" and len(found.tokens) == 2


def test_groups_are_answered_by_name(tmp_path: Path) -> None:
    with serving() as address:
        (group,) = complete_groups(
            [Group(prompt=CHATS[0], id="7")], remote(address, tmp_path), decoding=SAMPLED, k=2
        )
    assert group.id == "7" and [c.source for c in group.completions] == [MODEL, MODEL]


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
        ("/v1/chat/completions", {**CHAT, "functions": []}, {}, 400, "functions"),
        ("/v1/chat/completions", {**CHAT, "stream": True}, {}, 400, "stream"),
        ("/v1/chat/completions", {**CHAT, "n": 0}, {}, 400, "n"),
        ("/v1/chat/completions", {**CHAT, "logprobs": 3}, {}, 400, "top_logprobs"),
        ("/v1/chat/completions", {**CHAT, "max_tokens": 4000}, {}, 400, "over 256"),
        ("/v1/chat/completions", {"model": MODEL, "prompt": "x"}, {}, 400, "messages"),
        ("/v1/completions", CHAT, {}, 400, "prompt"),
        ("/v1/chat/completions", CHAT, {"Content-Type": "text/plain"}, 415, "application/json"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(
    path: str, body: object, headers: dict[str, str], status: int, named: str
) -> None:
    with serving() as address:
        found = post(address, path, body, **headers)
    assert found[0] == status and named in found[1]["error"]["message"]


@pytest.mark.parametrize(
    ("headers", "body", "status", "said"),
    [
        ({"Host": "evil.example"}, b"{}", 400, b"Invalid host header"),
        ({"Host": "127.0.0.1.evil.example"}, b"{}", 400, b"Invalid host header"),
        ({"Host": "["}, b"{}", 400, b"Invalid host header"),
        ({"Content-Length": str(16 * 2**20 + 1)}, b"{", 413, b"Content Too Large"),
        ({"Content-Length": "²"}, b"", 400, b"Invalid HTTP request received."),
        ({"Content-Length": "1" * 5000}, b"", 400, b"Invalid HTTP request received."),
        ({"Content-Length": "2, 3"}, b"", 400, b"Invalid HTTP request received."),
    ],
)
def test_what_is_no_request_to_us_is_refused_and_the_server_goes_on(
    headers: dict[str, str], body: bytes, status: int, said: bytes
) -> None:
    with serving() as address:
        connection = HTTPConnection(address.removeprefix("http://"), timeout=10)
        connection.putrequest("POST", "/v1/chat/completions", skip_host="Host" in headers)
        whole = {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}
        for name, text in whole.items():
            connection.putheader(name, text.encode())
        connection.endheaders(body)
        found = connection.getresponse()
        assert (found.status, found.read()) == (status, said)
        connection.close()
        assert post(address, "/v1/chat/completions", CHAT)[0] == 200


@pytest.mark.parametrize(("blanks", "status"), [(0, 200), (16 * 2**20, 413)])
def test_a_request_need_not_say_how_long_it_is(blanks: int, status: int) -> None:
    with serving() as address:
        connection = HTTPConnection(address.removeprefix("http://"), timeout=10)
        body = iter([b" " * blanks, json.dumps(CHAT).encode()])
        connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
        assert connection.getresponse().status == status
        connection.close()


@pytest.mark.slow  # Importing the client takes seconds.
def test_the_official_client_reads_it() -> None:
    import openai

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
