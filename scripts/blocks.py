"""Puts written tables into pages whose words stay: between `<!-- NAME -->` and `<!-- end -->`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path


def fill(page: Path, blocks: Mapping[str, str]) -> None:
    """Nothing; every named block of the page holds its text. Ends the program where one has no place."""
    text = page.read_text(encoding="utf-8")
    for name, block in blocks.items():
        text, count = re.subn(
            rf"(<!-- {name} -->\n).*?(<!-- end -->)",
            lambda m, b=block: m[1] + b + "\n" + m[2],
            text,
            flags=re.S,
        )
        if count != 1:
            raise SystemExit(f"{page}: no place for {name}")
    page.write_text(text, encoding="utf-8")
