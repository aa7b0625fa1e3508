"""`trueup watch`: a small server on this machine's loopback address that answers four paths, and only reads.

Nothing of what is asked names a file: a request gets the page, what has changed in it, or one of two files of
ours. `trueup.answerers.door` says whose requests are answered, and bounds what clients may take up.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from typing import TYPE_CHECKING, Any

from trueup.answerers.door import Limits, server_of
from trueup.errors import TrueupError
from trueup.reports.page import style
from trueup.watching.page import ROOM, Watch

if TYPE_CHECKING:
    import uvicorn

LIMITS = Limits(connections=64, turned_away=32, bytes=0, bytes_at_once=0)
_HAVE = re.compile(rb"have=([0-9a-f.]{0,80})")
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
Answer = tuple[int, str, bytes]


class Site:
    """What each path answers, an ASGI application; one thread reads files, whoever asks."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._reader = ThreadPoolExecutor(1)
        folder = resources.files(ROOM)
        self._files = {
            "/watch.js": ("text/javascript", (folder / "watch.js").read_bytes()),
            "/watch.css": ("text/css", style("drawing", "screen", "report", "live").encode()),
        }

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        """Nothing; answers one request."""
        status, kind, body = await self._answer(scope)
        headers = {**_HEADERS, "Content-Type": f"{kind}; charset=utf-8", "Content-Length": str(len(body))}
        if status == 405:
            headers["Allow"] = "GET, HEAD"
        sent = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": sent})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _answer(self, scope: Mapping[str, Any]) -> Answer:
        path = scope["path"]
        if scope["method"] not in ("GET", "HEAD"):
            return 405, "text/plain", b"this page is read only: GET it\n"
        if not _may_ask(scope):
            return 403, "text/plain", b"the request comes from a web page of another site\n"
        if path in self._files:
            return 200, *self._files[path]
        if path == "/":
            return 200, "text/html", await self._read(lambda: self._watch.page(live=True))
        if path == "/live":
            have = _HAVE.fullmatch(scope["query_string"])
            known = have[1].decode() if have else ""
            return 200, "application/json", await self._read(lambda: self._watch.news(known))
        return 404, "text/plain", b"no such page; there is /\n"

    async def _read(self, read: Callable[[], str]) -> bytes:
        """What is read by the one thread that reads."""
        text = await asyncio.get_running_loop().run_in_executor(self._reader, read)
        return text.encode("utf-8", "replace")


def _may_ask(scope: Mapping[str, Any]) -> bool:
    """Whether a browser says that the page itself asks, or its user; another site's page may only lead to it.

    `Origin` does not come with an image or a script that a page of another site names; this does.
    """
    said = {name.lower(): value for name, value in scope["headers"]}
    leads = said.get(b"sec-fetch-mode") == b"navigate" and scope["path"] == "/"
    return leads or said.get(b"sec-fetch-site", b"none") in (b"none", b"same-origin")


def make_server(site: Site) -> uvicorn.Server:
    """A server: `run(sockets=[...])` answers until it is ended. E811 without `trueup[serving]`."""
    try:
        return server_of(site, LIMITS, grace=2)
    except ImportError as error:
        raise TrueupError(
            "E811",
            f"the package {error.name} is not installed",
            where="trueup watch",
            remedy="pip install 'trueup[serving]'; or --once page.html, which needs no server",
        ) from None
