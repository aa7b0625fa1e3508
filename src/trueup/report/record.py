"""What a run directory says of itself, read once and checked, for the report.

Every file is optional. What is not there is named in `RunRecord.missing`; nothing is made up in its place.

    summary.json                  the policies, their numbers, the reward model, versions
    curves.json                   learning curves by stage; those not in it come from the stages' folders
    frontier.json                 gold and proxy reward against KL along training and along n
    samples.json                  dialogues, every policy's completion side by side
    settings.json                 the resolved configuration of every stage; else that of the stages' folders
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from trueup.errors import TrueupError
from trueup.report.stages import COST_FIELDS, Points, StageRecord, read_stages, series

Json = Mapping[str, Any]
Curves = Mapping[str, Mapping[str, Points]]
"Stage, metric, then (step, value) in order of step."

_LARGEST = sys.float_info.max
SCORE_FIELDS = ("helpful", "honest", "harmless", "proxy")


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its 95 % interval; `low` and `high` are None where none was computed."""

    mean: float
    low: float | None = None
    high: float | None = None

    @property
    def sign(self) -> int:
        """+1 or -1 where the interval lies on one side of 0, else 0."""
        if self.low is None or self.high is None:
            return 0
        return 1 if self.low > 0 else -1 if self.high < 0 else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyResult:
    """What was measured of one policy; None or empty for what was not."""

    name: str
    gold: Interval | None
    scores: Mapping[str, float]
    "helpful, honest, harmless, proxy: those that were measured."
    kl: Interval | None
    kl_kind: str
    '"bound" if the KL is an upper bound (best-of-n), else "estimate" or "".'
    win_rate: Interval | None
    gain: Interval | None
    gain_over: str
    tax: Mapping[str, Interval]
    cost: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontierPoint:
    """One checkpoint, or one n of best-of-n: how far it moved and what it earned."""

    policy: str
    step: float
    kl: float
    kl_se: float | None
    gold: Interval | None
    proxy: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One policy's completion in a sample dialogue, with its gold score and the grader's reasons."""

    text: str
    gold: float | None
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One prompt and what each policy said to it."""

    prompt: tuple[tuple[str, str], ...]
    "(role, content) of each message."
    kind: str
    replies: Mapping[str, Reply]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """A whole run directory."""

    name: str
    policies: tuple[PolicyResult, ...]
    reward_model: Mapping[str, float | Interval | str]
    versions: Mapping[str, str]
    num_prompts: int | None
    seed: int | None
    curves: Curves
    frontier: tuple[FrontierPoint, ...]
    samples: tuple[Sample, ...]
    settings: Mapping[str, Mapping[str, str]]
    "Stage, then dotted key, then value as JSON."
    costs: Mapping[str, Mapping[str, float]]
    "Stage, then cost field."
    missing: Mapping[str, str]
    "Section of the report, then what was not found."


def read_run(run_dir: Path) -> RunRecord:
    """Everything the report needs from `run_dir`.

    Raises TrueupError if the directory is not there or a file in it cannot be read as described.
    """
    if not run_dir.is_dir():
        raise TrueupError(
            "E801", "no such run directory", where=str(run_dir), remedy="give a run's directory"
        )
    summary = _object(_load(run_dir / "summary.json"), "summary.json")
    frontier = _array(_load(run_dir / "frontier.json"), "frontier.json")
    samples = _array(_load(run_dir / "samples.json"), "samples.json")
    stages = read_stages(run_dir)
    curves = _curves(stages, _object(_load(run_dir / "curves.json"), "curves.json"))
    policies = parse_policies(summary)
    settings = _object(_load(run_dir / "settings.json"), "settings.json")
    settings = settings or {stage.name: stage.settings for stage in stages if stage.settings}
    given = _object(summary.get("costs"), "summary.json costs")
    costs = {stage.name: stage.cost for stage in stages} | dict(given)
    missing = {
        section: what
        for section, found, what in (
            ("policies", policies, "policies in summary.json"),
            ("tax", any(policy.tax for policy in policies), "tax in summary.json"),
            ("frontier", frontier, "frontier.json"),
            ("curves", curves, "curves.json, or metrics.jsonl in the stages' folders"),
            ("samples", samples, "samples.json"),
            ("settings", settings, "settings.json or recipe.resolved.yaml"),
        )
        if not found
    }
    return RunRecord(
        name=run_dir.resolve().name,
        policies=policies,
        reward_model=_scalars(_reward_model(summary.get("reward_model")), "summary.json reward_model"),
        versions={str(k): str(v) for k, v in _object(summary.get("versions"), "versions").items()},
        num_prompts=_whole(summary.get("num_prompts"), "summary.json num_prompts"),
        seed=_whole(summary.get("seed"), "summary.json seed"),
        curves=curves,
        frontier=tuple(_point(p, f"frontier.json [{i}]") for i, p in enumerate(frontier)),
        samples=tuple(_sample(s, f"samples.json [{i}]") for i, s in enumerate(samples)),
        settings={str(k): _settings(v, run_dir) for k, v in settings.items()},
        costs={str(k): _costs(_object(v, f"costs {k}"), f"costs {k}") for k, v in costs.items()},
        missing=missing,
    )


