"""Prompts of consenting people: theirs alone, redacted before disk, gone after their days."""

from __future__ import annotations

import json
import urllib.request
from datetime import date
from pathlib import Path

import pytest

from answerers.worlds import MODEL, listening, local
from trueup.answerers.serve import make_server
from trueup.answerers.service import service_of
from trueup.data.consented import Consented
from trueup.data.reader import read
from trueup.engine.groups import Message, Role
from trueup.errors import TrueupError


def ask(address: str, content: str, headers: dict[str, str]) -> None:
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": content}],
        "max_tokens": 2,
        "user": "somebody",
    }
    request = urllib.request.Request(
        f"{address}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json", **headers},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.status == 200


def test_every_byte_written_is_of_those_who_agreed_and_redacted(tmp_path: Path) -> None:
    kept = Consented(tmp_path / "prompts.jsonl", 30, today=lambda: date(2026, 1, 31))
    with listening(make_server(service_of(local(), MODEL), consented=kept)) as address:
        ask(address, "secret of one who was not asked", {})
        ask(address, "secret of one who said no", {"trueup-consent": "no"})
        ask(address, "write to ann@example.org", {"trueup-consent": "yes"})
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    row = {"prompt": [{"role": "user", "content": "write to [EMAIL_1]"}], "day": "2026-01-31"}
    assert written == (json.dumps(row) + "\n").encode()
    (group,) = read(str(tmp_path / "prompts.jsonl")).groups
    assert group.prompt[0].content == "write to [EMAIL_1]"


def test_old_prompts_go_at_the_start_and_with_the_days(tmp_path: Path) -> None:
    path, days = tmp_path / "p.jsonl", [date(2026, 1, 1)]
    kept = Consented(path, 7, today=lambda: days[-1])
    kept.keep([Message(Role.TEXT, "first")])
    days.append(date(2026, 1, 5))
    kept.keep([Message(Role.TEXT, "second")])
    kept.sweep_daily()
    assert path.read_text().count("\n") == 2
    days.append(date(2026, 1, 8))
    kept.sweep_daily()
    assert [json.loads(line)["prompt"] for line in path.read_text().splitlines()] == ["second"]
    Consented(path, 7, today=lambda: date(2026, 1, 12))
    assert path.read_bytes() == b""


def test_a_row_without_a_day_is_not_guessed_at(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "hello"}\n')
    with pytest.raises(TrueupError, match="age is not known") as caught:
        Consented(path, 7)
    assert caught.value.code == "E439"
    assert path.read_text() == '{"prompt": "hello"}\n'
