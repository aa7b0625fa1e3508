"""Who does what: leases, answers, skips, undoing, drafts. No task is lost, and none is counted twice.

A lease gives a task to a person until it expires; whoever leaves without a word gives it back so. A task has
room while its answers and the others' live leases are fewer than its overlap. The store itself refuses two
answers of one person to one task, and a retry with the same key finds the answer that it gave before.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import sqlalchemy as sa

from trueup.collecting.schema import answer, draft, event, lease, person, task
from trueup.collecting.store import Store, log, now, plain
from trueup.engine.order import derive, permutation
from trueup.errors import TrueupError

LEASE_SECONDS = 1800
GOLD_SHARE, PASS_SHARE = 0.1, 0.8
EVERYBODY = 0
"An overlap: every person may have the task, as those whose answer is known."
CANDIDATES = 256
"Tasks with room among which the next is chosen."
LONGEST = 24 * 3600
Fate = Literal["kept", "same", "already", "late"]
"What became of an answer: it counts; it was there; another one was; others had done the task meanwhile."


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How tasks are given out."""

    lease_seconds: float = LEASE_SECONDS
    gold_share: float = GOLD_SHARE
    pass_share: float = PASS_SHARE


@dataclass(frozen=True, kw_only=True)
class Assigned:
    """A task in somebody's hands."""

    id: int
    block: str
    kind: str
    purpose: str
    sha: str
    body: Mapping[str, Any]
    shown: tuple[int, ...]
    "The order of its completions on this person's screen."
    draft: Mapping[str, Any] = field(default_factory=dict)
    "`fields` of a form that was not sent, what the person `said` and took back, or the `talk` so far."


@dataclass(frozen=True, kw_only=True)
class Given:
    """What a person says to a task."""

    task: int
    key: str
    "The same for every try to send this one answer."
    body: Mapping[str, Any]
    skipped: bool = False
    seconds: int = 0


Choose = Callable[[sa.Connection, Sequence[tuple[int, str]]], int]
"Which of some open tasks, given with the models they compare, is next."


