"""`trueup watch` over HTTP: whom it answers, what, and a real run that is watched while it trains."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import small_world
import trueup
from answerers.worlds import listening
from trueup.errors import TrueupError
from trueup.watching.page import Watch
from trueup.watching.server import Site, make_server
from watching import made


@contextmanager
def served(*folders: Path) -> Iterator[str]:
    """The place of a server that watches some folders."""
    watch = Watch(folders, clock=lambda: time.monotonic() * 1e6)  # nothing is kept for a moment
    with listening(make_server(Site(watch))) as address:
        yield address.removeprefix("http://")


def ask(place: str, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(place, timeout=20)
    try:
        connection.putrequest(method, path, skip_host=True)
        connection.putheader("Host", headers.pop("Host", place))
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    finally:
        connection.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("served")
    (folder / "secret").write_text("secret")
    with served(made.run(folder / "run", 5)) as address:
        yield address


@pytest.mark.parametrize(
    "path",
    [
        "/metrics.jsonl", "/run/metrics.jsonl", "/../secret", "/%2e%2e/secret", "/..%2f..%2fetc/passwd",
        "//secret", "/watch.js/../secret", "/watch.css%00", "/live/", "/index.html", "/?path=../secret#",
        "/page.html.j2", "/live?have=" + "a" * 5000,
    ],
)  # fmt: skip
def test_no_path_leads_to_a_file(place: str, path: str) -> None:
    status, _, body = ask(place, path)
    assert b"secret" not in body.replace(path.encode(), b"") and b"root:" not in body
    assert status == (200 if path.startswith(("/?", "/live?")) else 404)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:8100"}, 200),
        ({"Host": "evil.example"}, 400),
        ({"Host": "127.0.0.1.evil.example"}, 400),
        ({"Host": "evil.example:80@127.0.0.1"}, 400),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "navigate"}, 403),
        ({"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}, 200),
    ],
)
def test_only_who_names_this_machine_is_answered(place: str, headers: dict[str, str], status: int) -> None:
    found, _, body = ask(place, "/live", **headers)
    assert found == status and (b'"runs"' in body) == (status == 200)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"])
def test_nothing_but_reading_is_allowed(place: str, method: str) -> None:
    status, headers, _ = ask(place, "/", method)
    assert status == 405 and headers["allow"] == "GET, HEAD"


def test_what_is_served_may_load_nothing_else_and_nobody_may_frame_it(place: str) -> None:
    kinds = {
        "/": "text/html",
        "/live": "application/json",
        "/watch.js": "text/javascript",
        "/watch.css": "text/css",
    }
    for path, kind in kinds.items():
        status, headers, body = ask(place, path)
        assert status == 200 and headers["content-type"].startswith(kind) and body
        policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'" and policy["frame-ancestors"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == "'self'"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert not [name for name in headers if name.startswith("access-control")]
        assert ask(place, path, "HEAD")[2] == b""
    html = ask(place, "/")[2].decode()
    assert not re.findall(r"<script(?! src=\"watch.js\" defer>)|style=\"|<style|\bon\w+=", html)


def test_another_page_may_lead_to_this_one(place: str) -> None:
    leads = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert ask(place, "/", **leads)[0] == 200


def test_many_who_ask_at_a_time_cost_one_look(tmp_path: Path) -> None:
    watch = Watch([made.run(tmp_path / "run", 2)], clock=lambda: 0.0)
    looks = []
    look = watch.look
    watch.look = lambda: looks.append(1) or look()
    with listening(make_server(Site(watch))) as address:
        place = address.removeprefix("http://")
        assert {ask(place, f"/live?have={n}")[0] for n in range(5)} == {200}
    assert len(looks) == 1


def test_without_the_extra_it_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(TrueupError, match=r"E811.*trueup\[serving\].*--once"):
        make_server(Site(Watch([tmp_path])))


def reward(prompt: str, completion: str) -> float:
    """Shorter is better, and an e is worth something."""
    return completion.count("e") - 0.1 * len(completion)


def test_a_real_run_is_watched_from_before_it_begins_to_its_end(tmp_path: Path) -> None:
    world, run = small_world.make(tmp_path), tmp_path / "run"
    settings = {
        "model": str(world / "my-model"), "prompts": str(world / "prompts.jsonl"), "judge": reward,
        "decoding": {"max_new_tokens": 8}, "loop": {"steps": 8, "batch": 4, "eval_every": 2, "save_every": 4},
        "num_completions": 2, "minibatch": 4,
    }  # fmt: skip
    seen: list[tuple[str, int]] = []
    with served(run) as place:
        assert json.loads(ask(place, "/live")[2])["status"] == "run: waiting"
        training = threading.Thread(target=lambda: trueup.fit("grpo", out=run, **settings))
        training.start()
        while training.is_alive():
            (found,) = json.loads(ask(place, "/live")[2])["runs"] or [{"state": "waiting", "step": 0}]
            seen.append((found["state"], found["step"]))
            rows = [json.loads(line) for line in _whole(run / "metrics.jsonl")]
            for phase, numbers in found.get("metrics", {}).items():
                told = [row for row in rows if row["phase"] == phase and row.items() >= numbers.items()]
                assert told, "what the page says stood in the file, to the last digit"
            time.sleep(0.02)
        training.join()
        last = json.loads(ask(place, "/live")[2])
        page = ask(place, "/")[2].decode()
    states = [("waiting", "running", "done").index(state) for state, _ in seen]
    assert states == sorted(states) and "running" in dict(seen)
    assert [step for _, step in seen] == sorted(step for _, step in seen)
    (found,) = last["runs"]
    assert (found["state"], found["step"], found["steps"]) == ("done", 8, 8)
    lines = [json.loads(line) for line in _whole(run / "metrics.jsonl")]
    final = next(row for row in reversed(lines) if row["phase"] == "train")
    assert found["metrics"]["train"] == {k: v for k, v in final.items() if k not in ("step", "phase")}
    samples = [json.loads(line) for line in _whole(run / "samples.jsonl")]
    assert {row["meta"]["step"] for row in samples} == {2, 4, 6, 8}
    assert "step 8 of 8" in page and page.count('class="dialogue"') == len({row["id"] for row in samples})


def _whole(path: Path) -> list[bytes]:
    """The whole lines of a file that grows."""
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []


def test_ctrl_c_ends_it_with_a_sentence(tmp_path: Path) -> None:
    folder = made.run(tmp_path / "run", 2)
    command = [sys.executable, "-m", "trueup.cli", "watch", str(folder), "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=dict(os.environ)
    ) as watching:
        assert watching.stdout is not None
        found = re.fullmatch(
            r"watching 1 run at http://(127\.0\.0\.1:\d+)/ \(Ctrl-C ends it\)\n", watching.stdout.readline()
        )
        assert found and ask(found[1], "/")[0] == 200
        watching.send_signal(signal.SIGINT)
        assert watching.stdout.read() == "stopped watching; what was watched goes on by itself\n"
        assert watching.wait() == 0


def test_a_port_that_is_taken_is_told(place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from trueup.cli import main

    assert main(["watch", str(tmp_path), "--port", place.rpartition(":")[2]]) == 69
    assert "E964" in capsys.readouterr().err
