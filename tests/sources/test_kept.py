"""Encoded rows of large files: the groups of memory, made once, and made again where they are damaged."""

from __future__ import annotations

import dataclasses
import errno
import gc
import json
import logging
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_rows import SHAPES, good_lines
from eval_stubs import byte_chat, byte_tokenizer
from trueup.chat import Chat
from trueup.data import places, read
from trueup.data.stored import stored, storing
from trueup.data.tables import table_row
from trueup.engine.groups import Group
from trueup.engine.method import Handles, Parts
from trueup.engine.views import View
from trueup.errors import TrueupError
from trueup.methods import dpo, hir, imitation, kto, pmp, reward_model, sft
from trueup.runs.training import step_sizes
from trueup.settings.blocks import DataSettings, LoopSettings, TurnSettings
from trueup.sources import kept
from trueup.sources.open import Opened, open_groups


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder of a test; every file is a large one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(kept, "SMALL", 0)
    return tmp_path / "cache" / "trueup" / "rows"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Pairs, two of them bad, one of them overlong."""
    lines = good_lines("preference", 40)
    lines[7:7] = [b'{"prompt": "q", "chosen": "", "rejected": "b"}\n']
    lines[30:30] = [json.dumps({"prompt": "long", "chosen": "x" * 600, "rejected": "y"}).encode() + b"\n"]
    (tmp_path / "rows.jsonl").write_bytes(b"".join(lines) + b"\xff\n")
    return tmp_path / "rows.jsonl"


def settings(path: Path, **said: Any) -> DataSettings:
    return DataSettings(**{"path": str(path), "max_bad": 0.1, "held_out": 0.2, **said})


def in_memory(monkeypatch: pytest.MonkeyPatch, *args: Any, **said: Any) -> Opened:
    with monkeypatch.context() as patch:
        patch.setattr(kept, "SMALL", 2**40)
        return open_groups(*args, **said)


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the groups that are encoded, as they are."""
    ids: list[str] = []
    encode = Chat.encode

    def counted(self: Chat, group: Group, **said: Any) -> Group:
        ids.append(group.id)
        return encode(self, group, **said)

    monkeypatch.setattr(Chat, "encode", counted)
    return ids


