"""Good rows of every format, and planted defects: the corpus that the data tests share."""

from __future__ import annotations

import json
from typing import Any


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def said(who: str, text: str) -> dict[str, str]:
    return {"from": who, "value": text}


def good_row(format: str, i: int) -> dict[str, Any]:
    """The i-th good row of a format; all differ."""
    q, a, b = f"question {i}", f"good answer {i}", f"bad answer {i}"
    start = f"\n\nHuman: hello {i}\n\nAssistant: hi\n\nHuman: {q}\n\nAssistant:"
    rows: dict[str, dict[str, Any]] = {
        "hh": {"chosen": f"{start} {a}", "rejected": f"{start} {b}"},
        "preference": {"prompt": q, "chosen": a, "rejected": b},
        "preference implicit": {"chosen": f"{q} is {a}", "rejected": f"{q} is {b}"},
        "preference chat": {"prompt": [user(q)], "chosen": [assistant(a)], "rejected": [assistant(b)]},
        "preference chat implicit": {"chosen": [user(q), assistant(a)], "rejected": [user(q), assistant(b)]},
        "preference mixed": {
            "prompt": q,
            "chosen": [user(q), assistant(a)],
            "rejected": [user(q), assistant(b)],
        },
        "unpaired": {"prompt": q, "completion": a, "label": i % 2 == 0},
        "unpaired chat": {"prompt": [user(q)], "completion": [assistant(a)], "label": i % 2 == 0},
        "prompt-completion": {"prompt": q, "completion": a},
        "prompt-completion chat": {"prompt": [user(q)], "completion": [assistant(a)]},
        "prompts": {"prompt": q},
        "prompts chat": {"prompt": [{"role": "system", "content": "be kind"}, user(q)]},
        "text": {"text": f"once upon a time {i}"},
        "chat": {"messages": [user(q), assistant(a)]},
        "chat-unpaired": {"messages": [user(q), assistant(a)], "kto_tag": i % 2 == 0},
        "sharegpt": {"conversations": [said("human", q), said("gpt", a)], "system": "be kind"},
        "sharegpt-preference": {
            "conversations": [said("human", q)],
            "chosen": said("gpt", a),
            "rejected": said("gpt", b),
        },
        "sharegpt-unpaired": {"conversations": [said("human", q), said("gpt", a)], "label": i % 2 == 0},
        "alpaca": {"instruction": q, "input": "" if i % 2 else f"input {i}", "output": a},
        "alpaca-preference": {"instruction": q, "input": "", "chosen": a, "rejected": b},
        "alpaca-unpaired": {
            "instruction": q,
            "input": "",
            "output": a,
            "kto_tag": str(i % 2 == 0),
        },
        "self-instruct": {"instruction": q, "instances": [{"input": "", "output": a}]},
        "ranking": {"prompt": q, "completions": [a, b, f"tie {i}", f"last {i}"], "ranking": [0, [1, 2], 3]},
        "ranking pairs": {
            "question": q,
            "prediction 1": a,
            "prediction 2": b,
            "prediction 3": f"third {i}",
            "preference": [1, 0, 2],
        },
        "ranking ranks": {"prompt": q, "responses": [a, b], "ranks": [2, 1]},
        "ranking scores": {"prompt": q, "completions": [a, b], "scores": [0.5, None]},
        "rated": {"prompt": q, "responses": [{"text": a, "rank": 1}, {"text": b, "rank": 2}]},
        "rated ultrafeedback": {
            "instruction": q,
            "models": ["x", "y"],
            "completions": [
                {"response": b, "overall_score": 2.0, "model": "x"},
                {"response": a, "overall_score": 9.0, "model": "y"},
            ],
        },
        "orca": {"system": "be brief", "question": q, "chosen": a, "rejected": b},
        "helpsteer": {"prompt": q, "response": a, "helpfulness": 3, "correctness": 4, "verbosity": 1},
        "helpsteer-preference": {
            "context": [user(q)],
            "response1": b,
            "response2": a,
            "overall_preference": 2,
        },
        "helpsteer-preference numbered": {
            "prompt": q,
            "response_1": a,
            "response_2": b,
            "preference_strength": -1,
        },
        "webgpt": {
            "question": {"dataset": "eli5", "full_text": q},
            "answer_0": a,
            "answer_1": b,
            "score_0": 0.5,
            "score_1": -0.5,
        },
        "learn-to-summarize": {
            "info": {"post": q, "title": "t", "subreddit": "tifu"},
            "summaries": [{"text": b, "policy": "sup1"}, {"text": a, "policy": "ref"}],
            "choice": 1,
            "worker": "w",
        },
        "openai-preference": {
            "input": {"messages": [user(q)], "tools": []},
            "preferred_output": [assistant(a)],
            "non_preferred_output": [assistant(b)],
        },
        "arena": {
            "question_id": str(i),
            "model_a": "x",
            "model_b": "y",
            "winner": "model_b",
            "conversation_a": [user(q), assistant(b)],
            "conversation_b": [user(q), assistant(a)],
        },
        "arena flags": {
            "model_a": "x",
            "model_b": "y",
            "prompt": json.dumps([q]),
            "response_a": json.dumps([a]),
            "response_b": json.dumps([b]),
            "winner_model_a": 1,
            "winner_model_b": 0,
            "winner_tie": 0,
        },
        "stepwise": {"prompt": q, "completions": [a, b], "labels": [True, i % 2 == 0]},
        "prm800k": {
            "question": {"problem": q},
            "label": {
                "steps": [
                    {
                        "completions": [{"text": b, "rating": -1}, {"text": a, "rating": 1}],
                        "chosen_completion": 1,
                    },
                    {"completions": None, "human_completion": {"text": "so 5"}, "chosen_completion": None},
                    {"completions": [{"text": "so 6", "rating": -1}], "chosen_completion": None},
                ]
            },
        },
        "group": {
            "prompt": [user(q)],
            "completions": [{"text": a}, {"text": b}],
            "comparisons": [{"a": 0, "b": 1, "choice": "a", "labeler": "ann"}],
        },
    }
    return rows[format]


