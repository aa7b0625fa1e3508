"""Every random fault is noticed before use, and the verifier itself raises nothing but TrueupError."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from runs.checkpoint.states import whole, write
from trueup.errors import TrueupError
from trueup.runs import manifest
from trueup.runs.checkpoint import SAFETENSORS_NAMES, latest, load, save, state_digest

FAULTS = ("flip", "truncate", "zero", "append", "delete")


def damage(path: Path, kind: str, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    if kind == "delete":
        path.unlink()
        return
    if kind == "flip":
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == "truncate":
        del data[rng.randrange(len(data)) :]
    elif kind == "append":
        data += rng.randbytes(rng.randint(1, 40))
    else:
        start = rng.randrange(len(data))
        stop = min(len(data), start + rng.randint(1, 512))
        data[start:stop] = bytes(stop - start) if any(data[start:stop]) else b"\xff" * (stop - start)
    path.write_bytes(bytes(data))


def test_400_random_faults_are_all_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, 1)
    newest = write(tmp_path, 2)
    originals = {p: p.read_bytes() for p in newest.iterdir()}
    rng = random.Random(1)
    for number in range(400):
        path = rng.choice(sorted(originals))
        damage(path, FAULTS[number % len(FAULTS)], rng)
        with pytest.raises(TrueupError, match=r"E84[123] ") as caught:
            load(newest)
        assert path.name in caught.value.where
        with caplog.at_level(logging.WARNING):
            found = latest(tmp_path)
        assert whole(found) == 1
        assert found is not None
        assert len(found.skipped) == 1
        assert path.name in caplog.records[-1].getMessage()
        path.write_bytes(originals[path])
        assert whole(latest(tmp_path)) == 2


def test_the_message_names_file_and_both_hashes(tmp_path: Path) -> None:
    path = write(tmp_path, 1)
    expected = json.loads((path / "MANIFEST.json").read_bytes())["files"]["state.json"]["sha256"]
    (path / "state.json").write_text("{}")
    with pytest.raises(TrueupError) as caught:
        load(path)
    # SHA-256 of the two bytes "{}".
    found = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    assert expected in str(caught.value)
    assert found in str(caught.value)
    assert "step-000001/state.json" in caught.value.where


def test_a_file_changed_after_loading_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path, 1)
    found = load(path)
    damage(path / "policy.safetensors", "flip", random.Random(0))
    with pytest.raises(TrueupError, match="E841"):
        found.tensors("policy")


def mutated(value: Any, rng: random.Random) -> Any:
    """The value with one part replaced by something odd."""
    odd = [None, -1, 1e400, "", "x" * 70, [], {}, True, [[]], {"size": 1}, 10**30, "../../state.json", "\x00"]
    if isinstance(value, dict) and value and rng.random() < 0.8:
        key = rng.choice(sorted(value))
        rest = {k: v for k, v in value.items() if k != key}
        action = rng.random()
        if action < 0.2:
            return rest
        if action < 0.4:
            return {**rest, str(rng.choice(odd)): value[key]}
        return {**rest, key: mutated(value[key], rng)}
    return rng.choice(odd)


def test_600_forged_manifests_raise_only_our_error(tmp_path: Path) -> None:
    """Even a manifest whose own hash is right cannot make the verifier fail in another way."""
    path = write(tmp_path, 1)
    original = (path / "MANIFEST.json").read_bytes()
    rng = random.Random(2)
    for number in range(600):
        value = mutated(json.loads(original), rng)
        data = json.dumps(value, indent=1, sort_keys=True).encode() + b"\n"
        if number % 3 == 0:
            data = rng.randbytes(rng.randint(0, 200))
        elif number % 3 == 1 and isinstance(value, dict):
            data = rehashed(value)
        if data == original:
            continue
        (path / "MANIFEST.json").write_bytes(data)
        try:
            load(path)
            accepted = True
        except TrueupError:
            accepted = False
        # A forged manifest whose own hash is right may name fewer files, or count differently.
        assert not accepted or number % 3 == 1
        assert (latest(tmp_path) is not None) == accepted


def rehashed(value: dict[str, Any]) -> bytes:
    """The manifest with the hash that its contents call for, where they have one."""
    body = {k: v for k, v in value.items() if k != "sha256"}
    with contextlib.suppress(ValueError):
        body["sha256"] = manifest._own_hash(body)
    return json.dumps(body, indent=1, sort_keys=True).encode() + b"\n"


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 5000, '{"format": 2}', "", "null", '{"format": true}'])
def test_odd_manifests(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, 1)
    (path / "MANIFEST.json").write_text(text)
    code = "E843" if text == '{"format": 2}' else "E841"
    with pytest.raises(TrueupError, match=code):
        load(path)


def test_other_things_in_a_file_s_place(tmp_path: Path) -> None:
    path = write(tmp_path, 1)
    target = path / "state.json"
    target.unlink()
    target.mkdir()
    with pytest.raises(TrueupError, match="E841"):
        load(path)
    target.rmdir()
    os.mkfifo(target)
    with pytest.raises(TrueupError, match="E841"):
        load(path)
    target.unlink()
    target.symlink_to("/dev/zero")
    with pytest.raises(TrueupError, match="E841"):
        load(path)


def test_folders_that_are_no_checkpoints(tmp_path: Path) -> None:
    assert latest(tmp_path / "nothing") is None
    assert latest(tmp_path) is None
    (tmp_path / "step-000009").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(TrueupError, match="E842"):
        load(tmp_path / "step-000009")
    write(tmp_path, 1)
    found = latest(tmp_path)
    assert whole(found) == 1
    assert found is not None
    assert [e.code for e in found.skipped] == ["E842"]


def test_missing_and_unknown_keys_are_named(tmp_path: Path) -> None:
    found = load(write(tmp_path, 1))
    with pytest.raises(TrueupError, match=r"E844 .*missing: beta; unknown: step"):
        found.document("state", names=["beta"])
    with pytest.raises(TrueupError, match=r"E844 .*missing: v"):
        found.tensors("optimizer", names=["m", "step", "v"])
    with pytest.raises(TrueupError, match=r"E844 .*has no value\.safetensors"):
        found.tensors("value")
    with pytest.raises(TrueupError, match=r"E844 .*has no extra\.jsonl"):
        found.lines("extra")


@pytest.mark.parametrize("dtype", sorted(SAFETENSORS_NAMES, key=str), ids=str)
def test_every_dtype_and_shape_comes_back_to_the_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    raw = torch.randint(0, 2, (24,), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    numbers = raw.to(dtype) if dtype != torch.bool else raw.bool()
    tensors = {
        "flat": numbers,
        "transposed": numbers.reshape(4, 6).T,
        "strided": numbers[::5],
        "scalar": numbers[3],
        "empty": numbers[:0].reshape(0, 3),
        "odd": raw[:3],
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }
    path = save(tmp_path, "a", tensors={"t": tensors}, documents={})
    back = load(path).tensors("t", names=tensors)
    assert state_digest({"t": back}, {}) == state_digest({"t": tensors}, {})
    other = load_file(path / "t.safetensors")
    assert state_digest({"t": other}, {}) == state_digest({"t": tensors}, {})


def test_the_digest_sees_every_difference() -> None:
    base = {"t": {"w": torch.tensor([1.0, 2.0])}}
    others = [
        {"t": {"w": torch.tensor([1.0, 2.0000002])}},
        {"t": {"w": torch.tensor([[1.0, 2.0]])}},
        {"t": {"w": torch.tensor([1.0, 2.0], dtype=torch.float64)}},
        {"t": {"v": torch.tensor([1.0, 2.0])}},
        {"s": {"w": torch.tensor([1.0, 2.0])}},
        {"t": {"w": torch.tensor([0.0, 2.0])}},
        {"t": {"w": torch.tensor([-0.0, 2.0])}},
        {},
    ]
    digests = {state_digest(t, {}) for t in [base, *others]} | {state_digest(base, {"s": 1})}
    assert len(digests) == len(others) + 2
    assert state_digest(base, {"s": {"a": 1, "b": 2}}) == state_digest(base, {"s": {"b": 2, "a": 1}})


def test_text_comes_back_as_it_was(tmp_path: Path) -> None:
    rows = ["", "a\u2028b", "é\r", '{"x": "\\n"}']
    path = save(tmp_path, "a", tensors={}, documents={"d": {"é": [1.5, None, "\u2028"]}}, lines={"r": rows})
    assert load(path).lines("r") == rows
    assert load(path).document("d") == {"é": [1.5, None, "\u2028"]}
