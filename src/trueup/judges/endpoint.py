"""A judge behind HTTP: prompts and completions go out as JSON, one score each comes back.

POST URL   {"items": [{"prompt": [{"role": "user", "content": "..."}], "completion": "..."}]}
200        {"scores": [0.5]}
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from sys import float_info
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from trueup.answerers.open import key_fault
from trueup.answerers.transport import NoAnswerError, Session, beginning
from trueup.engine.groups import Group, as_openai
from trueup.errors import TrueupError, counted
from trueup.judges import by_group

KEY = "TRUEUP_JUDGE_KEY"
"The environment variable whose value is sent as a bearer token; keys stand nowhere else."
TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
"Answers after which the same question is asked again."


def open_endpoint(ref: str) -> Endpoint:
    """The judge at a URL; what follows `#` are options: `http://host:8000/score#batch=16&timeout=60&retries=2`.

    Raises E792 for an option it does not have, a name or password inside the URL, or a key that would travel
    unencrypted to another machine.
    """
    url, _, fragment = ref.partition("#")
    if "@" in url.partition("//")[2].partition("/")[0]:
        raise _refused("the URL", "a name or password stands inside it", f"put the key into ${KEY}")
    given = dict(parse_qsl(fragment, keep_blank_values=True))
    kinds = {"batch": int, "timeout": float, "retries": int}
    try:
        options: dict[str, Any] = {name: kinds[name](text) for name, text in given.items()}
        parts = urlsplit(url)
        known = bool(parts.hostname) and (parts.port or 1) > 0
    except (KeyError, ValueError) as error:
        raise _refused(
            url, f"not understood: {error}", "options are #batch=, timeout= and retries="
        ) from None
    batch, timeout, retries = (options.get(name, 1) for name in kinds)
    if not known or batch < 1 or not 0 < timeout < 1e9 or retries < 0:
        raise _refused(url, "no host, or an option out of its range", "write http://HOST:PORT/PATH")
    key = os.environ.get(KEY, "")
    if key and (fault := key_fault(key, parts)):
        raise _refused(url, f"${KEY}: {fault[0]}", fault[1])
    return Endpoint(url=url, key=key, **options)


def _refused(url: str, reason: str, remedy: str) -> TrueupError:
    return TrueupError("E792", reason, where=f"judge {url}", remedy=remedy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Asks a server for scores, `batch` completions at a time, and asks again where it fails in passing."""

    url: str
    batch: int = 64
    timeout: float = 30.0
    "Seconds without an answer after which a question counts as failed."
    retries: int = 4
    "How often a failed question is asked again, after 0.5, 1, 2, 4 ... seconds."
    pause: float = 0.5
    key: str = ""

    def __repr__(self) -> str:
        """The URL alone: the key is shown nowhere."""
        return f"Endpoint({self.url})"

    def __call__(self, groups: Sequence[Group]) -> list[list[float]]:
        """The server's scores. Raises E794 where it gives none in time, E795 for other answers."""
        items = [
            {
                "prompt": [as_openai(m) for m in group.prompt],
                "completion": completion.said,
            }
            for group in groups
            for completion in group.completions
        ]
        scores: list[float] = []
        with Session(key=self.key, timeout=self.timeout) as session:
            for start in range(0, len(items), self.batch):
                scores += self._ask(items[start : start + self.batch], session)
        return by_group(groups, scores)

    def _ask(self, items: Sequence[Mapping[str, Any]], session: Session) -> list[float]:
        body = json.dumps({"items": items}, ensure_ascii=False).encode()
        failed = ""
        for attempt in range(self.retries + 1):
            if attempt:
                time.sleep(self.pause * 2 ** (attempt - 1))
            try:
                said = session.post(self.url, body)
            except NoAnswerError as error:
                failed = str(error)
                continue
            if said.status == 200:
                return self._scores(said.body, len(items))
            failed = f"status {said.status}: {beginning(said.body)}"
            if said.status not in TRANSIENT:
                raise self._wrong(failed)
        raise TrueupError(
            "E794",
            f"no answer after {self.retries + 1} attempts, at last {failed}",
            where=f"judge {self.url}",
            remedy="start the server, or give it longer: #timeout=120",
        )

    def _scores(self, answer: bytes, wanted: int) -> list[float]:
        try:
            found = json.loads(answer)
        except (ValueError, RecursionError):
            raise self._wrong(f"no JSON: {beginning(answer)}") from None
        scores = found.get("scores") if isinstance(found, dict) else None
        if not isinstance(scores, list):
            raise self._wrong(f"no list `scores`: {beginning(answer)}")
        if len(scores) != wanted:
            raise self._wrong(f"{counted(len(scores), 'score')} for {counted(wanted, 'completion')}")
        for score in scores:
            number = isinstance(score, int | float) and not isinstance(score, bool)
            if not number or not abs(score) <= float_info.max:
                raise self._wrong(f"the score {score!r} is no finite number")
        return [float(score) for score in scores]

    def _wrong(self, reason: str) -> TrueupError:
        return TrueupError(
            "E795",
            f"the server's answer is of no use: {reason}",
            where=f"judge {self.url}",
            remedy='answer {"scores": [...]}, one finite number for each item, in order',
        )
