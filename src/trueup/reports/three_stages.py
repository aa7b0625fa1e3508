"""InstructGPT's figure with the counts of a run: demonstrations, rankings, PPO (Ouyang et al. 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trueup.reports.checked import Interval
from trueup.reports.headline import label, tax_clause
from trueup.reports.numbers import between, count, estimate, listed, nats, percent, plain, tally
from trueup.reports.record import PolicyResult, RunRecord
from trueup.reports.stages import StageRecord

Fact = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Box:
    """One box of the figure: what it is, and what there is to say of it."""

    title: str
    facts: Sequence[Fact]


@dataclass(frozen=True, slots=True)
class Column:
    """One of the three stages."""

    title: str
    boxes: Sequence[Box]
    follow: bool = True
    "Whether each box comes of the one before; else they are alternatives."


def columns(run: RunRecord) -> list[Column]:
    """The three stages of a run that cleaned prompts, ranked samples and trained on a reward model of them.

    Empty for every other run.
    """
    found = {_kind(stage): stage for stage in reversed(run.stages)}
    if not {"clean_prompts", "label", "sft", "reward_model"} <= found.keys() or not trained(run):
        return []
    prompts, labels = found["clean_prompts"], found["label"]
    shown = found.get("demonstrate", prompts).found
    written = shown.get("demonstrations", shown.get("demonstrations/kept"))
    return [
        Column(
            "Demonstrations",
            [
                _prompts(prompts),
                Box("Demonstrations", _known(("written", tally(written)))),
                Box("SFT", _run(found["sft"])),
            ],
        ),
        Column(
            "Rankings",
            [
                Box("Samples", _samples(labels)),
                Box("Rankings", _rankings(labels)),
                Box("Reward model", [*_run(found["reward_model"]), *_accuracy(run, found["reward_model"])]),
            ],
        ),
        Column("Reinforcement", [Box(label(p.name), _policy(p, run)) for p in trained(run)], follow=False),
    ]


def headline(run: RunRecord) -> str:
    """The answer of such a run in one sentence: wins over SFT, and what each policy lost on exams."""
    policies = sorted(trained(run), key=lambda p: -p.win_rate.mean if p.win_rate else 0.0)
    wins = [_wins(p, first=place == 0) for place, p in enumerate(policies)]
    taxes: dict[str, list[str]] = {}
    for p in trained(run):
        taxes.setdefault(tax_clause(p.tax_over_start), []).append(label(p.name))
    paid = "; ".join(f"{listed(names)}: {clause}" for clause, names in taxes.items())
    return f"{', '.join(wins)}. Over SFT, {paid}."


def trained(run: RunRecord) -> list[PolicyResult]:
    """The policies that were trained from SFT and measured against it, in the run's order."""
    return [p for p in run.policies if p.win_rate and p.kl_kind == "estimate" and p.gain_over == "sft"]


def _wins(p: PolicyResult, *, first: bool) -> str:
    won = p.win_rate
    assert won is not None
    said = f"{percent(won.mean)} {between(won.low, won.high, as_percent=True)}"
    even = won.low is not None and won.high is not None and won.low <= 0.5 <= won.high
    return (
        f"{label(p.name)} {f'wins {said} of comparisons with SFT' if first else said}"
        f"{' (no measurable difference)' if even else ''}"
    )


def _kind(stage: StageRecord) -> str:
    return str(stage.settings.get("method", ""))


def _known(*facts: Fact) -> list[Fact]:
    """The facts that are known."""
    return [(name, text) for name, text in facts if text not in ("", "–")]


def _prompts(stage: StageRecord) -> Box:
    left = [(name.partition("/")[2], n) for name, n in stage.found.items() if name.startswith("dropped/")]
    splits = [(name.partition("/")[2], n) for name, n in stage.found.items() if name.startswith("split/")]
    facts = _known(
        ("came in", tally(stage.found.get("rows_in"))),
        *((f"− {reason}", tally(n)) for reason, n in left if n),
        ("− unreadable", tally(stage.found.get("quarantined") or None)),
        ("kept", tally(stage.found.get("kept"))),
        ("of users", tally(stage.found.get("users"))),
        *((f"for {name}", tally(n)) for name, n in splits),
    )
    return Box("Prompts", facts)


def _samples(stage: StageRecord) -> list[Fact]:
    each = stage.settings.get("num_completions", "")
    return _known(("prompts", tally(stage.found.get("groups"))), ("samples a prompt, K", str(each)))


def _rankings(stage: StageRecord) -> list[Fact]:
    return _known(
        ("by", str(stage.settings.get("labeler", ""))),
        ("rankings", tally(stage.found.get("rankings"))),
        ("pairs in them", tally(stage.found.get("pairs"))),
        ("skipped", tally(stage.found.get("skipped") or None)),
        ("labelers agree", percent(stage.found.get("agreement"))),
    )


def _run(stage: StageRecord) -> list[Fact]:
    last = max((step for points in stage.curves.values() for step, _ in points), default=None)
    return _known(("steps", tally(last)), ("tokens trained", count(stage.cost.get("tokens_trained"))))


def _accuracy(run: RunRecord, stage: StageRecord) -> list[Fact]:
    found = run.reward_model.get("accuracy") or stage.held_out.get("accuracy")
    return [("held-out accuracy", estimate(found))] if isinstance(found, Interval) else []


def _policy(p: PolicyResult, run: RunRecord) -> list[Fact]:
    stage = next((stage for stage in run.stages if stage.name == p.name), None)
    coefficient = "" if stage is None else str(stage.settings.get("pretraining.coefficient", ""))
    won, gain = p.win_rate, p.gain
    return _known(
        *(_run(stage) if stage else ()),
        ("weight of text", coefficient),
        (
            "wins over SFT",
            "" if won is None else f"{percent(won.mean)} {between(won.low, won.high, as_percent=True)}",
        ),
        ("gold gained", "" if gain is None else estimate(gain, signed=True)),
        ("proxy", plain(p.scores.get("proxy"))),
        ("KL", nats(p.kl.mean if p.kl else None)),
    )
