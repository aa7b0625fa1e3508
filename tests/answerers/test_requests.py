"""What `trueup serve` takes for a request, field by field, and how the texts of its answers are cut."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import numpy as np
import pytest

from answerers.worlds import MODEL, local
from trueup.answerers.door import Limits, refusal
from trueup.answerers.serve import _Line
from trueup.answerers.service import Service, service_of
from trueup.errors import TrueupError
from trueup.models.forward import MIN_TEMPERATURE
from trueup.models.generate import Sampled

CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
TEXT: dict[str, Any] = {"model": MODEL, "prompt": "hi", "max_tokens": 2}
SERVICE = service_of(local(), MODEL)
PATH = {True: "/v1/chat/completions", False: "/v1/completions"}


def asked(change: dict[str, Any], form: dict[str, Any] = CHAT) -> dict[str, Any]:
    """The answer to a request with a change."""
    return SERVICE.answer(SERVICE.read(PATH["messages" in form], {**form, **change}))


HUGE = 10**400
NO_NUMBERS = ["1", True, [1], {}, math.nan, math.inf, -math.inf]
WRONG: dict[str, list[Any]] = {
    "temperature": [*NO_NUMBERS, -1e-9, 1e-40, 5e-324, 9e-7, 1e7, HUGE, -HUGE],
    "top_p": [*NO_NUMBERS, 0, -0.5, 1.0001, HUGE],
    "top_k": [*NO_NUMBERS, 0, -1, 1.5],
    "max_tokens": [*NO_NUMBERS, -1, 1.5, 257, HUGE, -HUGE],
    "max_completion_tokens": [*NO_NUMBERS, 0, -1, 257, HUGE],
    "n": [*NO_NUMBERS, 0, -1, 1.5, 129, HUGE],
    "seed": ["1", True, 1.5, math.nan, 2**63, -(2**63) - 1, HUGE],
    "stop": [1, True, [1], [["a"]], {"a": 1}, ["a"] * 65],
    "logprobs": ["yes", 2.5, -1, 21, [1], HUGE],
    "top_logprobs": [*NO_NUMBERS, -1, 21, HUGE],
    "stream": ["no", 1, True],
    "user": [1, ["a"]],
    "model": [1, None, "", ["tiny"]],
    "messages": [[], "hi", {}, [1], [{}], [{"role": "user"}], [{"role": "king", "content": "a"}],
                 [{"role": "user", "content": 1}], [{"role": "user", "content": "a", "colour": "b"}],
                 [{"role": "user", "content": "\ud800"}], CHAT["messages"] * 257],
    "prompt": [1, ["a"], "\udfff"],
}  # fmt: skip
"Of each field, values that no request may have."


@pytest.mark.parametrize("field", WRONG)
def test_a_wrong_value_is_an_error_that_names_its_field(field: str) -> None:
    form = TEXT if field == "prompt" else CHAT
    if field == "max_completion_tokens":
        form = {name: value for name, value in CHAT.items() if name != "max_tokens"}
    for value in WRONG[field]:
        with pytest.raises(TrueupError) as caught:
            asked({field: value}, form)
        # No turns, and half a surrogate pair, are found out only as ids are made.
        assert field in caught.value.where or caught.value.code in ("E355", "E555"), (value, caught)
        assert caught.value.code[:2] in ("E7", "E3", "E5"), (value, caught.value)


def test_a_temperature_is_taken_down_to_the_smallest_and_that_is_named() -> None:
    with pytest.raises(TrueupError, match=r"temperature.*1e-40 is too small.*smallest is 1e-06; 0 is greedy"):
        asked({"temperature": 1e-40})
    answer = asked({"temperature": MIN_TEMPERATURE, "seed": 0, "logprobs": True, "top_logprobs": 3, "n": 2})
    values = [
        number
        for choice in answer["choices"]
        for token in choice["logprobs"]["content"]
        for number in (token["logprob"], *(top["logprob"] for top in token["top_logprobs"]))
    ]
    # The likeliest token is all but certain, and the sample is the greedy one.
    assert all(math.isfinite(value) and value <= 1e-6 for value in values) and len(values) == 16
    assert [c["logprobs"]["content"][0]["logprob"] for c in answer["choices"]] == [0.0, 0.0]
    greedy = asked({"temperature": 0})["choices"][0]["message"]["content"]
    assert {choice["message"]["content"] for choice in answer["choices"]} == {greedy}


@pytest.mark.parametrize(
    "body",
    [b"{", b"", b"[1]", b"NaN", b'{"temperature": NaN}', b'{"temperature": Infinity}', b"\xff",
     b"[" * 100_000, b'{"seed": ' + b"1" * 5000 + b"}"],
)  # fmt: skip
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    line = _Line(SERVICE, 1, Limits(), None)
    with pytest.raises(Exception, match="JSON"):
        line._read(PATH[True], body)


def test_an_error_has_the_form_that_clients_of_openai_read() -> None:
    said = json.loads(refusal(400, "x" * 10_000_000, "messages"))
    assert said["error"].pop("message") == "x" * 2000 + " ..."
    assert said == {"error": {"type": "invalid_request_error", "param": "messages", "code": 400}}


@pytest.mark.parametrize("turns", [300, 3000, 10_000, 100_000])
def test_more_turns_than_positions_are_refused_before_they_are_looked_at(turns: int) -> None:
    messages = [{"role": "user", "content": "a"}] * turns
    began = time.monotonic()
    with pytest.raises(TrueupError, match=f"E702 request messages — {turns} are more than 256"):
        SERVICE.read(PATH[True], {**CHAT, "messages": messages})
    assert time.monotonic() - began < 0.5


def test_a_text_that_cannot_fit_is_refused_before_it_is_encoded() -> None:
    service = Service(answerer=local(), model=MODEL, context=10)
    service.read(PATH[False], {**TEXT, "prompt": "a" * 1280})
    with pytest.raises(TrueupError, match="E702 request prompt — 1281 characters cannot be within 10 tokens"):
        service.read(PATH[False], {**TEXT, "prompt": "a" * 1281})


# ------------------------------------------------------------------------------------------ whole characters


@pytest.mark.parametrize("stop", ["é", "\N{GRINNING FACE}", "\N{GRINNING FACE}!", "a\u0301"])
@pytest.mark.parametrize("before", ["", "c", "nè ", "\N{WINKING FACE}", "\ufffd", "\ufffd\ufffd x"])
def test_a_stop_string_of_several_tokens_leaves_whole_characters(before: str, stop: str) -> None:
    """Each byte is a token, so a stop string's first character begins tokens before it is there."""
    ids = np.array(local().chat.codec.encode_content(before + stop + "z"))
    sampled = Sampled(tokens=ids, logprobs=np.zeros(len(ids), np.float32), finished=False)
    found = local().answer(sampled, plain=True, stop=[stop], logprobs=True)
    assert found.text == before and found.finish == "stop"
    assert "".join(found.tokens) == before and found.logprobs is not None
    assert len(found.tokens) == len(found.logprobs) == len(before.encode())