def _curves(stages: Sequence[StageRecord], given: Json) -> Curves:
    """Every stage's learning curves; `curves.json` goes before the stage's own file."""
    curves = {stage.name: stage.curves for stage in stages}
    for name, rows in given.items():
        where = f"curves.json {name}"
        curves[name] = series([_object(row, where) for row in _array(rows, where)])
    return {name: found for name, found in curves.items() if found}


def _settings(value: Any, run_dir: Path) -> dict[str, str]:
    """Dotted key to value; paths inside the run directory are shown from RUN, so a report tells no home."""
    homes = [str(run_dir.resolve()), str(run_dir.absolute()), str(run_dir)]
    flat = dict(_flat(value))
    for home in homes:
        flat = {key: text.replace(f"{home}/", "RUN/") for key, text in flat.items()}
    return flat


def parse_policies(summary: Json) -> tuple[PolicyResult, ...]:
    """The policies of a summary, in its order."""
    policies = _object(summary.get("policies"), "summary.json policies")
    return tuple(_policy(name, _object(row, f"summary.json {name}")) for name, row in policies.items())


def _policy(name: str, row: Json) -> PolicyResult:
    where = f"summary.json policies.{name}"
    gain, kl = row.get("gain"), row.get("kl")
    scores = {k: _number(row.get(k), f"{where}.{k}") for k in SCORE_FIELDS}
    tax = _object(row.get("tax"), f"{where}.tax")
    taxes = {exam: _interval(value, f"{where}.tax.{exam}", "delta") for exam, value in tax.items()}
    return PolicyResult(
        name=name,
        gold=_interval(row.get("gold"), f"{where}.gold"),
        scores={k: v for k, v in scores.items() if v is not None},
        kl=_interval(kl, f"{where}.kl"),
        kl_kind=str(kl.get("kind", "")) if isinstance(kl, Mapping) else "",
        win_rate=_interval(row.get("win_rate_vs_sft"), f"{where}.win_rate_vs_sft"),
        gain=_interval(gain, f"{where}.gain"),
        gain_over=str(gain.get("over", "")) if isinstance(gain, Mapping) else "",
        tax={exam: value for exam, value in taxes.items() if value is not None},
        cost=_costs(row, where),
    )


def _point(row: Any, where: str) -> FrontierPoint:
    row = _object(row, where)
    kl, step = _number(row.get("kl"), f"{where}.kl"), _number(row.get("step"), f"{where}.step")
    if kl is None or step is None:
        raise TrueupError("E202", "needs policy, step and kl", where=where)
    gold = row.get("gold")
    if gold is not None and not isinstance(gold, Mapping):
        gold = {"mean": gold, "ci95": row.get("gold_ci95")}
    return FrontierPoint(
        policy=str(row.get("policy", "")),
        step=step,
        kl=kl,
        kl_se=_number(row.get("kl_se"), f"{where}.kl_se"),
        gold=_interval(gold, f"{where}.gold"),
        proxy=_number(row.get("proxy"), f"{where}.proxy"),
    )


