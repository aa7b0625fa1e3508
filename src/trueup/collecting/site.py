"""The web app: who asks, what they may see, and what becomes of what they send.

Every page but the one that lets people in needs a cookie; every form needs a stamp made for that cookie, and
must come from a page of ours. Work on the store is done in threads, so the loop never waits.
"""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import parse_qsl

import sqlalchemy as sa
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from trueup.collecting import kinds
from trueup.collecting.pages import Pages, files
from trueup.collecting.people import DAYS, People, Person
from trueup.collecting.project import Project
from trueup.collecting.schema import answer
from trueup.collecting.store import Store
from trueup.collecting.talk import Talk
from trueup.collecting.tasks import Assigned, Desk, Given
from trueup.errors import TrueupError

COOKIE = "trueup_collect"
MOST_BYTES = 1 << 20
"Of a form."
KEY = re.compile(r"[A-Za-z0-9_-]{8,64}")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not `no-referrer`: forms would then be sent with `Origin: null`, which tells nothing.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
Fields = dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Visit:
    """One request of somebody who is known."""

    who: Person
    stamp: str
    fields: Fields = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)


Answered = Callable[[Visit], Response]
Seen = dict[str, tuple[Answered, str]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Site:
    """What each path answers."""

    store: Store
    project: Project
    people: People
    desk: Desk
    pages: Pages
    talk: Talk
    secure: bool = False
    "Whether people come by https, and cookies go that way alone."
    more: Mapping[str, tuple[Answered, str]] = field(default_factory=dict)
    "Pages of other parts by path, with who may see them: `annotator` or `lead`."

    def app(self) -> Starlette:
        """The application."""
        pages: dict[str, tuple[Answered, str]] = {
            "/": (self.home, "annotator"),
            "/task": (self.next, "annotator"),
        }
        forms: dict[str, tuple[Answered, str]] = {
            "/task": (self.given, "annotator"), "/draft": (self.drafted, "annotator"),
            "/undo": (self.undone, "annotator"), "/leave": (self.left, "annotator"),
        }  # fmt: skip
        for path, (answered, role) in self.more.items():
            method, _, place = path.partition(" ")
            (forms if method == "POST" else pages)[place] = answered, role
        return Starlette(
            routes=[
                *(Route(path, partial(_file, *found)) for path, found in files().items()),
                Route("/join", self._joins, methods=["POST"]),
                Route("/join/{token}", self._invited),
                *(Route(path, self._route(*what, form=False)) for path, what in pages.items()),
                *(
                    Route(path, self._route(*what, form=True), methods=["POST"])
                    for path, what in forms.items()
                ),
            ],
            exception_handlers={HTTPException: _fault, TrueupError: _fault},
        )

    # ------------------------------------------------------------------------------------ who asks

    def _route(
        self, answered: Answered, role: str, *, form: bool
    ) -> Callable[[Request], Awaitable[Response]]:
        async def route(request: Request) -> Response:
            fields = await _form(request) if form else None
            visit = partial(self._visit, request.cookies.get(COOKIE, ""), fields, dict(request.query_params))
            return await run_in_threadpool(visit, answered, role)

        return route

    def _visit(
        self, cookie: str, fields: Fields | None, query: Mapping[str, str], answered: Answered, role: str
    ) -> Response:
        who = self.people.of_cookie(cookie) if cookie else None
        if who is None:
            return HTMLResponse(self.pages.join(), 401)
        if role == "lead" and not who.leads:
            raise HTTPException(403, "only who leads the project may see this")
        stamp = self.people.stamp(cookie)
        if fields is not None and not hmac.compare_digest(fields.pop("stamp", "").encode(), stamp.encode()):
            raise HTTPException(403, "the form is of another session: open the page again")
        return answered(Visit(who=who, stamp=stamp, fields=fields or {}, query=query))

    async def _invited(self, request: Request) -> Response:
        """The page behind a link; nobody is let in by only looking at it."""
        token = request.path_params["token"]
        who = await run_in_threadpool(self.people.of_token, token)
        if who is None:
            return HTMLResponse(self.pages.join(fault="This link is not good, or not any more."), 404)
        return HTMLResponse(self.pages.join(who, token))

    async def _joins(self, request: Request) -> Response:
        fields = await _form(request)
        token = fields.get("token", "").strip().rpartition("/")[2]
        who = await run_in_threadpool(self.people.of_token, token)
        if who is None:
            return HTMLResponse(self.pages.join(fault="This link is not good, or not any more."), 403)
        answered = RedirectResponse("/", 303)
        cookie = await run_in_threadpool(self.people.cookie, who)
        answered.set_cookie(
            COOKIE, cookie, max_age=DAYS * 86400, httponly=True, samesite="strict", secure=self.secure
        )
        return answered

    def left(self, visit: Visit) -> Response:
        """The way out: the cookie is gone."""
        answered = RedirectResponse("/", 303)
        answered.delete_cookie(COOKIE, httponly=True, samesite="strict", secure=self.secure)
        return answered

    # ------------------------------------------------------------------------------------ work

    def home(self, visit: Visit) -> Response:
        """The guidelines, and how far one is."""
        return HTMLResponse(self.pages.home(visit.who, visit.stamp, *self.desk.progress(visit.who.id)[:2]))

    def next(self, visit: Visit) -> Response:
        """The task that is in one's hands."""
        return self._shown(visit, notice=_NOTICES.get(visit.query.get("was", ""), ""))

    def given(self, visit: Visit) -> Response:
        """What becomes of a form: it is kept, a draft, a skip, or shown again with what is missing."""
        fields, who = visit.fields, visit.who.id
        act = fields.get("action", "save")
        if act == "undo":
            return self.undone(visit)
        held = self.desk.held(who)
        if act == "draft" and held is not None:
            self.drafted(visit)
            return RedirectResponse("/task?was=draft", 303)
        if held is None or str(held.id) != fields.get("task") or not KEY.fullmatch(fields.get("key", "")):
            return RedirectResponse("/task?was=" + ("same" if self._was_kept(visit) else "late"), 303)
        try:
            skipped = act == "skip"
            body = _reason(fields) if skipped else self._said(visit, held)
            if body is None:
                return RedirectResponse("/task", 303)
        except kinds.Missing as missing:
            return self._shown(visit, held, fields=fields, missing=str(missing), status=422)
        began = fields.get("began", "")
        seconds = int(time.time()) - int(began) if began.isdecimal() and len(began) < 15 else 0
        given = Given(task=held.id, key=fields["key"], body=body, skipped=skipped, seconds=seconds)
        fate = self.desk.submit(who, given)
        return RedirectResponse("/task" if fate == "kept" else f"/task?was={fate}", 303)

    def drafted(self, visit: Visit) -> Response:
        """Nothing to see; the form's fields are kept, as far as the task is in one's hands."""
        fields = {name: text for name, text in visit.fields.items() if name not in _FRAME}
        number = visit.fields.get("task", "")
        kept = number.isdecimal() and len(number) < 18
        if kept:
            held = self.desk.held(visit.who.id)
            talk = held.draft.get("talk") if held is not None and str(held.id) == number else None
            body = {"fields": fields} | ({"talk": talk} if talk else {})
            kept = self.desk.keep_draft(visit.who.id, int(number), body)
        return Response(status_code=204 if kept else 409)

    def undone(self, visit: Visit) -> Response:
        """One's last answer, to be given anew."""
        undone = self.desk.undo(visit.who.id)
        return RedirectResponse(f"/task?was={'fixed' if undone is None else 'undone'}", 303)

    def _said(self, visit: Visit, held: Assigned) -> dict[str, Any] | None:
        """What a form says to a task; None where a conversation goes on. Raises `Missing`."""
        if held.kind == "converse":
            return self.talk.acted(visit.who, held, visit.fields)
        return kinds.read(held.kind, visit.fields, held.shown, held.body)

    def _was_kept(self, visit: Visit) -> bool:
        """Whether what is sent once more was kept before."""
        with self.store.read() as connection:
            mine = (answer.c.retry_key == visit.fields.get("key", ""), answer.c.person == visit.who.id)
            return connection.execute(sa.select(sa.exists().where(*mine))).scalar_one()

    def _shown(self, visit: Visit, held: Assigned | None = None, status: int = 200, **more: Any) -> Response:
        held = held or self.desk.assign(visit.who.id)
        done, left, qualified = self.desk.progress(visit.who.id)
        if held is None:
            return HTMLResponse(self.pages.rest(visit.who, visit.stamp, done, qualified))
        if held.kind == "converse":
            text = self.talk.page(visit.who, visit.stamp, held, done, left, **more)
        else:
            block = self.project.tasks[held.block]
            text = self.pages.task(visit.who, visit.stamp, block, held, done=done, left=left, **more)
        return HTMLResponse(text, status)


_FRAME = ("task", "key", "began", "action")
_NOTICES = {
    "draft": "Kept as a draft.",
    "undone": "Your last answer is taken back; give it anew.",
    "fixed": "There is no answer that can be taken back now.",
    "same": "That answer was kept already.",
    "already": "You had answered that task already; the first answer stands.",
    "late": "Others have done that task meanwhile; what you said is in the log.",
}


def _reason(fields: Fields) -> dict[str, Any]:
    reason = kinds.text_of(fields, "why", 300) or kinds.text_of(fields, "reason", 300)
    if not reason:
        raise kinds.Missing("Say why you skip it.")
    return {"reason": reason}


async def _form(request: Request) -> Fields:
    """The fields of a form that one of our own pages sent. Raises HTTPException."""
    said = request.headers.get("sec-fetch-site", "same-origin")
    if said not in ("same-origin", "none"):
        raise HTTPException(403, "the form comes from a page of another site")
    if request.headers.get("content-type", "").partition(";")[0] != "application/x-www-form-urlencoded":
        raise HTTPException(415, "a form is application/x-www-form-urlencoded")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BYTES:
            raise HTTPException(413, f"a form has at most {MOST_BYTES} bytes")
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=100, errors="strict")
    except ValueError:
        raise HTTPException(400, "not a form") from None
    return dict(pairs)


async def _file(kind: str, body: bytes, request: Request) -> Response:
    return Response(body, media_type=kind)


def _fault(request: Request, error: Exception) -> Response:
    """What went wrong, in a sentence."""
    if isinstance(error, HTTPException):
        return Response(f"{error.detail}\n", error.status_code, media_type="text/plain")
    assert isinstance(error, TrueupError)
    return Response(f"{error}\n", 409 if error.code == "E886" else 503, media_type="text/plain")


def headed(app: Any) -> Any:
    """The app, each answer of which tells browsers what they may do with it."""
    more = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]

    async def heads(scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        async def sends(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *more]
            await send(message)

        await app(scope, receive, sends)

    return heads
