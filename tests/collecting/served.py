"""A project that is served in this process, and people who send its forms as a browser does."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from html import unescape
from pathlib import Path
from typing import Any

import httpx2

from trueup.answerers.door import listen
from trueup.collecting.open import Opened, open_project

KNOWN = [{"prompt": f"what is {i} + 1?", "chosen": str(i + 1), "rejected": "a fish"} for i in range(3)]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path.name


def write_project(folder: Path, tasks: str, more: str = "") -> Path:
    path = folder / "project.yaml"
    path.write_text(f"name: Trial\n{more}\ntasks:\n{tasks}", encoding="utf-8")
    return path


_BROWSERS: list[httpx2.Client] = []
"Those that are open; they are closed with the server."


@contextmanager
def served(path: Path) -> Iterator[tuple[str, Opened]]:
    """The address of a project's server, and the project."""
    opened = open_project(path)
    server, place = opened.server(), listen()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [place]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{place.getsockname()[1]}", opened
    finally:
        while _BROWSERS:
            _BROWSERS.pop().close()
        server.should_exit = True
        thread.join(20)
        place.close()
        opened.store.close()


class Browser:
    """Somebody at the pages."""

    def __init__(
        self, address: str, opened: Opened, name: str, role: str = "annotator", team: str = ""
    ) -> None:
        self.client = httpx2.Client(base_url=address, follow_redirects=True, timeout=30)
        _BROWSERS.append(self.client)
        token = opened.people.invite(name, role, team)
        assert name in self.client.get(f"/join/{token}").text
        self.page = self.client.post("/join", data={"token": token}).text

    def get(self, path: str) -> httpx2.Response:
        found = self.client.get(path)
        self.page = found.text
        return found

    def hidden(self) -> dict[str, str]:
        found = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', self.page)
        return {name: unescape(value) for name, value in found}

    def send(self, fields: Mapping[str, str], path: str = "/task") -> httpx2.Response:
        """What comes back from the form of the page at hand, its hidden fields with those given."""
        found = self.client.post(path, data={**self.hidden(), **fields})
        self.page = found.text
        return found

    def answers(self) -> list[str]:
        """The answers on the page, the first one first."""
        sides = re.findall(
            r'<article class="side".*?<div class="said" dir="auto">(.*?)</div>', self.page, re.S
        )
        return [unescape(side) for side in sides]

    @property
    def headline(self) -> str:
        found = re.search(r'<h1 class="headline"[^>]*>(.*?)</h1>', self.page)
        return unescape(found[1]) if found else ""
