"""Keys are found in every form in which servers, errors and addresses repeat them, and in no other text."""

from __future__ import annotations

import base64
import json
import time
from urllib.parse import quote

import pytest

from trueup.settings.secret import bare, clean, fault_of_address, shown_without_keys, without_key

KEYS = ["s3cret-key", "sk-proj-AbC_123+/=xyz", "aaaaaaaa", 'q"u/te~$', "--------"]


def forms(key: str) -> dict[str, str]:
    """A key as it may be repeated."""
    coded = {
        f"base64 after {before} bytes": base64.b64encode(b"Bearer  "[:before] + key.encode()).decode()
        for before in range(9)
    }
    wrapped = base64.encodebytes(b"x" * 50 + key.encode()).decode()
    return coded | {
        "as it is": key,
        "in base64 for URLs": base64.urlsafe_b64encode(b"user:" + key.encode()).decode(),
        "in base64 of several lines": wrapped,
        "in base64, escaped": quote(base64.b64encode(b"a:" + key.encode()).decode(), safe=""),
        "escaped": quote(key, safe=""),
        "escaped twice": quote(quote(key, safe=""), safe=""),
        "all escaped": "".join(f"%{ord(c):02X}" for c in key),
        "in JSON": json.dumps(key),
        "in JSON, all escaped": "".join(f"\\u{ord(c):04x}" for c in key),
        "in hexadecimal": key.encode().hex().upper(),
        "spaced": " ".join(key),
        "spaced by two": "  ".join(key),
        "in lines": "\n".join(key),
        "in lines of JSON": json.dumps("\n".join(key)),
    }


@pytest.mark.parametrize("key", KEYS)
def test_a_key_is_taken_out_in_every_form(key: str) -> None:
    for name, form in forms(key).items():
        found = without_key(f"before {form} after".encode(), key).decode()
        assert "[key]" in found, (name, form)
        # Of base64, the characters that a key shares with its neighbours stay: less than two of its bytes.
        rest = found.replace("[key]", "")
        assert rest.startswith("before ") and rest.endswith(" after"), (name, found)
        assert "base64" in name or len(rest) <= len('before "" after'), (name, found)


def test_texts_without_the_key_stay_as_they_are() -> None:
    text = " ".join(forms("another-k3y").values()) + " s3cret and key, s3cre t-ke"
    assert without_key(text.encode(), "s3cret-key") == text.encode()
    assert without_key(b"x", "") == b"x"


@pytest.mark.parametrize("text", ["-" * 99_999, "s " * 50_000, "a" * 99_999, "%25" * 33_333, "\\" * 99_999])
def test_no_text_takes_long(text: str) -> None:
    began = time.process_time()
    for key in KEYS:
        without_key(text.encode(), key)
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    "url",
    [
        "http://host/score?api_key=abc",
        "http://host/score?x=1&apiKey=abc",
        "http://host/score?X-Amz-Signature=abc",
        "http://host/score?access_token=abc",
        "http://host/score?a=1;token=abc",
        "http://host/score?%6bey=abc",
        "http://host/score?key",
        "http://host/score?batch=1#token=abc",
        "http://host/score?PASSWORD=abc",
        "http://user:abc@host/score",
        "http://abc@host/score",
        "http://user%3Aabc%40host/score",
        "http://user:abc\\@host/score",
    ],
)
def test_an_address_with_a_key_is_known_and_shown_without(url: str) -> None:
    assert fault_of_address(url)
    assert "abc" not in bare(url) and "abc" not in clean(f"judge {url} failed")


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8000/score",
        "http://host/score?max_tokens=3&keyword=a&author=b&monkey=c&tokenizer=d#batch=16&timeout=60",
        "http://host/users/@me",
    ],
)
def test_an_address_without_one_is_none(url: str) -> None:
    assert not fault_of_address(url) and clean(url) == url


def test_what_is_shown_has_no_key_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("OPENAI_API_KEY", "HF_TOKEN", "myPassword", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, f"canary-of-{name}")
        shown = clean(f"the server says canary-of-{name}, {quote(' '.join(f'canary-of-{name}'))}")
        assert shown == "the server says [key], [key]"
    for name, value in {
        "PWD": "/srv/work",
        "HF_TOKEN": "short",
        "SSH_KEY_FILE": "~/.ssh/id",
    }.items():
        monkeypatch.setenv(name, value)
        assert clean(f"a {value} b") == f"a {value} b"
    monkeypatch.setenv("MY_KEY", "canary-value")
    for kept in ("http://h/v1?model=m&key=MY_KEY", "rule:exact?key=answer&token=x", "http://h/?a=b#c"):
        assert clean(f"see {kept}") == f"see {kept}"
    assert clean("see http://h/v1?model=m&key=other") == "see http://h/v1?model=m&key=[key]"
    assert clean("name a variable: &key=NAME") == "name a variable: &key=NAME"
    try:
        raise ValueError("canary-value")
    except ValueError as error:
        shown_without_keys(type(error), error, error.__traceback__)
    said = capsys.readouterr().err
    assert said.endswith("ValueError: [key]\n") and said.startswith("Traceback")
