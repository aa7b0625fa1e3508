"""Writes the tables of results/instructgpt.md from runs of `instructgpt/lab` and one of `instructgpt/real`.

    python scripts/make_instructgpt_tables.py --real runs/real runs/instructgpt-0 runs/instructgpt-1 ...

Between `<!-- NAME -->` and `<!-- end -->` everything is replaced, so no number is copied by hand.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from blocks import fill
from trueup.reports.numbers import duration
from trueup.runs.done import read_done
from trueup.statistics.estimates import mean_ci

PAGE = Path(__file__).resolve().parents[1] / "results" / "instructgpt.md"
SAID = {"base": "base", "sft": "SFT", "ppo": "PPO", "ppo_ptx": "PPO-ptx"}
Summary = Mapping[str, Any]


def main(arguments: Sequence[str]) -> int:
    """Exit code 0; the page holds the numbers of the runs that are named."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--real", type=Path)
    parser.add_argument("runs", type=Path, nargs="*")
    given = parser.parse_args(arguments)
    if given.runs:
        found = [_summary(run) for run in given.runs]
        fill(PAGE, {"lab": policies(found), "tax": taxes(found), "seeds": seeds(given.runs)})
    if given.real:
        fill(PAGE, {"real": real(_summary(given.real)), "times": times(given.real)})
    return 0


def policies(found: Sequence[Summary]) -> str:
    """A row for each policy, means over seeds with intervals over seeds."""

    def row(name: str) -> list[str]:
        return [
            SAID[name],
            *(
                _over(found, lambda s, k=key: s["policies"][name].get(k))
                for key in ("gold", "gain", "win_rate_vs_sft", "kl", "proxy")
            ),
        ]

    head = [
        "policy",
        "gold",
        "gain (SFT over base, others over SFT)",
        "wins over SFT",
        "KL to SFT, nats",
        "proxy",
    ]
    return table(head, [row(name) for name in SAID])


def taxes(found: Sequence[Summary]) -> str:
    """A row for each exam: what each policy lost or gained over what it started from, and ptx minus none."""

    def tax(s: Summary, name: str, exam: str) -> dict[str, Any]:
        row = s["policies"][name]["tax_over_start"][exam]
        return {**row, "mean": row["delta"]}

    def saved(s: Summary, exam: str) -> float:
        return tax(s, "ppo_ptx", exam)["mean"] - tax(s, "ppo", exam)["mean"]

    exams = found[0]["policies"]["ppo"]["tax_over_start"]
    rows = [
        [
            f"`{exam}`",
            *(_over(found, lambda s, n=name, e=exam: tax(s, n, e)) for name in ("sft", "ppo", "ppo_ptx")),
            _over(found, lambda s, e=exam: saved(s, e)),
        ]
        for exam in exams
    ]
    return table(["exam", "SFT over base", "PPO over SFT", "PPO-ptx over SFT", "PPO-ptx minus PPO"], rows)


def seeds(runs: Sequence[Path]) -> str:
    """A row for each seed: what came in, what the reward model learned, what the policies gained."""
    rows = []
    for run in runs:
        said = _summary(run)
        prompts, labels = _done(run, "prompts").metrics, _done(run, "labels").metrics
        won = {name: said["policies"][name]["win_rate_vs_sft"] for name in ("ppo", "ppo_ptx")}
        accuracy = said["reward_model"]
        rows.append(
            [
                str(said["seed"]),
                f"{prompts['kept']:.0f} of {prompts['rows_in']:.0f}",
                f"{labels['rankings']:.0f}",
                f"{labels['pairs']:.0f}",
                f"{accuracy['accuracy']:.3f} [{accuracy['ci95'][0]:.3f}, {accuracy['ci95'][1]:.3f}]",
                *(f"{w['mean']:.3f} [{w['ci95'][0]:.3f}, {w['ci95'][1]:.3f}]" for w in won.values()),
            ]
        )
    head = ["seed", "prompts kept", "rankings", "pairs", "held-out accuracy", "PPO wins", "PPO-ptx wins"]
    return table(head, rows)


def real(said: Summary) -> str:
    """A row for each policy of one run, intervals over prompts."""

    def interval(found: Mapping[str, Any] | None) -> str:
        if not found:
            return ""
        ends = found.get("ci95")
        return f"{found['mean']:+.3f}" + (f" [{ends[0]:+.3f}, {ends[1]:+.3f}]" if ends else "")

    def tax(row: Mapping[str, Any]) -> str:
        found = row["tax_over_start"]
        return "; ".join(f"{exam} {interval({**t, 'mean': t['delta']})}" for exam, t in found.items())

    rows = [
        [
            SAID.get(name, name),
            interval(row["gold"]),
            interval(row["gain"]),
            interval(row["win_rate_vs_sft"]),
            interval(row["kl"]),
            tax(row),
        ]
        for name, row in said["policies"].items()
    ]
    head = [
        "policy",
        "gold",
        "gain (SFT over base, others over SFT)",
        "wins over SFT",
        "KL to SFT",
        "exams over its start",
    ]
    return table(head, rows)


def times(run: Path) -> str:
    """A row for each stage: what it handed on and its wall time."""
    folders = {path.parent.name.rpartition("-")[0]: path.parent for path in run.glob("stages/*/DONE.json")}
    names = ("prompts", "sft", "labels", "reward", "ppo", "ppo_ptx")
    rows = []
    for name in names:
        done = read_done(folders[name])
        cost = done.cost
        rows.append(
            [
                f"`{name}`",
                f"{cost['tokens_trained']:.0f}",
                f"{cost['tokens_sampled']:.0f}",
                duration(cost["seconds"]),
            ]
        )
    return table(["stage", "tokens trained", "tokens sampled", "wall time"], rows)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _over(found: Sequence[Summary], value: Callable[[Summary], Any]) -> str:
    """The mean over seeds with its interval; of one seed its own, which is over prompts or items."""
    values = [value(s) for s in found]
    if any(v is None for v in values):
        return ""
    means = [v["mean"] if isinstance(v, Mapping) else v for v in values]
    if len(found) == 1:
        own = values[0].get("ci95") if isinstance(values[0], Mapping) else None
        return f"{means[0]:.3f}" + (f" [{own[0]:.3f}, {own[1]:.3f}]" if own else "")
    e = mean_ci(np.array(means))
    return f"{e.mean:.3f} [{e.low:.3f}, {e.high:.3f}]"


def _summary(run: Path) -> Summary:
    return json.loads((run / "summary.json").read_text(encoding="utf-8"))


def _done(run: Path, stage: str) -> Any:
    (folder,) = (path.parent for path in run.glob(f"stages/{stage}-*/DONE.json"))
    return read_done(folder)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
