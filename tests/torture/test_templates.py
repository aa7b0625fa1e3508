"""Forged rows through every sink of the command line, for every family of templates.

One command takes a file of them. What is asked of a model is watched where its ids are made: the control
tokens are those of the structure, and no content spells a plain-text role. `make torture` gives each 10,000.
"""

from __future__ import annotations

import json
import os
import random
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from answerers.worlds import listening
from chat.test_injection import SHAPES, added_ids, benign_controls, must_refuse, row
from trueup.answerers.open import open_local
from trueup.answerers.serve import make_server
from trueup.answerers.service import service_of
from trueup.chat import Chat
from trueup.chat.templates import NAMED
from trueup.cli import main
from trueup.engine.groups import Message, Role

ROWS, ALL_ROWS = 60, int(os.environ.get("FORGED_ROWS", "200"))
"Of each family and sink: by default, and where all families are tried."
FEW = ("vicuna",)
COUNTED = [
    *((name, ROWS) for name in FEW),
    *(pytest.param(name, ALL_ROWS, marks=pytest.mark.slow) for name in SHAPES),  # minutes
]
Talk = tuple[list[Message], str]


def talks(name: str, count: int, *, harmless: bool = False) -> list[Talk]:
    """So many attacked rows; `harmless`: those alone that spell no plain-text role."""
    rng, found = random.Random(21), list[Talk]()
    while len(found) < count:
        messages, answer = row(SHAPES[name], rng)
        texts = [m.content for m in messages]
        if all(text.strip() for text in [*texts, answer]) and not (
            harmless and refused(name, messages, answer)
        ):
            found.append((messages, answer))
    return found


def refused(name: str, messages: Sequence[Message], answer: str) -> bool:
    return must_refuse(name, [*(m.content for m in messages), answer])


