"""The page of a watch: made here whole, and in parts that a browser fetches while it is open.

It is complete without a script. A part is drawn again only when something it shows has changed.
"""

from __future__ import annotations

import json
import math
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from trueup.errors import TrueupError
from trueup.reports import svg
from trueup.reports.charts import Line, curves_chart
from trueup.reports.numbers import plain
from trueup.reports.page import page, write_page
from trueup.reports.visible import visible
from trueup.watching import told
from trueup.watching.glossary import ORDER, importance, kind_of, meaning
from trueup.watching.run import Run, RunLook
from trueup.watching.stage import Look, Sampled

ROOM = "trueup.watching"
MOST_CURVES = 36
MOST_TRACKS = 10
"Runs drawn over one another; there are as many colours."
SLOTS = (2, 4, 5, 3, 6, 7, 9, 8, 1, 0)
"Colour and shape of each, in order; the first five differ in shape too."
OFTEN = 0.5
"Seconds for which one look at the files serves everybody who asks."
SHARE = 0.02
"Of one core, that drawing takes at most."
PARTS: tuple[str, ...] = ("headline", "runs", "curves", "held", "samples")


@dataclass(frozen=True, kw_only=True)
class Track:
    """One training run on the page, with its colour and shape."""

    name: str
    slot: int
    look: Look
    run: RunLook

    @property
    def swatch(self) -> Markup:
        """Its mark."""
        return svg.swatch(self.slot)


@dataclass(frozen=True, kw_only=True)
class Chart:
    """The curves of one number, and what stands above them."""

    name: str
    meaning: str
    latest: Sequence[tuple[Track, Sequence[str]]]
    "Of each run its last values, those that are held out named."
    lost: int
    "How many values were not finite."
    drawing: Markup


@dataclass(frozen=True, kw_only=True)
class _Drawn:
    key: Any
    html: str
    until: float
    "When it may be drawn again."


@dataclass(frozen=True, kw_only=True)
class _Shown:
    parts: dict[str, str]
    title: str
    status: str
    runs: list[dict[str, Any]]
    until: float
    "How long it serves whoever asks."


