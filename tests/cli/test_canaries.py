"""Twelve keys where people put keys: none is in any byte that a command writes or shows, in any form."""

from __future__ import annotations

import base64
import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest

import small_world
from trueup.cli import main

ENVIRONMENT = {
    name: f"canary{number}-{name.lower()[:6]}+/Zq9"
    for number, name in enumerate(
        ("OPENAI_API_KEY", "HF_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "TRUEUP_JUDGE_KEY", "MINE")
    )
}
"TRUEUP_JUDGE_KEY and MINE are sent in headers, to servers that repeat them."
WRITTEN = {
    name: f"canary-{name}-Xy7Zq9wv"
    for name in ("dotenv", "query", "user", "option", "recipequery", "recipeuser")
}
"In a file .env, and in addresses: on the command line and in recipes."


def forms(key: str) -> dict[str, bytes]:
    """A key as texts repeat it."""
    found = {
        "as it is": key,
        "escaped": quote(key, safe=""),
        "all escaped": "".join(f"%{ord(c):02X}" for c in key),
        "spaced": " ".join(key),
        "reversed lines": "\n".join(key),
        "hexadecimal": key.encode().hex(),
    }
    for before in range(3):
        # The first and last characters depend on what stands beside the key.
        coded = base64.b64encode(b"x" * before + key.encode()).decode()
        found[f"base64 at {before}"] = coded[4 if before else 0 : -4]
    return {name: text.encode() for name, text in found.items()}


def leaks(said: bytes) -> list[str]:
    """Which keys some bytes have, in which form."""
    keys = {**ENVIRONMENT, **WRITTEN}
    return [f"{of} {form}" for of, key in keys.items() for form, text in forms(key).items() if text in said]


@contextmanager
def repeating() -> Iterator[tuple[str, list[str]]]:
    """The address of a judge and a language model that repeat what they were sent, and what that was."""
    sent: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            key = (self.headers["Authorization"] or "").removeprefix("Bearer ")
            sent.append(key)
            told = {name: text.decode() for name, text in forms(key).items() if "base64" not in name}
            for before in range(3):
                told[f"base64 {before}"] = base64.b64encode(b"u:"[:before] + key.encode()).decode()
            status = 500 if self.path == "/broken" else 200
            if self.path == "/v1/chat/completions":
                said = {"choices": [{"finish_reason": "stop", "message": {"content": "A"}}], **told}
            else:
                said = {**told, "scores": [float(len(item["completion"])) for item in asked.get("items", [])]}
            body = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: a test's output is its result."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", sent
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


CRASH = """
import base64, os

def fail(prompt, completion):
    key = os.environ["OPENAI_API_KEY"]
    coded = base64.b64encode(b"Bearer " + key.encode()).decode()
    raise RuntimeError(f"401 for {key}, {' '.join(key)}, {coded}")
"""


def test_no_key_is_in_anything_that_is_written_or_shown(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    given, work = tmp_path / "given", tmp_path / "work"
    small_world.make(given)
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("TRUEUP_CACHE", str(work / "kept"))
    monkeypatch.delenv("TRUEUP_TRACEBACK", raising=False)
    for name, key in ENVIRONMENT.items():
        monkeypatch.setenv(name, key)
    secret = f"SECRET={WRITTEN['dotenv']}\n"
    (work / ".env").write_text(secret, encoding="utf-8")
    (given / "crash.py").write_text(CRASH, encoding="utf-8")
    pairs = [{"prompt": f"{i}?", "chosen": f"yes {i}", "rejected": f"no {i}"} for i in range(2)]
    rows = small_world.write(given / "rows.jsonl", pairs)
    model = ["--model.path", f"{given}/my-model"]
    caplog.set_level(logging.DEBUG)
    sft = [*model, "--data.path", f"{given}/demos.jsonl", "--loop.steps", "1", "--loop.batch", "4"]
    best = ["train", "best_of_n", *model, "--data.path", f"{given}/prompts.jsonl", "--data.limit", "2",
            "--n", "2", "--decoding.max_new_tokens", "4"]  # fmt: skip
    with repeating() as (address, sent):
        score, chat = f"{address}/score", f"openai:{address}/v1?model=m&key=MINE"
        recipe = {"name": "two", "stages": {"sft": {"model": {"path": f"{given}/my-model"},
                  "data": {"path": f"{given}/demos.jsonl"}, "loop": {"steps": 1, "batch": 4}}}}  # fmt: skip
        (given / "two.yaml").write_text(json.dumps(recipe), encoding="utf-8")
        best_stage = {"model": {"path": f"{given}/my-model"}, "data": {"path": f"{given}/prompts.jsonl"}}
        for name, url in {
            "recipequery": f"{score}?api_key={WRITTEN['recipequery']}",
            "recipeuser": f"http://me:{WRITTEN['recipeuser']}@127.0.0.1/score",
        }.items():
            bad = {"name": name, "stages": {"best_of_n": {**best_stage, "judge": url}}}
            (given / f"{name}.yaml").write_text(json.dumps(bad), encoding="utf-8")
        judged = ["judge", str(rows)]
        commands: list[tuple[list[str], int]] = [
            (["train", "sft", *sft, "--out", "runs/sft"], 0),
            (["run", f"{given}/two.yaml"], 0),
            (["report", "runs/sft"], 0),
            ([*judged, "scored.jsonl", "--by", score, "--how", "scores"], 0),
            ([*judged, "judged.jsonl", "--by", f"lm:{chat}#read=text"], 0),
            ([*best, "--judge", score, "--out", "runs/best"], 0),
            # What goes wrong: a server that fails, a judge that raises, keys where none may stand.
            ([*judged, "x.jsonl", "--by", f"{address}/broken#retries=0", "--how", "scores"], 69),
            ([*best, "--judge", f"{given}/crash.py:fail", "--out", "runs/crash"], 65),
            ([*best, "--judge", f"{score}?api_key={WRITTEN['query']}", "--out", "runs/a"], 64),
            ([*best, "--judge", f"http://me:{WRITTEN['user']}@127.0.0.1/score", "--out", "runs/b"], 64),
            ([*judged, "x.jsonl", "--by", f"{score}?token={WRITTEN['query']}", "--how", "scores"], 64),
            ([*judged, "x.jsonl", "--by", f"lm:openai:{address}/v1?model=m&key={WRITTEN['option']}"], 64),
            ([*judged, "x.jsonl", "--by", f"lm:openai:{address}/v1?model=m&{WRITTEN['option']}"], 64),
            (["train", "label", "--labeler", f"lm:openai:{address}/v1?model=m&key={WRITTEN['option']}"], 64),
            (["train", "sft", *model, "--data.path", f"https://me:{WRITTEN['user']}@127.0.0.1/x.jsonl"], 64),
            (["train", "sft", *model, "--data.path", f"https://127.0.0.1/x?sig={WRITTEN['query']}"], 64),
            (["run", f"{given}/recipequery.yaml"], 64),
            (["run", f"{given}/recipeuser.yaml"], 64),
        ]
        for words, code in commands:
            found = main(words)
            shown = capsys.readouterr()
            assert found == code, (words, shown.err)
            assert not leaks(f"{shown.out}{shown.err}{caplog.text}".encode()), words
    assert set(sent) == {ENVIRONMENT["TRUEUP_JUDGE_KEY"], ENVIRONMENT["MINE"]}
    files = [path for path in work.rglob("*") if path.is_file()]
    assert {"scored.jsonl", "judged.jsonl"} <= {path.name for path in files}
    assert any(path.is_relative_to(work / "kept") for path in files), "the answers of the server"
    assert (work / "runs/best/model").is_dir() or (work / "runs/best").is_dir()
    for path in files:
        if path.name != ".env":
            assert not leaks(path.read_bytes() + str(path).encode()), path
    assert (work / ".env").read_text(encoding="utf-8") == secret
