"""Checks of log-probs against the model's: what rounding explains is no finding, any other cause is named."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trueup.doctor.dump import Row
from trueup.doctor.finding import Case, Check, Finding, Found, finding, of_rows
from trueup.doctor.laws import Gaps, Law
from trueup.doctor.verdict import Column, Verdict, within_rows

APART = 0.16
"""Gaps of two bfloat16 engines, in nats rms a token, that no rounding reaches: the error of one was measured
as .056 on SmolLM2-135M-Instruct; √2 of it, and twice that."""
_WORDS = {"sampler": "sampler's", "trainer": "trainer's"}
_REMEDY = {
    "temperature": "Divide the logits by one temperature on both sides, or ask the engine for processed "
    "log-probs (vLLM: --logprobs-mode processed_logprobs).",
    "truncated support": "Sample with top_p 1 and top_k off (-1 or 0), or take raw log-probs; otherwise the "
    "ratio of trainer to sampler is biased by this much at every token.",
    "log-probs off by one": "The logits at t give the token at t + 1: shift once, on one side.",
    "log-probs of other rows": "Reorder rows and their log-probs by one permutation.",
    "other policy": "Send the weights before sampling, and drop the prefix cache with them; or use these "
    "log-probs as the old policy's, in the ratio.",
}


def sampler(case: Case) -> Found:
    """The sampler's log-probs against the model's."""
    return _look(case, "sampler")


def trainer(case: Case) -> Found:
    """The trainer's log-probs against the model's."""
    return _look(case, "trainer")


def _look(case: Case, column: Column) -> Found:
    if case.scan is None:
        return "no row that could be scored"
    verdict = case.verdicts.get(column)
    if verdict is None:
        return f"no {column}_logprobs at tokens that can be scored"
    if (verdict.gaps.given > 1e-3).mean() > 0.5:
        return f"the {column}_logprobs are none"
    found = []
    if verdict.law is not None:
        found.append(finding_of_law(verdict, column))
    if verdict.unexplained:
        found.append(finding_of_policy(verdict, column))
    return found


def finding_of_law(verdict: Verdict, column: Column) -> Finding:
    """The finding of a verdict that has a law: what it is, and how much of the gaps it explains."""
    law, gaps = verdict.law, verdict.gaps
    assert law is not None
    rows = [gaps.scan.rows[k] for k in verdict.of_law]
    chosen = np.isin(gaps.owner, verdict.of_law)
    gap = gaps.gap[chosen]
    share = 1 - float((verdict.left[chosen] ** 2).sum()) / float((gap**2).sum())
    shift = law.measured.get("mean_shift")
    biased = "" if shift is None else f"; the mean shift is {shift:+.3f} nats a token"
    says = (
        f"The {_WORDS[column]} log-probs {_in_words(law, rows)}{biased}. That explains {_percent(share)} of "
        f"the squared gaps: {_rms(gap):.3f} nats rms a token, where {rounding_of(gaps)}."
    )
    return finding(law.kind, says, rows, _REMEDY[law.kind], rms=_rms(gap), share=share, **law.measured)


def _in_words(law: Law, rows: Sequence[Row]) -> str:
    """A law's words, with the temperature itself where the rows declare one."""
    factor, error = law.measured.get("temperature_factor", 1.0), law.measured.get("error", 0.0)
    declared = {row.temperature or 1.0 for row in rows}
    if len(declared) > 1:
        heat = f"{factor:.3f} times the declared temperatures"
    else:
        (one,) = declared
        known = f" ± {one * error:.3f}" if one * error > 5e-4 else ""
        heat = f"temperature {one * factor:.3f}{known}, not the declared {one:g}"
    return law.says.replace("{temperature}", heat)


def finding_of_policy(verdict: Verdict, column: Column) -> Finding:
    """The finding of a verdict whose gaps are another policy's."""
    gaps = verdict.gaps
    rows = [gaps.scan.rows[k] for k in verdict.unexplained]
    chosen = np.isin(gaps.owner, verdict.unexplained)
    gap = verdict.left[chosen]
    kl = float(np.mean(np.expm1(-np.clip(gap, -50, 50)) + gap))
    together = within_rows(gap, gaps.owner[chosen])
    all_of = len(np.unique(gaps.owner))
    says = (
        f"The {_WORDS[column]} log-probs are another policy's in {of_rows(len(rows), all_of)}: gaps of "
        f"{_rms(gap):.3f} nats rms a token, where {rounding_of(gaps)}; mean {np.mean(gap):+.3f}, correlated "
        f"{together:.2f} within a row, KL to the model {kl:.3f} a token."
    )
    return finding(
        "stale weights or cache", says, rows, _REMEDY["other policy"], rms=_rms(gap), kl=kl, within=together
    )


def rounding_of(gaps: Gaps) -> str:
    """`rounding to bfloat16 gives .021`, of the same tokens."""
    return f"rounding to {gaps.scan.precision} gives {_rms(gaps.scan.noise[gaps.index]):.2g}"


def rounding_note(verdict: Verdict, column: Column) -> str:
    """What a column whose gaps are no finding shows: how large they are, and what rounding gives."""
    gaps = verdict.gaps
    return (
        f"The {_WORDS[column]} log-probs are the model's: gaps of {_rms(gaps.gap):.2g} nats rms, mean "
        f"{np.mean(gaps.gap):+.1g}, over {len(gaps.index):,} tokens, where {rounding_of(gaps)}."
    )


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share < 0.9995 else "over 99.9 %"


def between(case: Case) -> Found:
    """Without a model: the sampler's log-probs against the trainer's."""
    if case.scan is not None:
        return "both are compared with the model"
    wrong: list[tuple[Row, np.ndarray]] = []
    every = []
    for row in case.rows:
        if row.sampler is not None and row.trainer is not None:
            gap = row.sampler - row.trainer
            gap = gap[np.isfinite(gap)]
            every.append(gap)
            if len(gap) and _rms(gap) > APART:
                wrong.append((row, gap))
    joined = np.concatenate(every) if every else np.zeros(0)
    if not len(joined) or _rms(joined) <= APART:
        return []
    says = (
        f"Sampler and trainer disagree by {_rms(joined):.3f} nats rms a token, mean {joined.mean():+.3f}, in "
        f"{of_rows(len(wrong), len(every))}; two bfloat16 engines stay within {APART}."
    )
    remedy = "Give --model the weights that wrote the dump: it names the cause."
    return [finding("sampler against trainer", says, (r for r, _ in wrong), remedy, rms=_rms(joined))]


KINDS = ("temperature", "truncated support", "log-probs off by one", "log-probs of other rows")
CHECKS: tuple[Check, ...] = (
    Check(kinds=(*KINDS, "stale weights or cache"), needs=("sampler", "model"), look=sampler),
    Check(kinds=(*KINDS, "stale weights or cache"), needs=("trainer", "model"), look=trainer),
    Check(kinds=("sampler against trainer",), needs=("sampler", "trainer"), look=between),
)
