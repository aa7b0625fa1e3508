"""Every route of `trueup serve`, as its table has them: a page of another site reaches none, by no method."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from starlette.routing import Route

from answerers.worlds import MODEL, local
from trueup.answerers import door, serve
from trueup.answerers.serve import make_server
from trueup.answerers.service import service_of

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
JSON = (b"content-type", b"application/json")
FOREIGN: dict[str, list[tuple[bytes, bytes]]] = {
    "another site's page": [(b"host", b"localhost"), (b"origin", b"https://evil.example"), JSON],
    "a page without an origin": [(b"host", b"localhost"), (b"origin", b"null"), JSON],
    "another port of this machine": [(b"host", b"localhost:8000"), (b"origin", b"http://localhost:1"), JSON],
    "another site's form": [
        (b"host", b"localhost"), (b"origin", b"https://evil.example"), (b"content-type", b"text/plain"),
    ],
    "a name that leads here": [(b"host", b"evil.example"), JSON],
    "such a name, and its own page": [(b"host", b"evil.example"), (b"origin", b"http://evil.example"), JSON],
    "no name": [JSON],
    "two names": [(b"host", b"localhost"), (b"host", b"evil.example"), JSON],
}  # fmt: skip
HERE = [(b"host", b"127.0.0.1:8000")]
BODY = json.dumps({"model": MODEL, "prompt": "hi", "messages": [], "max_tokens": 1}).encode()


class Untouched:
    """A service that nobody may ask anything."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"asked for {name}")


def server(service: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, list[Route]]:
    """What the server runs, and its routes, whoever added them."""
    seen: list[Any] = []
    real = door.guarded
    monkeypatch.setattr(door, "guarded", lambda app, site: seen.append(app) or real(app, site))
    app = make_server(service).config.app
    assert all(isinstance(route, Route) for route in seen[0].routes), "a route of another kind needs its test"
    return app, seen[0].routes


def status(app: Any, method: str, path: str, headers: list[tuple[bytes, bytes]]) -> int:
    """The status of one request, without a socket."""
    sent: list[dict[str, Any]] = []
    body = iter([{"type": "http.request", "body": BODY, "more_body": False}])

    async def receive() -> dict[str, Any]:
        return next(body, {"type": "http.disconnect"})

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "path": path,
        "raw_path": path.encode(), "query_string": b"", "root_path": "", "scheme": "http", "headers": headers,
        "client": ("127.0.0.1", 9), "server": ("127.0.0.1", 8000),
    }  # fmt: skip
    asyncio.run(app(scope, receive, send))
    return sent[0]["status"]


@pytest.mark.parametrize("who", FOREIGN)
def test_no_route_answers_a_foreign_page(who: str, monkeypatch: pytest.MonkeyPatch) -> None:
    app, routes = server(Untouched(), monkeypatch)
    assert {route.path for route in routes} == {"/v1/models", "/health", *serve.PATHS}
    for path in [*(route.path for route in routes), "/", "/nowhere"]:
        assert {status(app, method, path, FOREIGN[who]) for method in METHODS} <= {400, 403}, path


def test_what_is_read_with_get_changes_nothing_and_what_answers_wants_post(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A link or a picture on a page sends GET without an origin: it finds what the server is, and no more."""
    app, routes = server(service_of(local(), MODEL), monkeypatch)
    for route in routes:
        allowed = {method for method in METHODS if status(app, method, route.path, [*HERE, JSON]) != 405}
        assert allowed == ({"POST"} if route.path in serve.PATHS else {"GET", "HEAD"}), route.path


@pytest.mark.parametrize(
    "kind", [b"text/plain", b"application/x-www-form-urlencoded", b"multipart/form-data", b""]
)
def test_what_a_form_can_send_is_refused(kind: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also from a browser that names no origin."""
    app, _ = server(Untouched(), monkeypatch)
    for path in serve.PATHS:
        assert status(app, "POST", path, [*HERE, (b"content-type", kind)]) == 415
