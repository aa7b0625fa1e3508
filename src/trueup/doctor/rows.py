"""Checks that need no model: labels, masks, log-probs that are none, rows seen twice or never."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise

import numpy as np

from trueup.doctor.dump import IGNORED, Row
from trueup.doctor.finding import Case, Check, Found, counted, finding, of_rows


def labels(case: Case) -> Found:
    """Labels must be the ids where they are: the model shifts them, whoever shifts them too is off by one."""
    rows = [row for row in case.rows if row.labels is not None and (row.labels != IGNORED).any()]
    wrong = [row for row in rows if _disagrees(row)]
    if not wrong:
        return []
    shifted = [row for row in wrong if _is_shifted(row)]
    if len(shifted) > len(wrong) / 2:
        says = (
            f"Labels are shifted by one in {of_rows(len(shifted), len(rows))}: labels[t] = input_ids[t + 1]."
        )
        remedy = "Give labels = input_ids with -100 where no loss is; the model shifts them itself."
        return [finding("shifted labels", says, shifted, remedy)]
    tokens = sum(int(_disagreeing(row).sum()) for row in wrong)
    says = f"{counted(tokens, 'label')} in {of_rows(len(wrong), len(rows))} are other ids than the row's own."
    remedy = "Make the labels from the same ids that the model reads."
    return [finding("other labels", says, wrong, remedy, tokens=tokens)]


def _disagreeing(row: Row) -> np.ndarray:
    assert row.labels is not None
    return (row.labels != IGNORED) & (row.labels != row.ids)


def _disagrees(row: Row) -> bool:
    return bool(_disagreeing(row).any())


def _is_shifted(row: Row) -> bool:
    assert row.labels is not None
    said = row.labels[:-1] != IGNORED
    return bool(said.any()) and float(np.mean(row.labels[:-1][said] == row.ids[1:][said])) > 0.9


def numbers(case: Case) -> Found:
    """A log-prob is finite and at most 0; an advantage or a reward is finite."""
    found = []
    for key, word in (("sampler", "sampler's log-probs"), ("trainer", "trainer's log-probs")):
        given = [(row, getattr(row, key)) for row in case.rows if getattr(row, key) is not None]
        # A float32 softmax may round the log-prob of a certainty to a little above 0.
        bad = [(row, int((values > 1e-3).sum())) for row, values in given if (values > 1e-3).any()]
        if bad:
            count, infinite = sum(n for _, n in bad), sum(int(np.isinf(v).sum()) for _, v in given)
            says = f"{count:,} of the {word} are above 0 or not finite ({infinite:,} NaN or infinite)."
            remedy = (
                "Write log-probs as the engine gives them: natural logarithms of one token's probability."
            )
            found.append(finding("not log-probs", says, (row for row, _ in bad), remedy, tokens=count))
    wrong = [row for row in case.rows if any(value == np.inf for value in (row.reward, row.advantage))]
    wrong += [row for row in case.rows if row.advantages is not None and np.isinf(row.advantages).any()]
    if wrong:
        says = f"Rewards or advantages of {counted(len(set(wrong)), 'row')} are NaN or infinite."
        remedy = "Find the reward that failed; one such row makes the gradient of the whole batch NaN."
        found.append(finding("not numbers", says, wrong, remedy))
    return found


def empty_loss(case: Case) -> Found:
    """A row with no token in the loss teaches nothing and is counted in means."""
    rows = [(row, row.trained) for row in case.rows]
    empty = [row for row, trained in rows if trained is not None and not trained.any()]
    if not empty:
        return []
    says = f"{of_rows(len(empty), len(rows)).capitalize()} have no token in the loss."
    remedy = "Often a prompt that fills the whole length: raise the maximum length, or drop such rows."
    return [finding("empty loss", says, empty, remedy)]


def unscored(case: Case) -> Found:
    """In a row that a policy wrote, each token in the loss has the log-prob that it was drawn with."""
    wrong: list[tuple[Row, int, int]] = []
    for row in case.rows:
        if row.sampler is not None and row.trained is not None:
            missing = row.trained & np.isnan(row.sampler)
            if missing.any():
                wrong.append((row, int(missing.sum()), int(row.trained.sum())))
    if not wrong:
        return []
    tokens, of = sum(n for _, n, _ in wrong), sum(n for _, _, n in wrong)
    says = (
        f"{tokens:,} of {of:,} loss tokens in {of_rows(len(wrong), len(case.rows))} have no log-prob of the "
        "sampler: it did not write them."
    )
    remedy = "Take prompts and tool outputs out of the loss mask."
    return [finding("loss on what was not sampled", says, (r for r, _, _ in wrong), remedy, tokens=tokens)]


def padding(case: Case) -> Found:
    """What is not attended to is padding, and padding is in no loss."""
    wrong: list[tuple[Row, int]] = []
    for row in case.rows:
        if row.attention is not None and row.loss is not None:
            count = int((row.loss & ~row.attention).sum())
            if count:
                wrong.append((row, count))
    if not wrong:
        return []
    tokens = sum(n for _, n in wrong)
    says = f"{counted(tokens, 'padding token')} are in the loss, in {of_rows(len(wrong), len(case.rows))}."
    remedy = "Set the loss mask to 0 (labels to -100) where attention_mask is 0."
    return [finding("padding in the loss", says, (r for r, _ in wrong), remedy, tokens=tokens)]


def repeated(case: Case) -> Found:
    """A row is read once an epoch: by its id, by its position in the stream, and by its ids in one step."""
    seen: dict[tuple[object, ...], list[Row]] = defaultdict(list)
    for row in case.rows:
        for key in _identities(row):
            seen[key].append(row)
    again = {row.line: row for rows in seen.values() for row in rows[1:]}
    if not again:
        return []
    most = max(seen.values(), key=len)
    lines = ", ".join([*(str(row.line) for row in most[:4]), *(["..."] if len(most) > 4 else [])])
    says = (
        f"{of_rows(len(again), len(case.rows)).capitalize()} were read before in the same epoch or step; one "
        f"{len(most)} times (lines {lines})."
    )
    remedy = "Look at the sampler of each rank, at resuming, and for copies in the data."
    return [finding("repeated rows", says, again.values(), remedy, most=len(most))]


def _identities(row: Row) -> Iterator[tuple[object, ...]]:
    if row.row is not None:
        yield "row", row.row, row.epoch
    if row.position is not None:
        yield "position", row.position
    # Completions of one prompt may be alike; `alike` asks how likely that is.
    if row.row is None and row.position is None and not row.sampled:
        seen = row.ids[row.real].tobytes(), b"" if row.loss is None else row.loss[row.real].tobytes()
        yield "ids", seen, row.step, row.epoch


def skipped(case: Case) -> Found:
    """Positions in the stream follow one another."""
    given = sorted({row.position for row in case.rows if row.position is not None})
    if not given:
        return "no position"
    holes = [(a, b) for a, b in pairwise(given) if b > a + 1]
    if not holes:
        return []
    missing = sum(b - a - 1 for a, b in holes)
    a, b = max(holes, key=lambda hole: hole[1] - hole[0])
    says = (
        f"{counted(missing, 'row')} of the stream were never read: positions {a + 1:,} to {b - 1:,}"
        f"{'' if len(holes) == 1 else f', and {len(holes) - 1} more gaps'}."
    )
    after = {b for _, b in holes}
    remedy = "Resume the data where the weights were saved; look for rows that a filter drops in silence."
    behind = [row for row in case.rows if row.position in after]
    return [finding("skipped rows", says, behind, remedy, missing=missing, gaps=len(holes))]


def alike(case: Case) -> Found:
    """Completions of one prompt are drawn apart: pairs that agree are as many as their probabilities say.

    A completion of log-prob ℓ is drawn again by another sample of its prompt with probability exp ℓ, so the
    pairs that agree have a mean of at most Σ over pairs of the likelier one's; more of them than Poisson's
    law gives once in a million is one random state used twice.
    """
    groups: dict[tuple[object, object], list[Row]] = defaultdict(list)
    for row in case.rows:
        if row.group is not None and row.sampler is not None and np.isfinite(_total(row)):
            groups[row.group, row.step].append(row)
    if not groups:
        return "no group with sampler_logprobs"
    pairs = [pair for rows in groups.values() for pair in combinations(rows, 2)]
    same = [(a, b) for a, b in pairs if np.array_equal(a.ids[a.real], b.ids[b.real])]
    expected = sum(float(np.exp(min(0.0, max(_total(a), _total(b))))) for a, b in pairs)
    from scipy.stats import poisson

    if not same or float(poisson.sf(len(same) - 1, expected)) > 1e-6:
        return []
    says = (
        f"{counted(len(same), 'pair')} of completions of one prompt are the same to the last id; their "
        f"log-probs allow {expected:.2g}."
    )
    remedy = "Give every sample and every rank its own seed."
    rows = [row for pair in same for row in pair]
    return [finding("identical samples", says, rows, remedy, pairs=len(same), expected=expected)]


def _total(row: Row) -> float:
    return float(np.nansum(row.sampler)) if row.sampler is not None else np.nan


def counts(rows: Sequence[Row]) -> Counter[str]:
    """How many rows, ids and tokens in the loss there are."""
    trained = [row.trained for row in rows]
    return Counter(
        rows=len(rows),
        ids=sum(len(row.ids) for row in rows),
        loss=sum(int(t.sum()) for t in trained if t is not None),
    )


CHECKS: tuple[Check, ...] = (
    Check(kinds=("shifted labels", "other labels"), needs=("labels",), look=labels),
    Check(kinds=("not log-probs", "not numbers"), needs=(), look=numbers),
    Check(kinds=("empty loss",), needs=("loss",), look=empty_loss),
    Check(kinds=("loss on what was not sampled",), needs=("sampler", "loss"), look=unscored),
    Check(kinds=("padding in the loss",), needs=("attention", "loss"), look=padding),
    Check(kinds=("repeated rows",), needs=(), look=repeated),
    Check(kinds=("skipped rows",), needs=("position",), look=skipped),
    Check(kinds=("identical samples",), needs=("group", "sampler"), look=alike),
)
