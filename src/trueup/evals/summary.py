"""What a comparison writes: `summary.json`, `frontier.json`, `samples.json`; same inputs, same bytes.

Intervals are over held-out prompts; differences are paired by prompt. The tax is policy minus base on the
same items, so that negative is loss.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trueup.engine import disk
from trueup.errors import TrueupError
from trueup.evals.policies import PolicyResult
from trueup.statistics.estimates import Estimate, kl_estimate, mean_ci, paired_gain, preferences, win_rate

Floats = NDArray[np.float64]
PARTS = ("helpful", "honest", "harmless", "proxy")
"Means that stand beside gold where they were measured."


@dataclass(frozen=True, kw_only=True, eq=False)
class PolicyEntry:
    """One policy of a comparison: what was measured, what it is compared with, what it cost."""

    result: PolicyResult
    over: str | None = None
    "The policy whose gold its own is a gain over."
    exams: Mapping[str, Floats] = field(default_factory=dict)
    "One value for each item, by exam, larger is better."
    costs: Mapping[str, float] = field(default_factory=dict)
    "`tokens_trained`, `tokens_sampled`, `seconds`, `peak_mib`."


def summarise(
    entries: Mapping[str, PolicyEntry],
    *,
    base: str = "base",
    sft: str = "sft",
    reward_model: Mapping[str, Any] | None = None,
    versions: Mapping[str, str] | None = None,
    seed: int,
) -> dict[str, Any]:
    """The `summary.json` of some policies, in their order.

    A tax is measured twice: over `base`, and over what the policy started from, as its gain is. `sft` is what
    win rates are over. Raises E826 if the policies were not
    asked the same prompts.
    """
    if not entries:
        raise TrueupError("E827", "no policies to compare", remedy="evaluate one at least")
    asked = {name: [g.prompt for g in e.result.groups] for name, e in entries.items()}
    first = next(iter(asked.values()))
    for name, prompts in asked.items():
        if prompts != first:
            raise TrueupError("E826", f"{name} was asked other prompts", remedy="evaluate all on the same")
    return {
        "policies": {name: _policy(name, entries, base, sft) for name in entries},
        "reward_model": dict(reward_model) if reward_model else None,
        "versions": dict(versions or {}),
        "num_prompts": len(first),
        "seed": seed,
    }


def frontier_point(policy: str, step: int, result: PolicyResult) -> dict[str, Any]:
    """One checkpoint on the reward–KL frontier; `result` must have been measured against a reference."""
    if result.kl is None:
        raise TrueupError("E826", "no KL was measured", where=policy, remedy="evaluate with a reference")
    kl, gold = kl_estimate(result.kl), mean_ci(result.gold)
    return {
        "policy": policy,
        "step": step,
        "kl": kl.mean,
        "kl_se": _or_none(kl.standard_error),
        "gold": gold.mean,
        "gold_ci95": _interval(gold),
        "proxy": _mean_of(result, "proxy"),
    }


def curve_points(policy: str, result: PolicyResult) -> list[dict[str, Any]]:
    """The best-of-n curve as frontier points: `step` is n, `kl` the bound log n − (n−1)/n."""
    found = [(point, mean_ci(point.gold)) for point in result.curve]
    return [
        {
            "policy": policy,
            "step": point.n,
            "kl": point.kl_bound,
            "kl_se": None,
            "kl_kind": "bound",
            "gold": gold.mean,
            "gold_ci95": _interval(gold),
            "proxy": float(point.proxy.mean()),
        }
        for point, gold in found
    ]


def sample_rows(results: Mapping[str, PolicyResult], num_prompts: int) -> list[dict[str, Any]]:
    """The first `num_prompts` dialogues with every policy's first completion, its gold and why."""
    first = next(iter(results.values()))
    rows = []
    for i, group in enumerate(first.groups[:num_prompts]):
        replies = {
            name: {
                "text": r.groups[i].completions[0].text,
                "gold": float(r.gold[i, 0]),
                "reasons": _reasons(r.reasons[i][0]),
            }
            for name, r in results.items()
        }
        request = group.meta.get("request", {})
        rows.append(
            {
                "prompt": [{"role": str(m.role), "content": m.content} for m in group.prompt],
                "kind": str(request.get("kind", "")),
                "policies": replies,
            }
        )
    return rows


