"""Who takes part: people by name, their roles, the links that let them in, and their cookies.

A link holds 256 random bits, of which the store has the SHA-256 alone: a fast hash is enough for what nobody
can guess. A link stays good until its owner makes another; a lost cookie is no lost work.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

import sqlalchemy as sa
from itsdangerous import BadSignature, URLSafeTimedSerializer

from trueup.collecting.schema import person
from trueup.collecting.store import Store, log, now
from trueup.errors import TrueupError

ROLES = ("annotator", "lead", "owner")
DAYS = 30
"How long a cookie is good for."
_NAME = re.compile(r"[^\W_](?:[\w .@+-]{0,62}[\w.])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Who asks."""

    id: int
    name: str
    role: str
    team: str
    "The group of people whose values theirs stand for; empty where none is named."

    @property
    def leads(self) -> bool:
        """Whether they see the board, and what others did."""
        return self.role in ("lead", "owner")


@dataclass(frozen=True, kw_only=True)
class People:
    """The people of a store."""

    store: Store

    def invite(
        self,
        name: str,
        role: str = "annotator",
        team: str = "",
        by: int | None = None,
        stays: bool = False,
    ) -> str:
        """The token of a person's link, a new one where they had another; that one is void then.

        So are their cookies, unless whoever is in `stays`.

        Raises E885 for a name that is none or a role that is not there.
        """
        if not _NAME.fullmatch(name) or role not in ROLES or len(team) > 64:
            raise TrueupError(
                "E885",
                f"nobody can be invited as {name!r}, {role!r}",
                where="invite",
                remedy="a name has 1 to 64 letters, digits, spaces or . @ + -; a role is " + ", ".join(ROLES),
            )
        token = secrets.token_urlsafe(32)
        values = {"role": role, "team": team, "token": _hash(token), "active": 1}
        with self.store.write() as connection:
            known = connection.execute(sa.select(person.c.id).where(person.c.name == name)).scalar()
            if known is None:
                fresh = {"name": name, "sessions": 1, "at": now()}
                known = connection.execute(
                    person.insert().values(**values, **fresh).returning(person.c.id)
                ).scalar_one()
            else:
                more = {"sessions": person.c.sessions + (0 if stays else 1)}
                connection.execute(person.update().where(person.c.id == known).values(**values, **more))
            log(connection, "invite", by, body={"of": known, "name": name, "role": role, "team": team})
        return token

    def revoke(self, name: str, by: int | None = None) -> bool:
        """Whether there was somebody of that name; neither their link nor their cookie lets them in now."""
        with self.store.write() as connection:
            gone = {"active": 0, "sessions": person.c.sessions + 1}
            found = connection.execute(person.update().where(person.c.name == name).values(**gone)).rowcount
            log(connection, "revoke", by, body={"name": name})
        return bool(found)

    def let_pass(self, name: str, passed: bool, by: int | None = None) -> bool:
        """Whether there was somebody of that name; whether they qualify is now as a lead said."""
        with self.store.write() as connection:
            said = person.update().where(person.c.name == name).values(passed=int(passed))
            found = connection.execute(said).rowcount
            log(connection, "qualified", by, body={"name": name, "passed": passed})
        return bool(found)

    def of_token(self, token: str) -> Person | None:
        """Who has a link."""
        with self.store.read() as connection:
            return _one(connection, person.c.token == _hash(token))

    def cookie(self, who: Person) -> str:
        """What tells a person again: signed, and void once their link is another."""
        with self.store.read() as connection:
            sessions = sa.select(person.c.sessions).where(person.c.id == who.id)
            return self._signer().dumps([who.id, connection.execute(sessions).scalar_one()])

    def of_cookie(self, cookie: str) -> Person | None:
        """Who has a cookie."""
        try:
            number, sessions = self._signer().loads(cookie, max_age=DAYS * 86400)
        except (BadSignature, ValueError, TypeError):
            return None
        with self.store.read() as connection:
            return _one(connection, sa.and_(person.c.id == number, person.c.sessions == sessions))

    def stamp(self, cookie: str) -> str:
        """What a form must hold to come from a page that was made for this cookie."""
        return hmac.new(self.store.secret.encode(), f"form:{cookie}".encode(), "sha256").hexdigest()

    def _signer(self) -> URLSafeTimedSerializer:
        return URLSafeTimedSerializer(self.store.secret, salt="session")


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _one(connection: sa.Connection, where: sa.ColumnElement[bool]) -> Person | None:
    columns = (person.c.id, person.c.name, person.c.role, person.c.team)
    row = connection.execute(sa.select(*columns).where(where, person.c.active == 1)).one_or_none()
    return None if row is None else Person(**row._mapping)
