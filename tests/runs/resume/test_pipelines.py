"""Pipelines killed by SIGKILL while they ask a model go on to the rows of those that were not."""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from answerers.worlds import Proxy, listening, proxied
from runs.resume.killed import dies_writing
from trueup.answerers.open import open_local
from trueup.answerers.serve import make_server
from trueup.answerers.service import service_of
from trueup.cli import main

STAGES = {
    "revise": (
        "transcripts.jsonl",
        "--steps 1 --examples 1 --batch 2 --data.limit 6 --decoding.max_new_tokens 12",
    ),
    "ai_label": ("labels.jsonl", "--examples 1 --batch 2 --data.limit 6 --decoding.max_new_tokens 12"),
    "self_instruct": (
        "rounds.jsonl",
        "--num_tasks 4 --num_topics 2 --num_hinted 2 --rounds 2 --lists 4 --new 1 "
        "--decoding.max_new_tokens 24",
    ),
    "self_align": (
        "answers.jsonl",
        "--data.path lab:prompts --data.limit 6 --min_chars 3 --batch 2 --decoding.max_new_tokens 12",
    ),
}
"The file that each keeps as it goes, and how it is run: several batches, sampled at temperature."
CONCURRENCY = 2


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A server of the lab's model."""
    with listening(make_server(service_of(open_local("lab:base"), "lab"))) as found:
        yield found


@pytest.fixture(scope="module")
def processes() -> Any:
    """Forks a process where everything is imported: it shares with others only what is on disk."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["trueup.cli", *(f"trueup.procedures.{name}" for name in STAGES)])
    return context


def command(name: str, folder: Path, at: str, cache: str) -> list[str]:
    """The command line of a stage whose models are all behind the server."""
    ref = f"openai:{at}/v1?model=lab&concurrency={CONCURRENCY}&cache={cache}"
    models = ["--model", ref, *(["--judge", ref] if name == "ai_label" else [])]
    return ["train", name, *models, *STAGES[name][1].split(), "--out", str(folder)]


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("revise", "answers"),
        ("ai_label", "rows"),
        ("self_align", "rows"),
        *(
            # The same of the others; each asks a model of the lab some fifty questions.
            pytest.param(name, kept, marks=pytest.mark.slow)
            for name, kept in [
                ("revise", "rows"),
                ("ai_label", "answers"),
                ("self_align", "answers"),
                ("self_instruct", "rows"),
                ("self_instruct", "answers"),
            ]
        ),
    ],
)
def test_killed_while_it_asks_it_ends_with_the_same_rows(
    name: str, kept: str, address: str, processes: Any, tmp_path: Path
) -> None:
    cache = "off" if kept == "rows" else str(tmp_path / "cache")
    reached, killed = threading.Event(), threading.Event()

    def passes(proxy: Proxy, handler: BaseHTTPRequestHandler, body: bytes) -> bool:
        return True

    with proxied(address, passes) as (at, proxy):
        assert main(command(name, tmp_path / "whole", at, "off")) == 0
        total = len(proxy.asked)
        proxy.asked.clear()

        def stalls(proxy: Proxy, handler: BaseHTTPRequestHandler, body: bytes) -> bool:
            if len(proxy.asked) < total * 2 // 3:
                return True
            reached.set()
            handler.close_connection = killed.wait(60)
            return False

        proxy.fault = stalls
        run = command(name, tmp_path / "killed", at, cache)
        process = processes.Process(target=main, args=(run,))
        process.start()
        assert reached.wait(60)
        process.kill()
        process.join()
        killed.set()
        proxy.fault = passes
        journal = STAGES[name][0]
        rows = [(tmp_path / part / journal).read_bytes().count(b"\n") for part in ("whole", "killed")]
        assert 1 < rows[1] < rows[0], "it was killed between its first row and its last"
        assert main(run) == 0
    for file in (journal, "groups.jsonl"):
        assert (tmp_path / "killed" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    if kept == "answers":
        twice = [body for body, times in Counter(proxy.asked).items() if times > 1]
        assert len(twice) <= CONCURRENCY, "only what was under way at the kill is asked again"


def test_killed_while_it_writes_what_the_model_here_said_it_ends_with_the_same_rows(
    processes: Any, tmp_path: Path
) -> None:
    journal, options = STAGES["ai_label"]

    def run(part: str) -> list[str]:
        return ["train", "ai_label", *options.split(), "--out", str(tmp_path / part)]

    process = processes.Process(target=dies_writing, args=(run("killed"), 2))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    torn = (tmp_path / "killed" / journal).read_bytes()
    assert torn.count(b"\n") == 4 and not torn.endswith(b"\n"), "one batch, a row of the next, and a half"
    assert main(run("killed")) == main(run("whole")) == 0
    for file in (journal, "groups.jsonl"):
        assert (tmp_path / "killed" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
