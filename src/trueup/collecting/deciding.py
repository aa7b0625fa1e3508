"""Tasks whose annotators disagree: somebody who has not voted sees the votes without names, and decides.

A verdict is an event of the log, one for a task at most; the votes stay as they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, RedirectResponse, Response

from trueup.collecting import kinds
from trueup.collecting.pages import Pages
from trueup.collecting.people import Person
from trueup.collecting.project import Project
from trueup.collecting.schema import answer, event, task
from trueup.collecting.site import KEY, Answered, Visit
from trueup.collecting.store import Store, log
from trueup.collecting.tasks import Assigned, Desk, done_by
from trueup.engine.order import permutation

VERDICT = "verdict"
LONGEST_REASON = 1000
Vote = Mapping[str, Any]
Fate = Literal["kept", "same", "decided", "yours", "agreed"]
"What became of a verdict: it counts; it was there; another was; they have voted; nothing is in dispute."
_NOTICES = {
    "same": "That was kept already.",
    "decided": "Somebody else has decided that task meanwhile.",
    "agreed": "That task is not in dispute.",
    "yours": "You have voted on that task yourself.",
}


def disputed(kind: str, votes: Sequence[Vote], rule: str) -> bool:
    """Whether votes on a task are in dispute by a block's rule: two `differ`, or no majority agrees.

    Two votes agree as one does with a known answer: the same side, the same first tier, ratings one off at
    most.
    """
    agreed = [sum(kinds.agrees(kind, vote, other) for other in votes) for vote in votes]
    if rule == "differ":
        return bool(agreed) and min(agreed) < len(votes)
    return rule == "undecided" and len(votes) > 1 and max(agreed) <= len(votes) / 2


@dataclass(frozen=True, kw_only=True, eq=False)
class Bench:
    """Where disputes are decided."""

    store: Store
    project: Project
    desk: Desk
    pages: Pages

    def pages_by_path(self) -> Mapping[str, tuple[Answered, str]]:
        """What each path answers, and who may see it; that they decide is looked at inside."""
        return {"GET /decide": (self.page, "annotator"), "POST /decide": (self.decided, "annotator")}

    def page(self, visit: Visit) -> Response:
        """The next disputed task of somebody who decides."""
        self._check(visit.who)
        return self._shown(visit, notice=_NOTICES.get(visit.query.get("was", ""), ""))

    def decided(self, visit: Visit) -> Response:
        """The next one, once a verdict is kept; or the form again with what is missing."""
        self._check(visit.who)
        fields, number = visit.fields, visit.fields.get("task", "")
        found = int(number) if number.isdecimal() and len(number) < 18 else 0
        held = self.desk.looked_at(found, visit.who.id)
        if held is None or self._rule(held.block) == "never" or not KEY.fullmatch(fields.get("key", "")):
            return RedirectResponse("/decide", 303)
        try:
            said = kinds.read(held.kind, fields, held.shown, held.body)
            reason = kinds.text_of(fields, "verdict", LONGEST_REASON)
            if not reason:
                raise kinds.Missing("Say why you decide so.")
        except kinds.Missing as missing:
            return self._shown(visit, held, fields=fields, missing=str(missing), status=422)
        fate = self.decide(visit.who.id, held, fields["key"], said, reason)
        return RedirectResponse("/decide" if fate == "kept" else f"/decide?was={fate}", 303)

    def decide(self, who: int, held: Assigned, key: str, said: Vote, reason: str) -> Fate:
        """What became of a verdict on a task."""
        with self.store.write() as connection:
            before = connection.execute(
                sa.select(event.c.person, event.c.body).where(
                    event.c.kind == VERDICT, event.c.task == held.id
                )
            ).one_or_none()
            if before is not None:
                mine = before.person == who and json.loads(before.body)["key"] == key
                return "same" if mine else "decided"
            if connection.execute(sa.select(done_by(who)).where(task.c.id == held.id)).scalar_one():
                return "yours"
            if not self.open(connection, who, held.id):
                return "agreed"
            body = {"key": key, "said": said, "shown": list(held.shown), "reason": reason, "sha": held.sha}
            log(connection, VERDICT, who, held.id, body)
            return "kept"

    def open(self, connection: sa.Connection, who: int, number: int | None = None) -> list[int]:
        """The tasks in dispute, or that one, which nobody has decided and on which they have not voted."""
        rules = {name: block.adjudicate for name, block in self.project.tasks.items()}
        over = sa.exists().where(event.c.kind == VERDICT, event.c.task == task.c.id).correlate(task)
        rows = connection.execute(
            sa.select(task.c.id, task.c.block, task.c.kind, answer.c.body)
            .join(answer, answer.c.task == task.c.id)
            .where(
                task.c.block.in_([name for name, rule in rules.items() if rule != "never"]),
                task.c.purpose == "work",
                task.c.answers >= task.c.overlap,
                answer.c.undone.is_(None),
                answer.c.skipped == 0,
                ~over,
                ~done_by(who),
                sa.true() if number is None else task.c.id == number,
            )
            .order_by(task.c.id, answer.c.id)
        ).all()
        votes: dict[tuple[int, str, str], list[Vote]] = {}
        for row in rows:
            votes.setdefault((row.id, row.block, row.kind), []).append(json.loads(row.body))
        return [number for (number, block, kind), said in votes.items() if disputed(kind, said, rules[block])]

    def _rule(self, block: str) -> str:
        found = self.project.tasks.get(block)
        return "never" if found is None else found.adjudicate

    def _check(self, who: Person) -> None:
        if not self.project.decides(who.name, who.leads):
            raise HTTPException(403, "only who leads the project, or was chosen to decide, may see this")

    def _votes(self, held: Assigned, who: int) -> list[str]:
        """What was said to a task, by the letters of this person's screen, in an order of its own."""
        with self.store.read() as connection:
            rows = connection.execute(
                sa.select(answer.c.body)
                .where(answer.c.task == held.id, answer.c.undone.is_(None), answer.c.skipped == 0)
                .order_by(answer.c.id)
            ).scalars()
            said = [json.loads(body) for body in rows]
        order = permutation(len(said), self.store.seed, "votes", held.id, who)
        return [kinds.told(held.kind, said[place], held.shown) for place in map(int, order)]

    def _shown(self, visit: Visit, held: Assigned | None = None, status: int = 200, **more: Any) -> Response:
        who = visit.who
        with self.store.read() as connection:
            waiting = self.open(connection, who.id)
        if held is None and waiting:
            # Whoever decides beside others begins elsewhere, so that few decide in vain.
            first = permutation(len(waiting), self.store.seed, "decide", who.id)[0]
            held = self.desk.looked_at(waiting[int(first)], who.id)
        if held is None:
            told = f"{more.get('notice', '')} No task is in dispute that you have not voted on.".strip()
            return HTMLResponse(
                self.pages.show("rest", "Nothing is to be decided", who, visit.stamp, told=told, done=0)
            )
        block = self.project.tasks[held.block]
        votes = self._votes(held, who.id)
        text = self.pages.task(who, visit.stamp, block, held, done=0, left=len(waiting), votes=votes, **more)
        return HTMLResponse(text, status)
