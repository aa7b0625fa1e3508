"""Files as people bring them, through the command line: each is read, or the remedy works as it is typed."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import small_world
from shared_data import shared
from trueup.cli import main

Typed = Callable[..., tuple[int, str]]


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    """A function that types a command in the working folder and gives its exit code and all it printed."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str]:
        code = main(list(words))
        shown = capsys.readouterr()
        return code, " ".join((shown.out + shown.err).split())

    return run


def rows_of(n: int, make: Callable[[int, str, str], dict[str, Any]]) -> list[dict[str, Any]]:
    return [make(i, f"What is {i} plus 1?", str(i + 1)) for i in range(n)]


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def said(who: str, value: str) -> dict[str, str]:
    return {"from": who, "value": value}


FILES: dict[str, tuple[Callable[[int, str, str], dict[str, Any]], str]] = {
    "arena": (
        lambda i, q, a: {
            "question_id": str(i),
            "model_a": "x",
            "model_b": "y",
            "winner": ("model_a", "model_b", "tie", "tie (bothbad)")[i % 4],
            "conversation_a": [turn("user", q), turn("assistant", a)],
            "conversation_b": [turn("user", q), turn("assistant", "no")],
        },
        "arena",
    ),
    "full": (
        lambda i, q, a: {
            "prompt": q,
            "prompt_id": str(i),
            "chosen": [turn("user", q), turn("assistant", a)],
            "rejected": [turn("user", q), turn("assistant", "no")],
            "messages": [turn("user", q), turn("assistant", a)],
            "score_chosen": 8.5,
            "score_rejected": 4.0,
        },
        "preference",
    ),
    "helpsteer2": (
        lambda i, q, a: {"prompt": q, "response": a, "helpfulness": 3, "verbosity": 1},
        "helpsteer",
    ),
    "helpsteer3": (
        lambda i, q, a: {
            "context": [turn("user", q)],
            "response1": a,
            "response2": "no",
            "overall_preference": -2,
        },
        "helpsteer-preference",
    ),
    "openai": (
        lambda i, q, a: {
            "input": {"messages": [turn("user", q)], "tools": []},
            "preferred_output": [turn("assistant", a)],
            "non_preferred_output": [turn("assistant", "no")],
        },
        "openai-preference",
    ),
    "orca": (lambda i, q, a: {"system": "", "question": q, "chosen": a, "rejected": "no"}, "orca"),
    "steps": (
        lambda i, q, a: {"prompt": q, "completions": [a, "so"], "labels": [True, i % 2 == 0]},
        "stepwise",
    ),
    "ranked": (
        lambda i, q, a: {"prompt": q, "responses": [{"text": a, "rank": 1}, {"text": "no", "rank": 2}]},
        "rated",
    ),
    "odd": (
        lambda i, q, a: {
            "conversations": [
                said("system", "kind"),
                said("human", q),
                said("bing", "hm"),
                said("user", "go on"),
                said("chatgpt", a),
            ]
        },
        "sharegpt",
    ),
    "gpt_first": (
        lambda i, q, a: {"conversations": [said("gpt", "Hello"), said("human", q), said("gpt", a)]},
        "sharegpt",
    ),
}
"""Rows by the name of a file, and the format that they are in."""
REMEDIED: dict[str, tuple[Callable[[int, str, str], dict[str, Any]], str]] = {
    "io": (lambda i, q, a: {"input": q, "output": a}, "prompt-completion"),
    "qa": (lambda i, q, a: {"question": q, "response": a}, "prompt-completion"),
    "gsm": (lambda i, q, a: {"question": q, "answer": f"so #### {a}"}, "prompt-completion"),
    "votes": (lambda i, q, a: {"question": q, "better": a, "worse": "no"}, "preference"),
    "thumbs": (lambda i, q, a: {"query": q, "reply": a, "liked": i % 2 == 0}, "unpaired"),
    "spaces": (
        lambda i, q, a: {"User Prompt": q, "Chosen Response": a, "Rejected Response": "no"},
        "preference",
    ),
    "inner": (lambda i, q, a: {"question": {"text": q}, "answer": {"text": a}}, "prompt-completion"),
    "logs": (lambda i, q, a: {"dialogue": {"turns": [turn("user", q), turn("assistant", a)]}}, "chat"),
    "misspelt": (lambda i, q, a: {"prompt": q, "choosen": a, "rejected": "no"}, "preference"),
}
"""Rows that are refused with a map of columns, and the format that they are in under it."""


@pytest.mark.parametrize("name", FILES)
def test_the_format_is_known(name: str, typed: Typed) -> None:
    make, format = FILES[name]
    small_world.write(Path("rows.jsonl"), rows_of(12, make))
    code, shown = typed("data", "check", "rows.jsonl")
    assert code == 0, shown
    assert f"rows.jsonl: {format} (12 of 12 rows" in shown
    assert "rows in 12 = accepted 12 + quarantined 0" in shown


