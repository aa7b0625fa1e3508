"""JSON to a server and back, asked again where it fails in passing, no faster than it allows.

A question that got no answer, a broken one, or a status of `TRANSIENT` is asked again after

    pause · 2^attempt · (1/2 + u) seconds,   u in [0, 1) from the question's own digest,

or after what the server's `Retry-After` says if that is longer; then every other question waits as well.
"""

from __future__ import annotations

import email.utils
import functools
import json
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar, final

from trueup.answerers.addresses import addresses_of
from trueup.answerers.cache import digest_of
from trueup.engine.order import derive
from trueup.errors import TrueupError
from trueup.settings.secret import without_key

if TYPE_CHECKING:
    import httpx2

TRANSIENT = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
MAX_BYTES = 64 * 2**20
"A longer answer is none."
LONGEST_WAIT = 600.0
"Seconds; a server that says `Retry-After` more than this is given up."
_T = TypeVar("_T")


class WrongAnswerError(Exception):
    """What a server answered is not what was asked for; says why."""


class NoAnswerError(Exception):
    """A server gave no whole answer; says why."""


@final
class Pace:
    """When the next question may be asked: `rate` a minute at most, and not while the server says to wait."""

    def __init__(self, rate: float | None = None) -> None:
        self._gap = 60 / rate if rate else 0.0
        self._next = self._held = 0.0
        self._lock = threading.Lock()

    def turn(self) -> float:
        """Takes the next turn; how many seconds to wait for it."""
        with self._lock:
            now = time.monotonic()
            begin = max(now, self._next)
            self._next = begin + self._gap
            return begin - now

    def hold(self, seconds: float) -> None:
        """Lets nobody have a turn for so long, nor use one that was given before."""
        with self._lock:
            self._held = max(self._held, time.monotonic() + seconds)
            self._next = max(self._next, self._held)

    def wait(self, least: float, ended: threading.Event) -> bool:
        """Waits for a turn, `least` seconds or more; whether `ended` was set meanwhile."""
        left = max(least, self.turn())
        while not ended.wait(left):
            left = self._held - time.monotonic()
            if left <= 0:
                return False
        return True


class Said(NamedTuple):
    """What a server answered."""

    status: int
    retry_after: float
    "Seconds that it asks to wait; 0 where it does not."
    body: bytes


