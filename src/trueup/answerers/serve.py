"""`trueup serve`: an OpenAI-compatible server on this machine alone, for one model, one request at a time.

It listens on the loopback address only, and answers only requests that name it in `Host` and send JSON: a web
page open in a browser on this machine can then neither reach it by a name of its own nor post to it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from trueup.answerers.open import is_here
from trueup.answerers.service import PATHS, Service
from trueup.errors import TrueupError

HOST = "127.0.0.1"
MAX_BYTES = 16 * 2**20
"A longer request is refused."
logger = logging.getLogger("trueup")


def make_server(service: Service, port: int = 0) -> ThreadingHTTPServer:
    """A server that listens, and answers once `serve_forever` is called; port 0 is any free one."""
    handler = type("Handler", (_Handler,), {"service": service})
    server = ThreadingHTTPServer((HOST, port), handler)
    server.daemon_threads = True
    return server


class _Handler(BaseHTTPRequestHandler):
    service: Service
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self) -> None:
        if not self._is_for_us():
            return
        if self.path == "/v1/models":
            self._say(200, self.service.models())
        elif self.path == "/health":
            self._say(200, {"status": "ok"})
        else:
            self._refuse(404, f"no such path; there are /v1/models, /health, {', '.join(PATHS)}")

    def do_POST(self) -> None:
        size = self.headers.get("Content-Length", "")
        if not size.isdecimal() or len(size) > len(str(MAX_BYTES)) or int(size) > MAX_BYTES:
            # The body is not read, so the connection cannot be used again.
            self.close_connection = True
            return self._refuse(413, f"a request is at most {MAX_BYTES} bytes, and says how many")
        body = self.rfile.read(int(size))
        if not self._is_for_us():
            return None
        if self.headers.get_content_type() != "application/json":
            return self._refuse(415, "send application/json")
        if self.path not in PATHS:
            return self._refuse(404, f"no such path; there are {', '.join(PATHS)}")
        try:
            found = json.loads(body)
        except (ValueError, RecursionError):
            return self._refuse(400, "the request is no JSON")
        if not isinstance(found, dict):
            return self._refuse(400, "send a JSON object")
        try:
            answer = self.service.respond(self.path, found)
        except TrueupError as error:
            return self._refuse(400, str(error))
        except Exception as error:
            logger.exception("a request failed")
            return self._refuse(500, f"{type(error).__name__}: {error}")
        return self._say(200, answer)

    def _is_for_us(self) -> bool:
        """Whether `Host` names this machine; refuses it otherwise."""
        try:
            host = urlsplit(f"//{self.headers.get('Host', '')}").hostname or ""
        except ValueError:
            host = ""
        if not is_here(host):
            self._refuse(421, "this server answers to localhost only")
            return False
        return True

    def _refuse(self, status: int, reason: str) -> None:
        self._say(status, {"error": {"message": reason, "type": "invalid_request_error", "code": status}})

    def _say(self, status: int, answer: Mapping[str, Any]) -> None:
        body = json.dumps(answer, ensure_ascii=False).encode("utf-8", "replace")
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        try:
            self.end_headers()
            self.wfile.write(body)
        except ConnectionError:
            logger.debug("a client went away before it was answered")
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        logger.debug(format, *args)
