"""A project that is open: its store filled, its people, and the server that they come to.

Importing this raises E811 where the extra `trueup[collect]` is not installed.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from trueup.errors import TrueupError

try:
    from trueup.collecting.choosing import Pairing
    from trueup.collecting.deciding import Bench
    from trueup.collecting.kinds import agrees
    from trueup.collecting.lead import Lead
    from trueup.collecting.pages import Pages
    from trueup.collecting.people import People
    from trueup.collecting.project import Project, fill, guidelines_of, read_project
    from trueup.collecting.site import Site, headed
    from trueup.collecting.store import Store
    from trueup.collecting.talk import Talk
    from trueup.collecting.tasks import Desk, Rules
except ImportError as error:
    raise TrueupError(
        "E811",
        f"the package {error.name} is not installed",
        where="trueup collect",
        remedy="pip install 'trueup[collect]'",
    ) from None

if TYPE_CHECKING:
    import uvicorn

from trueup.answerers.door import HOST, Limits, server_of

LIMITS = Limits(connections=512)


@dataclass(frozen=True, kw_only=True)
class Opened:
    """An open project."""

    project: Project
    store: Store
    people: People
    said: tuple[str, ...]
    "What was new in it."

    def server(self, site: str = "", kind: str = "") -> uvicorn.Server:
        """A server: `run(sockets=[...])` answers until it is ended. `site` is where people come from afar.

        With `kind` tasks of that kind alone are given out. Raises E891 where the project has none.
        """
        return server_of(headed(self.app(site, kind)), LIMITS, grace=5, site=site)

    def app(self, site: str = "", kind: str = "") -> Any:
        """The application that the server runs."""
        desk = desk_of(self.store, self.project, kind)
        pages = Pages(self.project, guidelines_of(self.project))
        talk = Talk(project=self.project, desk=desk, pages=pages)
        bench = Bench(store=self.store, project=self.project, desk=desk, pages=pages)
        lead = Lead(store=self.store, project=self.project, people=self.people, pages=pages, site=site)
        return Site(
            store=self.store,
            project=self.project,
            people=self.people,
            desk=desk,
            pages=pages,
            talk=talk,
            secure=site.startswith("https://"),
            more={**lead.pages_by_path(), **bench.pages_by_path()},
        ).app()


def desk_of(store: Store, project: Project, kind: str = "") -> Desk:
    """The desk of a project: where tasks are given out by its rules, with `kind` those of that kind alone."""
    blocks = tuple(name for name, block in project.tasks.items() if kind in ("", block.kind))
    if not blocks:
        there = ", ".join(sorted({block.kind for block in project.tasks.values()}))
        remedy = f"its kinds are {there}; name a block of the other under `tasks`"
        raise TrueupError(
            "E891", f"the project has no tasks of the kind {kind}", where="--kind", remedy=remedy
        )
    rules = Rules(
        lease_seconds=60 * project.lease_minutes,
        gold_share=project.gold_share,
        pass_share=project.pass_share,
    )
    chooses = Pairing(project.pairing)
    return Desk(
        store=store,
        rules=rules,
        choose=chooses,
        right=agrees,
        version=version("trueup"),
        blocks=blocks,
    )


def open_project(path: Path) -> Opened:
    """The project of a YAML file or, of a project that was opened before, its store alone is not enough.

    Raises E801 or E7xx for settings, E880 to E882 for a store, E885 for rows that cannot be tasks.
    """
    project = read_project(path)
    guidelines_of(project)
    store = Store(project.store)
    said = fill(store, project)
    return Opened(project=project, store=store, people=People(store=store), said=tuple(said))


def check_site(host: str, site: str) -> None:
    """Nothing; raises E887 for an address that others can reach without saying by which name they do."""
    parts = urlsplit(site)
    named = parts.scheme in ("http", "https") and parts.netloc and parts.path in ("", "/") and not parts.query
    if (site and not named) or (host != HOST and not site):
        raise TrueupError(
            "E887",
            "people from elsewhere need the address that they type" if not site else "not an address",
            where="--site",
            remedy="give --site https://NAME, with a proxy for TLS before it; without --host it is for this "
            "machine alone",
        )