SHAPES = (
    *("hh", "preference", "preference implicit", "preference chat", "preference chat implicit"),
    *("preference mixed", "unpaired", "unpaired chat", "prompt-completion", "prompt-completion chat"),
    *("prompts", "prompts chat", "text", "chat", "chat-unpaired", "sharegpt", "sharegpt-preference"),
    *("sharegpt-unpaired", "alpaca", "alpaca-preference", "alpaca-unpaired", "self-instruct", "ranking"),
    *("ranking pairs", "ranking ranks", "ranking scores", "group", "rated", "rated ultrafeedback", "orca"),
    *("helpsteer", "helpsteer-preference", "helpsteer-preference numbered", "webgpt", "learn-to-summarize"),
    *("openai-preference", "arena", "arena flags", "stepwise", "prm800k"),
)


def format_of(shape: str) -> str:
    """The format's name: the shape's first word."""
    return shape.split()[0]


def line(row: Any) -> bytes:
    return json.dumps(row, ensure_ascii=False).encode() + b"\n"


def good_lines(shape: str, num: int) -> list[bytes]:
    return [line(good_row(shape, i)) for i in range(num)]


def _with(shape: str, **changes: Any) -> bytes:
    return line({**good_row(shape, 999), **changes})


def _without(shape: str, key: str) -> bytes:
    row = good_row(shape, 999)
    del row[key]
    return line(row)


def _group(**changes: Any) -> bytes:
    return _with("group", **changes)


def _hh(text: str) -> bytes:
    return line({"chosen": text + "\n\nAssistant: yes", "rejected": text + "\n\nAssistant: no"})


