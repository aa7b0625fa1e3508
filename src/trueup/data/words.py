"""The words of a text in any script."""

from __future__ import annotations

import re
import unicodedata
from functools import cache

_UNSPACED = re.compile(
    "["
    "\u0e00-\u0eff"  # Thai, Lao
    "\u0f00-\u0fff"  # Tibetan
    "\u1000-\u109f\ua9e0-\ua9ff\uaa60-\uaa7f"  # Myanmar
    "\u1780-\u17ff\u1950-\u1aaf"  # Khmer, Tai Le, New Tai Lue, Tai Tham
    "\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f"  # kana
    "\u3005-\u3007\u3100-\u312f\u31a0-\u31bf"  # iteration marks, Bopomofo
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
    "]"
)
"Letters of scripts that put no space between words."


def words(text: str) -> tuple[str, ...]:
    """The words of a text: NFKC, lower case, without punctuation and without stemming.

    A word is a run of letters, digits and the marks upon them. Where a script puts no space between words
    (Han, kana, Thai, Lao, Khmer, Burmese, Tibetan), each letter with its marks counts as one.
    """
    return tuple(_word().findall(unicodedata.normalize("NFKC", text).lower()))


def spaced(text: str) -> str:
    """The text with spaces around each letter of a script that puts none between words."""
    return _UNSPACED.sub(r" \g<0> ", text)


@cache
def _word() -> re.Pattern[str]:
    # Python's \w leaves out marks, of which Hindi's and Thai's vowels are made.
    marks = "".join(c for c in map(chr, range(0x20000)) if unicodedata.category(c).startswith("M"))
    spacing = "".join(_ranges(marks))
    letter = _UNSPACED.pattern
    return re.compile(rf"(?![{spacing}]){letter}[{spacing}]*|(?:(?!{letter})(?:[^\W_]|[{spacing}]))+")


def _ranges(signs: str) -> list[str]:
    """Sorted signs as the ranges of a pattern's class."""
    out: list[str] = []
    start = last = signs[0]
    for sign in (*signs[1:], ""):
        if sign and ord(sign) == ord(last) + 1:
            last = sign
            continue
        out.append(f"{start}-{last}" if start != last else start)
        start = last = sign
    return out
