"""Where references to servers may lead: hostile ones reach nothing private, those of people work."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from answerers.worlds import CHATS, MODEL, Proxy, answer, proxied, serving
from trueup.answerers.addresses import ALLOW
from trueup.answerers.cache import Cache
from trueup.answerers.open import open_server
from trueup.answerers.remote import RemoteAnswerer
from trueup.answerers.transport import NoAnswerError, Session, Transport
from trueup.errors import EXIT_REFUSED, TrueupError
from trueup.judges.endpoint import open_endpoint
from trueup.sources.sample import Decoding

PUBLIC = "93.184.216.34"
NAMES = {
    "public.example": [PUBLIC],
    "here.example": ["127.0.0.1"],
    "here6.example": ["::1"],
    "inside.example": ["10.1.2.3"],
    "metadata.example": ["169.254.169.254"],
    "mapped.example": ["::ffff:10.1.2.3"],
    "any.example": ["0.0.0.0"],
    "both.example": ["10.1.2.3", PUBLIC],
    "sub.localhost": ["127.0.0.1"],
    "localhost.example": ["127.0.0.1"],
    "gateway.example": ["64:ff9b::a01:203"],
    "localhost": ["::1", "127.0.0.1"],
}
"What a name server of the test's own says."
HOSTILE = [
    "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "017700000001",
    "127.0.0.01", "0", "0.0.0.0", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]",
    "[0:0:0:0:0:ffff:10.0.0.1]", "[::127.0.0.1]", "[64:ff9b::127.0.0.1]", "[2002:7f00:1::]",
    "[2002:a01:203::1]", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1",
    "169.254.169.254", "2852039166", "0xa9fea9fe", "[fe80::1]", "[fc00::1]", "[fd00:ec2::254]",
    "224.0.0.1", "255.255.255.255", "198.18.0.1", "here.example", "here6.example", "inside.example",
    "metadata.example", "mapped.example", "any.example", "sub.localhost", "localhost.example",
    "gateway.example", "LOCALHOST.example",
]  # fmt: skip


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The addresses that were connected to; names are the test's own, and only this machine is there."""
    found: list[str] = []
    resolve, connect = socket.getaddrinfo, socket.create_connection

    def named(host: Any, port: Any, *given: Any, **more: Any) -> Any:
        known = NAMES.get(host.lower()) if isinstance(host, str) else None
        if known is None:
            # Numbers alone, which no name server is asked for.
            return resolve(host, port, 0, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST)
        kinds = [socket.AF_INET6 if ":" in text else socket.AF_INET for text in known]
        return [(k, socket.SOCK_STREAM, 6, "", (text, port)) for k, text in zip(kinds, known, strict=True)]

    def counted(place: Any, *given: Any, **more: Any) -> socket.socket:
        found.append(place[0])
        if place[0] != "127.0.0.1":
            raise ConnectionRefusedError(111, "refused")
        return connect(place, *given, **more)

    monkeypatch.setattr(socket, "getaddrinfo", named)
    monkeypatch.setattr(socket, "create_connection", counted)
    monkeypatch.delenv(ALLOW, raising=False)
    yield found


def ask(host: str, port: int) -> None:
    """Asks a model there, and a judge."""
    for kind in ("openai", "judge"):
        if kind == "openai":
            url = f"openai:http://{host}:{port}/v1?model={MODEL}&cache=off&retries=0&timeout=2"
            open_server(url).complete(CHATS[:1], decoding=Decoding(greedy=True, max_new_tokens=2))
        else:
            open_endpoint(f"http://{host}:{port}/score#retries=0&timeout=2")._ask([{}], _session())


def _session() -> Session:
    return Session(key="", timeout=2)


def test_hostile_addresses_are_not_connected_to(connected: list[str]) -> None:
    assert len(HOSTILE) >= 40
    with serving() as address:
        port = int(address.rpartition(":")[2])
        for host in HOSTILE:
            with pytest.raises(TrueupError) as caught:
                ask(host, port)
            assert caught.value.code in ("E970", "E961"), host
            if caught.value.code == "E970":
                assert caught.value.exit_code == EXIT_REFUSED and ALLOW in caught.value.remedy
            with Session(key="", timeout=2) as session, pytest.raises((TrueupError, NoAnswerError)):
                session.post(f"http://{host}:{port}/score", b"{}")
    assert not connected


@pytest.mark.parametrize(
    "url",
    [
        "openai:http://public.example@10.0.0.1/v1?model=m",
        "openai:http://10.0.0.1\\@public.example/v1?model=m",
        "openai:http://public.example:80@here.example/v1?model=m",
        "openai:http://public.example#@10.0.0.1/v1?model=m",
        "openai:file:///etc/passwd?model=m",
        "openai:gopher://127.0.0.1:70/_x?model=m",
        "openai:ftp://127.0.0.1/v1?model=m",
        "openai:unix:///var/run/docker.sock?model=m",
        "openai:http:///v1?model=m",
        "openai://127.0.0.1/v1?model=m",
    ],
)
def test_other_schemes_users_and_fragments_are_refused(url: str, connected: list[str]) -> None:
    with pytest.raises(TrueupError, match="E797"):
        open_server(url)
    assert not connected