@dataclass(frozen=True, kw_only=True)
class Desk:
    """Where tasks are given out and answers come in."""

    store: Store
    rules: Rules = Rules()
    clock: Callable[[], float] = time.time
    choose: Choose = lambda connection, candidates: candidates[0][0]
    right: Callable[[str, Mapping[str, Any], Mapping[str, Any]], bool] = lambda kind, body, gold: True
    "Whether an answer is the known one."
    version: str = ""
    blocks: Sequence[str] | None = None
    "Blocks whose tasks are given out; those that a project names no more keep their answers. None is all."

    def assign(self, who: int) -> Assigned | None:
        """The task that a person has or is given now; None where there is none for them."""
        with self.store.write() as connection:
            held = self._held(connection, who)
            if held is None:
                held = self._next(connection, who)
                if held is None:
                    return None
                log(connection, "lease", who, held)
                self._lend(connection, held, who)
            elif self._leased(connection, held, who) - self.clock() < self.rules.lease_seconds / 2:
                self._lend(connection, held, who)
            return self._assigned(connection, held, who)

    def held(self, who: int) -> Assigned | None:
        """The task that is in a person's hands, if one is."""
        with self.store.read() as connection:
            held = self._held(connection, who)
            return None if held is None else self._assigned(connection, held, who)

    def looked_at(self, number: int, who: int) -> Assigned | None:
        """A task as somebody sees it in whose hands it is not; None where there is none."""
        with self.store.read() as connection:
            known = connection.execute(sa.select(task.c.id).where(task.c.id == number)).scalar()
            return None if known is None else self._assigned(connection, number, who)

    def progress(self, who: int) -> tuple[int, int, bool | None]:
        """How many answers a person gave, how many tasks are there for them, whether they do real work."""
        with self.store.read() as connection:
            qualified = self._verdict(connection, who)[0]
            purpose = task.c.purpose == "qualify" if qualified is None else task.c.purpose != "qualify"
            mine = (answer.c.person == who, answer.c.undone.is_(None), answer.c.skipped == 0)
            joined = sa.join(answer, task, task.c.id == answer.c.task)
            done = connection.execute(sa.select(sa.func.count()).select_from(joined).where(*mine, purpose))
            room = task.c.purpose == "qualify" if qualified is None else task.c.answers < task.c.overlap
            left = connection.execute(
                sa.select(sa.func.count()).where(room, purpose, self._offered(), ~done_by(who))
            )
            return done.scalar_one(), 0 if qualified is False else left.scalar_one(), qualified

    def submit(self, who: int, given: Given) -> Fate:
        """What became of an answer. Raises E886 for one to a task that the person never had."""
        with self.store.write() as connection:
            before = connection.execute(
                sa.select(answer.c.person, answer.c.task).where(answer.c.retry_key == given.key)
            ).one_or_none()
            if before is not None and tuple(before) == (who, given.task):
                return "same"
            if before is not None or self._answered(connection, given.task, who):
                return "already"
            if not self._may(connection, given, who):
                return "late"
            self._keep(connection, who, given)
            return "kept"

    def undo(self, who: int) -> int | None:
        """The task of the person's last answer, which does not count any more and is theirs again.

        None where their last act was no answer to undo: only one is taken back at a time, and none that
        qualifies.
        """
        with self.store.write() as connection:
            last = connection.execute(
                sa.select(event.c.kind, event.c.task)
                .where(event.c.person == who, event.c.kind.in_(("answer", "skip", "undo")))
                .order_by(event.c.seq.desc())
                .limit(1)
            ).one_or_none()
            if last is None or last.kind == "undo":
                return None
            mine = (answer.c.person == who, answer.c.task == last.task, answer.c.undone.is_(None))
            found = connection.execute(
                sa.select(answer.c.skipped, answer.c.body, task.c.purpose)
                .join(task, task.c.id == answer.c.task)
                .where(*mine)
            ).one_or_none()
            if found is None or found.purpose == "qualify":
                return None
            seq = log(connection, "undo", who, last.task)
            connection.execute(answer.update().where(*mine).values(undone=seq))
            self._count(connection, last.task, -1 if not found.skipped else 0)
            self._lend(connection, last.task, who)
            self._write_draft(
                connection, last.task, who, {} if found.skipped else {"said": json.loads(found.body)}
            )
            return last.task

    def keep_draft(self, who: int, of: int, body: Mapping[str, Any]) -> bool:
        """Whether a draft was kept: the task must be in the person's hands, and stays so."""
        with self.store.write() as connection:
            if not self._leased(connection, of, who):
                return False
            self._lend(connection, of, who)
            self._write_draft(connection, of, who, body)
            return True

    def qualified(self, connection: sa.Connection, who: int) -> bool | None:
        """Whether a person may do real work; None while there are qualifying tasks before them.

        What their answers to those decide is written down once.
        """
        passed, right, of = self._verdict(connection, who)
        if of:
            log(connection, "qualified", who, body={"right": right, "of": of, "passed": passed})
            connection.execute(person.update().where(person.c.id == who).values(passed=int(bool(passed))))
        return passed

    # ------------------------------------------------------------------------------------ what is next

    def _verdict(self, connection: sa.Connection, who: int) -> tuple[bool | None, int, int]:
        """As `qualified`; and where it is decided now, how many answers were right, of how many."""
        said = connection.execute(sa.select(person.c.role, person.c.passed).where(person.c.id == who)).one()
        if said.role != "annotator" or said.passed is not None:
            return said.role != "annotator" or bool(said.passed), 0, 0
        if self._first(connection, who, "qualify") is not None:
            return None, 0, 0
        rows = connection.execute(
            sa.select(task.c.kind, task.c.gold, answer.c.body, answer.c.skipped)
            .join(answer, answer.c.task == task.c.id)
            .where(task.c.purpose == "qualify", answer.c.person == who, answer.c.undone.is_(None))
        ).all()
        if not rows:
            return True, 0, 0
        right = sum(
            not r.skipped and self.right(r.kind, json.loads(r.body), json.loads(r.gold)) for r in rows
        )
        return right >= self.rules.pass_share * len(rows), right, len(rows)

    def _held(self, connection: sa.Connection, who: int) -> int | None:
        """The task of a live lease of a person's."""
        mine = (
            sa.select(lease.c.task)
            .join(task, task.c.id == lease.c.task)
            .where(lease.c.person == who, lease.c.expires > int(self.clock()), self._offered())
        )
        return connection.execute(mine.order_by(lease.c.task).limit(1)).scalar()

    def _next(self, connection: sa.Connection, who: int) -> int | None:
        qualified = self.qualified(connection, who)
        if not qualified:
            return None if qualified is False else self._first(connection, who, "qualify")
        done = connection.execute(
            sa.select(sa.func.count()).where(answer.c.person == who, answer.c.undone.is_(None))
        ).scalar_one()
        if derive(self.store.seed, "gold", who, done) < self.rules.gold_share * 2**63:
            gold = self._first(connection, who, "gold")
            if gold is not None:
                return gold
        found = self._open(connection, who)
        return self.choose(connection, found) if found else None

    def _offered(self) -> sa.ColumnElement[bool]:
        return sa.true() if self.blocks is None else task.c.block.in_(self.blocks)

    def _open(self, connection: sa.Connection, who: int) -> list[tuple[int, str]]:
        """Tasks that have room for a person, those first that others have begun."""
        live = (
            sa.select(sa.func.count())
            .where(lease.c.task == task.c.id, lease.c.person != who, lease.c.expires > int(self.clock()))
            .scalar_subquery()
        )
        rows = connection.execute(
            sa.select(task.c.id, task.c.models, task.c.answers)
            .where(task.c.purpose == "work", task.c.answers < task.c.overlap, self._offered())
            .where(task.c.answers + live < task.c.overlap, ~done_by(who))
            .order_by(task.c.answers.desc(), task.c.id)
            .limit(CANDIDATES)
        )
        found = rows.all()
        return [(row.id, row.models) for row in found if row.answers == found[0].answers]

    def _first(self, connection: sa.Connection, who: int, purpose: str) -> int | None:
        """A task whose answer is known and that a person has not had, in an order of their own."""
        rows = connection.execute(
            sa.select(task.c.id).where(task.c.purpose == purpose, self._offered(), ~done_by(who))
        ).scalars()
        return min(rows, key=lambda t: derive(self.store.seed, purpose, who, t), default=None)

    # ------------------------------------------------------------------------------------ what is kept

    def _may(self, connection: sa.Connection, given: Given, who: int) -> bool:
        """Whether an answer still counts: its lease lives, or there is room all the same."""
        expires = self._leased(connection, given.task, who)
        if not expires:
            raise TrueupError(
                "E886", "this task was not given to you", where="task", remedy="answer the one on your page"
            )
        found = connection.execute(
            sa.select(task.c.overlap, task.c.answers).where(task.c.id == given.task)
        ).one()
        moment = int(self.clock())
        if expires > moment or found.overlap == EVERYBODY:
            return True
        others = connection.execute(
            sa.select(sa.func.count()).where(
                lease.c.task == given.task, lease.c.person != who, lease.c.expires > moment
            )
        ).scalar_one()
        if found.answers + others < found.overlap:
            return True
        log(connection, "late", who, given.task, {"key": given.key, "said": given.body})
        self._let_go(connection, given.task, who)
        return False

    def _keep(self, connection: sa.Connection, who: int, given: Given) -> None:
        found = connection.execute(sa.select(task.c.sha, task.c.body).where(task.c.id == given.task)).one()
        shown = list(self.shown(given.task, who, json.loads(found.body)))
        said = {"key": given.key, "said": given.body, "shown": shown, "sha": found.sha}
        seq = log(connection, "skip" if given.skipped else "answer", who, given.task, said)
        connection.execute(
            answer.insert().values(
                task=given.task,
                person=who,
                retry_key=given.key,
                skipped=int(given.skipped),
                body=plain(given.body),
                shown=plain(shown),
                seconds=min(max(given.seconds, 0), LONGEST),
                version=self.version,
                at=now(),
                given=seq,
            )
        )
        self._count(connection, given.task, 0 if given.skipped else 1)
        self._let_go(connection, given.task, who)

    def _let_go(self, connection: sa.Connection, of: int, who: int) -> None:
        for table in (lease, draft):
            connection.execute(table.delete().where(table.c.task == of, table.c.person == who))

    def _count(self, connection: sa.Connection, of: int, more: int) -> None:
        if more:
            connection.execute(task.update().where(task.c.id == of).values(answers=task.c.answers + more))

    def _lend(self, connection: sa.Connection, of: int, who: int) -> None:
        expires = int(self.clock() + self.rules.lease_seconds)
        mine = (lease.c.task == of, lease.c.person == who)
        if not connection.execute(lease.update().where(*mine).values(expires=expires)).rowcount:
            connection.execute(lease.insert().values(task=of, person=who, expires=expires))

    def _leased(self, connection: sa.Connection, of: int, who: int) -> int:
        """When a person's lease of a task expires or did; 0 where there is none."""
        mine = sa.select(lease.c.expires).where(lease.c.task == of, lease.c.person == who)
        return connection.execute(mine).scalar() or 0

    def _answered(self, connection: sa.Connection, of: int, who: int) -> bool:
        mine = (answer.c.task == of, answer.c.person == who, answer.c.undone.is_(None))
        return connection.execute(sa.select(sa.exists().where(*mine))).scalar_one()

    def _write_draft(self, connection: sa.Connection, of: int, who: int, body: Mapping[str, Any]) -> None:
        connection.execute(draft.delete().where(draft.c.task == of, draft.c.person == who))
        if body:
            connection.execute(draft.insert().values(task=of, person=who, body=plain(body), at=now()))

    def _assigned(self, connection: sa.Connection, of: int, who: int) -> Assigned:
        row = connection.execute(sa.select(task).where(task.c.id == of)).one()
        kept = connection.execute(
            sa.select(draft.c.body).where(draft.c.task == of, draft.c.person == who)
        ).scalar()
        body = json.loads(row.body)
        return Assigned(
            id=row.id,
            block=row.block,
            kind=row.kind,
            purpose=row.purpose,
            sha=row.sha,
            body=body,
            shown=self.shown(of, who, body),
            draft=json.loads(kept) if kept else {},
        )

    def shown(self, of: int, who: int, body: Mapping[str, Any]) -> tuple[int, ...]:
        """In which order a task's completions stand on a person's screen, the same at every look."""
        count = len(body.get("completions", ()))
        return tuple(map(int, permutation(count, self.store.seed, "shown", of, who)))


def done_by(who: int) -> sa.ColumnElement[bool]:
    """That a person has answered or skipped a task."""
    mine = (answer.c.task == task.c.id, answer.c.person == who, answer.c.undone.is_(None))
    return sa.exists().where(*mine).correlate(task)
