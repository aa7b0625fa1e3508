"""What the run found, in sentences computed from its numbers.

A direction ("raised", "cost") is only claimed where the 95 % interval excludes zero.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from trueup.reports.numbers import estimate, listed, nats, plain
from trueup.reports.record import FrontierPoint, Interval, PolicyResult
from trueup.reports.stages import StageRecord

_CAPITALS = frozenset({
    "apa", "cispo", "dpo", "grpo", "gspo", "hir", "ipo", "kto", "orpo", "ppo", "prm", "raft", "reinforce",
    "rloo", "rm", "rrhf", "scst", "sft", "trpo",
})  # fmt: skip
_LABELS = {
    "base_hhh": "base + HHH",
    "best_of_n_sft": "best-of-n SFT",
    "online_dpo": "online DPO",
    "ppo_ptx": "PPO-ptx",
    "ppo_v1": "PPO v1",
    "reinforce_pp": "REINFORCE++",
    "simpo": "SimPO",
    "slic_hf": "SLiC-HF",
}
_BEST_OF = re.compile(r"best_of_(n|\d{1,6})")


def label(name: str) -> str:
    """A policy's name as people say it: "ppo" is PPO, "best_of_16" is best-of-16; others stay."""
    if _BEST_OF.fullmatch(name):
        return name.replace("_", "-")
    return name.upper() if name in _CAPITALS else _LABELS.get(name, name)


def trained(stages: Sequence[StageRecord]) -> str:
    """What a run trained, where no policy was compared: "Trained DPO for 100 steps." """
    steps = {
        stage.name: max(step for points in stage.curves.values() for step, _ in points)
        for stage in stages
        if stage.curves
    }
    made = [name for name, last in steps.items() if last > 0]
    if not made:
        return "Nothing was trained."
    last = steps[made[0]]
    long = f" for {last:g} step{'' if last == 1 else 's'}" if len(made) == 1 else ""
    return f"Trained {listed([label(name) for name in made])}{long}."


def headline(policies: Sequence[PolicyResult]) -> str:
    """The answer in one sentence: who gained most over what, how far it moved, what it cost."""
    gained = by_gain(policies)
    if gained:
        return _gain(*gained[0])
    scored = [(policy, policy.gold) for policy in policies if policy.gold is not None]
    if not scored:
        return "This run holds no evaluated policy yet."
    top, gold = max(scored, key=lambda pair: pair[1].mean)
    return f"{_first(label(top.name))} has the highest gold reward, {_with(gold)}; no gain was computed."


def by_gain(policies: Sequence[PolicyResult]) -> list[tuple[PolicyResult, Interval]]:
    """Every policy whose gain was computed with that gain, the largest mean first."""
    gained = [(policy, policy.gain) for policy in policies if policy.gain is not None]
    return sorted(gained, key=lambda pair: -pair[1].mean)


def details(policies: Sequence[PolicyResult], frontier: Sequence[FrontierPoint]) -> list[str]:
    """One sentence for every other gain, largest first, and one for every over-optimised policy."""
    names = dict.fromkeys(point.policy for point in frontier)
    turned = [over_optimised([point for point in frontier if point.policy == name]) for name in names]
    return [*(_gain(*found) for found in by_gain(policies)[1:]), *filter(None, turned)]


def tax_clause(tax: Mapping[str, Interval]) -> str:
    """What a policy lost, naming at most three exams whose interval excludes zero."""
    if not tax:
        return "alignment tax not measured"
    lost = sorted((kept.mean, exam) for exam, kept in tax.items() if kept.sign < 0)
    exams = f"{len(tax)} exam{'s' if len(tax) != 1 else ''}"
    if not lost:
        return f"no measurable tax on {exams}"
    named = ", ".join(f"{exam}\u00a0{plain(mean, signed=True)}" for mean, exam in lost[:3])
    more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
    return f"tax on {len(lost)} of {exams}: {named}{more}"


def over_optimised(points: Sequence[FrontierPoint]) -> str:
    """A sentence if gold fell from its peak by more than both intervals while the proxy rose; else ""."""
    ordered = sorted(points, key=lambda p: p.step)
    known = [
        (p, p.gold, p.proxy) for p in ordered if p.gold and p.gold.low is not None and p.proxy is not None
    ]
    if len(known) < 2:
        return ""
    last, end, proxy_last = known[-1]
    peak, top, proxy_then = max(known, key=lambda row: row[1].mean)
    if top.low is None or end.high is None or end.high >= top.low or proxy_last <= proxy_then:
        return ""
    step = "n" if _BEST_OF.fullmatch(last.policy) else "step"
    return (
        f"{_first(label(last.policy))} over-optimised: gold peaked at {plain(top.mean)} "
        f"({step} {peak.step:g}, KL {nats(peak.kl)}) and ended at {plain(end.mean)} "
        f"(KL {nats(last.kl)}) while the proxy kept rising."
    )


def _gain(policy: PolicyResult, gain: Interval) -> str:
    base = label(policy.gain_over) if policy.gain_over else "the start"
    size = _with(gain, signed=True)
    if gain.low is None:
        change = f"changed gold reward over {base} by {size}"
    elif gain.sign > 0:
        change = f"raised gold reward over {base} by {size}"
    elif gain.sign < 0:
        change = f"lowered gold reward against {base} ({size})"
    else:
        change = f"did not measurably change gold reward over {base} ({size})"
    if policy.kl is None:
        distance = ""
    else:
        bound = "at most " if policy.kl_kind == "bound" else ""
        distance = f" at KL {bound}{nats(policy.kl.mean)}"
    return f"{_first(label(policy.name))} {change}{distance}; {tax_clause(policy.tax)}."


def _with(value: Interval, *, signed: bool = False) -> str:
    return estimate(value, signed=signed, say_unknown=True, space="\u00a0")


def _first(text: str) -> str:
    return text[:1].upper() + text[1:]