def options(shown: str) -> list[str]:
    """The options that an error proposes."""
    return shlex.split(" ".join(re.findall(r"--[\w.]+ (?:'[^']*'|\S+)", shown.split("perhaps ")[1])))


@pytest.mark.parametrize("name", REMEDIED)
def test_the_map_that_is_proposed_works_as_typed(name: str, typed: Typed) -> None:
    make, format = REMEDIED[name]
    small_world.write(Path("rows.jsonl"), rows_of(12, make))
    code, shown = typed("data", "check", "rows.jsonl")
    assert code == 65 and "E202" in shown
    code, again = typed("data", "check", "rows.jsonl", *options(shown))
    assert code == 0 and f"rows.jsonl: {format} (" in again and "accepted 12 + quarantined 0" in again, again
    # The same where a run says it, in a run's words.
    small_world.save_model(Path("my-model"))
    method = {"preference": "dpo", "unpaired": "kto"}.get(format, "sft")
    train = ["train", method, "--model.path", "my-model", "--data.path", "rows.jsonl", "--loop.steps", "1"]
    code, shown = typed(*train)
    assert code == 65 and "--data.columns." in shown, shown
    code, shown = typed(*train, *options(shown))
    assert code == 0 and f"data ({format}): 12 rows" in shown, shown


@pytest.mark.parametrize(
    ("name", "method", "rows"),
    [
        ("full", "dpo", 12),
        ("full", "sft", 12),
        ("full", "kto", 12),
        ("arena", "dpo", 12),
        ("arena", "kto", 12),
        ("orca", "dpo", 12),
        ("helpsteer3", "reward_model", 12),
        ("steps", "sft", 12),
        ("helpsteer2", "sft", 12),
    ],
)
def test_what_a_method_needs_is_found(name: str, method: str, rows: int, typed: Typed) -> None:
    make, format = FILES[name]
    small_world.write(Path("rows.jsonl"), rows_of(rows, make))
    small_world.save_model(Path("my-model"))
    train = ["train", method, "--model.path", "my-model", "--data.path", "rows.jsonl", "--loop.steps", "1"]
    code, shown = typed(*train)
    assert code == 0 and f"data ({format}): {rows} rows" in shown, shown


def test_conversations_that_end_with_a_question_are_trimmed_when_asked(typed: Typed) -> None:
    def make(i: int, q: str, a: str) -> dict[str, Any]:
        return {"conversations": [said("human", q), said("gpt", a), said("human", "thanks")]}

    small_world.write(Path("rows.jsonl"), rows_of(12, make))
    small_world.save_model(Path("my-model"))
    code, shown = typed("data", "check", "rows.jsonl")
    assert code == 65 and "E303" in shown and "--trim end" in shown
    code, shown = typed("data", "check", "rows.jsonl", "--trim", "end")
    assert code == 0 and "accepted 12 + quarantined 0" in shown
    code, shown = typed("data", "convert", "rows.jsonl", "groups.jsonl", "--trim", "end")
    group = json.loads(Path("groups.jsonl").read_text().splitlines()[3])
    assert group["prompt"] == [turn("user", "What is 3 plus 1?")] and group["completions"][0]["text"] == "4"
    train = ["train", "sft", "--model.path", "my-model", "--data.path", "rows.jsonl", "--loop.steps", "1"]
    code, shown = typed(*train)
    assert code == 65 and "--data.turns.trim end" in shown
    code, shown = typed(*train, "--data.turns.trim", "end")
    assert code == 0 and "data (sharegpt): 12 rows" in shown


def test_a_spreadsheets_files(typed: Typed) -> None:
    small_world.save_model(Path("my-model"))
    for name, sign, said in (("a.csv", ";", "semicolons"), ("b.tsv", "\t", "tabs")):
        cells = [("Prompt", "Chosen", "Rejected"), *((f"q{i}", f'"{i}; so"', "no") for i in range(12))]
        text = "\ufeff" + "\r\n".join(sign.join(row) for row in cells)
        Path(name).write_bytes(text.encode())
        code, shown = typed("data", "check", name)
        assert code == 0 and f"cells are separated by {said}" in shown and f"{name}: preference" in shown
        run = [
            "train",
            "dpo",
            "--model.path",
            "my-model",
            "--data.path",
            name,
            "--loop.steps",
            "1",
            "--out",
            name[0],
        ]
        assert typed(*run)[0] == 0


def test_votes_are_rated_and_read_as_pairs(typed: Typed) -> None:
    small_world.write(Path("rows.jsonl"), rows_of(12, FILES["arena"][0]))
    code, shown = typed("rank", "rows.jsonl", "--json")
    board = json.loads(shown)
    assert code == 0 and board["battles"] == 12 and [m["model"] for m in board["models"]] == ["x", "y"]
    # Three wins each, six ties of which three are of two bad answers.
    assert [m["rating"] for m in board["models"]] == pytest.approx([1000, 1000])
    assert board["ties"]["share"] == pytest.approx(0.5)
    bare = [
        {key: row[key] for key in ("model_a", "model_b", "winner")} for row in rows_of(12, FILES["arena"][0])
    ]
    small_world.write(Path("bare.jsonl"), bare)
    assert json.loads(typed("rank", "bare.jsonl", "--json")[1])["battles"] == 12
    code, shown = typed("data", "check", "bare.jsonl")
    assert code == 65 and "`trueup rank` reads them" in shown