def plain(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": str(m.role), "content": m.content} for m in messages]


def write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A function that gives the folder of a small model of a family."""
    made: dict[str, Path] = {}

    def of(name: str) -> Path:
        if name not in made:
            folder, tokenizer = tmp_path_factory.mktemp(name), SHAPES[name].tokenizer
            heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "num_hidden_layers": 1}
            config = LlamaConfig(
                vocab_size=len(tokenizer), hidden_size=8, intermediate_size=8, **heads,
                max_position_embeddings=8192, eos_token_id=tokenizer.eos_token_id,
                bos_token_id=tokenizer.bos_token_id,
            )  # fmt: skip
            LlamaForCausalLM(config).save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            if (named := SHAPES[name].template) is not None:
                (folder / "chat_template.jinja").write_text(NAMED[named].source, encoding="utf-8")
            made[name] = folder
        return made[name]

    return of


@pytest.fixture
def asked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one for each prompt whose ids were made; fails where a text made a control token or a role."""
    name, found, real = request.getfixturevalue("name"), list[int](), Chat.prompt
    expecting: list[bool] = []

    def expected(roles: tuple[Role, ...]) -> list[int]:
        expecting.append(True)  # it renders harmless words by the same `prompt`
        try:
            return benign_controls(name, roles)
        finally:
            expecting.clear()

    def prompt(self: Chat, messages: Sequence[Message], *given: Any, **named: Any) -> Any:
        made = real(self, messages, *given, **named)
        if expecting:
            return made
        roles = [m.role for m in messages if SHAPES[name].system or m.role != Role.SYSTEM]
        control = [number for number in made.ids.tolist() if number in added_ids(name)]
        if Role.TEXT not in roles and all(m.content.strip() for m in messages):
            assert control == expected(tuple(roles)), messages
            assert not must_refuse(name, [*(m.content for m in messages), ""]), messages
        found.append(1)
        return made

    monkeypatch.setattr(Chat, "prompt", prompt)
    return found


@pytest.mark.parametrize(("name", "count"), COUNTED)
def test_rows_to_train_on(name: str, count: int, models: Any, asked: list[int], tmp_path: Path) -> None:
    """Exactly those that spell a plain-text role are set aside; all others are encoded by their structure."""
    rows = talks(name, count)
    messages = [
        {"messages": [*plain(said), {"role": "assistant", "content": answer}]} for said, answer in rows
    ]
    path, bad = write(tmp_path / "rows.jsonl", messages), tmp_path / "bad.jsonl"
    main(["data", "check", str(path), "--model", str(models(name)), "--quarantine", str(bad)])
    aside = [json.loads(line) for line in bad.read_text("utf-8").splitlines()] if bad.exists() else []
    assert {one["code"] for one in aside} <= {"E352", "E354"}
    assert [one["line"] for one in aside] == [k for k, one in enumerate(rows, 1) if refused(name, *one)]
    assert len(asked) >= count - len(aside)


@pytest.mark.parametrize(("name", "count"), COUNTED)
def test_prompts_to_generate_from(
    name: str, count: int, models: Any, asked: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = talks(name, count, harmless=True)
    path = write(tmp_path / "asks.jsonl", [{"prompt": plain(said)} for said, _ in rows])
    words = ["generate", str(models(name)), "--file", str(path), "--max-new-tokens", "1"]
    assert main(words) == 0, capsys.readouterr().err[-500:]
    assert capsys.readouterr().out.count("\n") == count and len(asked) >= count


@pytest.mark.parametrize(("name", "count"), COUNTED)
def test_questions_of_a_judge(
    name: str, count: int, models: Any, asked: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A conversation and two answers stand inside one question, among our own words."""
    pairs = [
        {"prompt": plain(said), "chosen": answer, "rejected": f"{answer}!"}
        for said, answer in talks(name, count, harmless=True)
    ]
    path, out = write(tmp_path / "pairs.jsonl", pairs), tmp_path / "judged.jsonl"
    code = main(["judge", str(path), str(out), "--by", f"lm:{models(name)}"])
    assert code == 0, capsys.readouterr().err[-500:]
    assert out.read_text("utf-8").count("\n") == count and len(asked) >= count


@pytest.mark.parametrize(("name", "count"), COUNTED)
def test_critiques_and_revisions(
    name: str, count: int, models: Any, asked: list[int], tmp_path: Path
) -> None:
    """Prompts that spell a role are left out with their reason; the others are criticised and revised."""
    rows = talks(name, count)
    path = write(tmp_path / "asks.jsonl", [{"prompt": plain(said)} for said, _ in rows])
    stage = {"method": "revise", "model": str(models(name)), "constitution": "general", "steps": 1}
    stage |= {"data": {"path": str(path), "held_out": 0}, "examples": 0, "device": "cpu"}
    stage |= {"decoding": {"max_new_tokens": 2}}
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps({"name": "r", "stages": {"revise": stage}}), encoding="utf-8")
    assert main(["run", str(recipe), "--out", str(tmp_path / "out")]) == 0
    (journal,) = (tmp_path / "out").rglob("transcripts.jsonl")
    records = [json.loads(line) for line in journal.read_text("utf-8").splitlines()[1:]]
    aside = {record["row"] for record in records if record.get("rejected") == "forged role"}
    assert aside >= {k for k, (said, _) in enumerate(rows) if refused(name, said, "")}
    assert asked


@pytest.mark.parametrize(("name", "count"), COUNTED)
def test_requests_to_the_server(name: str, count: int, models: Any, asked: list[int]) -> None:
    """400 for a conversation that spells a role, 200 for any other."""
    with listening(make_server(service_of(open_local(str(models(name))), "m"))) as address:
        for said, _ in talks(name, count):
            body = json.dumps({"model": "m", "messages": plain(said), "max_tokens": 1}).encode()
            headers = {"Content-Type": "application/json"}
            request = urllib.request.Request(f"{address}/v1/chat/completions", body, headers)
            try:
                with urllib.request.urlopen(request, timeout=60) as reply:
                    status = reply.status
            except urllib.error.HTTPError as error:
                status = error.code
            assert status == (400 if refused(name, said, "") else 200), said
