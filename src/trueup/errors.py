"""The one exception a user sees: what is wrong, where, and what to do about it.

Codes by area: E1 bytes and format, E2 schema, E3 conversation, E4 preference, E5 tokens, E6 corpus,
E7 configuration, E8 artifacts, E9 running. Exit codes follow sysexits.h where one fits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

EXIT_USAGE = 64
EXIT_DATA = 65
EXIT_MISSING = 66
EXIT_UNAVAILABLE = 69
EXIT_BUG = 70
EXIT_IO = 74
EXIT_PREEMPTED = 75
EXIT_REFUSED = 77
EXIT_AWAITS = 79
"Beyond sysexits.h: people are to answer first; to start it again before they have, as after 75, is in vain."

_EXIT_BY_CODE = {
    **dict.fromkeys(
        (
            "E732",
            "E786",
            "E787",
            "E794",
            "E795",
            "E811",
            "E818",
            "E871",
            "E903",
            "E951",
            "E961",
            "E962",
            "E963",
            "E964",
        ),
        EXIT_UNAVAILABLE,
    ),
    **dict.fromkeys(
        ("E793", "E799", *(f"E{n}" for n in range(820, 830)), "E901", *(f"E{n}" for n in range(980, 985))),
        EXIT_DATA,
    ),
    **dict.fromkeys(
        (
            "E432",
            "E433",
            "E434",
            "E435",
            "E436",
            "E866",
            "E867",
            "E868",
            "E869",
            "E872",
            "E873",
            "E874",
            "E887",
            "E889",
            "E891",
        ),
        EXIT_USAGE,
    ),
    **dict.fromkeys(("E882", "E884", "E885", "E890"), EXIT_DATA),
    "E881": EXIT_REFUSED,
    "E875": EXIT_REFUSED,
    "E876": EXIT_PREEMPTED,
    "E877": EXIT_UNAVAILABLE,
    "E878": EXIT_UNAVAILABLE,
    "E888": EXIT_UNAVAILABLE,
    "E783": EXIT_AWAITS,
    "E784": EXIT_DATA,
    "E941": EXIT_IO,
    "E952": EXIT_REFUSED,
    "E970": EXIT_REFUSED,
}
_EXIT_BY_AREA = {**dict.fromkeys("123456", EXIT_DATA), "7": EXIT_USAGE, "8": EXIT_MISSING, "9": EXIT_BUG}


def exit_code_of(code: str) -> int:
    """The exit code of a command that ends with this error."""
    return _EXIT_BY_CODE.get(code, _EXIT_BY_AREA.get(code[1:2], EXIT_BUG))


def counted(number: int, one: str, many: str = "") -> str:
    """A number with its word, as people read it: "1 row", "2 rows"; `many` where no s makes it so."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def printable(text: str, keep: str = "") -> str:
    """The text with control characters, line separators and direction marks escaped, but those to keep."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else f"\\u{ord(c):04x}" for c in text)


class TrueupError(Exception):
    """An error a person can act on: `code where - reason - remedy`.

    `code` is "E" and three digits; `where` names a file, line and field, or a config key; `reason` says
    what was found; `remedy` says what to do. The command line prints it without a traceback and exits
    with `exit_code`.
    """

    def __init__(
        self, code: str, reason: str, *, where: str = "", remedy: str = "", exit_code: int | None = None
    ) -> None:
        self.code = code
        self.where = printable(where)
        self.reason = reason
        self.remedy = remedy
        self.exit_code: int = exit_code_of(code) if exit_code is None else exit_code
        super().__init__(str(self))

    def __str__(self) -> str:
        head = f"{self.code} {self.where}".strip()
        return " — ".join(part for part in (head, self.reason, self.remedy) if part)

    def to_json(self) -> dict[str, str | int]:
        """The same four parts as a dictionary, for `--json`."""
        return {
            "code": self.code,
            "where": self.where,
            "reason": self.reason,
            "remedy": self.remedy,
            "exit": self.exit_code,
        }


@contextmanager
def options_of(stage: str) -> Iterator[None]:
    """Inside, an error's remedy spells options as a recipe does: `--STAGE.option` of `--option`."""
    try:
        yield
    except TrueupError as error:
        error.remedy = error.remedy.replace("`--", f"`--{stage}.")
        raise
