"""Sphinx settings of the site that `make docs` builds: the Markdown pages as they lie in the repository.

The order of the site is that of docs/README.md: each of its headings is a caption of the sidebar, and the
rows of its table are the pages below. A page that no row leads to is an orphan, and the build fails.
"""

import re
import shutil
import sys
from importlib.metadata import distribution
from pathlib import Path

from pygments.lexers.data import JsonLexer
from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(Path(__file__).parent))

project = "trueup"
extensions = ["myst_parser", "equations"]
root_doc = "README"
include_patterns = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "docs/**.md",
    "results/*.md",
]
exclude_patterns = [".*", "build", "dist", "runs", "src", "tests", "scripts", "docs/site"]
nitpicky = True
myst_heading_anchors = 4
# Equations as GitHub reads them: `$` touches what it encloses, and no digit stands beside it.
myst_enable_extensions = ["dollarmath"]
myst_fence_as_directive = {"math"}
myst_dmath_allow_space = False
myst_dmath_allow_digits = False
html_math_renderer = "mathml"
highlight_language = "text"

html_theme = "furo"
html_title = "trueup"
# A browser sets equations as well as its font can: this one knows how. It comes along with ziamath.
MATH_FONT = distribution("ziamath").locate_file("ziamath/fonts/STIXTwoMath-Regular.ttf")
html_static_path = ["site.css", str(MATH_FONT)]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
# A summary would be fetched, which browsers do not do for pages opened from a disk.
html_show_search_summary = False

# Pages that stand for a folder: the sidebar opens what is in it below them.
FOLDERS = {"docs/choosing": "methods", "docs/decisions/README": ".", "results/README": "."}


def toctree(pages: list[str], caption: str = "") -> str:
    """A list for the sidebar that the page itself does not show."""
    options = [":hidden:", *([f":caption: {caption}"] if caption else [])]
    return "\n".join(["\n\n```{toctree}", *options, "", *pages, "```\n"])


def navigation() -> str:
    """The sidebar: a list for each heading of docs/README.md that has pages under it."""
    index = ROOT / "docs" / "README.md"
    parts = ["", *re.split(r"^## (.+)$", index.read_text(encoding="utf-8"), flags=re.MULTILINE)]
    lists = [toctree(["/docs/README"])]
    for caption, text in zip(parts[::2], parts[1::2], strict=True):
        links = re.findall(r"^\| \[(.+?)\]\((\S+)\.md\)", text, flags=re.MULTILINE)
        pages = [(title, (index.parent / link).resolve().relative_to(ROOT)) for title, link in links]
        if pages:
            lists.append(toctree([f"{title} </{page.as_posix()}>" for title, page in pages], caption))
    return "".join(lists)


def read(app: Sphinx, page: str, source: list[str]) -> None:
    """Adds the lists of the sidebar, and lets links to a folder lead to the page that stands for it."""
    source[0] = re.sub(r"\]\(([^)#\s:]+?)/?\)", lambda link: folder_link(page, link), source[0])
    if page == root_doc:
        source[0] += navigation()
    elif page in FOLDERS:
        names = sorted(path.stem for path in (ROOT / page).parent.joinpath(FOLDERS[page]).glob("*.md"))
        source[0] += toctree([f"{FOLDERS[page]}/{name}" for name in names if name != "README"])


def folder_link(page: str, link: re.Match[str]) -> str:
    """The link itself, or the README.md of the folder that it leads to."""
    folder = (ROOT / page).parent / link[1]
    return f"]({link[1]}/README.md)" if (folder / "README.md").is_file() else link[0]


def front_page(app: Sphinx, exception: Exception | None) -> None:
    """README.html under the name that servers and people look for, too."""
    if exception is None:
        shutil.copyfile(Path(app.outdir) / "README.html", Path(app.outdir) / "index.html")


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.add_lexer("jsonl", JsonLexer)
    app.connect("source-read", read)
    app.connect("build-finished", front_page)
