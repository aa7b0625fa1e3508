"""Finished runs that something happened to: what, which command meets it, and how that ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from hostile.folders import all_of, change, cut, holding, link, pipe, without
from hostile.inputs import TRAIN

Spoil = Callable[[Path], object]
AGAIN, USE, SEND = TRAIN, ("generate", "o", "hi", "--max-new-tokens", "1"), ("export", "o", "out")
SHOW, CITE = ("report", "o"), ("cite", "o")
W, M = "model/model.safetensors", "model/trueup_manifest.json"


def flip(name: str, at: float) -> Spoil:
    """Turns one bit round."""

    def spoil(run: Path) -> None:
        data = bytearray((run / name).read_bytes())
        data[int(len(data) * at)] ^= 1
        (run / name).write_bytes(data)

    return spoil


def done(**changes: object) -> Spoil:
    """Changes keys of DONE.json."""
    return lambda run: change(run / "DONE.json", changes)


def gone(run: Path) -> None:
    """The model is there no more."""
    (run / "model").rename(run / "elsewhere")


def forged(run: Path) -> None:
    """A manifest that names a file above, with a hash of itself that is right."""
    from trueup.settings import sealed

    said = json.loads((run / M).read_text())
    said["files"]["../DONE.json"] = said["files"]["config.json"]
    said["sha256"] = sealed._own_hash(said)
    (run / M).write_text(json.dumps(said))


RUNS: dict[str, tuple[Spoil, tuple[tuple[str, ...], ...], str]] = {
    # DONE.json.
    "DONE of 0 bytes": (holding("DONE.json", b""), (AGAIN,), "E854"),
    "DONE that is no JSON": (holding("DONE.json", b"\xff{"), (AGAIN,), "E854"),
    "DONE cut short": (cut("DONE.json", 0.5), (AGAIN,), "E854"),
    "DONE that is a list": (holding("DONE.json", b"[]"), (AGAIN,), "E854"),
    "DONE that is {}": (holding("DONE.json", b"{}"), (AGAIN,), "E860"),
    "DONE without end": (holding("DONE.json", b"[" * 9999), (AGAIN,), "E854"),
    "DONE with a key more": (done(more=1), (AGAIN,), "E860"),
    "DONE whose output is a number": (done(output=7), (AGAIN,), "E860"),
    "DONE whose output lies above": (done(output="../../x"), (AGAIN,), "E771"),
    "DONE whose output is a place of the system": (done(output="/etc"), (AGAIN,), "E771"),
    "DONE whose output is not there": (done(output="other"), (AGAIN,), "E861"),
    "DONE that publishes a file above": (done(publish=["../x"]), (AGAIN,), "E771"),
    "DONE that publishes text": (done(publish="abc"), (AGAIN,), "E860"),
    "DONE that publishes what is not there": (done(publish=["x.html"]), (AGAIN,), "E861"),
    "DONE of metrics in words": (done(metrics={"loss": "low"}), (AGAIN,), "E860"),
    "DONE of a list of costs": (done(cost=[1]), (AGAIN,), "E860"),
    "DONE of a method that is no name": (done(method=["sft"]), (AGAIN,), "E860"),
    "DONE of a method that is not known": (done(method="../x"), (CITE, SEND), "E702"),
    # The model.
    "a model that is gone": (gone, (AGAIN,), "E861"),
    "a model that is gone, sent": (gone, (SEND,), "E847"),
    "a bit of the weights": (flip(W, 0.9), (AGAIN, USE, SEND), "E853"),
    "a bit of the header": (flip(W, 0.001), (AGAIN, USE, SEND), "E853"),
    "weights cut short": (cut(W, 0.9), (AGAIN, USE, SEND), "E853"),
    "weights with a byte more": (
        lambda run: (run / W).write_bytes((run / W).read_bytes() + b"\0"), (AGAIN, USE, SEND), "E853",
    ),
    "weights that are gone": (without(W), (AGAIN, USE, SEND), "E853"),
    "a template that was changed": (
        lambda run: (run / "model/chat_template.jinja").write_text("{{ 1 }}"), (AGAIN, USE, SEND), "E853",
    ),
    "a configuration that was changed": (
        lambda run: change(run / "model/config.json", {"rope_theta": 9.0}), (AGAIN, USE, SEND), "E853",
    ),
    "an index that joined the weights": (
        holding("model/model.safetensors.index.json", b'{"weight_map": {}}'), (AGAIN, USE, SEND), "E853",
    ),
    "weights behind a named pipe": (pipe(W), (AGAIN, USE, SEND), "E853"),
    "weights from a device": (link(W, "/dev/zero"), (AGAIN, USE, SEND), "E853"),
    "a manifest of 0 bytes": (holding(M, b""), (AGAIN, USE, SEND), "E853"),
    "a manifest that is a list": (holding(M, b"[]"), (AGAIN, USE, SEND), "E853"),
    "a manifest that was changed": (lambda run: change(run / M, {"files": {}}), (AGAIN, USE, SEND), "E853"),
    "a manifest of names above": (forged, (AGAIN, USE, SEND), "E853"),
    "a manifest of a later version": (lambda run: change(run / M, {"format": 9}), (AGAIN, USE, SEND), "E843"),
    "a manifest behind a named pipe": (pipe(M), (AGAIN, USE, SEND), "E853"),
    "a manifest that was taken away": (without(M), (AGAIN, USE, SEND), ""),
    # What else lies in the folder.
    "data.json of garbage": (holding("data.json", b"\xff"), (AGAIN, SEND), "E854"),
    "data.json that is a list": (holding("data.json", b"[]"), (AGAIN, SEND), "E854"),
    "data.json without counts": (holding("data.json", b"{}"), (AGAIN,), "E854"),
    "held_out.json of garbage": (holding("held_out.json", b"{"), (AGAIN,), "E854"),
    "held_out.json of numbers": (holding("held_out.json", b'{"loss": 7}'), (AGAIN,), "E854"),
    "warnings.json of garbage": (holding("warnings.json", b"{"), (AGAIN,), "E854"),
    "warnings.json of numbers": (holding("warnings.json", b"[7]"), (AGAIN,), "E854"),
    "inputs.json of garbage": (holding("inputs.json", b"[]"), (SEND, SHOW), "E854"),
    "inputs.json of numbers": (holding("inputs.json", b'{"data": 7}'), (SEND, SHOW), "E854"),
    "settings of garbage": (holding("config.resolved.yaml", b"\xff"), (SEND, SHOW), "E710"),
    "settings that are a list": (holding("config.resolved.yaml", b"- 1"), (SEND, SHOW), "E710"),
    "settings behind a named pipe": (pipe("config.resolved.yaml"), (USE,), ""),
    "metrics of garbage": (holding("metrics.jsonl", b"\xff\n"), (SHOW,), "E841"),
    "metrics of words": (holding("metrics.jsonl", b'{"step": 1, "loss": {"a": 1}}\n'), (SHOW,), ""),
    "metrics nested without end": (holding("metrics.jsonl", b"[" * 9999 + b"\n"), (SHOW,), "E841"),
    "metrics behind a named pipe": (pipe("metrics.jsonl"), (SHOW,), ""),
    "timings of garbage": (holding("timings.jsonl", b"7\n"), (SHOW, SEND), "E841"),
    "timings of words": (holding("timings.jsonl", b'{"step": 1, "seconds": "long"}\n'), (SEND,), "E841"),
    "summary of garbage": (holding("summary.json", b"\xff"), (SHOW,), "E822"),
    "summary of numbers": (holding("summary.json", b'{"policies": 7}'), (SHOW,), "E822"),
    "samples of numbers": (holding("samples.json", b"[7]"), (SHOW,), "E822"),
    "a model that leads out of the run": (
        all_of(gone, lambda run: (run / "model").symlink_to("/etc")), (AGAIN,), "E771",
    ),
}  # fmt: skip
"What happened to the run's folder `o`, the commands that meet it, and the code;  where it is no error."
