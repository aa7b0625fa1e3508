"""Builds the site of the documentation: static HTML that needs neither a server nor a network.

python scripts/make_docs.py [FOLDER]    writes build/site, or FOLDER

A warning of Sphinx is an error: a link that leads nowhere, a page that no list names. The finished pages are
then read once more: every local link and anchor leads somewhere, and nothing is loaded from elsewhere.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parents[1]
LOADED = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src", "video": "src"}


class Page(HTMLParser):
    """One page: its anchors, its links, and what it loads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = {""}
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes what the tag says; called by the parser."""
        said = dict(attrs)
        self.anchors |= {said[name] or "" for name in ("id", "name") if name in said}
        if target := said.get(LOADED.get(tag, "")):
            self.loads.append(target)
        if tag == "a" and (target := said.get("href")):
            self.links.append(target)


def problems(site: Path) -> Iterator[str]:
    """A line for every link that leads nowhere, and for everything that is loaded from elsewhere."""
    pages = {path.resolve(): Page(path) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        where = path.relative_to(site.resolve())
        for target in page.loads:
            if not target.startswith("data:") and (urlsplit(target).scheme or urlsplit(target).netloc):
                yield f"{where}: {target} is loaded from elsewhere"
        for target in [*page.links, *page.loads]:
            split = urlsplit(target)
            if split.scheme or split.netloc:
                continue
            found = (path.parent / unquote(split.path)).resolve() if split.path else path
            if not found.is_file():
                yield f"{where}: {target} leads nowhere"
            elif found in pages and unquote(split.fragment) not in pages[found].anchors:
                yield f"{where}: {target} has no such anchor"
    for path in sorted(site.rglob("*.css")):
        for target in re.findall(r"(?:@import|url\()\s*[\"']?(\w+:)?//", path.read_text(encoding="utf-8")):
            yield f"{path.relative_to(site)}: loads from elsewhere ({target}//)"


def main(arguments: list[str]) -> int:
    """0, or 1 when the pages are not whole."""
    site = Path(arguments[0]) if arguments else ROOT / "build" / "site"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--fresh-env"),
            *("-c", str(ROOT / "docs" / "site"), "-d", str(site.with_name(f"{site.name}-doctrees"))),
            *(str(ROOT), str(site)),
        ]
    )
    if done.returncode != 0:
        return 1
    found = list(problems(site))
    print("\n".join(found) if found else f"documentation: {site / 'index.html'}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