def _sample(row: Any, where: str) -> Sample:
    row = _object(row, where)
    messages = [_object(m, f"{where}.prompt") for m in _array(row.get("prompt"), where)]
    replies = _object(row.get("policies"), f"{where}.policies")
    return Sample(
        prompt=tuple((str(m.get("role", "")), str(m.get("content", ""))) for m in messages),
        kind=str(row.get("kind", "")),
        replies={name: _reply(value, f"{where}.policies.{name}") for name, value in replies.items()},
    )


def _reply(value: Any, where: str) -> Reply:
    value = _object(value, where)
    return Reply(
        text=str(value.get("text", "")),
        gold=_number(value.get("gold"), f"{where}.gold"),
        reasons=tuple(str(reason) for reason in _array(value.get("reasons"), f"{where}.reasons")),
    )


# ----------------------------------------------------------------------------------------- JSON, checked


def _load(path: Path) -> Any:
    """The file's JSON value, or None if there is no such file."""
    if not path.is_file():
        return None
    return _parse(path.read_text("utf-8", errors="replace"), path.name)


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise TrueupError(
            "E104", f"not JSON: {error}", where=where, remedy="write the run again, or remove the file"
        ) from None


def _refuse(word: str) -> float:
    raise ValueError(f"{word} is not a number a run may record")


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST


def _number(value: Any, where: str) -> float | None:
    if value is None:
        return None
    if not _is_number(value):
        raise TrueupError("E203", f"{str(value)[:40]!r} is not a number", where=where)
    return float(value)


def _whole(value: Any, where: str) -> int | None:
    number = _number(value, where)
    return None if number is None else int(number)


def _object(value: Any, where: str) -> Json:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise TrueupError("E203", f"{type(value).__name__} where an object belongs", where=where)
    return value


def _array(value: Any, where: str) -> Sequence[Any]:
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        raise TrueupError("E203", f"{type(value).__name__} where a list belongs", where=where)
    return value


def _interval(value: Any, where: str, key: str = "mean") -> Interval | None:
    """A number, or {key or "mean", ci95}; None stays None."""
    if not isinstance(value, Mapping):
        mean = _number(value, where)
        return None if mean is None else Interval(mean)
    mean = _number(value.get(key, value.get("mean")), f"{where}.{key}")
    if mean is None:
        return None
    bounds = value.get("ci95")
    if bounds is None:
        return Interval(mean)
    if not isinstance(bounds, Sequence) or len(bounds) != 2:
        raise TrueupError("E203", "ci95 is [low, high]", where=where)
    return Interval(mean, _number(bounds[0], where), _number(bounds[1], where))


def _costs(row: Json, where: str) -> dict[str, float]:
    costs = {name: _number(row.get(name), f"{where}.{name}") for name in COST_FIELDS}
    return {name: value for name, value in costs.items() if value is not None}


def _reward_model(row: Any) -> Any:
    """The reward model's row with its accuracy and that accuracy's interval as one value."""
    if not isinstance(row, Mapping) or not {"accuracy", "ci95"} <= row.keys():
        return row
    rest = {name: value for name, value in row.items() if name not in ("accuracy", "ci95")}
    return {"accuracy": {"mean": row["accuracy"], "ci95": row["ci95"]}, **rest}


def _scalars(row: Any, where: str) -> dict[str, float | Interval | str]:
    out: dict[str, float | Interval | str] = {}
    for name, value in _object(row, where).items():
        if isinstance(value, Mapping) and "mean" in value:
            found = _interval(value, f"{where}.{name}")
            if found is not None:
                out[name] = found
        elif _is_number(value):
            out[name] = f"{value:,}" if isinstance(value, int) else float(value)
        elif value is not None:
            out[name] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return out


def _flat(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as (dotted key, value)."""
    if isinstance(value, Mapping) and value:
        return [pair for k, v in value.items() for pair in _flat(v, f"{prefix}.{k}" if prefix else str(k))]
    return [(prefix, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))]