@pytest.mark.parametrize("seed", range(20))
def test_tokens_of_any_bytes_say_the_text_when_joined(seed: int) -> None:
    draw = np.random.default_rng(seed)
    letters = "ab é\N{GRINNING FACE}\ufffd\u0e01\u0301"
    bytes_of = local().chat.codec.encode_content("".join(draw.choice(list(letters), 30)))
    # Some bytes are lost, so that characters are cut.
    ids = np.array([number for number in bytes_of if draw.random() > seed / 60])
    texts = local().token_texts(ids)
    assert len(texts) == len(ids) and "".join(texts) == local().chat.codec.decode(ids)


def test_the_texts_of_many_tokens_take_time_in_proportion() -> None:
    """A quadratic reading of 16 times as many takes 256 times as long; one in proportion, 16."""

    def seconds(count: int) -> float:
        ids = np.array(local().chat.codec.encode_content("\ufffd" * count))
        began = time.process_time()
        local().token_texts(ids)
        return time.process_time() - began

    assert seconds(1600) < 80 * max(seconds(100), 1e-3)


def test_a_half_character_in_an_answer_can_be_sent() -> None:
    """The first byte of an é is all that the model says."""
    ids = np.array(local().chat.codec.encode_content("é"))[:1]
    sampled = Sampled(tokens=ids, logprobs=np.zeros(1, np.float32), finished=False)
    found = local().answer(sampled, plain=True, stop=["\ud83d", "é"], logprobs=True)
    assert (found.text, found.finish, found.tokens) == ("\ufffd", "length", ("\ufffd",))


def test_a_long_text_has_the_ids_of_its_parts() -> None:
    """It is encoded in another way, so that other threads work meanwhile; each byte is a token here."""
    codec = local().chat.codec
    text = "né " * 30_000
    assert codec.encode_content(text) == codec.encode_content(text[:3]) * 30_000
    with pytest.raises(TrueupError, match="E555"):
        codec.encode_content(text + "\ud800")
