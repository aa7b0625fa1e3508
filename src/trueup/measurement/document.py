"""What the stages found, as one document: `measure.json`, and every completion in `samples.jsonl`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trueup.behaviour.phrases import refuses
from trueup.data.words import words
from trueup.engine import disk
from trueup.engine.groups import Comparison, Group, message_to_json, read_jsonl, write_jsonl
from trueup.judges.language_model import choice_of
from trueup.measurement.plan import Asked
from trueup.measurement.trained import trained_on
from trueup.runs.done import read_done
from trueup.runs.recipe import Stage
from trueup.statistics.diversity import distinct, self_bleu, self_bleu_within
from trueup.statistics.estimates import (
    Estimate,
    best_of_n_kl_bound,
    expected_best_of_n,
    kl_estimate,
    mean_ci,
    paired_gain,
    win_rate,
)
from trueup.worlds import World

Floats = NDArray[np.float64]
RESULT, SAMPLES = "measure.json", "samples.jsonl"
CURVE_NS = (1, 2, 4, 8, 16, 32, 64)
SHOWN = 24
"Prompts whose completions the document itself holds."
OWN = ("length", "ended", "kl", "reference_nll", "entropy")
"Numbers of a stage that no judge gave."
EVEN = {"mean": 0.5, "ci95": None, "n": 0, "standard_error": 0.0}
"What a judge who compares says of the start beside itself, by definition."


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """One model's numbers by prompt and sample, and what it said."""

    name: str
    path: str
    numbers: Mapping[str, Floats]
    "[num_prompts, num_samples]"
    exams: Mapping[str, Floats]
    battles: Mapping[str, Sequence[Sequence[float | None]]]
    groups: Sequence[Group]
    cost: Mapping[str, float]