def test_a_name_is_resolved_once_and_its_checked_address_is_connected_to(
    connected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name server says a public address first, and one of this machine from then on."""
    said = [[PUBLIC], ["127.0.0.1"]]
    resolve = socket.getaddrinfo

    def rebinds(host: Any, port: Any, *given: Any, **more: Any) -> Any:
        if host != "rebinds.example":
            return resolve(host, port, *given, **more)
        (text,) = said.pop(0) if len(said) > 1 else said[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (text, port))]

    monkeypatch.setattr(socket, "getaddrinfo", rebinds)
    with Session(key="", timeout=2) as session:
        for _ in range(3):
            with pytest.raises(NoAnswerError, match="refused"):
                session.post("http://rebinds.example/v1", b"{}")
    assert connected == [PUBLIC] * 3
    # A later session asks again, and is told the other address.
    with Session(key="", timeout=2) as session, pytest.raises(TrueupError, match=r"E970.*127\.0\.0\.1"):
        session.post("http://rebinds.example/v1", b"{}")
    with Session(key="", timeout=2) as session, pytest.raises(NoAnswerError):
        session.post("http://both.example/v1", b"{}")
    assert connected == [PUBLIC] * 4


@pytest.mark.parametrize(
    "to", ["http://169.254.169.254/latest", "http://10.0.0.1/", "//here.example/", "/v1/x"]
)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(to: str, status: int, connected: list[str]) -> None:
    def moved(proxy: Proxy, handler: BaseHTTPRequestHandler, body: bytes) -> bool:
        return answer(handler, status, b"", Location=to)

    with proxied("nowhere", moved) as (at, proxy):
        client = RemoteAnswerer(
            transport=Transport(url=f"{at}/v1", retries=0, timeout=5), model=MODEL, cache=Cache(None)
        )
        with pytest.raises(TrueupError, match=f"E962.*status {status}"):
            client.complete(CHATS[:1], decoding=Decoding(greedy=True, max_new_tokens=2))
    assert connected == ["127.0.0.1"] and len(proxy.asked) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LocalHost"])
def test_this_machine_is_asked_where_it_is_named(host: str, connected: list[str]) -> None:
    """Of two addresses of `localhost` the first one that is there answers."""
    with serving() as address:
        found = open_server(f"openai:http://{host}:{address.rpartition(':')[2]}/v1?model={MODEL}&cache=off")
        ((said,),) = found.complete(CHATS[:1], decoding=Decoding(greedy=True, max_new_tokens=2))
    assert said.text and connected[-1] == "127.0.0.1"
    assert set(connected[:-1]) <= {"::1"}


def test_a_private_network_is_asked_where_the_environment_allows_it(
    connected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ALLOW, "10.0.0.0/8, fd00::/8,127.0.0.1")
    with serving() as address:
        port = int(address.rpartition(":")[2])
        with Session(key="", timeout=5) as session:
            for host in ("inside.example", "10.9.9.9", "[fd00:ec2::254]"):
                with pytest.raises(NoAnswerError, match="refused"):
                    session.post(f"http://{host}:{port}/v1", b"{}")
            # The server is asked, and knows itself by no such name.
            assert session.post(f"http://here.example:{port}/v1/models", b"{}").status == 400
            with pytest.raises(TrueupError, match="E970"):
                session.post(f"http://192.168.1.1:{port}/v1", b"{}")
    assert connected == ["10.1.2.3", "10.9.9.9", "fd00:ec2::254", "127.0.0.1"]
    monkeypatch.setenv(ALLOW, "10.0.0.0/40")
    with pytest.raises(TrueupError, match=rf"E970 \${ALLOW} — '10.0.0.0/40' is no address"):
        open_server("openai:http://10.0.0.1/v1?model=m")


def test_a_certificate_is_that_of_the_name_and_not_of_the_address(
    connected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is sent goes to the checked address, under the name that was written."""
    sent: list[Any] = []

    def stream(self: Any, method: str, url: Any, **given: Any) -> Any:
        sent.append((str(url), given["headers"], given["extensions"]))
        raise ConnectionRefusedError(111, "refused")

    import httpx2

    monkeypatch.setattr(httpx2.Client, "stream", stream)
    with Session(key="", timeout=2) as session, pytest.raises(NoAnswerError):
        session.post("https://public.example:8443/v1", b"{}")
    assert sent == [
        (
            f"https://{PUBLIC}:8443/v1",
            {"Host": "public.example:8443"},
            {"sni_hostname": "public.example"},
        )
    ]
