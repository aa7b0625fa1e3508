"""Keys: what is one, where it may not stand, and how it is taken out of what is kept or shown.

A key is read from an environment variable. A server may repeat it, an exception may quote it, a person may
write it into an address; it is then found as it is, percent-encoded, escaped, in hexadecimal, in base64 (of a
longer text too, as in `Basic`), and with up to three blanks, dots or dashes between its characters.
"""

from __future__ import annotations

import base64
import os
import re
import sys
import traceback
from collections.abc import Iterable
from functools import cache
from types import TracebackType
from urllib.parse import parse_qsl, unquote, urlsplit

HIDDEN = "[key]"
"What stands in the place of a key."
SHORTEST = 8
"Characters: a shorter value of an environment variable is taken for no key."
_KEY_WORDS = frozenset({"key", "apikey", "token", "secret", "password", "passwd", "passphrase"})
_URL_WORDS = _KEY_WORDS | {
    "accesskey", "secretkey", "accesstoken", "authtoken", "apitoken", "auth", "authorization", "bearer",
    "credential", "credentials", "jwt", "pass", "pw", "pwd", "sas", "session", "sig", "signature",
}  # fmt: skip
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_BETWEEN = {
    r"\s": " ", "%20": "%", "%09": "%", "%0[ad]": "%", r"\+": "+", r"\\[nrt]": "\\", "\u00a0": "\u00a0",
    "\u200b": "\u200b", **{re.escape(mark): mark for mark in "-._,;:|"},
}  # fmt: skip
"What may stand between the characters of a key that is spaced out, and how each begins."
_USER = re.compile(r"(?<=//)[^/\s?#]*(?:@|%40)")
_REFERENCE = re.compile(r"(?:^|(?<=[=:]))(openai:)?(https?:/\S*)")
"An address by itself, or as a part of what names a model or a judge."
_SERVER_KEY = re.compile(r"openai:[^?#]*\?(?:[^#]*&)?key=([^&#]*)")
_KEY_NAME = re.compile(r"([?&])key=[^&#]*")
_URL = re.compile(r"https?:/\S*")
_GIVEN = re.compile(r"([?&#;])([\w.%-]+)=([^&#;\s'\"\\]+)")


# ------------------------------------------------------------------------------------------ in addresses


def fault_of_address(url: str) -> str:
    """Why an address may not be written into settings; "" where nothing in it is meant to be secret."""
    try:
        parts = urlsplit(url)
        netloc, given = unquote(parts.netloc), f"{parts.query}&{parts.fragment}"
    except ValueError:
        netloc, given = url, url.partition("?")[2]
    if "@" in netloc:
        return "a name or password stands inside the URL"
    names = [name for name, _ in parse_qsl(given.replace(";", "&"), keep_blank_values=True)]
    return "a key stands inside the URL" if any(_is_key(name, _URL_WORDS) for name in names) else ""


def fault_of_references(texts: Iterable[str]) -> str:
    """Why some settings may not be written down: a fault of an address in them; "" where there is none.

    After `openai:`, `key=` names a variable of the environment; another word there may be the key itself.
    """
    for text in texts:
        if any(name not in os.environ for name in _SERVER_KEY.findall(text)):
            return "what `key=` names is no variable of the environment"
        for server, url in _REFERENCE.findall(text):
            if fault := fault_of_address(_KEY_NAME.sub(r"\1", url) if server else url):
                return fault
    return ""


def bare(url: str) -> str:
    """An address without what may be secret in it: no user, no query, no fragment."""
    shown = re.split(r"[?#&;]", url, maxsplit=1)[0]
    return "..." if "@" in unquote(shown) else shown


def _is_key(name: str, words: frozenset[str]) -> bool:
    """Whether one of the words of a name, or the whole without its marks, is that of a key."""
    plain = re.sub(r"[^a-z]", "", name.lower())
    return plain in words or any(word.lower() in words for word in _WORDS.findall(name))


# ------------------------------------------------------------------------------------------ in texts


def without_key(said: bytes, key: str) -> bytes:
    """Some bytes without a key, in any of the forms of this module."""
    return _forms(key).sub(HIDDEN.encode(), said) if key else said


def clean(text: str) -> str:
    """A text to be shown: without the keys of this environment, users of addresses and keys in their queries.

    A variable of the environment holds a key if its name says so: `OPENAI_API_KEY`, `HF_TOKEN`.
    """
    text = _USER.sub(f"{HIDDEN}@", text)
    text = _URL.sub(lambda url: _GIVEN.sub(_hide_given, url[0]), text)
    for name, value in os.environ.items():
        # A place is no key, though a variable may say where one is.
        if len(value) >= SHORTEST and not value.startswith(("/", "~")) and _is_key(name, _KEY_WORDS):
            said = without_key(text.encode("utf-8", "surrogatepass"), value)
            text = said.decode("utf-8", "surrogatepass")
    return text


def shown_without_keys(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Nothing; writes an exception as Python does, without keys: a `sys.excepthook`."""
    sys.stderr.write(clean("".join(traceback.format_exception(kind, error, trace))))


def _hide_given(found: re.Match[str]) -> str:
    before, name, _ = found.groups()
    # `key=NAME` names a variable, in references and in what errors say of them.
    named = name == "key" and (found[3] == "NAME" or found[3] in os.environ)
    return f"{before}{name}={HIDDEN}" if _is_key(unquote(name), _URL_WORDS) and not named else found[0]


@cache
def _forms(key: str) -> re.Pattern[bytes]:
    whole = key.encode("utf-8", "surrogateescape")
    texts = [key, *_in_base64(whole)]
    forms = [_spelled(text) for text in texts] + [f"(?i:{_spelled(whole.hex())})"]
    return re.compile("|".join(forms).encode("utf-8", "surrogateescape"))


def _in_base64(key: bytes) -> list[str]:
    """The characters that base64 has for a key alone, wherever it begins in what is encoded."""
    found: list[str] = []
    for before in range(3):
        coded = base64.b64encode(bytes(before) + key).decode()
        inner = coded[-(-before * 8 // 6) : (before + len(key)) * 8 // 6]
        found += [inner, inner.translate({ord("+"): "-", ord("/"): "_"})]
    return list(dict.fromkeys(found))


def _spelled(text: str) -> str:
    """A pattern of a text's characters, each as it is or escaped, with up to three others in between.

    What may stand in between shares no character with the text, so there is one way to match and no more.
    """
    apart = "|".join(form for form, begins in _BETWEEN.items() if begins not in text)
    between = f"(?:{apart}){{0,3}}" if apart else ""
    return between.join(_one(char) for char in text)


def _one(char: str) -> str:
    codes = "".join(f"%{byte:02x}" for byte in char.encode("utf-8", "surrogateescape"))
    # Percent-encoded twice, as of an address within an address; JSON's escape.
    others = [codes, codes.replace("%", "%25"), rf"\\u{ord(char):04x}"]
    others += [rf"\\{re.escape(char)}"] if char in '"\\/' else []
    others += [r"\+"] if char == " " else []
    return f"(?:{'|'.join([re.escape(char), *(f'(?i:{o})' for o in others)])})"
