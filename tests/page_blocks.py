"""What a page of the documentation asks its reader to type, and what it says will come out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(
    [*DOCS.rglob("*.md"), *ROOT.glob("results/*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
)
SHELLS = ("console", "bash", "sh", "")
HARDWARE = "**Needs hardware:**"
"How a line above a block says that its commands need a machine that the tests do not have."

_BLOCK = re.compile(r"^([^\n]*)\n+```(\w*)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One fenced block: the line above it, its language, its text."""

    above: str
    kind: str
    text: str

    @property
    def needs_hardware(self) -> bool:
        """Whether the line above says so."""
        return self.above.startswith(HARDWARE)

    @property
    def file(self) -> str:
        """The name of the file whose contents the block shows, or "": the line above is that name."""
        named = re.fullmatch(r"`([\w.-]+)`:", self.above)
        return named[1] if named else ""

    @property
    def commands(self) -> list[tuple[str, str]]:
        """Each command of a shell block, without comments and pipes, and the output shown below it."""
        found: list[tuple[str, str]] = []
        if self.kind in SHELLS:
            lines = self.text.replace("\\\n", " ").splitlines()
            prompted = any(line.startswith("$ ") for line in lines)
            for line in lines:
                if not prompted or line.startswith("$ "):
                    found.append((re.split(r" [#>|] ?", line.removeprefix("$ "))[0].strip(), ""))
                elif found:
                    found[-1] = (found[-1][0], f"{found[-1][1]}{line}\n")
        return found


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    return [Block(*found) for found in _BLOCK.findall("\n" + page.read_text(encoding="utf-8"))]


def commands(page: Path, word: str = "trueup") -> list[str]:
    """The command lines of a page that begin with a word, in order."""
    lines = [line for block in blocks(page) for line, _ in block.commands]
    return [line for line in lines if line.startswith(f"{word} ")]


def mentioned(page: Path) -> list[str]:
    """The commands that a page's sentences name, `N` and `...` standing for numbers and anything."""
    text = _BLOCK.sub("", "\n" + page.read_text(encoding="utf-8"))
    spans = re.findall(r"`(trueup [^`]+)`", text)
    return [re.sub(r"\bN\b", "1", span.removesuffix(" ...")) for span in spans]
