"""Checks of log-probs against the model's: what rounding explains is no finding, what else explains is named.

A row is out of line where its mean squared gap, in units of rounding's own variance, is above 4 (twice the size)
by more than six standard errors. All rows together are asked too: a law that explains the gaps is a finding
where what it adds to a row's log-ratio is more than rounding adds, so that a bias far below one token's noise is
seen in many.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from trueup.doctor.dump import Row
from trueup.doctor.finding import Case, Check, Finding, Found, finding, of_rows
from trueup.doctor.laws import Gaps, Law, rival
from trueup.doctor.scan import Scan

Column = Literal["sampler", "trainer"]
FACTOR = 4.0
"A row's mean squared gap may be so many times rounding's variance: other kernels round in another order."
EXPLAINED = 0.8
"A law is named where it leaves at most a fifth of the squared gaps beyond rounding."
APART = 0.065
"""Root mean square of the gap of two bfloat16 engines, in nats a token, above which no rounding is: the error of
one was measured as .023 on a model of 30 million weights; √2 of it, and twice that."""
_WORDS = {"sampler": "sampler's", "trainer": "trainer's"}
_REMEDY = {
    "temperature": "Divide the logits by one temperature on both sides, or ask the engine for processed "
    "log-probs (vLLM: --logprobs-mode processed_logprobs).",
    "truncated support": "Sample with top_p 1 and top_k off (-1 or 0), or take raw log-probs; otherwise the ratio "
    "of trainer to sampler is biased by this much at every token.",
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


def gaps_of(scan: Scan, column: Column) -> Gaps | None:
    """The tokens at which a column has a log-prob and the model has scored; None where there are none."""
    given = np.full(len(scan.owner), np.nan)
    for k, row in enumerate(scan.rows):
        values = getattr(row, column)
        if values is not None:
            mine = scan.owner == k
            given[mine] = values[scan.at[mine]]
    index = np.flatnonzero(np.isfinite(given))
    return Gaps(scan=scan, index=index, given=given[index]) if len(index) else None


@dataclass(frozen=True, kw_only=True, eq=False)
class Verdict:
    """What is to be said of a column: the law that explains its gaps, and the rows that nothing explains."""

    law: Law | None
    of_law: tuple[int, ...]
    unexplained: tuple[int, ...]
    "Rows of the scan whose gaps are beyond rounding after the law."
    left: np.ndarray
    "The gaps less what the law explains, at all tokens."


def judge(gaps: Gaps) -> Verdict:
    """The verdict on a column."""
    nothing = np.zeros(len(gaps.index))
    out = _out_of_line(gaps, gaps.gap)
    with_tokens = np.unique(gaps.owner)
    some = 0 < len(out) < 0.9 * len(with_tokens)
    chosen = np.isin(gaps.owner, out) if some else np.ones(len(gaps.index), bool)
    asked = gaps.of(chosen)
    law = rival(asked)
    if law is None or not (_names(asked, law) and (len(out) or _material(asked, law))):
        return Verdict(law=None, of_law=(), unexplained=tuple(out), left=gaps.gap)
    predicted = nothing.copy()
    predicted[chosen] = law.predicted
    left = gaps.gap - predicted
    rows = tuple(out) if len(out) else tuple(with_tokens)
    return Verdict(law=law, of_law=rows, unexplained=tuple(_out_of_line(gaps, left)), left=left)


def _out_of_line(gaps: Gaps, gap: np.ndarray) -> np.ndarray:
    """The rows of the scan whose squared gaps are beyond rounding's."""
    noise = (gaps.scan.noise / gaps.scan.sigma) ** 2
    count = gaps.per_row(np.ones(len(gap)))
    mean = gaps.per_row((gap / gaps.sigma) ** 2) / np.maximum(count, 1)
    error = float(np.std(noise)) / np.sqrt(np.maximum(count, 1))
    return np.flatnonzero((count > 0) & (mean > FACTOR * (1 + 6 * error)))


def _names(gaps: Gaps, law: Law) -> bool:
    """Whether a law leaves little of the squared gaps beyond rounding."""
    before = float((gaps.gap**2).sum())
    after = float(((gaps.gap - law.predicted) ** 2).sum()) - float((gaps.sigma**2).sum())
    return after <= (1 - EXPLAINED) * before


def _material(gaps: Gaps, law: Law) -> bool:
    """Whether what a law adds to the rows' log-ratios is more than rounding adds."""
    added, rounding = gaps.per_row(law.predicted) ** 2, gaps.per_row(gaps.sigma**2)
    squares = gaps.per_row(law.predicted**2)
    return max(float(added.sum()), float(squares.sum())) > float(rounding.sum())