def write_json(path: str | Path, value: Any) -> None:
    """Writes JSON whose bytes depend on the value alone: floats with 6 significant digits, keys as given."""
    text = json.dumps(rounded(value), indent=2, ensure_ascii=False, allow_nan=False)
    disk.write(Path(path), text + "\n")


def rounded(value: Any) -> Any:
    """The value with every float at 6 significant digits, −0.0 as 0.0, NumPy numbers as plain ones."""
    if isinstance(value, Mapping):
        return {str(k): rounded(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(v) for v in value]
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(f"{float(value):.6g}") + 0.0
    return value


# ------------------------------------------------------------------------------------------ the parts


def _policy(name: str, entries: Mapping[str, PolicyEntry], base: str, sft: str) -> dict[str, Any]:
    entry = entries[name]
    result = entry.result
    row: dict[str, Any] = {"gold": _estimate(mean_ci(result.gold))}
    row |= {part: _mean_of(result, part) for part in PARTS if part in result.metrics}
    row |= {
        other: float(values.mean())
        for other, values in result.metrics.items()
        if other not in row and other != "gold"
    }
    row["kl"] = _kl(result)
    compared = sft in entries and name != sft
    row["win_rate_vs_sft"] = _win_rate(result, entries[sft].result) if compared else None
    row["gain"] = _gain(entry, entries)
    row["tax"] = _tax(entry, entries[base]) if base in entries and name != base else {}
    row["tax_over_start"] = _tax(entry, entries[entry.over]) if entry.over else {}
    row["exams"] = {exam: _estimate(_mean(values)) for exam, values in entry.exams.items()}
    return row | dict(entry.costs)


def _mean(values: Floats) -> Estimate:
    """The mean over items; of shares that all agree, with Agresti and Coull's interval."""
    agree = np.ptp(values) == 0 and values.min() >= 0 and values.max() <= 1
    return win_rate(values).estimate if agree else mean_ci(values)


def _kl(result: PolicyResult) -> dict[str, Any] | None:
    if result.kl_bound is not None:
        return {"mean": result.kl_bound, "ci95": None, "kind": "bound"}
    return None if result.kl is None else {**_estimate(kl_estimate(result.kl)), "kind": "estimate"}


def _win_rate(result: PolicyResult, other: PolicyResult) -> dict[str, Any]:
    """How often one completion of the policy has more gold than one of the other's, ties half, by prompt."""
    ours, theirs = np.broadcast_arrays(result.gold[:, :, None], other.gold[:, None, :])
    games = preferences(ours, theirs, margin=1e-9)
    return _estimate(win_rate(games.mean(axis=(1, 2))).estimate)


def _gain(entry: PolicyEntry, entries: Mapping[str, PolicyEntry]) -> dict[str, Any] | None:
    if entry.over is None:
        return None
    if entry.over not in entries:
        reason = f"no policy {entry.over!r} to compare with"
        raise TrueupError("E826", reason, where=entry.result.name, remedy="evaluate it, too")
    gain = paired_gain(entry.result.gold, entries[entry.over].result.gold)
    return {"over": entry.over, **_estimate(gain)}


def _tax(entry: PolicyEntry, base: PolicyEntry) -> dict[str, Any]:
    taxes = {}
    for exam, values in entry.exams.items():
        if exam in base.exams:
            delta = paired_gain(values, base.exams[exam])
            taxes[exam] = {"delta": delta.mean, "ci95": _interval(delta)}
    return taxes


def _estimate(found: Estimate) -> dict[str, Any]:
    return {"mean": found.mean, "ci95": _interval(found)}


def _interval(found: Estimate) -> list[float] | None:
    return None if math.isnan(found.low) else [found.low, found.high]


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def _mean_of(result: PolicyResult, name: str) -> float | None:
    return float(result.metrics[name].mean()) if name in result.metrics else None


def _reasons(words: Mapping[str, str]) -> list[str]:
    """`helpful, honest: repeats the myth`: one line for each reason, with what it is the reason of."""
    names: dict[str, list[str]] = {}
    for name, why in words.items():
        names.setdefault(why, []).append(name)
    return [f"{', '.join(of)}: {why}" for why, of in names.items()]
