"""`examine`: every check on a dump's rows, what was found worst first, and what could not be looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from trueup.doctor import advantages, rows
from trueup.doctor.dump import Row, columns_of
from trueup.doctor.finding import Case, Check, Finding

if TYPE_CHECKING:
    from trueup.doctor.scan import Opened, Scan
    from trueup.doctor.verdict import Verdict

NAMES = {
    "sampler": "sampler_logprobs", "trainer": "trainer_logprobs", "loss": "loss_mask or labels",
    "attention": "attention_mask", "advantage": "advantages", "model": "--model",
    "sampled": "sampler_logprobs or advantages",
}  # fmt: skip
"What the dump calls what a check needs, where the name is another."


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What was found in a dump."""

    findings: tuple[Finding, ...]
    "Worst first: faults before doubts, then by how many rows they touch."
    clean: tuple[str, ...]
    "Kinds that were looked for and not found."
    unchecked: tuple[tuple[str, str], ...]
    "Kinds that were not looked for, each with the reason."
    notes: tuple[str, ...]
    "What was measured and is no finding."
    num_rows: int
    num_tokens: int
    num_loss_tokens: int
    num_scored: int
    "Rows whose tokens the model has scored."

    def to_json(self) -> dict[str, Any]:
        """The same as plain data."""
        return {
            "rows": self.num_rows,
            "tokens": self.num_tokens,
            "loss_tokens": self.num_loss_tokens,
            "scored_rows": self.num_scored,
            "findings": [
                {
                    "name": f.name, "severity": f.severity, "says": f.says, "count": len(f.lines),
                    "lines": list(f.lines), "measured": dict(f.measured), "remedy": f.remedy,
                }
                for f in self.findings
            ],
            "clean": list(self.clean),
            "unchecked": [{"name": name, "reason": why} for name, why in self.unchecked],
            "notes": list(self.notes),
        }  # fmt: skip


def examine(
    given: Sequence[Row],
    opened: Opened | None = None,
    *,
    loss_on: Literal["answers", "everything"] = "answers",
    num: int = 256,
) -> Diagnosis:
    """The diagnosis of some rows; the model scores the tokens of at most `num` of them, evenly spread."""
    scan = None if opened is None else _scan(given, opened, num)
    case = Case(
        rows=given,
        chat=None if opened is None else opened.chat,
        vocabulary=None if opened is None else _ids_of(opened),
        scan=scan,
        verdicts={} if scan is None else _verdicts(scan),
        loss_on=loss_on,
    )
    there = columns_of(given) | ({"model"} if opened is not None else set())
    there |= {"sampled"} if any(row.sampled for row in given) else set()
    found: list[Finding] = []
    looked: list[str] = []
    unchecked: dict[str, str] = {}
    for check in checks():
        missing = [NAMES.get(need, need) for need in check.needs if need not in there]
        said = f"no {', no '.join(missing)}" if missing else check.look(case)
        if isinstance(said, str):
            unchecked |= {kind: said for kind in check.kinds if kind not in unchecked}
        else:
            found += said
            looked += check.kinds
    names = {f.name for f in found}
    counted = rows.counts(given)
    return Diagnosis(
        findings=tuple(sorted(found, key=lambda f: (f.severity != "fault", -len(f.lines)))),
        clean=tuple(kind for kind in dict.fromkeys(looked) if kind not in names),
        unchecked=tuple((kind, why) for kind, why in unchecked.items() if kind not in looked),
        notes=_notes(case),
        num_rows=counted["rows"],
        num_tokens=counted["ids"],
        num_loss_tokens=counted["loss"],
        num_scored=0 if scan is None else len(scan.rows),
    )


def checks() -> tuple[Check, ...]:
    """Every check; some import torch, so a mistyped dump is answered before."""
    from trueup.doctor import gaps, support, tokens

    return (*tokens.CHECKS, *rows.CHECKS, *gaps.CHECKS, *support.CHECKS, *advantages.CHECKS)


def _ids_of(opened: Opened) -> int:
    return int(opened.exact.hf_model.get_input_embeddings().weight.shape[0])


def _scan(given: Sequence[Row], opened: Opened, num: int) -> Scan | None:
    from trueup.doctor.scan import scan

    size = _ids_of(opened)
    wanted = [(row, want) for row in given if (want := _wanted(row, size)).any()]
    if len(wanted) > num:
        picked = np.unique(np.linspace(0, len(wanted) - 1, num).round().astype(int))
        wanted = [wanted[k] for k in picked]
    return scan(opened, [row for row, _ in wanted], [want for _, want in wanted])


def _wanted(row: Row, vocabulary: int) -> np.ndarray:
    """Tokens that log-probs are given for; of a sample without any, those in the loss; no unknown ids."""
    wanted = np.zeros(len(row.ids), bool)
    if (row.ids < 0).any() or (row.ids >= vocabulary).any():
        return wanted
    for values in (row.sampler, row.trainer):
        if values is not None:
            wanted |= np.isfinite(values)
    if not wanted.any() and row.sampled and row.trained is not None:
        wanted = row.trained
    return wanted


def _verdicts(scan: Scan) -> dict[str, Verdict]:
    from trueup.doctor.verdict import COLUMNS, gaps_of, judge

    found = {column: gaps_of(scan, column) for column in COLUMNS}
    return {column: judge(gaps) for column, gaps in found.items() if gaps is not None}


def _notes(case: Case) -> tuple[str, ...]:
    from trueup.doctor.gaps import rounding_note
    from trueup.doctor.verdict import COLUMNS

    notes = []
    for column in COLUMNS:
        verdict = case.verdicts.get(column)
        if verdict is not None and verdict.clean:
            notes.append(rounding_note(verdict, column))
    return tuple(notes)