def plain(value: Any) -> Any:
    """The value down to its types and bits: what is equal here is the same."""
    if isinstance(value, np.ndarray):
        return ("array", str(value.dtype), value.shape, value.tobytes(), value.flags.writeable)
    if dataclasses.is_dataclass(value):
        said = {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return (type(value).__name__, said)
    if isinstance(value, Mapping):
        return ("mapping", [(key, plain(item)) for key, item in value.items()])
    if isinstance(value, list | tuple):
        return (type(value).__name__, [plain(item) for item in value])
    return (type(value).__name__, repr(value))


def same(left: Sequence[Group], right: Sequence[Group]) -> bool:
    return [plain(group) for group in left] == [plain(group) for group in right]


# ------------------------------------------------------------------------------------------ the groups


@pytest.mark.parametrize("shape", SHAPES)
def test_a_stored_group_is_the_group_that_was_put(shape: str, tmp_path: Path) -> None:
    """Of every format, encoded where the chat can, and as a table's row, with what is left in `meta`."""
    chat, made = byte_chat(), list[Group]()
    rows = [json.loads(line) for line in good_lines(shape, 4)]
    rows[0] |= {"note": {"a": [1, 2.5, None, "é\u2028"], "b": {}}, "when": 2**70, "tiny": 5e-324}
    for group in read(rows, max_bad=1).groups or read(map(dict, rows[1:])).groups:
        made.append(group)
        try:
            made.append(chat.encode(group))
        except TrueupError:
            continue
    with storing(tmp_path / "groups.arrow") as put:
        for group in made:
            put(group)
    assert same(stored(tmp_path / "groups.arrow"), made) and made


def test_columns_masks_and_absent_arrays_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trueup.data import stored as module
    from trueup.engine.groups import Comparison, Completion, Message, Ranking, Role, Score, ToolCall

    monkeypatch.setattr(module, "_BATCH", 1)  # a record batch for every group
    monkeypatch.setattr(module, "_MAPPED", 2)
    full = Completion(
        text="\ud800 half",
        thinking="hm",
        tool_calls=(ToolCall("f", '{"a": 1}'),),
        finished=False,
        tokens=np.array([1, -2, 2**31 - 1], np.int32),
        supervised=np.array([True, False, True]),
        columns={"old_logprobs": np.array([-0.1, -0.0]), "top": np.array([[0.25, 1e-300], [1.0, 2.0]])},
        marks={"score": 3, "x": float("inf")},
    )
    groups = [
        Group(
            prompt=(Message(Role.USER, "a", tools="[]", supervised=False),),
            completions=(full, Completion(text="", tokens=np.zeros(0, np.int32)), Completion(text="bare")),
            comparisons=(Comparison(a=0, b=1, choice="tie", probability=0.25, shown=(1, 0), labeler="w"),),
            rankings=(Ranking(tiers=((0,), (1, 2))),),
            scores=(Score(completion=0, value=-0.0, judge="label"),),
            id="é",
            meta={"a": {"b": [1, None]}},
            prompt_tokens=np.array([5], np.int32),
        ),
        Group(prompt=(Message(Role.TEXT, "no completion"),)),
        Group(prompt=(), prompt_tokens=np.zeros(0, np.int32)),
    ]
    with storing(tmp_path / "groups.arrow") as put:
        for group in groups:
            put(group)
    view = stored(tmp_path / "groups.arrow")
    (tmp_path / "groups.arrow").unlink()  # as when another run makes room
    assert len(view) == 3 and same(view, groups)
    assert same(view[::-1], groups[::-1]) and same([view[-1], view[1]], [groups[2], groups[1]])
    with pytest.raises(IndexError):
        view[3]


@pytest.mark.parametrize("overlong", ["drop", "truncate_prompt_start"])
def test_opened_rows_are_those_of_memory(
    overlong: Any, path: Path, tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch, encoded: list[str]
) -> None:
    with path.open("ab") as file:
        chat = [{"role": r, "content": f"{r} says {'m' * 90}"} for r in ("user", "assistant") * 4]
        row = {"prompt": [*chat, chat[0]], "chosen": [chat[1]], "rejected": [{**chat[1], "content": "no"}]}
        file.write(json.dumps(row).encode() + b"\n")
    chosen = settings(path, overlong=overlong)
    given: dict[str, Any] = {"seed": 3, "needs": ("comparisons",)}
    expected = in_memory(monkeypatch, chosen, byte_chat(), quarantine=tmp_path / "wanted.jsonl", **given)
    assert isinstance(expected.train, list) and expected.overlong == 1 + (overlong == "drop")
    assert expected.truncated == (overlong != "drop") and expected.quarantined == 2
    for again in (False, True):
        encoded.clear()
        opened = open_groups(chosen, byte_chat(), quarantine=tmp_path / "bad.jsonl", **given)
        fields = [f.name for f in dataclasses.fields(Opened) if f.name not in ("train", "held_out")]
        assert [getattr(opened, f) for f in fields] == [getattr(expected, f) for f in fields]
        assert isinstance(opened.train, View)
        assert len(encoded) == (0 if again else 42) or overlong != "drop"
        assert same(opened.train, expected.train) and same(opened.held_out, expected.held_out)
        assert (tmp_path / "bad.jsonl").read_bytes() == (tmp_path / "wanted.jsonl").read_bytes()
        (tmp_path / "bad.jsonl").unlink()
    assert [sorted(item.name for item in entry.iterdir()) for entry in root.iterdir()] == [
        ["groups.arrow", "manifest.json", "quarantine.jsonl"]
    ]


MANY = [
    (sft, {}, "preference"),
    (dpo, {}, "preference"),
    (kto, {}, "preference"),
    (kto, {}, "unpaired"),
    (imitation, {}, "ranking"),
    (reward_model, {"mix_power": 0.5}, "preference"),
    (reward_model, {"loss": "plackett_luce"}, "ranking"),
    (pmp, {"mix_power": 0.0}, "preference"),
    (hir, {}, "preference"),
]


@pytest.mark.parametrize(("module", "said", "shape"), MANY)
def test_a_method_draws_the_same_groups_from_views(
    module: Any, said: dict[str, Any], shape: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every step's groups, marks and all, of two sources mixed, one of them in memory in both cases."""
    chat, files = byte_chat(), {}
    for name, num in (("a", 9), ("b", 14)):
        files[name] = str(tmp_path / f"{name}.jsonl")
        (tmp_path / f"{name}.jsonl").write_bytes(b"".join(good_lines(shape, num)))
    config = module.Config(
        data=DataSettings(mix=files, held_out=0.3), loop=LoopSettings(epochs=2, batch=4), **said
    )

    def method(opened: Opened) -> Any:
        parts = Parts(
            groups=opened.train,
            held_out=opened.held_out,
            decode=chat.decode,
            stop_ids=chat.stop_ids,
            prompt_ids=chat.prompt_ids,
        )
        return module.build(config, parts)

    expected = method(in_memory(monkeypatch, config.data, chat, seed=1))
    monkeypatch.setattr(kept, "SMALL", (tmp_path / "a.jsonl").stat().st_size)
    opened = open_groups(config.data, chat, seed=1)
    assert isinstance(opened.train, View)
    made = method(opened)
    sizes = step_sizes(config.loop, made, len(opened.train))
    assert sizes == step_sizes(config.loop, expected, len(opened.train)) and sum(sizes) > 20
    if module is hir:
        assert same(made.source.prompts, expected.source.prompts)
        return
    handles = Handles(networks={}, seed=5, epochs=2)
    for step in range(len(sizes)):
        assert same(made.source(step, handles), expected.source(step, handles)), step
    assert same(made.held_out(0, handles), expected.held_out(0, handles))


def test_a_view_holds_no_groups(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b"".join(good_lines("preference", 800)))
    gc.collect()
    of_others = sum(type(item) is Group for item in gc.get_objects())
    opened = open_groups(DataSettings(path=str(tmp_path / "rows.jsonl")), byte_chat(), seed=0)
    parts = Parts(groups=opened.train, held_out=opened.held_out, decode=str, stop_ids=(0,))
    method = dpo.build(dpo.Config(), parts)
    step = method.source(0, Handles(networks={}, seed=0))
    gc.collect()
    assert len(step) == 32 and len(opened.train) > 600
    assert sum(type(item) is Group for item in gc.get_objects()) - of_others < 200


# ------------------------------------------------------------------------------------------- the cache


def test_the_key_is_all_that_the_rows_follow_from(path: Path, root: Path, encoded: list[str]) -> None:
    def made(chosen: DataSettings, chat: Chat | None = None, needs: tuple[str, ...] = ()) -> bool:
        encoded.clear()
        open_groups(chosen, chat or byte_chat(), seed=0, needs=needs)
        return bool(encoded)

    assert made(settings(path))
    for same_rows in ({"held_out": 0.5}, {"max_tokens": 300}, {"overlong": "truncate_prompt_start"}):
        assert not made(settings(path, **same_rows)), same_rows
    others = [
        settings(path, train_on="all"),
        settings(path, max_bad=0.2),
        settings(path, format="preference"),
        settings(path, columns={"prompt": "prompt"}),
        settings(path, turns=TurnSettings(trim="end")),
        settings(path, turns=TurnSettings(roles={"narrator": "system"})),
        settings(path, limit=kept.FEW + 1),
    ]
    for other in others:
        assert made(other) and not made(other), other
    assert made(settings(path), needs=("comparisons",))
    assert made(settings(path), Chat.of(byte_tokenizer(), "hh"))
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(["question"])
    assert made(settings(path), Chat.of(tokenizer))
    path.write_bytes(path.read_bytes().replace(b"good", b"fine"))
    assert made(settings(path)) and not made(settings(path))
    path.rename(path.with_name("moved.jsonl"))  # rows and their sources are named by the file
    assert made(settings(path.with_name("moved.jsonl")))
    assert len(list(root.iterdir())) == 13


def test_other_code_makes_the_rows_again(
    path: Path, monkeypatch: pytest.MonkeyPatch, encoded: list[str]
) -> None:
    open_groups(settings(path), byte_chat(), seed=0)
    encoded.clear()
    open_groups(settings(path), byte_chat(), seed=0)
    assert not encoded
    monkeypatch.setattr(kept, "_CODE", (*kept._CODE, "errors.py"))
    kept._digest_of_code.cache_clear()
    open_groups(settings(path), byte_chat(), seed=0)
    kept._digest_of_code.cache_clear()
    assert encoded


def flip(file: Path) -> None:
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a bit": lambda entry: flip(entry / "groups.arrow"),
    "cut off": lambda entry: os.truncate(entry / "groups.arrow", 100),
    "empty": lambda entry: os.truncate(entry / "groups.arrow", 0),
    "no manifest": lambda entry: (entry / "manifest.json").unlink(),
    "manifest cut off": lambda entry: os.truncate(entry / "manifest.json", 20),
    "other manifest": lambda entry: (entry / "manifest.json").write_text("[]"),
    "no quarantine": lambda entry: (entry / "quarantine.jsonl").unlink(),
    "a bit of the quarantine": lambda entry: flip(entry / "quarantine.jsonl"),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_what_is_damaged_is_made_again(
    how: str, path: Path, root: Path, encoded: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    first = [plain(g) for g in open_groups(settings(path), byte_chat(), seed=0).train]
    (entry,) = root.iterdir()
    DAMAGE[how](entry)
    encoded.clear()
    with caplog.at_level(logging.WARNING, "trueup"):
        again = open_groups(settings(path), byte_chat(), seed=0)
    assert [plain(g) for g in again.train] == first and len(encoded) == 41
    assert f"the rows kept in {entry} are damaged, and are made again" in caplog.text
    encoded.clear()
    open_groups(settings(path), byte_chat(), seed=0)
    assert not encoded and [item.name for item in root.iterdir()] == [entry.name]


def test_two_runs_at_once_do_not_collide(path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second run begins, ends and is read while the first is in the middle of its file."""
    wanted, inner = in_memory(monkeypatch, settings(path), byte_chat(), seed=0), list[Opened]()
    encode, begun = Chat.encode, list[str]()

    def interrupted(self: Chat, group: Group, **said: Any) -> Group:
        if group.id == "rows.jsonl:20" and not begun:
            begun.append(group.id)
            inner.append(open_groups(settings(path), byte_chat(), seed=0))
        return encode(self, group, **said)

    monkeypatch.setattr(Chat, "encode", interrupted)
    outer = open_groups(settings(path), byte_chat(), seed=0)
    (second,) = inner
    assert isinstance(outer.train, View) and isinstance(second.train, View)
    assert same(outer.train, wanted.train) and same(second.train, wanted.train)
    assert len(list(root.iterdir())) == 1


def test_a_file_that_changes_while_it_is_read_is_not_kept(
    path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = Chat.encode

    def changing(self: Chat, group: Group, **said: Any) -> Group:
        if group.id == "rows.jsonl:20":
            path.write_bytes(path.read_bytes() + good_lines("preference", 41)[-1])
        return encode(self, group, **said)

    monkeypatch.setattr(Chat, "encode", changing)
    opened = open_groups(settings(path), byte_chat(), seed=0)
    assert isinstance(opened.train, View) and len(list(opened.train)) == len(opened.train) > 25
    assert not list(root.iterdir())


def test_a_killed_run_leaves_nothing_that_is_read(path: Path, root: Path, encoded: list[str]) -> None:
    class Killed(BaseException):
        pass

    def make(put: Any, bad: Path | None) -> kept.Facts:
        put(read([{"prompt": "a"}]).groups[0])
        raise Killed

    with pytest.raises(Killed):
        kept.kept(lambda: "ab", make, None)
    assert not list(root.iterdir())
    stale, fresh = root / ".making-old", root / ".making-new"
    for folder in (stale, fresh):  # as SIGKILL leaves them
        folder.mkdir()
        (folder / "groups.arrow").write_bytes(b"ARROW1")
    for item in (stale / "groups.arrow", stale):
        os.utime(item, (time.time() - 2 * 24 * 3600,) * 2)
    open_groups(settings(path), byte_chat(), seed=0)
    assert encoded and not stale.exists() and fresh.exists()


def test_what_was_used_longest_ago_makes_room(
    path: Path, root: Path, monkeypatch: pytest.MonkeyPatch, encoded: list[str]
) -> None:
    def opened(limit: int) -> Opened:
        encoded.clear()
        return open_groups(settings(path, limit=kept.FEW + limit), byte_chat(), seed=0)

    old = opened(1)
    (first,) = root.iterdir()
    size = sum(item.stat().st_size for item in first.iterdir())
    monkeypatch.setattr(kept, "MOST", int(2.5 * size))
    opened(2)
    for entry, age in ((first, 200), *((e, 100) for e in root.iterdir() if e != first)):
        for item in (*entry.iterdir(), entry):
            os.utime(item, (time.time() - age,) * 2)
    opened(1)  # is used again
    assert not encoded
    opened(3)
    opened(1)
    assert not encoded
    opened(2)
    assert encoded and len(list(root.iterdir())) == 2
    assert same(old.train, in_memory(monkeypatch, settings(path), byte_chat(), seed=0).train)


# --------------------------------------------------------------------------------- what is not kept, and why


def test_without_room_the_rows_are_held_in_memory_and_that_is_said(
    path: Path, tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    given: dict[str, Any] = {"seed": 0, "quarantine": tmp_path / "bad.jsonl"}
    expected = in_memory(monkeypatch, settings(path), byte_chat(), **given)
    wanted = (tmp_path / "bad.jsonl").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))  # the quarantine fits, the groups do not
    try:
        with caplog.at_level(logging.WARNING, "trueup"):
            opened = open_groups(settings(path), byte_chat(), **given)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert isinstance(opened.train, list) and same(opened.train, expected.train)
    assert (tmp_path / "bad.jsonl").read_bytes() == wanted
    assert f"encoded rows cannot be kept: {os.strerror(errno.EFBIG)}; they are held in memory" in caplog.text
    assert not list(root.iterdir())
    caplog.clear()
    (tmp_path / "taken").write_text("a file")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "taken"))
    assert isinstance(open_groups(settings(path), byte_chat(), seed=0).train, list)
    assert "encoded rows cannot be kept: Not a directory; they are held in memory" in caplog.text


def test_a_data_set_by_its_id_is_for_this_process_alone(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [json.loads(line) for line in good_lines("preference", 12)]
    monkeypatch.setattr(
        places, "hub_rows", lambda name, split: (table_row(name, i, r) for i, r in enumerate(rows, 1))
    )
    opened = open_groups(settings(Path("me/pairs"), held_out=0), byte_chat(), seed=0)
    assert isinstance(opened.train, View) and [g.id for g in opened.train] == [
        f"me/pairs:{i}" for i in range(1, 13)
    ]
    assert not list(root.iterdir())


def test_small_files_and_few_rows_are_held_in_memory(
    path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = open_groups(settings(path, limit=5, held_out=0), byte_chat(), seed=0)
    assert isinstance(few.train, list) and len(few.train) == 5
    monkeypatch.setattr(kept, "SMALL", path.stat().st_size)
    assert isinstance(open_groups(settings(path), byte_chat(), seed=0).train, list)
    assert not root.exists()
    packed = path.with_name("rows.jsonl.gz")
    packed.write_bytes(bytes(1000))
    for small, large in ((8000, False), (7999, True)):
        monkeypatch.setattr(kept, "SMALL", small)
        assert kept.too_large(str(packed), "train", None) is large


def test_errors_are_those_of_memory_and_keep_nothing(
    path: Path, tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty.jsonl").write_bytes(b"\n" * 9)
    cases = [
        settings(path, max_bad=0.01),
        settings(path, overlong="error"),
        settings(path, format="alpaca"),
        settings(path, split="../x"),
        settings(path, max_tokens=2),
        settings(tmp_path / "empty.jsonl"),
        settings(tmp_path / "none.jsonl"),
    ]
    for case in cases:
        with pytest.raises(TrueupError) as wanted:
            in_memory(monkeypatch, case, byte_chat(), seed=0, quarantine=tmp_path / "bad.jsonl")
        with pytest.raises(TrueupError) as found:
            open_groups(case, byte_chat(), seed=0, quarantine=tmp_path / "bad.jsonl")
        assert str(found.value) == str(wanted.value)
    assert not [item for item in root.iterdir() if item.name.startswith(".")]


HELD = """
import resource, sys
from pathlib import Path
from eval_stubs import byte_chat
from trueup.settings.blocks import DataSettings
from trueup.sources import kept
from trueup.sources.open import open_groups
kept.SMALL = int(sys.argv[2])
peaks = []
for limit in (kept.FEW + 1, None):
    opened = open_groups(DataSettings(path=sys.argv[1], limit=limit), byte_chat(), seed=0)
    sum(len(group.completions) for group in opened.train)
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print(peaks[1] - peaks[0])
"""


@pytest.mark.slow  # two processes that encode 80,000 rows
def test_a_large_file_takes_little_memory(tmp_path: Path) -> None:
    """Peak resident memory above that of a third of its rows, pages of the mapped file included."""
    (tmp_path / "rows.jsonl").write_bytes(b"".join(good_lines("preference", 60_000)))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parents[1])])}
    taken = [
        int(subprocess.run(
            [sys.executable, "-c", HELD, str(tmp_path / "rows.jsonl"), str(small)],
            env=environment, capture_output=True, text=True, check=True,
        ).stdout)
        for small in (0, 2**40)
    ]  # fmt: skip
    assert taken[0] < taken[1] / 4, taken
