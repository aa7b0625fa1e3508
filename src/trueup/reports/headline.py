"""What the run found, in sentences computed from its numbers.

A direction ("raised", "cost") is only claimed where the 95 % interval excludes zero.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from trueup.reports.numbers import between, nats, plain
from trueup.reports.record import Curves, FrontierPoint, Interval, PolicyResult

_LABELS = {
    "base": "base",
    "base_hhh": "base + HHH",
    "sft": "SFT",
    "dpo": "DPO",
    "ppo": "PPO",
    "rm": "RM",
    "apa": "APA",
    "best_of_n_sft": "best-of-n SFT",
    "grpo": "GRPO",
    "hir": "HIR",
    "ipo": "IPO",
    "kto": "KTO",
    "online_dpo": "online DPO",
    "orpo": "ORPO",
    "ppo_ptx": "PPO-ptx",
    "ppo_v1": "PPO v1",
    "raft": "RAFT",
    "reinforce": "REINFORCE",
    "rloo": "RLOO",
    "rrhf": "RRHF",
    "scst": "SCST",
    "simpo": "SimPO",
    "slic_hf": "SLiC-HF",
    "trpo": "TRPO",
}
_BEST_OF = re.compile(r"best_of_(n|\d{1,6})")


def label(name: str) -> str:
    """A policy's name as people say it: "ppo" is PPO, "best_of_16" is best-of-16; others stay."""
    if _BEST_OF.fullmatch(name):
        return name.replace("_", "-")
    return _LABELS.get(name, name)


def trained(curves: Curves) -> str:
    """What a run trained, where no policy was compared: "Trained DPO for 100 steps." """
    steps = {
        name: max(step for points in drawn.values() for step, _ in points) for name, drawn in curves.items()
    }
    made = [name for name, last in steps.items() if last > 0]
    if len(made) == 1:
        last = steps[made[0]]
        return f"Trained {label(made[0])} for {last:g} step{'' if last == 1 else 's'}."
    return (
        f"Trained {', '.join(map(label, made[:-1]))} and {label(made[-1])}."
        if made
        else "Nothing was trained."
    )


def headline(policies: Sequence[PolicyResult]) -> str:
    """The answer in one sentence: who gained most over what, how far it moved, what it cost."""
    best = leader(policies)
    if best is not None and best.gain is not None:
        return f"{_gain(best, best.gain)}; {tax_clause(best.tax)}."
    scored = [policy for policy in policies if policy.gold is not None]
    if not scored:
        return "This run holds no evaluated policy yet."
    top = max(scored, key=lambda policy: policy.gold.mean if policy.gold else 0.0)
    assert top.gold is not None
    return f"{_first(label(top.name))} has the highest gold reward, {_with(top.gold)}; no gain was computed."


def leader(policies: Sequence[PolicyResult]) -> PolicyResult | None:
    """The policy with the largest mean gain, or None if no gain was computed."""
    gained = [policy for policy in policies if policy.gain is not None]
    return max(gained, key=lambda policy: policy.gain.mean if policy.gain else 0.0) if gained else None


def details(policies: Sequence[PolicyResult], frontier: Sequence[FrontierPoint]) -> list[str]:
    """One sentence for every other gain, largest first, and one for every over-optimised policy."""
    best = leader(policies)
    others = [p for p in policies if p.gain is not None and p is not best]
    others.sort(key=lambda policy: policy.gain.mean if policy.gain else 0.0, reverse=True)
    sentences = [f"{_gain(p, p.gain)}; {tax_clause(p.tax)}." for p in others if p.gain is not None]
    for name in dict.fromkeys(point.policy for point in frontier):
        sentence = over_optimised([point for point in frontier if point.policy == name])
        if sentence:
            sentences.append(sentence)
    return sentences


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
    known = [p for p in points if p.gold is not None and p.gold.low is not None and p.proxy is not None]
    if len(known) < 2:
        return ""
    known.sort(key=lambda p: p.step)
    last = known[-1]
    peak = max(known, key=lambda p: p.gold.mean if p.gold else 0.0)
    if peak.gold is None or last.gold is None or peak.gold.low is None or last.gold.high is None:
        return ""
    if last.gold.high >= peak.gold.low or (last.proxy or 0.0) <= (peak.proxy or 0.0):
        return ""
    step = "n" if _BEST_OF.fullmatch(last.policy) else "step"
    return (
        f"{_first(label(last.policy))} over-optimised: gold peaked at {plain(peak.gold.mean)} "
        f"({step} {peak.step:g}, KL {nats(peak.kl)}) and ended at {plain(last.gold.mean)} "
        f"(KL {nats(last.kl)}) "
        "while the proxy kept rising."
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
    return f"{_first(label(policy.name))} {change}{distance}"


def _with(value: Interval, *, signed: bool = False) -> str:
    return f"{plain(value.mean, signed=signed)}\u00a0{between(value.low, value.high, signed=signed)}"


def _first(text: str) -> str:
    return text[:1].upper() + text[1:]
