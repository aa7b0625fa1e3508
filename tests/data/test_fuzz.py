"""Malformed input of every kind ends in groups, problems or a TrueupError: never in another exception."""

from __future__ import annotations

import copy
import gzip
import json
import random
from pathlib import Path
from typing import Any

from data_rows import SHAPES, good_lines, good_row
from trueup.data import check, read, write
from trueup.data.formats import all_formats
from trueup.engine.groups import digest
from trueup.errors import TrueupError

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1.5, 10**30, 10**400, "", " ", "x", "\u2028", "\x1b[0m", "[1,", '[{"'),
    *([], [[]], [None], [1, 2], [0, 1], [[0], [1]], [[0, 0]], [["a", "b"]], [["a"]], {}, {"a": 1}),
    *([{"role": "user", "content": "q"}], [{"role": "user"}], [{"content": []}], [{"from": 3}], "true"),
    *({"from": "gpt", "value": None}, {"role": "assistant", "content": [{"type": "text"}]}, {"text": "x"}),
    *({"1": {"2": {"3": [{}]}}},),
)
STRANGE = (b'"', b"\\", b"[", b"}", b",", b"\n", b"\x00", b"\xff", b"NaN", b"\\ud800")
NAMES = ("prompt", "chosen", "label", "text", "id", "role", "x" * 200)
MAPS = (None, None, None, {"prompt": "chosen"}, {"prompt": "prompt.a"}, {"nothing": "x"})
NUM = 2400


def mutated_row(rng: random.Random) -> Any:
    """A good row with up to three nodes replaced, removed, doubled or renamed."""
    row: Any = copy.deepcopy(good_row(rng.choice(SHAPES), rng.randrange(5)))
    for _ in range(rng.randint(1, 3)):
        node = row
        while isinstance(node, dict | list) and node:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            key = rng.choice(keys)
            if isinstance(node[key], dict | list) and node[key] and rng.random() < 0.6:
                node = node[key]
                continue
            change = rng.randrange(4)
            if change == 0:
                del node[key]
            elif change == 1 and isinstance(node, dict):
                node[rng.choice(NAMES)] = node.pop(key)
            else:
                node[key] = copy.deepcopy(rng.choice(VALUES))
            break
    return rng.choice(VALUES) if rng.random() < 0.03 else row


def mutated_bytes(rng: random.Random, raw: bytes) -> bytes:
    made = bytearray(raw)
    for _ in range(rng.randint(0, 4)):
        at = rng.randrange(len(made) + 1)
        kind = rng.randrange(4)
        if kind == 0:
            made[at : at + rng.randint(1, 30)] = b""
        elif kind == 1:
            made[at:at] = rng.choice(STRANGE)
        elif kind == 2:
            made[at:at] = made[: rng.randint(1, 60)]
        elif at < len(made):
            made[at] ^= 1 << rng.randrange(8)
    return bytes(made)


def malformed(rng: random.Random) -> tuple[str, bytes]:
    """A file name and contents."""
    kind = rng.randrange(3)
    suffix = rng.choice([".jsonl", ".jsonl", ".json", ".csv", ".jsonl.gz", ".parquet", ".arrow"])
    if kind == 0:
        rows = [mutated_row(rng) for _ in range(rng.randint(1, 6))]
        lines = [json.dumps(row).encode() + b"\n" for row in rows]
        raw = json.dumps(rows).encode() if suffix == ".json" else b"".join(lines)
    elif kind == 1:
        raw = mutated_bytes(rng, b"".join(good_lines(rng.choice(SHAPES), rng.randint(1, 5))))
    else:
        raw = mutated_bytes(rng, b'prompt,completion,label\n"a, b",c,true\n"d ""e""\nf",g,0\nh,i,1\n')
        suffix = ".csv"
    if suffix.endswith(".gz"):
        raw = gzip.compress(raw)
        raw = mutated_bytes(rng, raw) if rng.random() < 0.4 else raw
    return f"rows{suffix}", raw


def test_malformed_files(tmp_path: Path) -> None:
    rng = random.Random(20)
    formats = [*["auto"] * 40, *all_formats()]
    bad = tmp_path / "bad.jsonl"
    outcomes = {"read": 0, "bad rows": 0, "refused": 0}
    for number in range(NUM):
        name, raw = malformed(rng)
        path = tmp_path / f"{number}-{name}"  # a new file: truncating one is what takes time
        path.write_bytes(raw)
        format = rng.choice(formats)
        columns = rng.choice(MAPS)
        try:
            report = check(path, format=format, columns=columns, quarantine=bad if number % 8 == 0 else None)
            json.dumps(report.to_json(), allow_nan=False)
            assert all(str(p).isprintable() and p.remedy and p.reason for p in report.problems)
            outcomes["bad rows" if report.problems else "read"] += 1
            result = read(path, format=format, columns=columns, max_bad=1.0)
            if number % 8 == 0:
                write(tmp_path / "out.jsonl", result.groups)
                again = read(tmp_path / "out.jsonl", format="group").groups
                assert digest(again) == digest(result.groups)
        except TrueupError as error:
            assert str(error).isprintable() and error.remedy, error
            outcomes["refused"] += 1
    assert sum(outcomes.values()) >= NUM
    assert min(outcomes.values()) > 100, outcomes


def test_random_options(tmp_path: Path) -> None:
    """Names, maps and paths from anywhere: refused with a code, or served."""
    rng = random.Random(3)
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"".join(good_lines("preference", 3)))
    words = [
        "",
        "auto",
        "hh",
        "../x",
        "\x00",
        "\ud800",
        "a" * 5000,
        "train",
        ".",
        "prompt",
        "chosen.a.b",
        "{",
        "é",
    ]
    for _ in range(300):
        options = {
            "format": rng.choice(words),
            "split": rng.choice(words),
            "columns": {rng.choice(words): rng.choice(words)} if rng.random() < 0.5 else None,
            "limit": rng.choice([None, -1, 0, 1, 10**9]),
        }
        try:
            check(path, **options)
        except TrueupError as error:
            assert str(error).isprintable()