@final
class Session:
    """Connections to servers, kept open while some questions are asked; threads share them.

    No redirect is followed: the key, a bearer token unless it is empty, is meant for the address it was given
    with. Proxies and password files that the environment names are not used. A host's name is resolved once,
    and connections go to the addresses that `addresses_of` found it may have.
    """

    def __init__(self, *, key: str, timeout: float) -> None:
        # Imported here: whoever asks no server need not wait for it.
        import httpx2

        # Uncompressed, so that the longest answer is one of what was sent.
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
        }
        if key:
            headers["Authorization"] = f"Bearer {key}"
        self.ended = threading.Event()
        "Set once nothing more is to be asked."
        self._key, self._timeout = key, timeout
        self._failures = (httpx2.HTTPError, httpx2.InvalidURL, OSError, UnicodeError)
        self._unreached = (httpx2.ConnectError, httpx2.ConnectTimeout)
        self._url = httpx2.URL
        self._places: dict[tuple[str, int], list[str]] = {}
        # Servers close a connection that was idle for 5 s or more: one that is about to is not used again.
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=2.0)
        self._client = httpx2.Client(
            headers=headers, timeout=timeout, limits=limits, trust_env=False, verify=_trusted()
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def post(self, url: str, body: bytes) -> Said:
        """The answer to some JSON, `timeout` seconds from the question to its end.

        Raises NoAnswerError where no whole answer comes, E970 where the server may not be asked.
        """
        return self._asked("POST", url, body)

    def get(self, url: str) -> Said:
        """What a server says at an address; raises as `post`."""
        return self._asked("GET", url, None)

    def _asked(self, method: str, url: str, body: bytes | None) -> Said:
        try:
            asked = self._url(url)
            place = (asked.host, asked.port or {"http": 80, "https": 443}[asked.scheme])
            if place not in self._places:
                self._places[place] = addresses_of(*place)
            for address in (places := self._places[place]):
                try:
                    return self._said(method, asked, address, body)
                except self._unreached:
                    # Of `localhost` a server often has one address of two.
                    if address == places[-1]:
                        raise
            raise AssertionError("a host without an address is an error")
        except self._failures as error:
            raise NoAnswerError(f"{type(error).__name__} {error}".strip()) from None

    def _said(self, method: str, asked: httpx2.URL, address: str, body: bytes | None) -> Said:
        """The answer from one address of a host, whose name and certificate still count."""
        deadline = time.monotonic() + self._timeout
        said = bytearray()
        with self._client.stream(
            method,
            asked.copy_with(host=address),
            content=body,
            headers={"Host": asked.netloc.decode("ascii")},
            extensions={"sni_hostname": asked.raw_host.decode("ascii").strip("[]")},
        ) as answer:
            for piece in answer.iter_bytes():
                said += piece
                if time.monotonic() > deadline:
                    raise NoAnswerError(f"the answer took longer than {self._timeout:g} s")
                if len(said) > MAX_BYTES:
                    raise NoAnswerError(f"the answer is longer than {MAX_BYTES} bytes")
        # A server may repeat what it was sent; what it says is kept on disk and shown.
        whole = without_key(bytes(said), self._key)
        return Said(answer.status_code, retry_after(answer.headers.get("retry-after", "")), whole)


@functools.cache
def _trusted() -> ssl.SSLContext:
    """The system's certificates, read once."""
    return ssl.create_default_context()


@dataclass(frozen=True, kw_only=True)
class Transport:
    """A server's address and how it is asked. The key is sent as a bearer token and shown nowhere."""

    url: str
    key: str = field(default="", repr=False)
    timeout: float = 120.0
    "Seconds for one answer, from the question to its last byte."
    retries: int = 6
    pause: float = 0.5
    pace: Pace = field(default_factory=Pace, repr=False)

    def session(self) -> Session:
        """Connections to this server, to be closed by `with`."""
        return Session(key=self.key, timeout=self.timeout)

    def ask(
        self,
        path: str,
        request: Mapping[str, Any],
        read: Callable[[dict[str, Any]], _T],
        session: Session,
    ) -> tuple[dict[str, Any], _T]:
        """The answer, and what `read` made of it; asks again where it raises WrongAnswerError.

        Raises E961 where no answer comes, E962 for one that is of no use. The session's end ends all waiting.
        """
        body = json.dumps(request, ensure_ascii=False).encode()
        digest = digest_of(self.url + path, request)
        where = f"{self.url}{path}, model {request.get('model')}, request {digest[:12]}"
        code, failed, wait = "E961", "", 0.0
        for attempt in range(self.retries + 1):
            if attempt:
                jitter = derive(0, digest, attempt) / 2**63
                wait = max(wait, self.pause * 2 ** (attempt - 1) * (0.5 + jitter))
            if self.pace.wait(wait, session.ended):
                break
            wait = 0.0
            try:
                said = session.post(self.url + path, body)
                if said.status == 200:
                    answer = object_of(said.body)
                    return answer, read(answer)
            except NoAnswerError as error:
                code, failed = "E961", str(error)
                continue
            except WrongAnswerError as error:
                code, failed = "E962", str(error)
                continue
            code, failed, wait = "E961", f"status {said.status}: {beginning(said.body)}", said.retry_after
            if said.status not in TRANSIENT:
                raise self._error("E962", failed, where)
            if wait > LONGEST_WAIT:
                raise self._error(code, f"{failed}, and asks to wait {wait:.0f} s", where)
            self.pace.hold(wait)
        raise self._error(code, f"{failed or 'given up'}, {self.retries + 1} attempts", where)

    def _error(self, code: str, reason: str, where: str) -> TrueupError:
        remedy = (
            "see that it runs, or give it longer: timeout=, retries="
            if code == "E961"
            else "see what the server's log says of this request; it may not be an OpenAI-compatible one"
        )
        return TrueupError(
            code,
            reason,
            where=where,
            remedy=f"{remedy}; what was answered is kept, so run the same again",
        )


def retry_after(text: str) -> float:
    """Seconds that a `Retry-After` header asks for, a number or a date (RFC 9110); 0 for anything else."""
    # Not isdigit, which also takes digits that no number is written in, such as ².
    if text.strip().isdecimal():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return 0.0


def object_of(said: bytes) -> dict[str, Any]:
    """The JSON object that was answered; raises WrongAnswerError where there is none."""
    try:
        found = json.loads(said)
        if b"\\ud" in said.lower():
            # Half a pair of surrogates, of a text cut within a character: UTF-8 has U+FFFD for it.
            text = json.dumps(found, ensure_ascii=False).encode("utf-16", "surrogatepass")
            found = json.loads(text.decode("utf-16", "replace"))
    except (ValueError, RecursionError):
        raise WrongAnswerError(f"no JSON: {beginning(said)}") from None
    if not isinstance(found, dict):
        raise WrongAnswerError(f"no JSON object: {beginning(said)}")
    return found


def beginning(said: bytes) -> str:
    """The beginning of an answer, to be shown."""
    return repr(said[:160].decode("utf-8", "replace"))