def read_found(stage: Stage, name: str, path: str) -> Found:
    """What a stage that is done has found."""
    said = json.loads((stage.folder / "measured.json").read_text(encoding="utf-8"))
    return Found(
        name=name,
        path=path,
        numbers={key: np.asarray(rows, np.float64) for key, rows in said["numbers"].items()},
        exams={key: np.asarray(rows, np.float64) for key, rows in said["exams"].items()},
        battles=said["battles"],
        groups=read_jsonl(str(stage.folder / "samples.jsonl")),
        cost=read_done(stage.folder).cost,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Measurement:
    """All models on the same prompts, and how they were asked."""

    asked: Asked
    world: World
    found: Mapping[str, Found]

    @property
    def start(self) -> Found | None:
        """What gains are over."""
        return self.found[self.asked.start[0]] if self.asked.start else None

    @property
    def truth(self) -> str | None:
        """The judge that is believed."""
        return self.world.believed() if self.world.believes else None

    @property
    def judges(self) -> list[str]:
        """The judges by name, the believed one first; the parts of a grade are among them."""
        one = next(iter(self.found.values()))
        alias = {"gold"} if self.truth in one.numbers and self.truth != "gold" else set[str]()
        named = [n for n in (*one.numbers, *self.comparing) if n not in OWN and n not in alias]
        return sorted(named, key=lambda name: name != self.truth)

    @property
    def comparing(self) -> list[str]:
        """The judges that compare and give no score: theirs is how often they prefer a model to the start."""
        return list(dict.fromkeys(n for m in self.found.values() for n in m.battles if n not in m.numbers))

    def values(self, one: Found, judge: str) -> Floats:
        """What a judge says of a model, a row a prompt; NaN where an answer could not be read.

        Of a judge who compares it is the mean of both orders against the start, whose own is ½.
        """
        if judge in one.numbers:
            return one.numbers[judge]
        if one is self.start:
            return np.full((len(one.groups), 1), 0.5)
        return np.array(one.battles[judge], np.float64).mean(1, keepdims=True)

    def trained_on(self) -> dict[str, list[str]]:
        """For each model, the judges here that it was itself trained on."""
        told = {name: trained_on(one.path, self.world) for name, one in self.found.items()}
        return {name: [j for j in self.judges if j in known] for name, known in told.items()}


def document(m: Measurement) -> dict[str, Any]:
    """The document: numbers with their intervals, plain values."""
    trained = m.trained_on()
    by = chosen_judge(m.judges, m.truth, trained)
    rows = [_row(m, one, by) for one in m.found.values()]
    behind = dict(_behind_best(m, by, rows))
    rows = [{**row, "behind_best": behind.get(row["name"])} for row in rows]
    return {
        "title": f"{', '.join(m.asked.models)} on {Path(m.world.name).name}",
        "world": m.world.name,
        "split": m.asked.split,
        "num_prompts": len(next(iter(m.found.values())).groups),
        "samples_per_prompt": max(m.asked.samples_per_prompt, m.asked.best_of),
        "max_new_tokens": m.asked.decoding.max_new_tokens,
        "margin": m.asked.margin,
        "start": m.asked.start[0] if m.asked.start else None,
        "truth": m.truth,
        "by": by,
        "judges": m.judges,
        "comparing": m.comparing,
        "chosen_by": _chooser(m, by),
        "trained_on": trained,
        "models": rows,
        "samples": list(_shown(m)),
    }


def _chooser(m: Measurement, by: str | None) -> str | None:
    """The judge by which the best of n are chosen: the one that orders the models, if it scores."""
    scored = [name for name in m.judges if name not in m.comparing]
    return next(iter(name for name in (by, *scored) if name in scored), None)


def write(folder: Path, m: Measurement, said: Mapping[str, Any]) -> None:
    """Nothing; the folder holds `measure.json` and `samples.jsonl`."""
    disk.write(folder / RESULT, json.dumps(said, indent=1, ensure_ascii=False) + "\n")
    write_jsonl(str(folder / SAMPLES), side_by_side(m))


def chosen_judge(
    judges: Sequence[str], truth: str | None, trained: Mapping[str, Sequence[str]]
) -> str | None:
    """The judge by whom models are ordered: the believed one, else the first that trained none of them."""
    if truth in judges:
        return truth
    free = [name for name in judges if not any(name in known for known in trained.values())]
    return next(iter([*free, *judges]), None)


def side_by_side(m: Measurement) -> Iterator[Group]:
    """Each prompt once, with every model's completions, which name it, their scores, and who was preferred.

    Judges compare a model's first completion with the start's, which is the first of all.
    """
    for place, same in enumerate(zip(*(one.groups for one in m.found.values()), strict=True)):
        completions, scores, games = [], [], []
        for (name, one), group in zip(m.found.items(), same, strict=True):
            mine = len(completions)
            scores += [replace(s, completion=s.completion + mine) for s in group.scores]
            games += [
                game for judge, rows in one.battles.items() for game in _games(judge, rows[place], mine)
            ]
            completions += [replace(c, source=name) for c in group.completions]
        yield replace(same[0], completions=tuple(completions), scores=tuple(scores), comparisons=tuple(games))


def _games(judge: str, verdict: Sequence[float | None], mine: int) -> Iterator[Comparison]:
    """A look in each order at the completion at `mine` and the start's; none where one could not be read."""
    if None in verdict or not mine:
        return
    for p, shown in zip(verdict, ((mine, 0), (0, mine)), strict=True):
        assert p is not None
        yield Comparison(a=mine, b=0, choice=choice_of(p), shown=shown, labeler=judge)


def _row(m: Measurement, one: Found, by: str | None) -> dict[str, Any]:
    scored = [name for name in m.judges if name in one.numbers]
    start = m.start if m.start is not one else None
    told = {name: judged(rows) for name, rows in one.battles.items() if any(None not in r for r in rows)}
    nll = one.numbers.get("reference_nll")
    row: dict[str, Any] = {
        "name": one.name,
        "path": one.path,
        "scores": {name: _mean(one.numbers[name]).to_json() for name in scored},
        "unread": {name: unread for name, rows in one.battles.items() if (unread := _unread(rows))},
        "kl": kl_estimate(one.numbers["kl"]).to_json() if "kl" in one.numbers else None,
        "perplexity": None if nll is None else _exponential(mean_ci(nll)).to_json(),
        "length": mean_ci(one.numbers["length"]).to_json(),
        "ended": _mean(one.numbers["ended"]).to_json(),
        "refused": _mean([[float(refuses(c.text)) for c in g.completions] for g in one.groups]).to_json(),
        "diversity": _diversity(one, m.asked.samples_per_prompt),
        "exams": {name: _mean(values).to_json() for name, values in one.exams.items()},
        "curve": list(_curve(one, scored, _chooser(m, by), m.asked.best_of)),
        "matrix": {
            o.name: _won(one, o, by, m.asked.margin)
            for o in m.found.values()
            if o is not one and by in o.numbers
        },
        "cost": {name: one.cost.get(name, 0.0) for name in ("tokens_sampled", "seconds")},
        "gain": {},
        "battles": {},
        "tax": {},
    }
    if start is not None:
        row["gain"] = {n: paired_gain(one.numbers[n], start.numbers[n]).to_json() for n in scored}
        row["battles"] = {n: battle(one.numbers[n], start.numbers[n], m.asked.margin) for n in scored}
        row["battles"] = {n: fought for n, fought in row["battles"].items() if n not in one.battles} | told
        row["tax"] = {
            name: paired_gain(values, start.exams[name]).to_json()
            for name, values in one.exams.items()
            if name in start.exams
        }
    for name in m.comparing:
        row["scores"] |= {name: told[name]["win_rate"]} if name in told else {}
        row["gain"] |= {name: _over_even(told[name]["win_rate"])} if name in told else {}
        row["scores"] |= {name: EVEN} if one is m.start else {}
    return row


def _over_even(rate: Mapping[str, Any]) -> dict[str, Any]:
    """A win rate less the ½ of two that are alike."""
    interval = rate["ci95"] and [end - 0.5 for end in rate["ci95"]]
    return {**rate, "mean": rate["mean"] - 0.5, "ci95": interval}


def _unread(rows: Sequence[Sequence[float | None]]) -> int:
    return sum(None in row for row in rows)


def _behind_best(
    m: Measurement, by: str | None, rows: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """For every model but the best: the best one's scores less its own, paired by prompt."""
    if by is None:
        return
    scores = {name: m.values(one, by) for name, one in m.found.items()}
    scores = {name: values for name, values in scores.items() if not np.isnan(values).all()}
    best = max(scores, key=lambda name: np.nanmean(scores[name]), default=None)
    gain = {row["name"]: row["gain"].get(by) for row in rows}
    for name, own in scores.items():
        if best is None or name == best:
            continue
        if by in m.comparing and m.start and m.start.name in (best, name):
            # A verdict is on the two at once: its interval is that of the win rate.
            yield name, gain[best] if name == m.start.name else _negative(gain[name])
            continue
        both = ~np.isnan(scores[best] + own).any(1)
        if both.any():
            yield name, paired_gain(scores[best][both], own[both]).to_json()


def _negative(row: Mapping[str, Any]) -> dict[str, Any]:
    interval = row["ci95"] and [-end for end in reversed(row["ci95"])]
    return {**row, "mean": -row["mean"], "ci95": interval}


def battle(a: Floats, b: Floats, margin: float = 0.0) -> dict[str, Any]:
    """Shares of wins, ties and losses of `a` over `b`, [num_prompts, num_samples] each, and the win rate.

    Every sample of a prompt meets every one of the other; scores within `margin` tie: half a win.
    """
    gap = a[:, :, None] - b[:, None, :]
    win, lose = gap > margin, gap < -margin
    rate = win_rate(0.5 + 0.5 * (win.mean((1, 2)) - lose.mean((1, 2)))).estimate
    shares = {"win": float(win.mean()), "tie": float((~win & ~lose).mean()), "lose": float(lose.mean())}
    return {**shares, "win_rate": rate.to_json()}


def judged(rows: Sequence[Sequence[float | None]]) -> dict[str, Any]:
    """The same from verdicts in both orders; a prompt whose answer could not be read in one is left out.

    A prompt is won where the choices of both orders favour `a`, or one does and the other is even; where they
    differ it is a tie, as in a battle. The win rate is the mean of the probabilities themselves.
    """
    read = np.array([row for row in rows if None not in row], np.float64)
    choice = np.sign(read - 0.5).sum(1)
    found = win_rate(read[:, 0], 1.0 - read[:, 1])
    shares = {"win": choice > 0, "tie": choice == 0, "lose": choice < 0}
    return {
        **{name: float(held.mean()) for name, held in shares.items()},
        "win_rate": found.estimate.to_json(),
        "inconsistent": found.inconsistent,
        "unread": _unread(rows),
    }


def _won(one: Found, other: Found, by: str | None, margin: float) -> dict[str, Any]:
    assert by is not None
    return battle(one.numbers[by], other.numbers[by], margin)["win_rate"]


def _mean(values: Any) -> Estimate:
    """The mean over prompts: of yes and no Agresti and Coull's interval, of other numbers the t one.

    Numbers that are all the same have the interval of a gain of as much over nothing: never a width of 0.
    """
    x = np.asarray(values, np.float64)
    if np.isin(x, (0.0, 1.0)).all():
        return win_rate(x.mean(1) if x.ndim == 2 else x).estimate
    return paired_gain(x, np.zeros_like(x))


def _exponential(e: Estimate) -> Estimate:
    """exp of an estimate, its interval carried over; the standard error to first order."""
    mean = math.exp(e.mean)
    ends = {"low": math.exp(e.low), "high": math.exp(e.high), "standard_error": mean * e.standard_error}
    return replace(e, mean=mean, **ends)


def _diversity(one: Found, samples: int) -> dict[str, Any]:
    texts = [[words(c.text) for c in g.completions] for g in one.groups]
    few = [row[:samples] for row in texts]
    found = {
        "distinct_1": distinct(few, 1),
        "distinct_2": distinct(few, 2),
        "self_bleu": self_bleu(few),
        "self_bleu_within": self_bleu_within(texts),
        "entropy": mean_ci(one.numbers["entropy"]),
    }
    return {name: value and value.to_json() for name, value in found.items()}


def _curve(one: Found, scored: Sequence[str], by: str | None, best_of: int) -> Iterator[dict[str, Any]]:
    if best_of < 2 or by is None or by not in one.numbers:
        return
    chooser = one.numbers[by]
    curves = {name: expected_best_of_n(one.numbers[name], chooser) for name in scored}
    for n in sorted({n for n in CURVE_NS if n < best_of} | {best_of}):
        estimates = {name: mean_ci(rows[:, n - 1]).to_json() for name, rows in curves.items()}
        yield {"n": n, "kl_bound": best_of_n_kl_bound(n), **estimates}


def _shown(m: Measurement) -> Iterator[dict[str, Any]]:
    for place, first in enumerate(next(iter(m.found.values())).groups[:SHOWN]):
        replies = {
            name: {
                "text": one.groups[place].completions[0].text,
                "scores": {n: float(one.numbers[n][place, 0]) for n in m.judges if n in one.numbers},
            }
            for name, one in m.found.items()
        }
        yield {"prompt": [message_to_json(message) for message in first.prompt], "replies": replies}