# ---------------------------------------------------------------------------------- every file of the corpus

READ = {
    **dict.fromkeys(("habits/alpaca.json", "habits/alpaca_hist.json"), "alpaca"),
    "habits/arena.jsonl": "arena",
    **dict.fromkeys(("habits/excel_comma.csv", "habits/excel_semi.csv", "habits/tab.tsv"), "preference"),
    "habits/helpsteer_pref.jsonl": "helpsteer-preference",
    "habits/hh.jsonl": "hh",
    "habits/hs2.jsonl": "helpsteer",
    **dict.fromkeys(("habits/intl.jsonl", "habits/sft.jsonl"), "prompt-completion"),
    **dict.fromkeys(
        (f"habits/kto{end}" for end in (".csv", ".jsonl", "_int.jsonl", "_one.jsonl")), "unpaired"
    ),
    "habits/kwise.jsonl": "ranking",
    **dict.fromkeys(("habits/kwise_resp.jsonl", "habits/uf_raw.jsonl"), "rated"),
    **dict.fromkeys((f"habits/openai_{n}.jsonl" for n in ("parts", "plain", "weight")), "chat"),
    "habits/multi.jsonl": "chat",
    "habits/openai_pref.jsonl": "openai-preference",
    **dict.fromkeys(("habits/orca.jsonl", "rows/08-real-shapes-orca.jsonl"), "orca"),
    **dict.fromkeys(
        (f"habits/{n}.jsonl" for n in ("margin", "pii", "prefs", "sys", "trl_conv")), "preference"
    ),
    **dict.fromkeys((f"habits/{n}.jsonl" for n in ("prompts", "prompts_ans", "prompts_chat")), "prompts"),
    **dict.fromkeys((f"habits/sharegpt_{n}.jsonl" for n in ("gptfirst", "odd")), "sharegpt"),
    "habits/stepwise.jsonl": "stepwise",
    **dict.fromkeys(("habits/uf.parquet", "habits/uf_full.parquet"), "preference"),
    **dict.fromkeys((f"rows/06-jsonl-unicode-{n}.jsonl" for n in ("esc", "in")), "preference"),
    "rows/08-real-shapes-kto-int.jsonl": "unpaired",
    **dict.fromkeys(
        (
            f"rows/08-real-shapes-{n}.jsonl"
            for n in ("margin", "pair-system", "strpair-conv", "ultrafeedback")
        ),
        "preference",
    ),
    "rows/08-real-shapes-system-alpaca.jsonl": "alpaca",
    "rows/19-grpo-rewards-p.jsonl": "prompts",
    "data/formats/alpaca_en_demo.json": "alpaca",
    "data/formats/dpo_en_demo.json": "sharegpt-preference",
    "data/formats/kto_en_demo.json": "chat-unpaired",
}
"Files of which every row is read, and their format."


def corpus(name: str) -> str:
    """A file of the corpus beside the shared data."""
    return str(shared("..") / (name if name.startswith("data/") else f"faults/{name}"))


@pytest.mark.parametrize("name", READ)
def test_a_file_of_the_corpus_is_read(name: str, typed: Typed) -> None:
    code, shown = typed("data", "check", corpus(name), "--json")
    report = json.loads(shown)
    assert (code, report["format"], report["quarantined"]) == (0, READ[name], 0) and report["accepted"] > 0


@pytest.mark.parametrize("name", ["io", "qa", "gsm"])
def test_a_file_of_the_corpus_is_read_with_what_is_proposed(name: str, typed: Typed) -> None:
    path = corpus(f"habits/{name}.jsonl")
    code, shown = typed("data", "check", path)
    assert code == 65
    code, shown = typed("data", "check", path, *options(shown))
    assert code == 0 and "accepted 40 + quarantined 0" in shown


def test_a_file_of_the_corpus_is_trimmed(typed: Typed) -> None:
    path = corpus("habits/sharegpt_endhuman.jsonl")
    assert typed("data", "check", path)[0] == 65
    assert typed("data", "check", path, "--trim", "end")[0] == 0


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("allwins", 65, "E421"),
        ("name", 65, "E420"),
        ("self", 65, "E420"),
        ("arena", 0, "from votes; 33.3 % ties"),
    ],
)
def test_battles_of_the_corpus(name: str, code: int, said: str, typed: Typed) -> None:
    found, shown = typed("rank", corpus(f"rows/16-ratings-{name}.jsonl"))
    assert found == code and said in shown