class Watch:
    """Some folders that are watched, and the page of what they show."""

    def __init__(
        self,
        folders: Sequence[Path],
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises E862 for what is there and is no folder."""
        for folder in folders:
            if folder.exists() and not folder.is_dir():
                remedy = "name the folder of a run, not a file in it"
                raise TrueupError("E862", "not a folder", where=str(folder), remedy=remedy)
        names = [folder.resolve().name for folder in folders]
        self._runs = [
            Run(folder, name if names.count(name) == 1 else str(folder))
            for folder, name in zip(folders, names, strict=True)
        ]
        self._now, self._clock = now, clock
        self._drawn: dict[str, _Drawn] = {}
        self._now_shown: _Shown | None = None

    def look(self) -> list[RunLook]:
        """What the folders show now."""
        return [run.look(self._now) for run in self._runs]

    def look_through(self) -> list[RunLook]:
        """What the folders show now, every line of long files read."""
        looks = self.look()
        while any(look.unread for run in looks for look in run.shown):
            looks = self.look()
        return looks

    def parts(self, looks: Sequence[RunLook]) -> dict[str, str]:
        """The HTML of each part of the page."""
        tracks = _tracks(looks)
        made: dict[str, Callable[[], str]] = {
            "headline": lambda: page("headline.html.j2", room=ROOM, said=told.headline(looks)),
            "runs": lambda: _runs(looks, tracks),
            "curves": lambda: _curves(tracks),
            "held": lambda: _held_out(tracks),
            "samples": lambda: _samples(tracks),
        }
        key = tuple((track.name, track.look.folder_id, track.look.age, track.look.state) for track in tracks)
        return {name: self._kept(name, key, make) for name, make in made.items()}

    def _kept(self, name: str, key: Any, make: Callable[[], str]) -> str:
        """A part: of what the lines of files alone decide, what was drawn before, until more have come.

        Even then it is drawn again only once `SHARE` allows: what is watched needs the processor itself.
        """
        if name not in ("curves", "held"):
            return make()
        drawn = self._drawn.get(name)
        now = self._clock()
        if drawn is None or (drawn.key != key and now >= drawn.until):
            began = time.thread_time()
            html = make()
            rest = (time.thread_time() - began) / SHARE
            self._drawn[name] = drawn = _Drawn(key=key, html=html, until=now + rest)
        return drawn.html

    def page(self, *, live: bool) -> str:
        """The whole page: with the script that keeps it fresh, or as a file by itself."""
        shown = self._often() if live else self._shown(self.look_through())
        parts = {name: Markup(html) for name, html in shown.parts.items()}
        return page(
            "watch.html.j2",
            room=ROOM,
            live=live,
            parts=parts,
            status=shown.status,
            title=shown.title,
            headline="",
            details=(),
        )

    def _shown(self, looks: Sequence[RunLook]) -> _Shown:
        return _Shown(
            parts=self.parts(looks),
            title=told.headline(looks),
            status=told.status(looks),
            runs=self.numbers(looks),
            until=self._clock() + OFTEN,
        )

    def _often(self) -> _Shown:
        """What is shown: that of a moment ago, whoever asked for it, or what is found at a new look."""
        if self._now_shown is None or self._clock() >= self._now_shown.until:
            self._now_shown = self._shown(self.look())
        return self._now_shown

    def write(self, out: Path) -> Path:
        """The path of the page as the folders are now: one file that needs nothing else."""
        return write_page(self.page(live=False), out)

    def screen(self) -> str:
        """What is seen first, as a piece of HTML for a notebook."""
        looks = self.look_through()
        parts = {name: Markup(html) for name, html in self.parts(looks).items()}
        return page("glance.html.j2", room=ROOM, said=told.headline(looks), parts=parts)

    def numbers(self, looks: Sequence[RunLook] | None = None) -> list[dict[str, Any]]:
        """The state of each training run on the page, and its last numbers in full."""
        return [_numbers(track) for track in _tracks(self.look_through() if looks is None else looks)]

    def news(self, have: str) -> str:
        """JSON for the script: the states, the numbers, and the parts that are others than it has."""
        shown = self._often()
        marks = {n: f"{zlib.crc32(html.encode('utf-8', 'replace')):08x}" for n, html in shown.parts.items()}
        known: dict[str, str] = dict(zip(PARTS, have.split("."), strict=False))
        document = {
            "have": ".".join(marks[name] for name in PARTS),
            "title": visible(shown.title),
            "status": visible(shown.status),
            "runs": shown.runs,
            "parts": {name: html for name, html in shown.parts.items() if known.get(name) != marks[name]},
        }
        return json.dumps(document, ensure_ascii=False)


def _tracks(looks: Sequence[RunLook]) -> list[Track]:
    shown = [(run, look) for run in looks for look in run.shown]
    several = len(looks) > 1

    def name(run: RunLook, look: Look) -> str:
        return f"{run.name} / {look.name}" if several and run.are else look.name

    return [
        Track(name=name(run, look), slot=SLOTS[place % len(SLOTS)], look=look, run=run)
        for place, (run, look) in enumerate(shown[:MOST_TRACKS])
    ]


def _numbers(track: Track) -> dict[str, Any]:
    """A run's state and its last numbers, in full."""
    look, phases = track.look, dict.fromkeys(phase for _, phase in track.look.series)
    return {
        "name": track.name,
        "state": look.state,
        "step": look.step,
        "steps": look.steps,
        "seconds_left": look.remaining and look.remaining.seconds,
        "metrics": {
            phase: {n: v if math.isfinite(v) else str(v) for n, v in look.last(phase).items()}
            for phase in phases
        },
    }


def _runs(looks: Sequence[RunLook], tracks: Sequence[Track]) -> str:
    costs = [(track.name, track.look.cost) for track in tracks if track.look.cost]
    return page("runs.html.j2", room=ROOM, runs=looks, tracks=tracks, told=told, costs=costs)


def _curves(tracks: Sequence[Track]) -> str:
    names = sorted({name for track in tracks for name, _ in track.look.series}, key=importance)
    charts = [(name, chart) for name in names if (chart := _chart(name, tracks)) is not None]
    kinds = {kind: [c for name, c in charts[:MOST_CURVES] if kind_of(name) == kind] for kind in ORDER}
    phases = {phase for track in tracks for _, phase in track.look.series}
    return page(
        "curves.html.j2", room=ROOM, kinds={kind: found for kind, found in kinds.items() if found},
        left_out=[name for name, _ in charts[MOST_CURVES:]], tracks=tracks, held_out="eval" in phases,
    )  # fmt: skip


def _chart(name: str, tracks: Sequence[Track]) -> Chart | None:
    """A number of all the runs that log it; None where it was never finite."""
    lines: list[Line] = []
    latest: list[tuple[Track, list[str]]] = []
    lost = 0
    for track in tracks:
        found = {phase: s for (own, phase), s in track.look.series.items() if own == name}
        found = dict(sorted(found.items(), key=lambda pair: (pair[0] != "train", pair[0])))
        values = [" ".join((*_phase(phase), _finite(s.latest))) for phase, s in found.items()]
        latest += [(track, values)] if values else []
        lost += sum(s.lost for s in found.values())
        for phase, series in found.items():
            called = " ".join((*([track.name] if len(tracks) > 1 else ()), *_phase(phase)))
            style = "curve" if phase == "train" else "curve broken"
            lines += [Line(points, track.slot, called, style)] if (points := series.points) else []
    if not lines:
        return None
    said = "; ".join(
        f"{line.name + ' ' if line.name else ''}{plain(line.points[-1][1])} at step {line.points[-1][0]:g}"
        for line in lines
    )
    drawing = curves_chart(lines, description=f"{name} over the steps: {said}")
    return Chart(name=name, meaning=meaning(name), latest=latest, lost=lost, drawing=drawing)


def _phase(phase: str) -> tuple[str, ...]:
    return {"train": (), "eval": ("held out",)}.get(phase, (phase,))


def _finite(value: float) -> str:
    return plain(value) if math.isfinite(value) else str(value)


def _held_out(tracks: Sequence[Track]) -> str:
    """Of each held-out number the first and the last value, and the finished model's with its interval."""
    tables = []
    for track in tracks:
        series = {name: s for (name, phase), s in track.look.series.items() if phase == "eval"}
        names = sorted({*series, *track.look.held_out}, key=importance)
        found = [(name, series.get(name), told.estimate(track.look.held_out.get(name))) for name in names][
            :100
        ]
        tables.append((track, found)) if found else None
    return page("held.html.j2", room=ROOM, tables=tables)


def _samples(tracks: Sequence[Track]) -> str:
    found = [(track, [(s.prompt, _chosen(s)) for s in track.look.samples]) for track in tracks]
    return page("samples_live.html.j2", room=ROOM, found=[pair for pair in found if pair[1]])


def _chosen(sampled: Sampled) -> list[tuple[int, str, float | None]]:
    """What was said first, before last, and last."""
    said = sorted(sampled.said)
    return [*said[:1], *said[1:][-2:]]
