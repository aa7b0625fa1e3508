"""Constitutional AI with its models behind servers: the rows of the model in this process, come what may."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import torch

from answerers.worlds import (
    FAULTS,
    Proxy,
    answer,
    forward,
    listening,
    process,
    proxied,
    rows_of,
    run_quick,
    weights_of,
)
from trueup.answerers.open import open_local
from trueup.answerers.serve import make_server
from trueup.answerers.service import service_of
from trueup.cli import main
from trueup.errors import EXIT_UNAVAILABLE
from trueup.models.opening import model_path

KEY = "s3cret-key"
REVISE = ["--steps", "1", "--examples", "1", "--data.limit", "5", "--decoding.max_new_tokens", "10"]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A server of the lab's model."""
    with listening(make_server(service_of(open_local("lab:base"), "lab"))) as found:
        yield found


def revise(ref: str, folder: Path, *options: str) -> int:
    """The exit code of critiques and revisions, sampled, by the model behind `ref`."""
    return main(["train", "revise", "--model", ref, *REVISE, *options, "--out", str(folder)])


def rows(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in ("transcripts.jsonl", "groups.jsonl")]


def spent(folder: Path) -> dict[str, float]:
    """What the run says that its server was asked."""
    metrics = json.loads((folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    return {name: value for name, value in metrics.items() if name.startswith("server/")}


def test_whatever_a_server_does_wrong_no_row_is_lost_and_no_key_shown(
    address: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("PARITY_KEY", KEY)
    numbers = itertools.count(1)
    passing = [fault for name, fault in FAULTS.items() if name not in ("slow", "no text")]

    def troubled(proxy: Proxy, handler: BaseHTTPRequestHandler, body: bytes) -> bool:
        """The first six answers fail in passing, each in its own way; all after the twelfth for good."""
        number = next(numbers)
        if number <= len(passing):
            return passing[number - 1](proxy, handler, body)
        sent = handler.headers["Authorization"]
        return number <= 12 or answer(handler, 200, f"<html>busy, {sent}".encode())

    with proxied(address, lambda *_: True) as (at, proxy):
        ref = f"openai:{at}/v1?model=lab&key=PARITY_KEY&retries=2&completion_price=1&cache="
        assert revise(f"{ref}off", tmp_path / "whole") == 0
        total = len(proxy.asked)
        counted = spent(tmp_path / "whole")
        assert (counted["server/requests"], counted["server/cached"]) == (total, 0)
        assert counted["server/cost"] == pytest.approx(counted["server/completion_tokens"] / 1e6)
        proxy.asked.clear()
        proxy.fault = troubled
        assert revise(f"{ref}{tmp_path / 'cache'}", tmp_path / "run") == EXIT_UNAVAILABLE
        said = capfd.readouterr().err
        kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.json")}
        proxy.asked.clear()
        proxy.fault = lambda *_: True
        assert revise(f"{ref}{tmp_path / 'cache'}", tmp_path / "run") == 0
    for part in (
        "E962",
        f"{at}/v1/chat/completions, model lab",
        "no JSON: '<html>busy",
        "run the same again",
    ):
        assert part in said
    assert len(kept) >= 5 and len(proxy.asked) == total - len(kept), "what was answered is not asked again"
    assert rows(tmp_path / "run") == rows(tmp_path / "whole")
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if KEY.encode() in path.read_bytes()]
    told = capfd.readouterr()
    assert KEY not in said + told.out + told.err + caplog.text


def test_labels_need_log_probs_and_say_so(
    address: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def silent(proxy: Proxy, handler: BaseHTTPRequestHandler, body: bytes) -> bool:
        status, said = forward(proxy.address, handler.path, body)
        found = json.loads(said)
        for choice in found["choices"]:
            choice["logprobs"] = None
        return answer(handler, status, json.dumps(found).encode())

    with proxied(address, silent) as (at, _):
        ref = f"openai:{at}/v1?model=lab&cache=off"
        run = ["train", "ai_label", "--model", ref, "--judge", ref, "--data.limit", "3", "--examples", "0"]
        code = main([*run, "--decoding.max_new_tokens", "10", "--out", str(tmp_path)])
    said = capfd.readouterr().err
    assert code == EXIT_UNAVAILABLE
    assert f"E963 {at}/v1/chat/completions, model lab" in said and "gives no log-probs" in said


# ------------------------------------------------------------------------ servers in processes of their own


def greedy(tokens: int) -> dict[str, Any]:
    return {"greedy": True, "max_new_tokens": tokens}


@pytest.mark.slow  # Two servers are started, and the quick recipe runs twice, trainings and all.
def test_the_quick_recipe_gives_the_same_rows_behind_servers(tmp_path: Path) -> None:
    """Who answers first was trained by the recipe; what is learnt from equal rows is equal to the bit."""
    changes = {stage: {"decoding": greedy(24)} for stage in ("revisions", "helpfulness")}
    near = run_quick("cai/quick", changes, tmp_path / "near")
    first = run_quick("cai/quick", changes, tmp_path / "far", until="helpful")["helpful"]
    with process("lab:base") as (base, _), process(str(first.folder / "model")) as (helpful, _):
        base, helpful = f"{base}&cache=off", f"{helpful}&cache=off"
        served = {
            "revisions": {**changes["revisions"], "model": helpful, "reviser": base},
            "helpfulness": {**changes["helpfulness"], "model": helpful},
            # Greedy samples are no pair, so the pairs are samples of the model at hand.
            "labels": {"judge": base},
        }
        far = run_quick("cai/quick", served, tmp_path / "far")
    for name in ("revisions", "helpfulness"):
        assert rows_of(near[name]) == rows_of(far[name]) and len(rows_of(near[name])) > 4
    for name in ("helpful", "sl_cai"):
        mine, theirs = weights_of(near[name]), weights_of(far[name])
        assert all(torch.equal(mine[key], theirs[key]) for key in mine)
    assert len(rows_of(near["labels"])) > 4
    for mine, theirs in zip(rows_of(near["labels"]), rows_of(far["labels"]), strict=True):
        assert mine["pair"] == theirs["pair"] and mine.get("principles") == theirs.get("principles")
        assert mine.get("label") == pytest.approx(theirs.get("label"), abs=1e-5)
    # Labels agree to rounding, and so does what learns from them.
    for name in ("reward", "dpo"):
        mine, theirs = weights_of(near[name]), weights_of(far[name])
        assert all(torch.allclose(mine[key], theirs[key], atol=1e-3) for key in mine)


@pytest.mark.slow  # Two servers are started.
def test_a_server_that_is_killed_loses_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    cache = tmp_path / "cache"

    def kill_after(answers: int, server: subprocess.Popen[str]) -> None:
        while len(list(cache.rglob("*.json"))) < answers:
            time.sleep(0.005)
        server.send_signal(signal.SIGKILL)

    with process("lab:base") as (ref, server):
        assert revise(f"{ref}&cache=off", tmp_path / "whole") == 0
        watcher = threading.Thread(target=kill_after, args=(4, server))
        watcher.start()
        assert revise(f"{ref}&retries=1&cache={cache}", tmp_path / "run") == EXIT_UNAVAILABLE
        watcher.join()
    assert f"E961 {ref.removeprefix('openai:').partition('?')[0]}/" in capfd.readouterr().err
    kept = {path: path.stat().st_mtime_ns for path in cache.rglob("*.json")}
    port = int(ref.partition("/v1")[0].rpartition(":")[2])
    with process("lab:base", port=port) as (again, _):
        assert again == ref
        assert revise(f"{ref}&retries=1&cache={cache}", tmp_path / "run") == 0
    assert rows(tmp_path / "run") == rows(tmp_path / "whole")
    found = {path: path.stat().st_mtime_ns for path in cache.rglob("*.json")}
    assert len(found) > len(kept) >= 4 and kept.items() <= found.items()


@contextmanager
def transformers_serve(model: str) -> Iterator[str]:
    """The reference of `transformers serve MODEL`, once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = Path(sys.executable).with_name("transformers")
    command = [str(program), "serve", model, "--port", str(port), "--device", "cpu", "--dtype", "float32"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=quiet, stderr=quiet, env=environment) as server:
        try:
            while server.poll() is None:
                connection = HTTPConnection("localhost", port, timeout=1)
                try:
                    connection.request("GET", "/health")
                    connection.getresponse().read()
                    break
                except OSError:
                    time.sleep(0.2)
                finally:
                    connection.close()
            assert server.poll() is None, "it ended before it answered"
            yield f"openai:http://localhost:{port}/v1?model={model}"
        finally:
            server.kill()


@pytest.mark.slow  # `transformers serve` takes seconds to start.
def test_transformers_serve_gives_the_same_rows_and_has_no_log_probs(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = model_path("lab:base")
    options = ("--decoding.greedy", "true", "--form", "text")
    with transformers_serve(model) as ref:
        assert revise(f"{ref}&cache=off", tmp_path / "far", *options) == 0
        judged = ["train", "ai_label", "--model", "lab:base", "--judge", f"{ref}&cache=off&retries=0"]
        code = main([*judged, "--data.limit", "3", "--examples", "0", "--out", str(tmp_path / "labels")])
    assert code == EXIT_UNAVAILABLE and "gives no log-probs" in capfd.readouterr().err
    assert revise("lab:base", tmp_path / "near", *options) == 0
    near, far = ((tmp_path / part / "transcripts.jsonl").read_text().splitlines() for part in ("near", "far"))
    assert near[1:] == far[1:] and len(near) == 6
