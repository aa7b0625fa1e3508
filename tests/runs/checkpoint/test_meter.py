"""Metrics files keep true values and the same bytes whatever happened; trackers and the progress display."""

from __future__ import annotations

import io
import json
import math
import os
import signal
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trueup.errors import TrueupError
from trueup.runs import signals
from trueup.runs.meter import METRICS, TIMINGS, Cost, Meter, progress, read


class Clock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def line(step: int) -> dict[str, float]:
    return {"loss": 1 / (step + 3), "accuracy": step / 7}


def test_values_come_back_to_the_last_bit(tmp_path: Path) -> None:
    meter = Meter(tmp_path)
    values = {"a": 0.1 + 0.2, "b": 1e-310, "c": -0.0, "d": 123456789.123456789}
    meter.write(1, values)
    row = read(tmp_path / METRICS)[0]
    assert row == {"step": 1, "phase": "train", **values}
    assert math.copysign(1, row["c"]) == -1


def test_numbers_that_are_not_finite_are_kept(tmp_path: Path) -> None:
    meter = Meter(tmp_path)
    meter.write(1, {"loss": math.nan, "norm": math.inf, "low": -math.inf})
    text = (tmp_path / METRICS).read_text()
    assert json.loads(text) == {"step": 1, "phase": "train", "loss": "nan", "norm": "inf", "low": "-inf"}
    row = read(tmp_path / METRICS)[0]
    assert math.isnan(row["loss"])
    assert (row["norm"], row["low"]) == (math.inf, -math.inf)


def test_a_resumed_run_has_the_bytes_of_one_that_was_not_interrupted(tmp_path: Path) -> None:
    whole = Meter(tmp_path / "whole")
    for step in range(1, 8):
        whole.write(step, line(step))
        whole.write(step, {"loss": step}, phase="eval")
    expected = (tmp_path / "whole" / METRICS).read_bytes()
    for stop in range(1, 8):
        for resume in range(stop + 1):
            folder = tmp_path / f"{stop}-{resume}"
            first = Meter(folder)
            for step in range(1, stop + 1):
                first.write(step, line(step))
                first.write(step, {"loss": step}, phase="eval")
            with (folder / METRICS).open("ab") as file:
                file.write(b'{"step": 9, "phase"')
            second = Meter(folder)
            second.truncate_after(resume)
            for step in range(resume + 1, 8):
                second.write(step, line(step))
                second.write(step, {"loss": step}, phase="eval")
            second.sync()
            assert (folder / METRICS).read_bytes() == expected


def test_key_order_of_the_caller_plays_no_part(tmp_path: Path) -> None:
    Meter(tmp_path / "a").write(1, {"x": 1.0, "y": 2.0})
    Meter(tmp_path / "b").write(1, {"y": 2.0, "x": 1.0})
    assert (tmp_path / "a" / METRICS).read_bytes() == (tmp_path / "b" / METRICS).read_bytes()


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    meter = Meter(tmp_path)
    meter.write(1, line(1))
    with (tmp_path / METRICS).open("ab") as file:
        file.write(b"\x00\x00\n")
    meter.write(2, line(2))
    with pytest.raises(TrueupError, match=r"E841 .*metrics\.jsonl:2"):
        meter.truncate_after(1)


def test_reserved_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TrueupError, match=r"E942 .*'step'"):
        Meter(tmp_path).write(1, {"step": 3.0})


def test_cost_adds_up_over_resumptions(tmp_path: Path) -> None:
    clock = Clock()
    meter = Meter(tmp_path, clock=clock)
    clock.now += 2
    assert meter.spend(1, tokens_trained=100, tokens_sampled=20).seconds == 2
    clock.now += 3
    meter.spend(2, tokens_trained=200, tokens_sampled=40)
    last = read(tmp_path / TIMINGS)[-1]
    assert (last["step_seconds"], last["tokens_per_second"], last["seconds"]) == (3, 40, 5)
    assert last["peak_mib"] > 1

    clock.now += 1000
    again = Meter(tmp_path, clock=clock)
    again.truncate_after(1)
    assert (again.cost.seconds, again.cost.tokens_trained) == (5, 100)
    clock.now += 4
    cost = again.spend(2, tokens_trained=200, tokens_sampled=40)
    # 5 s before the interruption, of which 3 are done again in 4 s: all 9 were spent.
    assert cost == Cost(tokens_trained=200, tokens_sampled=40, seconds=9, peak_mib=cost.peak_mib)
    assert [r["step"] for r in read(tmp_path / TIMINGS)] == [1, 2]
    assert read(tmp_path / TIMINGS)[-1]["tokens_per_second"] == 30


# ------------------------------------------------------------------------------------------ trackers