def _look(case: Case, column: Column) -> Found:
    if case.scan is None:
        return "no --model"
    gaps = gaps_of(case.scan, column)
    if gaps is None:
        return f"no {column}_logprobs at tokens that can be scored"
    verdict = judge(gaps)
    found = []
    if verdict.law is not None:
        found.append(_of_law(gaps, verdict, column))
    if verdict.unexplained:
        found.append(_of_policy(gaps, verdict, column))
    return found


def _of_law(gaps: Gaps, verdict: Verdict, column: Column) -> Finding:
    law, rows = verdict.law, [gaps.scan.rows[k] for k in verdict.of_law]
    assert law is not None
    mine = gaps.of(np.isin(gaps.owner, verdict.of_law))
    share = 1 - float((verdict.left**2).sum()) / float((gaps.gap**2).sum())
    shift = law.measured.get("mean_shift")
    biased = "" if shift is None else f"; the mean shift is {shift:+.3f} nats a token"
    says = (
        f"The {_WORDS[column]} log-probs {_in_words(law, rows)}{biased}. That explains {_percent(share)} of gaps of "
        f"{_rms(mine.gap):.3f} nats rms; {rounding_of(gaps)}."
    )
    return finding(law.kind, says, rows, _REMEDY[law.kind], rms=_rms(mine.gap), share=share, **law.measured)


def _in_words(law: Law, rows: Sequence[Row]) -> str:
    """A law's words, with the temperature itself where the rows declare one."""
    declared = {row.temperature or 1.0 for row in rows}
    factor = law.measured.get("temperature_factor")
    if law.kind != "temperature" or factor is None or len(declared) > 1:
        return law.says
    (one,) = declared
    error = law.says.partition("± ")[2].partition(" ")[0]
    return f"are of temperature {one * factor:.4g} ± {one * float(error):.1g}, not the declared {one:g}"


def _of_policy(gaps: Gaps, verdict: Verdict, column: Column) -> Finding:
    rows = [gaps.scan.rows[k] for k in verdict.unexplained]
    chosen = np.isin(gaps.owner, verdict.unexplained)
    gap = verdict.left[chosen]
    kl = float(np.mean(np.expm1(-np.clip(gap, -50, 50)) + gap))
    together = within_rows(gap, gaps.owner[chosen])
    all_of = len(np.unique(gaps.owner))
    says = (
        f"The {_WORDS[column]} log-probs are another policy's in {of_rows(len(rows), all_of)}: gaps of "
        f"{_rms(gap):.3f} nats rms, mean {np.mean(gap):+.3f}, correlated {together:.2f} within a row; "
        f"{rounding_of(gaps)}. KL to the model {kl:.3g} nats a token."
    )
    return finding(
        "stale weights or cache", says, rows, _REMEDY["other policy"], rms=_rms(gap), kl=kl, within=together
    )


def within_rows(gap: np.ndarray, owner: np.ndarray) -> float:
    """The intraclass correlation of gaps by row: the share of their variance that rows have in common."""
    _, group, count = np.unique(owner, return_inverse=True, return_counts=True)
    if len(count) < 2 or len(gap) == len(count):
        return 0.0
    means = np.bincount(group, gap) / count
    inner = float(((gap - means[group]) ** 2).sum()) / (len(gap) - len(count))
    outer = float((count * (means - gap.mean()) ** 2).sum()) / (len(count) - 1)
    size = (len(gap) - float((count**2).sum()) / len(gap)) / (len(count) - 1)
    between = max(0.0, (outer - inner) / size)
    return between / (between + inner) if between + inner > 0 else 0.0


def rounding_of(gaps: Gaps) -> str:
    """`bfloat16 gives .021`, of the same tokens."""
    return f"{gaps.scan.precision} gives {_rms(gaps.scan.noise[gaps.index]):.2g}"


def rounding_note(scan: Scan, column: Column) -> str | None:
    """What a column whose gaps are no finding shows: how large they are, and what rounding gives."""
    gaps = gaps_of(scan, column)
    if gaps is None:
        return None
    return (
        f"The {_WORDS[column]} log-probs are the model's: gaps of {_rms(gaps.gap):.2g} nats rms, mean "
        f"{np.mean(gaps.gap):+.1g}, over {len(gaps.index):,} tokens; {rounding_of(gaps)}."
    )


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share < 0.9995 else "all but 0.05 %"


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

