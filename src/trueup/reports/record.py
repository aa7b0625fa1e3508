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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trueup.errors import TrueupError
from trueup.reports.checked import (
    Interval,
    Json,
    as_array,
    as_costs,
    as_interval,
    as_number,
    as_object,
    as_whole,
    is_number,
    load_json,
)
from trueup.reports.stages import Points, StageRecord, read_stages, series
from trueup.runs import inputs

Curves = Mapping[str, Mapping[str, Points]]
"Stage, metric, then (step, value) in order of step."

SCORE_FIELDS = ("helpful", "honest", "harmless", "proxy")


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
    held_out: Mapping[str, Mapping[str, Interval]]
    "Stage, then metric of its finished model over held-out groups."
    measured: Mapping[str, Mapping[str, float]]
    "Stage that measured a policy, then the mean of each number."
    found: Mapping[str, Mapping[str, Mapping[str, float]]]
    "Procedure that trained nothing, then stage, then what it counted and measured."
    frontier: tuple[FrontierPoint, ...]
    samples: tuple[Sample, ...]
    settings: Mapping[str, Mapping[str, str]]
    "Stage, then dotted key, then value as JSON."
    costs: Mapping[str, Mapping[str, float]]
    "Stage, then cost field."
    missing: Mapping[str, str]
    "Section of the report, then what was not found."
    given: tuple[str, ...] = ()
    "What the run was given that its folder alone cannot make again."

    @property
    def training_only(self) -> bool:
        """Whether no policy of all that it made was evaluated: what is said of policies is left out."""
        return bool(self.curves or self.measured or self.found) and not (
            self.policies or self.frontier or self.samples
        )


def read_run(run_dir: Path) -> RunRecord:
    """Everything the report needs from `run_dir`.

    Raises TrueupError if the directory is not there or a file in it cannot be read as described.
    """
    if not run_dir.is_dir():
        raise TrueupError(
            "E801", "no such run directory", where=str(run_dir), remedy="give a run's directory"
        )
    summary = as_object(load_json(run_dir / "summary.json"), "summary.json")
    frontier = as_array(load_json(run_dir / "frontier.json"), "frontier.json")
    samples = as_array(load_json(run_dir / "samples.json"), "samples.json")
    stages = read_stages(run_dir)
    curves = _curves(stages, as_object(load_json(run_dir / "curves.json"), "curves.json"))
    policies = parse_policies(summary)
    settings = as_object(load_json(run_dir / "settings.json"), "settings.json")
    settings = settings or {stage.name: stage.settings for stage in stages if stage.settings}
    given = as_object(summary.get("costs"), "summary.json costs")
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
        versions={str(k): str(v) for k, v in as_object(summary.get("versions"), "versions").items()},
        num_prompts=as_whole(summary.get("num_prompts"), "summary.json num_prompts"),
        seed=as_whole(summary.get("seed"), "summary.json seed"),
        curves=curves,
        held_out={stage.name: stage.held_out for stage in stages if stage.held_out},
        measured={stage.name: stage.measured for stage in stages if stage.measured},
        found=_found(stages),
        frontier=tuple(_point(p, f"frontier.json [{i}]") for i, p in enumerate(frontier)),
        samples=tuple(_sample(s, f"samples.json [{i}]") for i, s in enumerate(samples)),
        settings={str(k): _settings(v, run_dir) for k, v in settings.items()},
        costs={str(k): as_costs(as_object(v, f"costs {k}"), f"costs {k}") for k, v in costs.items()},
        missing=missing,
        given=tuple(inputs.missing(inputs.read(run_dir))),
    )


def _curves(stages: Sequence[StageRecord], given: Json) -> Curves:
    """Every stage's learning curves; `curves.json` goes before the stage's own file."""
    curves = {stage.name: stage.curves for stage in stages}
    for name, rows in given.items():
        where = f"curves.json {name}"
        curves[name] = series([as_object(row, where) for row in as_array(rows, where)])
    return {name: found for name, found in curves.items() if found}


def _found(stages: Sequence[StageRecord]) -> dict[str, dict[str, Mapping[str, float]]]:
    """What procedures found, those of one kind together."""
    found: dict[str, dict[str, Mapping[str, float]]] = {}
    for stage in stages:
        if stage.found:
            found.setdefault(stage.procedure, {})[stage.name] = stage.found
    return found


