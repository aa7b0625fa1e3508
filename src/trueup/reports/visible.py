"""Text as a person must see it: characters that hide, reorder or control are written out as ⟦U+202E⟧.

They are shown and not stripped: a bidirectional override or a zero-width space in a completion is evidence.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_ORDINARY = re.compile(r"\r\n|[^\n\t -~]")
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_HIDDEN_OTHERS = frozenset({0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0})
"Joiners, fillers and a blank that draw nothing and are filed under letters, marks and symbols."


def visible(text: str) -> str:
    """`text` with each control, bidirectional, zero-width or unassigned character replaced by its code.

    Line ends and tabs stay; a carriage return before a line end is dropped. Emoji keep their presentation
    selector (U+FE0E, U+FE0F); other variation selectors, which can smuggle bytes, are shown.
    """
    return _ORDINARY.sub(lambda match: _shown(match[0]), text)


@lru_cache(maxsize=8192)
def _shown(char: str) -> str:
    if char == "\r\n":
        return "\n"
    code = ord(char)
    selector = 0xFE00 <= code <= 0xFE0D or 0xE0100 <= code <= 0xE01EF
    if selector or code in _HIDDEN_OTHERS or unicodedata.category(char) in _HIDDEN_CATEGORIES:
        return f"⟦U+{code:04X}⟧"
    return char
