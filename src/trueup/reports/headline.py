"""What the run found, in sentences computed from its numbers.

A direction ("raised", "cost") is only claimed where the 95 % interval excludes zero.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from trueup.reports.numbers import estimate, listed, nats, opened, plain
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


def score_of(judge: str) -> str:
    """What a judge gives, as a noun; of a judge without a name it is the score."""
    return judge if judge.lower().endswith("score") else f"{judge} score".strip()


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
    return f"{opened(label(top.name))} has the highest gold reward, {_with(gold)}; no gain was computed."


def by_gain(policies: Sequence[PolicyResult]) -> list[tuple[PolicyResult, Interval]]:
    """Every policy whose gain was computed with that gain, the largest mean first."""
    gained = [(policy, policy.gain) for policy in policies if policy.gain is not None]
    return sorted(gained, key=lambda pair: -pair[1].mean)


TERMS = (
    "Gold is the reward that is believed, which training does not see unless it was given it as its judge; "
    "the proxy is the learned one that it sees. An exam is a task that alignment did not aim at; a tax is "
    "what a policy lost on it."
)
"What the sentences take for granted; it stands before them."


def details(policies: Sequence[PolicyResult], frontier: Sequence[FrontierPoint]) -> list[str]:
    """What else was found, a sentence each: best-of-n beside training, over-optimisation, gains, taxes."""
    names = dict.fromkeys(point.policy for point in frontier)
    turned = [over_optimised([point for point in frontier if point.policy == name]) for name in names]
    others = [_gain(*found) for found in by_gain(policies)[1:]]
    return [*filter(None, [beside_best_of_n(policies, frontier), *turned]), *others, *_over_base(policies)]


def beside_best_of_n(policies: Sequence[PolicyResult], frontier: Sequence[FrontierPoint]) -> str:
    """A sentence if sampling n and keeping the best is no worse than the best trained policy, at less KL."""
    trained = [p for p, _ in by_gain(policies) if p.gold and p.kl and p.kl_kind == "estimate"]
    if not trained:
        return ""
    best, far, gold = trained[0], trained[0].kl, trained[0].gold
    assert far is not None and gold is not None
    near = [p for p in frontier if _BEST_OF.fullmatch(p.policy) and p.gold and p.step > 1 and p.kl < far.mean]
    if not near:
        return ""
    top = max(near, key=lambda p: p.gold.mean if p.gold else 0.0)
    assert top.gold is not None
    gap = apart(top.gold, gold)
    if gap is None or gap < 0:
        return ""
    as_good = "has more gold than" if gap > 0 else "has no measurably less gold than"
    return (
        f"Best-of-{top.step:g} {as_good} {label(best.name)} ({plain(top.gold.mean)} and {plain(gold.mean)}), "
        f"at {100 * top.kl / far.mean:.0f}\u202f% of its KL (at most {nats(top.kl)} of {nats(far.mean)})."
    )


def apart(a: Interval, b: Interval) -> int | None:
    """+1 or −1 where a lies measurably above or below b, else 0; None where an interval is not known.

    Two means apart: the half widths add in quadrature, as of independent ones, which is wider than pairs are.
    """
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return None
    half = math.hypot(a.high - a.low, b.high - b.low) / 2
    return 0 if abs(a.mean - b.mean) <= half else 1 if a.mean > b.mean else -1


def _over_base(policies: Sequence[PolicyResult]) -> list[str]:
    """What the exams cost against the base, of each policy that started elsewhere; nothing where none did."""
    said = [(p, tax_clause(p.tax)) for p in policies if p.tax and p.gain_over not in ("", "base")]
    return (
        ["Against base: " + "; ".join(f"{label(p.name)}, {clause}" for p, clause in said) + "."]
        if said
        else []
    )


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
    """A sentence if gold fell measurably from its peak while the proxy rose; else ""."""
    ordered = sorted(points, key=lambda p: p.step)
    known = [(p, p.gold, p.proxy) for p in ordered if p.gold and p.proxy is not None]
    if len(known) < 2:
        return ""
    last, end, proxy_last = known[-1]
    peak, top, proxy_then = max(known, key=lambda row: row[1].mean)
    if apart(end, top) != -1 or proxy_last <= proxy_then:
        return ""
    sampled = _BEST_OF.fullmatch(last.policy)
    where = "n" if sampled else "step"
    return (
        f"{'Best-of-n' if sampled else opened(label(last.policy))} over-optimised: gold peaked at "
        f"{plain(top.mean)} ({where} {peak.step:g}, KL {nats(peak.kl)}) and fell to {plain(end.mean)} "
        f"({where} {last.step:g}, KL {nats(last.kl)}), while the proxy rose from {plain(proxy_then)} to "
        f"{plain(proxy_last)}."
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
    over = policy.tax_over_start or (policy.tax if policy.gain_over in ("", "base") else {})
    cost = f"; {tax_clause(over)}" if over or not policy.tax else ""
    return f"{opened(label(policy.name))} {change}{distance}{cost}."


def _with(value: Interval, *, signed: bool = False) -> str:
    return estimate(value, signed=signed, say_unknown=True, space="\u00a0")
