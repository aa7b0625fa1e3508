"""A diagnosis in 80 columns: what is wrong first, each with what to do, then what was looked for."""

from __future__ import annotations

import textwrap
from collections import defaultdict
from collections.abc import Iterator

from trueup.doctor.examine import Diagnosis
from trueup.doctor.finding import Finding, counted
from trueup.reports.visible import visible

WIDTH = 80


def printed(found: Diagnosis, *, dump: str, model: str | None) -> Iterator[str]:
    """The lines of a diagnosis."""
    scored = f", {found.num_scored:,} scored" if 0 < found.num_scored < found.num_rows else ""
    yield from _wrapped(
        f"{dump}: {counted(found.num_rows, 'row')}{scored}, {counted(found.num_tokens, 'token')}, "
        f"{found.num_loss_tokens:,} in the loss; {f'model {model}' if model else 'no model'}"
    )
    yield ""
    if not found.findings:
        yield "Nothing found."
    for number, finding in enumerate(found.findings, 1):
        yield from _finding(number, finding)
    for note in found.notes:
        yield ""
        yield from _wrapped(note)
    yield ""
    if found.findings:
        yield f"{counted(len(found.clean), 'other kind')} of fault looked for, and not there."
    else:
        yield from _wrapped(f"Looked for, and not there: {', '.join(found.clean)}.")
    yield from _unchecked(found)


def _unchecked(found: Diagnosis) -> Iterator[str]:
    """What was not looked for, by the reason."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for kind, why in found.unchecked:
        by_reason[why].append(kind)
    if by_reason:
        yield ""
        yield "Not looked for:"
    for why, kinds in by_reason.items():
        yield from _wrapped(f"{why}: {', '.join(kinds)}", "   ", "      ")


def _finding(number: int, finding: Finding) -> Iterator[str]:
    mark = "" if finding.severity == "fault" else "  (a doubt)"
    if number > 1:
        yield ""
    yield f"{number}. {finding.name.upper()}{mark}"
    yield from _wrapped(visible(finding.says), "   ")
    yield from _wrapped(f"lines {runs(finding.lines)}", "   ")
    yield from _wrapped(f"-> {finding.remedy}", "   ", "      ")


def runs(lines: tuple[int, ...]) -> str:
    """The lines, runs of them joined and the rest counted: `1-32, 40 and 12 more`."""
    found: list[list[int]] = []
    for line in lines:
        if found and line == found[-1][1] + 1:
            found[-1][1] = line
        else:
            found.append([line, line])
    said = [str(a) if a == b else f"{a}-{b}" for a, b in found]
    more = sum(b - a + 1 for a, b in found[8:])
    return ", ".join(said[:8]) + (f" and {more:,} more" if more else "")


def _wrapped(text: str, first: str = "", rest: str | None = None) -> list[str]:
    after = first if rest is None else rest
    return textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=after, break_on_hyphens=False)
