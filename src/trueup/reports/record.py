"""What a run directory says of itself, read once and checked, for the report.

Every file is optional. What is not there is named in `RunRecord.missing`; nothing is made up in its place.

    summary.json                  the policies, their numbers, the reward model, versions
    frontier.json                 gold and proxy reward against KL along training and along n
    samples.json                  dialogues, every policy's completion side by side
    stages/                       learning curves, settings and costs: see `stages`
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from markupsafe import Markup

from trueup.engine import inputs
from trueup.errors import TrueupError
from trueup.reports.checked import (
    COST_FIELDS,
    Interval,
    Json,
    as_array,
    as_interval,
    as_intervals,
    as_number,
    as_numbers,
    as_object,
    as_whole,
    is_number,
    load_json,
)
from trueup.reports.numbers import shortened
from trueup.reports.stages import StageRecord, read_stages

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
    "By exam, over the base; negative is a loss."
    tax_over_start: Mapping[str, Interval]
    "The same over `gain_over`; empty in what was written before it was measured."
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
    marks: Markup | None = None
    "The text with its differences from another reply marked; None where nothing was compared."


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One prompt and what each policy said to it."""

    prompt: tuple[tuple[str, str], ...]
    "(role, content) of each message."
    kind: str
    replies: Mapping[str, Reply]

    @property
    def preview(self) -> str:
        """The last thing said to the policies, on one line."""
        return shortened(" ".join(self.prompt[-1][1].split()), 110) if self.prompt else "(no prompt)"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """A whole run directory."""

    name: str
    policies: tuple[PolicyResult, ...]
    reward_model: Mapping[str, float | Interval | str]
    versions: Mapping[str, str]
    num_prompts: int | None
    seed: int | None
    stages: tuple[StageRecord, ...]
    "In the recipe's order; their settings by dotted key, each value as JSON."
    frontier: tuple[FrontierPoint, ...]
    samples: tuple[Sample, ...]
    missing: Mapping[str, str]
    "Section of the report, then what was not found."
    given: tuple[str, ...] = ()
    "What the run was given that its folder alone cannot make again."
    changed: tuple[str, ...] = ()
    "What it was given that became another thing on the way, and was accepted."

    @property
    def training_only(self) -> bool:
        """Whether no policy of all that it made was evaluated: what is said of policies is left out."""
        made = any(stage.curves or stage.measured or stage.found for stage in self.stages)
        return made and not (self.policies or self.frontier or self.samples)


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
    stages = [replace(stage, settings=_settings(stage.settings, run_dir)) for stage in read_stages(run_dir)]
    policies = parse_policies(summary)
    missing = {
        section: what
        for section, found, what in (
            ("policies", policies, "policies in summary.json"),
            ("tax", any(policy.tax for policy in policies), "tax in summary.json"),
            ("frontier", frontier, "frontier.json"),
            ("curves", any(s.curves for s in stages), "metrics.jsonl in the stages' folders"),
            ("samples", samples, "samples.json"),
            ("settings", any(s.settings for s in stages), "config.resolved.yaml in the stages' folders"),
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
        stages=tuple(stages),
        frontier=tuple(_point(p, f"frontier.json [{i}]") for i, p in enumerate(frontier)),
        samples=tuple(parse_sample(s, f"samples.json [{i}]") for i, s in enumerate(samples)),
        missing=missing,
        given=tuple(inputs.missing(inputs.read(run_dir))),
        changed=(*inputs.changes_told(inputs.read(run_dir)), *_changed_in(run_dir, stages)),
    )


def _changed_in(run_dir: Path, stages: Sequence[StageRecord]) -> list[str]:
    """The changes of the stages that the report is of."""
    return [
        f"{stage.name}: {line}"
        for stage in stages
        if stage.folder and stage.folder != run_dir
        for line in inputs.changes_told(inputs.read(stage.folder))
    ]


def _settings(value: Any, run_dir: Path) -> dict[str, str]:
    """Dotted key to value; paths inside the run directory are shown from RUN, so a report tells no home."""
    homes = (str(run_dir.resolve()), str(run_dir.absolute()), str(run_dir))
    found = dict(flat(value)) if value else {}
    for home in homes:
        found = {key: text.replace(f"{home}/", "RUN/") for key, text in found.items()}
    return found


def parse_policies(summary: Json) -> tuple[PolicyResult, ...]:
    """The policies of a summary, in its order."""
    policies = as_object(summary.get("policies"), "summary.json policies")
    return tuple(_policy(name, as_object(row, f"summary.json {name}")) for name, row in policies.items())


def _policy(name: str, row: Json) -> PolicyResult:
    where = f"summary.json policies.{name}"
    gain, kl = row.get("gain"), row.get("kl")
    return PolicyResult(
        name=name,
        gold=as_interval(row.get("gold"), f"{where}.gold"),
        scores=as_numbers(row, where, SCORE_FIELDS),
        kl=as_interval(kl, f"{where}.kl"),
        kl_kind=str(kl.get("kind", "")) if isinstance(kl, Mapping) else "",
        win_rate=as_interval(row.get("win_rate_vs_sft"), f"{where}.win_rate_vs_sft"),
        gain=as_interval(gain, f"{where}.gain"),
        gain_over=str(gain.get("over", "")) if isinstance(gain, Mapping) else "",
        tax=as_intervals(row.get("tax"), f"{where}.tax", "delta"),
        tax_over_start=as_intervals(row.get("tax_over_start"), f"{where}.tax_over_start", "delta"),
        cost=as_numbers(row, where, COST_FIELDS),
    )


def _point(row: Any, where: str) -> FrontierPoint:
    row = as_object(row, where)
    kl, step = as_number(row.get("kl"), f"{where}.kl"), as_number(row.get("step"), f"{where}.step")
    if kl is None or step is None:
        raise TrueupError("E202", "needs policy, step and kl", where=where, remedy="evaluate again")
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


def parse_sample(row: Any, where: str) -> Sample:
    """A row of `samples.json`."""
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


def flat(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as (dotted key, value)."""
    if isinstance(value, Mapping) and value:
        return [pair for k, v in value.items() for pair in flat(v, f"{prefix}.{k}" if prefix else str(k))]
    return [(prefix, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))]
