"""What whoever leads a project sees and does: the board, people and their links, the export."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from starlette.responses import HTMLResponse, RedirectResponse, Response

from trueup.collecting.board import standing
from trueup.collecting.exports import exported_rows
from trueup.collecting.pages import Pages
from trueup.collecting.people import ROLES, People
from trueup.collecting.project import Project
from trueup.collecting.schema import person
from trueup.collecting.site import Answered, Visit
from trueup.collecting.store import Store
from trueup.collecting.whose import groups_report
from trueup.data.collected import line_of
from trueup.errors import TrueupError
from trueup.ratings.leaderboard import notes
from trueup.reports.leaderboard import shown

OFTEN = 3.0
"Seconds for which one look at the store serves everybody who asks."


@dataclass(frozen=True, kw_only=True, eq=False)
class Lead:
    """The pages of whoever leads."""

    store: Store
    project: Project
    people: People
    pages: Pages
    site: str
    "The address that links begin with; empty for the one that the page itself was asked for by."
    _kept: dict[str, tuple[float, dict[str, Any]]] = field(default_factory=dict)

    def pages_by_path(self) -> Mapping[str, tuple[Answered, str]]:
        """What each path answers, and who may see it."""
        return {
            "GET /board": (self.board, "lead"),
            "GET /board/now": (self.board_now, "lead"),
            "GET /groups": (self.groups, "lead"),
            "GET /people": (self.persons, "lead"),
            "POST /people": (self.invited, "lead"),
            "GET /groups.jsonl": (self.export, "lead"),
        }

    def board(self, visit: Visit) -> Response:
        """The board."""
        text = self.pages.show("standing", "How the project stands", visit.who, visit.stamp, **self._now())
        return HTMLResponse(text)

    def board_now(self, visit: Visit) -> Response:
        """What of the board changes, for a page that is open."""
        return HTMLResponse(self.pages.show("standing_now", "", visit.who, visit.stamp, **self._now()))

    def groups(self, visit: Visit) -> Response:
        """Whose values the answers stand for."""
        values = groups_report(self.store)
        boards = [
            (name, shown(found, notes(found)) if not isinstance(found, str) else None, found)
            for name, found in values["models"].items()
        ]
        headline = "Whose values"
        return HTMLResponse(
            self.pages.show("groups", headline, visit.who, visit.stamp, report=values, boards=boards)
        )

    def export(self, visit: Visit) -> Response:
        """The groups as they are now, as a file."""
        rows, latest = exported_rows(self.store)
        name = f'attachment; filename="groups-{latest}.jsonl"'
        body = b"".join(map(line_of, rows))
        return Response(body, media_type="application/jsonl", headers={"Content-Disposition": name})

    def persons(self, visit: Visit) -> Response:
        """Who takes part."""
        return self._persons(visit)

    def invited(self, visit: Visit) -> Response:
        """Somebody's new link, shown this once; or what was done to somebody."""
        fields, by = visit.fields, visit.who.id
        name = fields.get("name", "").strip()
        if fields.get("role", "annotator") != "annotator" and visit.who.role != "owner":
            return self._persons(visit, fault="Only an owner makes leads and owners.", status=403)
        if not self._may(visit, name):
            return self._persons(visit, fault="Only an owner changes leads and owners.", status=403)
        act = fields.get("action", "invite")
        if act == "revoke":
            self.people.revoke(name, by)
        elif act in ("pass", "stop"):
            self.people.let_pass(name, act == "pass", by)
        else:
            try:
                token = self.people.invite(
                    name, fields.get("role", "annotator"), fields.get("team", "").strip(), by
                )
            except TrueupError as error:
                return self._persons(visit, fault=f"{error.reason}: {error.remedy}.", status=422)
            return self._persons(visit, link=(name, f"/join/{token}"))
        return RedirectResponse("/people", 303)

    def _may(self, visit: Visit, name: str) -> bool:
        """Whether a person may change what stands of another."""
        with self.store.read() as connection:
            role = connection.execute(sa.select(person.c.role).where(person.c.name == name)).scalar()
        return visit.who.role == "owner" or role in (None, "annotator")

    def _persons(
        self, visit: Visit, fault: str = "", link: tuple[str, str] | None = None, status: int = 200
    ) -> Response:
        with self.store.read() as connection:
            rows = connection.execute(sa.select(person).order_by(person.c.id)).all()
        shown_people = [
            {"name": r.name, "role": r.role, "team": r.team, "active": r.active, "passed": r.passed}
            for r in rows
        ]
        roles = ROLES if visit.who.role == "owner" else ROLES[:1]
        return HTMLResponse(
            self.pages.show(
                "people",
                "People",
                visit.who,
                visit.stamp,
                people=shown_people,
                qualifies=any(block.qualify for block in self.project.tasks.values()),
                roles=roles,
                fault=fault,
                link=link and (link[0], self.site + link[1]),
            ),
            status,
        )

    def _now(self) -> dict[str, Any]:
        """The board's values: those of a moment ago, whoever asked, or what a new look finds."""
        moment = time.time()
        until, values = self._kept.get("", (0.0, {}))
        if moment >= until:
            values = standing(self.store, moment)
            rated = values["rated"]
            values["shown"] = None if isinstance(rated, str) else shown(rated, notes(rated))
            self._kept[""] = (moment + OFTEN, values)
        return values