# The shape of the good rows around it, and the bad line; data/defects.txt holds the messages in this order.
DEFECTS: tuple[tuple[str, bytes], ...] = (
    # bytes and JSON
    ("preference", b'{"prompt": "caf\xe9", "chosen": "a", "rejected": "b"}\n'),
    ("preference", b'{"prompt": "q", "chosen": "a", "rejected": "b"\n'),
    ("preference", b"{'prompt': 'q', 'chosen': 'a', 'rejected': 'b'}\n"),
    ("preference", b'{"prompt": "q", "chosen": "a", "rejected": "b",}\n'),
    ("preference", b'{"prompt": "q", "chosen": "a", "rejected": "b"} {"prompt": "r"}\n'),
    ("preference", b'{"prompt": "a\tb", "chosen": "a", "rejected": "b"}\n'),
    ("preference", b'{"prompt": "q", "chosen": "a", "chosen": "c", "rejected": "b"}\n'),
    ("preference", b'{"prompt": "q", "chosen": "a", "rejected": "b", "margin": NaN}\n'),
    ("preference", b'{"prompt": "q", "chosen": "a", "rejected": "b", "margin": 1e999}\n'),
    ("preference", b'{"prompt": "q", "chosen": "a", "rejected": "b", "n": ' + b"9" * 5000 + b"}\n"),
    ("preference", b'{"prompt": "q", "chosen": "a", "rejected": "b", "x": ' + b"[" * 80 + b"]" * 80 + b"}\n"),
    ("preference", b'{"prompt": "q", "chosen": "a", "rejected": "b", "x": ' + b"[" * 100000 + b"\n"),
    ("preference", b'{"prompt": "q\x00", "chosen": "a", "rejected": "b"}\n'),
    ("preference", b'{"prompt": "q\\u0000", "chosen": "a", "rejected": "b"}\n'),
    ("preference", b'{"prompt": "q", "chosen": "a \\ud83d", "rejected": "b"}\n'),
    # schema
    ("preference", b'["q", "a", "b"]\n'),
    ("preference", b"null\n"),
    ("preference", _without("preference", "rejected")),
    ("preference", line({"prompt": "q", "choosen": "a", "rejected": "b"})),
    ("preference", _with("preference", rejected=None)),
    ("preference", _with("preference", chosen=17)),
    ("preference", _with("preference", prompt={"text": "q"})),
    ("preference", _with("preference", rejected=[assistant("x")])),
    ("chat", _with("chat", messages=[])),
    ("chat", _with("chat", messages="hello")),
    ("chat", _with("chat", messages=[user("q"), "answer"])),
    ("chat", _with("chat", messages=[{"role": "user", "contents": "q"}, assistant("a")])),
    ("chat", _with("chat", messages=[user("q"), {"role": "assistant", "content": None, "tool_calls": [1]}])),
    ("chat", _with("chat", messages=[{"role": "user", "content": [{"type": "image_url"}]}, assistant("a")])),
    ("unpaired", _with("unpaired", label="maybe")),
    ("alpaca", _with("alpaca", history=["not a pair"])),
    ("self-instruct", _with("self-instruct", instances=[])),
    ("group", _group(scorres=[])),
    # conversations
    ("chat", _with("chat", messages=[user("q"), {"role": "asistant", "content": "a"}])),
    ("chat", _with("chat", messages=[{"role": "alien", "content": "q"}, assistant("a")])),
    ("chat", _with("chat", messages=[user("q")])),
    ("chat", _with("chat", messages=[user("q"), assistant("a"), user("r")])),
    ("chat", _with("chat", messages=[user("q"), user("r"), assistant("a")])),
    ("chat", _with("chat", messages=[user("q"), {"role": "system", "content": "s"}, assistant("a")])),
    ("chat", _with("chat", messages=[user("  "), assistant("a")])),
    ("chat", _with("chat", messages=[assistant("a")])),
    (
        "sharegpt",
        _with("sharegpt", conversations=[said("system", "s"), said("human", "q"), said("gpt", "a")]),
    ),
    ("prompts", _with("prompts", prompt=" ")),
    ("prompts chat", _with("prompts chat", prompt=[user("q"), assistant("a")])),
    ("hh", _hh("Human q")),
    ("hh", _hh("\n\nHuman: q\n\nHuman: r")),
    # preferences
    ("preference", _with("preference", rejected="good answer 999")),
    ("hh", line({"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: a"})),
    ("preference", _with("preference", chosen="")),
    ("hh", line({"chosen": "\n\nHuman: q\n\nAssistant: ", "rejected": "\n\nHuman: q\n\nAssistant: a"})),
    ("sharegpt-preference", _with("sharegpt-preference", rejected=said("gpt", ""))),
    ("alpaca", _with("alpaca", output="")),
    ("hh", line({"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: r\n\nAssistant: a"})),
    ("preference implicit", line({"chosen": "yes", "rejected": "no"})),
    ("preference chat", _with("preference chat", chosen=[user("another"), assistant("a")])),
    (
        "hh",
        line(
            {
                "chosen": "\n\nHuman: q\n\nAssistant: a\n\nHuman: r\n\nAssistant: s",
                "rejected": "\n\nHuman: q\n\nAssistant: b\n\nHuman: r\n\nAssistant: t",
            }
        ),
    ),
    ("preference", line({"prompt": "question 0", "chosen": "bad answer 0", "rejected": "good answer 0"})),
    ("ranking", _with("ranking", ranking=[0, 1, 2, 4])),
    ("ranking", _with("ranking", ranking=[0, 1, 1, 3])),
    ("ranking", _with("ranking", ranking=[0, 1, 2])),
    ("ranking pairs", _with("ranking pairs", preference=[1, 0])),
    ("ranking pairs", _with("ranking pairs", preference=[1, 0, 3])),
    ("ranking ranks", _with("ranking ranks", responses=["only one"], ranks=[1])),
    ("ranking scores", _with("ranking scores", scores=["high", None])),
    ("group", _group(comparisons=[{"a": 0, "b": 2, "choice": "a"}])),
    ("group", _group(comparisons=[{"a": 0, "b": 1, "choice": "left"}])),
    ("group", _group(scores=[{"completion": 0, "value": 1.0}])),
    ("group", _group(completions=[{"text": "a", "tokens": [1, 2], "supervised": [1]}, {"text": "b"}])),
)
