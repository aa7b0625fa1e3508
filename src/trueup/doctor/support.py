"""Checks of which tokens were drawn, whatever log-probs say of them: at one temperature, from the whole law.

    temperature   2 [max_β Σ log π_β(y) - Σ log π(y)] ~ χ²₁                   the likelihood ratio
    support       P(no token beyond the largest mass seen before one) = Π S_t  exact, by the tokens' own laws

Both hold for tokens drawn from the model one after the other, since each law is given what came before. An
engine that reports raw log-probs hides both from the comparison of log-probs: the numbers are right, the
tokens are not drawn by them.
"""

from __future__ import annotations

import numpy as np

from trueup.doctor.finding import Case, Check, Finding, Found, finding, of_rows
from trueup.doctor.laws import minimum
from trueup.doctor.scan import NODES, Scan

ALPHA = 1e-6
"Chance of a finding where nothing is wrong."


def drawn(case: Case) -> Found:
    """Whether a policy's tokens are drawn from the law that the model has at the declared temperature."""
    scan = case.scan
    if scan is None or not case.verdicts:
        return "no log-probs that could be scored"
    for column, verdict in case.verdicts.items():
        if not verdict.clean:
            return f"the {column}'s log-probs are not the model's"
    mine = np.isin(scan.owner, [k for k, row in enumerate(scan.rows) if row.sampled and row.keeps_ids])
    if not mine.any():
        return "no row that a policy wrote"
    warm, gain = _warmth(scan, mine)
    cut = _cut(scan, mine)
    if cut is not None and cut["gain"] > gain:
        return [_truncated(scan, mine, cut)]
    return [] if warm is None else [_warmed(scan, mine, warm)]


def _warmth(scan: Scan, mine: np.ndarray) -> tuple[float | None, float]:
    """The factor of the temperature that the tokens fit best, None where 1 fits as well; the gain in nats."""
    from scipy.stats import chi2

    def loss(x: float) -> float:
        return -float(scan.at_temperature(x)[mine].sum())

    x = minimum(loss, np.linspace(NODES[-1], NODES[0], 31))
    gain = loss(0.0) - loss(x)
    moved = (scan.at_temperature(x) - scan.exact)[mine]
    seen = float(chi2.sf(2 * gain, 1)) < ALPHA
    material = float(np.mean(moved**2)) > float(np.mean(scan.noise[mine] ** 2))
    return (float(np.exp(-x)) if seen and material else None), gain


def _cut(scan: Scan, mine: np.ndarray) -> dict[str, float] | None:
    """The support that all tokens lie in, by mass or by rank, where the whole law would have left it."""
    mass = np.cumsum(np.exp(scan.top[mine]), 1)
    rank = scan.rank[mine].astype(int)
    last = mass.shape[1] - 1
    if (rank > last).any():
        return None
    seen = np.where(rank > 0, np.take_along_axis(mass, np.maximum(rank - 1, 0)[:, None], 1)[:, 0], 0.0)
    most, deepest = float(seen.max()), int(rank.max())
    ends = (mass <= most).sum(1)
    by_mass = np.take_along_axis(mass, np.minimum(ends, last)[:, None], 1)[:, 0]
    by_mass = np.where(ends > last, 1.0, by_mass)
    found = {"top_p": (by_mass, most), "top_k": (mass[:, deepest], deepest + 1.0)}
    name = max(found, key=lambda name: -float(np.log(np.clip(found[name][0], 1e-12, 1)).sum()))
    inside, bound = found[name]
    shift = -np.log(np.clip(inside, 1e-12, 1.0))
    gain = float(shift.sum())
    # Two ways to look, so half the chance each.
    return (
        None if gain < -np.log(ALPHA / 2) else {name: bound, "gain": gain, "mean_shift": float(shift.mean())}
    )


def _truncated(scan: Scan, mine: np.ndarray, cut: dict[str, float]) -> Finding:
    rows = [row for k, row in enumerate(scan.rows) if k in set(scan.owner[mine])]
    tokens = int(mine.sum())
    bound = f"top-p {cut['top_p']:.3f}" if "top_p" in cut else f"top-k {cut['top_k']:.0f}"
    says = (
        f"The tokens are drawn from a truncated law: all {tokens:,} lie within {bound}; by the whole law "
        f"the chance of that is {np.exp(-cut['gain']):.1g}. Renormalised, their log-probs would be "
        f"{cut['mean_shift']:+.3f} nats a token higher."
    )
    remedy = (
        "Sample with top_p 1 and top_k off; a truncated sampler is not the policy that the ratio is about."
    )
    return finding("truncated samples", says, rows, remedy, tokens=tokens, **cut)


def _warmed(scan: Scan, mine: np.ndarray, factor: float) -> Finding:
    rows = [row for k, row in enumerate(scan.rows) if k in set(scan.owner[mine])]
    declared = {row.temperature or 1.0 for row in rows}
    one = (
        f"{next(iter(declared)) * factor:.3g}" if len(declared) == 1 else f"{factor:.3g} times that declared"
    )
    says = (
        f"The tokens of {of_rows(len(rows), len(rows))} are drawn at temperature {one}, but their log-probs "
        f"are those of {', '.join(f'{t:g}' for t in sorted(declared))} (by the tokens' likelihood)."
    )
    remedy = (
        "Ask the engine for log-probs after the temperature (vLLM: --logprobs-mode processed_logprobs), and "
        "declare the one that it used."
    )
    return finding("drawn at another temperature", says, rows, remedy, temperature_factor=factor)


CHECKS: tuple[Check, ...] = (
    Check(
        kinds=("truncated samples", "drawn at another temperature"), needs=("sampled", "model"), look=drawn
    ),
)
