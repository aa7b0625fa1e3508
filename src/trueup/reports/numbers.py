"""How the report writes numbers: the same digits in the page, the headline and the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from trueup.reports.checked import Interval

MINUS = "\u2212"


def plain(value: float | None, *, signed: bool = False) -> str:
    """`value` with three decimals (fewer from 10 up), a true minus sign; "–" where there is none."""
    if value is None:
        return "–"
    size = abs(value)
    if size >= 1e5 or 0 < size < 5e-4:
        text = f"{value:.1e}"
    else:
        decimals = 3 if size < 10 else 2 if size < 100 else 1 if size < 1000 else 0
        text = f"{value:.{decimals}f}"
    if signed and value > 0:
        text = "+" + text
    return text.replace("-", MINUS)


def tally(value: float | None) -> str:
    """A number that may be a count: whole ones without decimals, others as `plain` writes them."""
    return f"{value:,.0f}".replace("-", MINUS) if value is not None and value.is_integer() else plain(value)


def percent(value: float | None) -> str:
    """`value` as a percentage with one decimal."""
    return "–" if value is None else f"{100 * value:.1f}\u202f%"


def between(low: float | None, high: float | None, *, signed: bool = False, as_percent: bool = False) -> str:
    """The interval as "[low, high]", unbreakable; "(no interval)" where it is not known."""
    if low is None or high is None:
        return "(no interval)"
    if as_percent:
        return f"[{100 * low:.1f},\u00a0{100 * high:.1f}]"
    return f"[{plain(low, signed=signed)},\u00a0{plain(high, signed=signed)}]"


def estimate(value: Interval, *, signed: bool = False, say_unknown: bool = False, space: str = " ") -> str:
    """The mean and its interval; the mean alone where none is known, unless that is to be said."""
    mean = plain(value.mean, signed=signed)
    if value.low is None and not say_unknown:
        return mean
    return f"{mean}{space}{between(value.low, value.high, signed=signed)}"


def nats(value: float | None) -> str:
    """A KL distance with two decimals."""
    return "–" if value is None else f"{value:.2f}".replace("-", MINUS)


def tick(value: float) -> str:
    """A round number on an axis, without needless zeros."""
    return f"{value:g}".replace("-", MINUS)


def count(value: float | None) -> str:
    """A count a person can read: 950, 12.4 k, 3.10 M, 2.00 B."""
    if value is None:
        return "–"
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            scaled = value / (1e3 if letter == "k" else size)
            return f"{scaled:.{2 if scaled < 10 else 1 if scaled < 100 else 0}f}\u202f{letter}"
    return f"{value:,.0f}"


def duration(seconds: float | None) -> str:
    """A duration a person can read: 0.8 s, 45 s, 3 min 20 s, 2 h 05 min."""
    if seconds is None:
        return "–"
    if seconds < 10:
        return f"{seconds:.1f}\u202fs"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}\u202fs"
    if whole < 3600:
        return f"{whole // 60}\u202fmin {whole % 60:02d}\u202fs"
    minutes = round(seconds / 60)
    return f"{minutes // 60}\u202fh {minutes % 60:02d}\u202fmin"


def memory(mib: float | None) -> str:
    """Memory in MiB, or in GiB from 10,000 MiB up."""
    if mib is None:
        return "–"
    return f"{mib / 1024:.1f}\u202fGiB" if mib >= 10_000 else f"{mib:,.0f}\u202fMiB"


def scientific(value: float) -> str:
    """A large number as a person writes it: 2.5·10¹²."""
    mantissa, _, power = f"{value:.1e}".partition("e")
    digits = str(int(power)).translate(str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻"))
    return f"{float(mantissa):g}·10{digits}"


def shortened(text: str, most: int) -> str:
    """The text in at most so many characters, the last an ellipsis where some were left out."""
    return text if len(text) <= most else text[: most - 1] + "…"


def squeezed(text: str, most: int) -> str:
    """The text in at most so many characters, left out in the middle: names often differ at their ends."""
    tail = (most - 1) // 2
    return text if len(text) <= most else f"{text[: most - 1 - tail]}…{text[-tail:]}"


def listed(words: Sequence[str]) -> str:
    """The words as a list in a sentence: "a, b and c"."""
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last


def opened(text: str) -> str:
    """The text with a capital letter first, as a sentence or a heading begins."""
    return text[:1].upper() + text[1:]