class Recorder(types.ModuleType):
    """A package that notes how it was called."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    info = types.SimpleNamespace(run_id="7")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*args: Any, **kwargs: Any) -> Recorder:
            self.calls.append((name, args, kwargs))
            return self

        return call


@pytest.mark.parametrize("name", ["wandb", "trackio", "mlflow"])
def test_trackers_send_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    package = Recorder(name)
    monkeypatch.setitem(sys.modules, name, package)
    meter = Meter(tmp_path / "one", ("jsonl", name))
    meter.write(3, {"loss": 0.5})
    meter.write(3, {"loss": 0.7}, phase="eval")
    meter.close()
    calls = package.calls
    assert len(calls) == 4, "start, two lines, end"
    names = [str(value) for value in calls[0][2].values()]
    assert any(name.startswith("one") for name in names), "the run has the directory's name"
    assert [(c[1][0], c[2]) for c in calls[1:3]] == [
        ({"loss": 0.5}, {"step": 3}),
        ({"eval/loss": 0.7}, {"step": 3}),
    ]


def test_runs_of_one_name_in_two_places_are_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = Recorder("wandb")
    monkeypatch.setitem(sys.modules, "wandb", package)
    for folder in ("a/sft", "b/sft", "a/sft"):
        Meter(tmp_path / folder, ("wandb",))
    ids = [kwargs["id"] for _, _, kwargs in package.calls]
    assert ids[0] == ids[2] != ids[1]


def test_tensorboard_reads_back(tmp_path: Path) -> None:
    loading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    meter = Meter(tmp_path, ("tensorboard",))
    for step in (1, 2):
        meter.write(step, {"loss": step / 4})
    meter.close()
    events = loading.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(1, 0.25), (2, 0.5)]
    assert len(read(tmp_path / METRICS)) == 2


def test_a_missing_package_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(TrueupError, match="pip install wandb") as caught:
        Meter(tmp_path, ("wandb",))
    assert caught.value.exit_code == 69


def test_an_unknown_tracker_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrueupError, match=r"E731 .*'wnadb'.*tensorboard"):
        Meter(tmp_path, ("wnadb",))


# ------------------------------------------------------------------------------------------ progress


def test_plain_lines_come_at_a_modest_rate_and_at_the_end() -> None:
    clock, stream = Clock(), io.StringIO()
    with progress(50, "sft", stream=stream, clock=clock) as advance:
        for step in range(50):
            clock.now += 1
            advance(note=f"loss {step}")
    assert stream.getvalue().splitlines() == [
        "sft 10/50  1/s, 40 s left  loss 9",
        "sft 20/50  1/s, 30 s left  loss 19",
        "sft 30/50  1/s, 20 s left  loss 29",
        "sft 40/50  1/s, 10 s left  loss 39",
        "sft 50/50  50.0 s  loss 49",
    ]


def test_a_resumed_display_starts_where_the_run_does_and_ends_on_errors() -> None:
    clock, stream = Clock(), io.StringIO()
    with pytest.raises(ValueError, match="stop"), progress(9, "x", done=5, stream=stream, clock=clock) as go:
        clock.now += 10
        go(2, "")
        raise ValueError("stop")
    with progress(9, "y", stream=stream, clock=clock) as go:
        clock.now += 10
        go(2, before=5)
    assert stream.getvalue().splitlines() == [
        "x 7/9  0.2/s, 10 s left",
        "x 7/9  10.0 s",
        "y 7/9  0.2/s, 10 s left",
        "y 7/9  10.0 s",
    ]


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    with progress(3, "dpo", stream=stream) as advance:
        for _ in range(3):
            advance(note="loss 0.5")
    assert "dpo" in stream.getvalue()
    assert "3/3" in stream.getvalue()
    assert "loss 0.5" in stream.getvalue()


# ------------------------------------------------------------------------------------------ signals


@pytest.fixture(autouse=True)
def handlers_restored() -> Iterator[None]:
    before = [signal.getsignal(s) for s in signals.CAUGHT]
    yield
    assert [signal.getsignal(s) for s in signals.CAUGHT] == before


@pytest.mark.parametrize("number", signals.CAUGHT)
def test_a_signal_is_a_request(number: signal.Signals) -> None:
    with signals.stop_requests() as stop_requested:
        assert stop_requested() == ""
        os.kill(os.getpid(), number)
        assert stop_requested() == number.name
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop_requested() == number.name, "the first one counts, a second changes nothing"


def test_the_third_interrupt_ends_at_once() -> None:
    with signals.stop_requests() as stop_requested:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        assert stop_requested() == "SIGINT"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_other_threads_get_no_requests() -> None:
    heard: list[str] = []

    def work() -> None:
        with signals.stop_requests() as stop_requested:
            heard.append(stop_requested())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert heard == [""]
