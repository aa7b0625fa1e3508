"""The pages of a project, as HTML. Text of models and people is escaped, and no page names a model."""

from __future__ import annotations

import secrets
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from markdown_it import MarkdownIt
from markupsafe import Markup, escape

from trueup.collecting import kinds
from trueup.collecting.people import Person
from trueup.collecting.project import Block, Project
from trueup.collecting.tasks import Assigned
from trueup.errors import counted
from trueup.reports.page import page, style

ROOM = "trueup.collecting"
QUESTIONS = {
    "compare": "Which answer is better?",
    "rank": "Rank the answers, the best first",
    "rate": "How good is this answer?",
    "demonstrate": "Write the answer that you would want to get",
    "critique": "What is wrong with this answer, and how should it be?",
    "prompts": "Write a prompt",
}
_KEYS = {
    "compare": [("1 … 4", "A is much … slightly better"), ("5 … 8", "B is slightly … much better")],
    "rank": [
        ("A … I", "choose an answer"),
        ("1 … 9", "give it that rank; equals share one"),
        ("drag", "put an answer's name on another, to rank it before that one"),
    ],
    "rate": [("A … C", "choose a question"), ("1 … 7", "answer it")],
}
_ALWAYS = [
    ("Enter", "save and go on (Ctrl + Enter in a text)"), ("S", "skip"), ("U", "take back my last answer"),
    ("C", "comment"), ("Esc", "leave a text"),
]  # fmt: skip


class Pages:
    """The pages of one project."""

    def __init__(self, project: Project, guidelines: str) -> None:
        self._project, self._of = project.name, project
        # Raw HTML is shown as text, and links with odd schemes stay text.
        self._guidelines = Markup(MarkdownIt("commonmark", {"html": False}).render(guidelines))

    def show(
        self, template: str, headline: str, who: Person | None = None, stamp: str = "", **values: Any
    ) -> str:
        """A page."""
        decides = who is not None and self._of.decides(who.name, who.leads)
        frame = {
            "decides": decides,
            "project": self._project,
            "headline": headline,
            "who": who,
            "stamp": stamp,
            "details": (),
        }
        return page(f"{template}.html.j2", room=ROOM, **frame, **values)

    def join(self, invited: Person | None = None, token: str = "", fault: str = "") -> str:
        """The page for whoever is not known: an invitation, or a place for one's link."""
        headline = f"Welcome to {self._project}" if invited else self._project
        return self.show("join", headline, invited=invited, token=token, fault=fault)

    def home(self, who: Person, stamp: str, done: int, left: int) -> str:
        """The guidelines, and how far one is."""
        told = f"{counted(done, 'answer')} by you so far; {counted(left, 'task')} here for you."
        return self.show("home", self._project, who, stamp, told=told, done=done, guidelines=self._guidelines)

    def scale(self, block: Block) -> dict[str, Any]:
        """The eight steps between two answers, and whether a tie is one more."""
        words = [(word, word.removesuffix(" better")) for word in kinds.WORDS]
        left = [(str(n), short, f"A is {word}") for n, (word, short) in enumerate(words, 1)]
        right = [(str(9 - n), short, f"B is {word}") for n, (word, short) in enumerate(words, 1)][::-1]
        return {"scale": [*left, *right], "ties": block.ties}

    def rest(self, who: Person, stamp: str, done: int, qualified: bool | None) -> str:
        """The page of somebody for whom there is no task."""
        told = f"You have given {counted(done, 'answer')}. New tasks show here once there are some."
        headline = "Nothing is left to do"
        if qualified is False:
            headline = "The first part is done"
            told = "Whoever leads the project looks at it, and lets you go on. Nothing of it is lost."
        return self.show("rest", headline, who, stamp, told=told, done=done and qualified)

    def task(
        self,
        who: Person,
        stamp: str,
        block: Block,
        task: Assigned,
        *,
        done: int,
        left: int,
        fields: Mapping[str, str] | None = None,
        missing: str = "",
        notice: str = "",
        votes: Sequence[str] = (),
    ) -> str:
        """A task as a form: as its draft has it, or as it was sent where something is `missing`.

        With `votes` on it, it is a form that decides between them.
        """
        kept = kinds.fields_of(task.kind, task.draft, task.shown) if fields is None else dict(fields)
        answers = [task.body["completions"][place]["text"] for place in task.shown]
        if task.kind == "critique":
            kept.setdefault("text", answers[0])
        first = "The first part: " if task.purpose == "qualify" else ""
        return self.show(
            task.kind,
            block.question or QUESTIONS[task.kind],
            who,
            stamp,
            told=f"{left} to decide" if votes else f"{first}{done} done · {left} left",
            votes=votes,
            notice=notice,
            missing=missing,
            kind=task.kind,
            number=task.id,
            key=secrets.token_urlsafe(12),
            began=int(time.time()),
            prompt=task.body["prompt"],
            answers=answers,
            letters=kinds.SIDES,
            fields=defaultdict(str, kept),
            written=as_written,
            skips=kinds.SKIPS,
            skipping=bool(kept.get("reason") or kept.get("why")),
            undoes=not votes and done > 0 and task.purpose != "qualify",
            comments=task.kind in ("compare", "rank", "rate"),
            key_list=[*_KEYS.get(task.kind, ()), *([] if votes else _ALWAYS)],
            **(self.scale(block) if task.kind == "compare" else _of_kind(task, block)),
        )


def _of_kind(task: Assigned, block: Block) -> dict[str, Any]:
    """What the form of a kind of task needs beside the rest."""
    if task.kind == "rank":
        return {"ranks": [(str(n), str(n), f"Rank {n}") for n in range(1, len(task.shown) + 1)]}
    if task.kind == "rate":
        numbers = range(1, kinds.MOST + 1)
        ends = {1: "1, not at all", kinds.MOST: f"{kinds.MOST}, entirely"}
        ratings = [(str(n), str(n), ends.get(n, str(n))) for n in numbers]
        return {"axes": block.axes, "flags": block.flags, "ratings": ratings}
    if task.kind == "prompts":
        name = task.body["ask"]["style"]
        return {"style": {"name": name, "said": kinds.STYLES[name], "examples": kinds.EXAMPLES}}
    return {}


def as_written(text: str) -> Markup:
    """A text for a field that is written in: escaped, and otherwise to the letter."""
    return Markup(escape(text))


def files() -> dict[str, tuple[str, bytes]]:
    """What pages load, by path: its kind and its bytes."""
    folder = resources.files(ROOM)
    look = f"{style('drawing', 'screen')}\n{(folder / 'collect.css').read_text('utf-8')}"
    return {
        "/collect.css": ("text/css", look.encode()),
        "/collect.js": ("text/javascript", (folder / "collect.js").read_bytes()),
        "/htmx.js": ("text/javascript", (folder / "htmx.min.js").read_bytes()),
    }