def _settings(value: Any, run_dir: Path) -> dict[str, str]:
    """Dotted key to value; paths inside the run directory are shown from RUN, so a report tells no home."""
    homes = [str(run_dir.resolve()), str(run_dir.absolute()), str(run_dir)]
    flat = dict(_flat(value))
    for home in homes:
        flat = {key: text.replace(f"{home}/", "RUN/") for key, text in flat.items()}
    return flat


def parse_policies(summary: Json) -> tuple[PolicyResult, ...]:
    """The policies of a summary, in its order."""
    policies = as_object(summary.get("policies"), "summary.json policies")
    return tuple(_policy(name, as_object(row, f"summary.json {name}")) for name, row in policies.items())


def _policy(name: str, row: Json) -> PolicyResult:
    where = f"summary.json policies.{name}"
    gain, kl = row.get("gain"), row.get("kl")
    scores = {k: as_number(row.get(k), f"{where}.{k}") for k in SCORE_FIELDS}
    tax = as_object(row.get("tax"), f"{where}.tax")
    taxes = {exam: as_interval(value, f"{where}.tax.{exam}", "delta") for exam, value in tax.items()}
    return PolicyResult(
        name=name,
        gold=as_interval(row.get("gold"), f"{where}.gold"),
        scores={k: v for k, v in scores.items() if v is not None},
        kl=as_interval(kl, f"{where}.kl"),
        kl_kind=str(kl.get("kind", "")) if isinstance(kl, Mapping) else "",
        win_rate=as_interval(row.get("win_rate_vs_sft"), f"{where}.win_rate_vs_sft"),
        gain=as_interval(gain, f"{where}.gain"),
        gain_over=str(gain.get("over", "")) if isinstance(gain, Mapping) else "",
        tax={exam: value for exam, value in taxes.items() if value is not None},
        cost=as_costs(row, where),
    )


def _point(row: Any, where: str) -> FrontierPoint:
    row = as_object(row, where)
    kl, step = as_number(row.get("kl"), f"{where}.kl"), as_number(row.get("step"), f"{where}.step")
    if kl is None or step is None:
        raise TrueupError("E202", "needs policy, step and kl", where=where)
    gold = row.get("gold")
    if gold is not None and not isinstance(gold, Mapping):
        gold = {"mean": gold, "ci95": row.get("gold_ci95")}
    return FrontierPoint(
        policy=str(row.get("policy", "")),
        step=step,
        kl=kl,
        kl_se=as_number(row.get("kl_se"), f"{where}.kl_se"),
        gold=as_interval(gold, f"{where}.gold"),
        proxy=as_number(row.get("proxy"), f"{where}.proxy"),
    )


def _sample(row: Any, where: str) -> Sample:
    row = as_object(row, where)
    messages = [as_object(m, f"{where}.prompt") for m in as_array(row.get("prompt"), where)]
    replies = as_object(row.get("policies"), f"{where}.policies")
    return Sample(
        prompt=tuple((str(m.get("role", "")), str(m.get("content", ""))) for m in messages),
        kind=str(row.get("kind", "")),
        replies={name: _reply(value, f"{where}.policies.{name}") for name, value in replies.items()},
    )


def _reply(value: Any, where: str) -> Reply:
    value = as_object(value, where)
    return Reply(
        text=str(value.get("text", "")),
        gold=as_number(value.get("gold"), f"{where}.gold"),
        reasons=tuple(str(reason) for reason in as_array(value.get("reasons"), f"{where}.reasons")),
    )


def _reward_model(row: Any) -> Any:
    """The reward model's row with its accuracy and that accuracy's interval as one value."""
    if not isinstance(row, Mapping) or not {"accuracy", "ci95"} <= row.keys():
        return row
    rest = {name: value for name, value in row.items() if name not in ("accuracy", "ci95")}
    return {"accuracy": {"mean": row["accuracy"], "ci95": row["ci95"]}, **rest}


def _scalars(row: Any, where: str) -> dict[str, float | Interval | str]:
    out: dict[str, float | Interval | str] = {}
    for name, value in as_object(row, where).items():
        if isinstance(value, Mapping) and "mean" in value:
            found = as_interval(value, f"{where}.{name}")
            if found is not None:
                out[name] = found
        elif is_number(value):
            out[name] = f"{value:,}" if isinstance(value, int) else float(value)
        elif value is not None:
            out[name] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return out


def _flat(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as (dotted key, value)."""
    if isinstance(value, Mapping) and value:
        return [pair for k, v in value.items() for pair in _flat(v, f"{prefix}.{k}" if prefix else str(k))]
    return [(prefix, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))]
