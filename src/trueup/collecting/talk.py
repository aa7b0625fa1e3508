"""Conversations with two models: a person writes, both answer, one answer is chosen to go on from.

The conversation so far is the task's draft, so it outlives browser and server. Both answers are shown at
once, when both are there: neither page nor time tells which model is which.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from trueup.answerers import Answerer
from trueup.collecting import kinds
from trueup.collecting.pages import Pages, as_written
from trueup.collecting.people import Person
from trueup.collecting.project import Converse, Project
from trueup.collecting.tasks import Assigned, Desk
from trueup.engine.groups import Message, Role
from trueup.engine.order import derive
from trueup.errors import TrueupError

Turns = list[dict[str, Any]]


def opened(reference: str) -> Answerer:
    """The model that a project names."""
    from trueup.answerers.open import open_answerer
    from trueup.settings.weights import model_folder

    return open_answerer(reference if reference.startswith("openai:") else model_folder(reference))


@dataclass(frozen=True, kw_only=True, eq=False)
class Talk:
    """The conversations of a project."""

    project: Project
    desk: Desk
    pages: Pages
    _models: dict[str, Answerer] = field(default_factory=dict)
    _turn: threading.Lock = field(default_factory=threading.Lock)
    "Models here share the machine: one answers at a time."

    def acted(self, who: Person, task: Assigned, fields: Mapping[str, str]) -> dict[str, Any] | None:
        """What is to be kept once a conversation is finished; None where it goes on. Raises `Missing`."""
        talk, act = self._of(task), fields.get("action", "save")
        fresh = fields.get("turn") == str(len(talk["turns"]))
        if act == "finish":
            if not talk["turns"] or talk.get("pending"):
                raise kinds.Missing("Ask something, and say which answer is better, before you finish.")
            comment = kinds.text_of(fields, "comment", kinds.LONGEST_COMMENT)
            said = {"turns": talk["turns"], "final": _final(talk["turns"], fields.get("final", ""))}
            return said | ({"comment": comment} if comment else {})
        if fresh and talk.get("pending"):
            self._choose(talk, fields)
            self._keep(who, task, talk)
        elif fresh:
            self._ask(who, task, talk, fields)
        return None

    def page(self, who: Person, stamp: str, task: Assigned, done: int, left: int, **more: Any) -> str:
        """The conversation as it is now."""
        talk, block = self._of(task), self.project.tasks[task.block]
        pending = talk.get("pending")
        fields = more.get("fields") or talk.get("fields", {})
        answers = [pending["answers"][place]["text"] for place in pending["shown"]] if pending else []
        return self.pages.show(
            "converse",
            block.question or "Talk to two models, and say which answers better",
            who,
            stamp,
            told=f"{done} done · {left} left · turn {len(talk['turns']) + 1}, at most {block.converse.turns}",
            notice=more.get("notice", ""),
            missing=more.get("missing", ""),
            kind="converse",
            number=task.id,
            key=secrets.token_urlsafe(12),
            began=int(time.time()),
            turn=len(talk["turns"]),
            prompt=_shown(task, talk),
            pending=bool(pending),
            full=len(talk["turns"]) >= block.converse.turns,
            answers=answers,
            letters=kinds.SIDES,
            fields=defaultdict(str, fields),
            written=as_written,
            skips=kinds.SKIPS,
            skipping=False,
            undoes=done > 0 and not talk["turns"] and not pending,
            comments=True,
            votes=(),
            finals=[turn["answers"][turn["kept"]]["text"] for turn in talk["turns"]],
            key_list=[("1 … 4", "A is much … slightly better"), ("5 … 8", "B is slightly … much better"),
                      ("Ctrl + Enter", "ask"), ("S", "skip")],
            **self.pages.scale(block),
        )  # fmt: skip

    def _of(self, task: Assigned) -> dict[str, Any]:
        """The conversation that a draft holds; that of an answer that was taken back is open again."""
        if "said" in task.draft:
            return {"turns": list(task.draft["said"]["turns"])}
        talk = {"turns": [], **task.draft.get("talk", {})}
        return {**talk, "fields": task.draft.get("fields", {})}

    def _keep(self, who: Person, task: Assigned, talk: Mapping[str, Any]) -> None:
        kept = {name: value for name, value in talk.items() if name != "fields"}
        self.desk.keep_draft(who.id, task.id, {"talk": kept})

    def _choose(self, talk: dict[str, Any], fields: Mapping[str, str]) -> None:
        pending = talk.pop("pending")
        said = kinds.preference(fields.get("choice", ""), pending["shown"])
        better = "ab".find(said["choice"])
        side = {"left": pending["shown"][0], "right": pending["shown"][1]}.get(fields.get("go_on", ""))
        kept = side if side is not None else better if better >= 0 else pending["shown"][0]
        talk["turns"] = [*talk["turns"], {**pending, **said, "kept": kept}]

    def _ask(self, who: Person, task: Assigned, talk: dict[str, Any], fields: Mapping[str, str]) -> None:
        message = kinds.text_of(fields, "message")
        settings = self.project.tasks[task.block].converse
        if not message:
            raise kinds.Missing("Write what you ask.")
        if len(talk["turns"]) >= settings.turns:
            raise kinds.Missing("The conversation is as long as it may be: finish it.")
        names = _drawn(settings, self.desk.store.seed, task.id, who.id)
        asked = (*_messages(task, talk["turns"]), Message(Role.USER, message))
        seed = derive(self.desk.store.seed, "talk", task.id, who.id, len(talk["turns"]))
        answers = [{"text": self._answer(settings, name, asked, seed), "source": name} for name in names]
        shown = [0, 1] if derive(seed, "side") & 1 else [1, 0]
        self._keep(who, task, {**talk, "pending": {"user": message, "answers": answers, "shown": shown}})

    def _answer(self, settings: Converse, name: str, asked: tuple[Message, ...], seed: int) -> str:
        from trueup.sources.sample import Decoding

        decoding = Decoding(
            temperature=settings.temperature or 1.0,
            greedy=settings.temperature == 0,
            max_new_tokens=settings.max_new_tokens,
        )
        with self._turn:
            try:
                if name not in self._models:
                    self._models[name] = opened(settings.models[name])
                ((answer,),) = self._models[name].complete([asked], decoding=decoding, seed=seed)
            except TrueupError as error:
                # Its words may name the model: they are for who leads the project, in the server's output.
                raise TrueupError(
                    "E888",
                    "a model gave no answer",
                    where="converse",
                    remedy="ask again; if it stays so, tell whoever leads the project",
                ) from error
        return answer.text.replace("\0", "\ufffd")


def _final(turns: Turns, said: str) -> int:
    """The turn, from 1, whose kept answer is the conversation's final one; 0 is none of them."""
    return int(said) if said in {str(n) for n in range(len(turns) + 1)} else len(turns)


def _drawn(settings: Converse, seed: int, task: int, who: int) -> tuple[str, str]:
    """The two models of a conversation."""
    pairs = list(combinations(sorted(settings.models), 2))
    return pairs[derive(seed, "models", task, who) % len(pairs)]


def _messages(task: Assigned, turns: Turns) -> tuple[Message, ...]:
    said = [Message(Role(m["role"]), m["content"]) for m in task.body["prompt"]]
    for turn in turns:
        kept = turn["answers"][turn["kept"]]["text"]
        said += [Message(Role.USER, turn["user"]), Message(Role.ASSISTANT, kept)]
    return tuple(said)


def _shown(task: Assigned, talk: Mapping[str, Any]) -> list[dict[str, str]]:
    said = [{"role": str(m.role), "content": m.content} for m in _messages(task, talk["turns"])]
    pending = talk.get("pending")
    return [*said, {"role": "user", "content": pending["user"]}] if pending else said
